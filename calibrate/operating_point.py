"""The operating point: a scale and a bias per class in logit space, and the one place where a decision is computed.

Decided here: a decision is taken on scores `scale * z + bias` in float64, not on probabilities, so nothing underflows.
Only a rule that is about probabilities, with a weight and an offset or with costs, is taken on them.
Two classes are decided by the sign of one margin, `(s1 z1 - s0 z0) + (b1 - b0)`. In that order a cut t, stored as the
bias `(0, -t)`, gives exactly `z1 - z0 > t` in IEEE arithmetic: a fitted row never flips by rounding. Equal scores go to
the earlier class. The value holds no name and no metric: those belong to the results and records around it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, repeat
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeGuard

import numpy as np
from jaxtyping import Float, Float64, Int
from numpy.typing import ArrayLike

from calibrate.errors import BadPoint, NotFinite, WrongShape, shown
from calibrate.logits import is_finite, least_log_odds, sigmoid, softmax, softmax_pairs, to_columns
from calibrate.names import column_names, positions_by_name, without_stem

FEW_ROWS = 8
_CHUNK_ROWS = 16_384
_AT_ONCE = 2**16  # margins of several points, which are made together: fewer than a processor's cache holds


class Judged(NamedTuple):
    """What a point says of n rows: `decide`, `adjusted` and `margin`, and the model's own probabilities beside."""

    decided: Int[np.ndarray, "n"]
    probabilities: Float64[np.ndarray, "n k"]
    adjusted: Float64[np.ndarray, "n k"]
    margin: Float64[np.ndarray, "n"]


class FewJudged(NamedTuple):
    """The same of a few rows, as lists."""

    decided: list[int]
    probabilities: list[list[float]]
    adjusted: list[list[float]]
    margin: list[float]


@dataclass(frozen=True, eq=False, repr=False)
class OperatingPoint:
    """A decision rule on logits z (n, k): `argmax(q)` of the probabilities `q = softmax(scale * z + bias)`.

    `classes` are the k names in the order of the columns, `scale` (k,) is above zero and `bias` (k,) finite. With
    `weight` (k,), at least 0, and `offset` (k,) the rule is `argmax(weight * q + offset)`; with `cost` (k, k), a row
    for each decision and a column for each true class, it is `argmin(cost @ q)`. All are float64 and read-only. Two
    points are equal when their canonical JSON is.

    Raises: `BadPoint` where an entry does not fit.

    >>> point = OperatingPoint(("clear", "fraud"), np.ones(2), np.array([0.0, 1.5]))
    >>> point.decide(np.array([[0.0, -1.0], [0.0, -2.0]]))
    array([1, 0])
    """

    classes: tuple[str, ...]
    scale: Float64[np.ndarray, "k"]
    bias: Float64[np.ndarray, "k"]
    weight: Float64[np.ndarray, "k"] | None = None
    offset: Float64[np.ndarray, "k"] | None = None
    cost: Float64[np.ndarray, "k k"] | None = None

    def __post_init__(self) -> None:
        names = check_classes(self.classes)
        object.__setattr__(self, "classes", names)
        object.__setattr__(self, "scale", _vector("scale", self.scale, names))
        object.__setattr__(self, "bias", _vector("bias", self.bias, names))
        for name, value in zip(names, self.scale.tolist(), strict=True):
            if value <= 0:
                raise BadPoint(f"scale of class '{name}' must be > 0, got {value}")
        if (self.weight is None) != (self.offset is None):
            raise BadPoint("weight and offset belong together: got one without the other")
        if self.cost is not None and self.weight is not None:
            raise BadPoint("a point has a weight and an offset, or costs, not both")
        if self.weight is not None:
            object.__setattr__(self, "weight", _vector("weight", self.weight, names))
            object.__setattr__(self, "offset", _vector("offset", self.offset, names))
            for name, value in zip(names, self.weight.tolist(), strict=True):
                if value < 0:
                    raise BadPoint(f"weight of class '{name}' must be >= 0, got {value}")
        if self.cost is not None:
            object.__setattr__(self, "cost", _matrix("cost", self.cost, names))

    @classmethod
    def argmax(cls, classes: Sequence[str]) -> "OperatingPoint":
        """The plain model's own rule: scale 1, bias 0."""
        return cls(tuple(classes), np.ones(len(classes)), np.zeros(len(classes)))

    @classmethod
    def from_threshold(
        cls,
        threshold: float,
        classes: Sequence[str],
        *,
        positive: str | None = None,
        on: Literal["probability", "margin"] = "probability",
    ) -> "OperatingPoint":
        """Return the cut that is in use today as a point: `positive` where its score is at least `threshold`.

        Args:
            threshold: On the probability of the positive class, from 0 to 1; or on its margin, its log-odds.
            classes: The two classes in the order of the logits.
            positive: The class that the threshold speaks of; the second unless named.
            on: Whether it is a threshold on the "probability" or on the "margin".

        A row whose score equals the threshold is decided positive, as scikit-learn and most programs do.

        Raises: `BadPoint`.

        >>> OperatingPoint.from_threshold(0.5, ["clear", "fraud"]).decide([-0.1, 0.0, 0.1]).tolist()
        [0, 1, 1]
        """
        names = check_classes(list(classes))
        if len(names) != 2 or positive not in (None, *names):
            raise BadPoint(
                f"a threshold is for two classes and one of them positive; got {', '.join(names[:20])} and {positive!r}"
            )
        if on not in ("probability", "margin"):
            raise BadPoint(f"on must be probability or margin, got {shown(on)}")
        if isinstance(threshold, bool) or not isinstance(threshold, int | float | np.number) or not isfinite(threshold):
            raise BadPoint(f"a threshold must be a finite number, got {shown(threshold)}")
        if on == "probability" and not 0 <= threshold <= 1:
            raise BadPoint(
                f"a threshold on a probability must lie in [0, 1], got {threshold}; on='margin' takes log-odds"
            )
        least = least_log_odds(float(threshold)) if on == "probability" else float(threshold)
        # A point decides the second class above its cut, and the first at it.
        bias = least if positive == names[0] else -float(np.nextafter(least, -np.inf))
        return cls(names, np.ones(2), np.array([0.0, bias]))

    @cached_property
    def is_affine(self) -> bool:
        """Whether the rule is a scale and a bias alone, taken on the logits."""
        return self.weight is None and self.cost is None

    @cached_property
    def is_plain(self) -> bool:
        """Whether the rule is the plain model's own: scale 1, bias 0."""
        return self.is_affine and bool((self.scale == 1).all() and (self.bias == 0).all())

    def scores(self, logits: ArrayLike) -> Float64[np.ndarray, "n k"]:
        """`scale * z + bias`, (n, k): log of `adjusted` up to a constant per row.

        Raises: `WrongShape`, `NoRows`, `NotFinite`.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            return self._scores(self._scaled(logits))

    def margin(self, logits: ArrayLike) -> Float64[np.ndarray, "n"]:
        """How far each decision is from flipping, in adjusted log-odds, (n,); in what the rule compares (weighted
        probability, expected cost) where it is not affine.

        Two classes: towards the second, above 0 where it is decided. More: winner minus runner-up, never below 0.

        Raises: `WrongShape`, `NoRows`, `NotFinite`.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = self._scaled(logits)
            return self._binary_margin(scaled) if self._is_binary else self._margin(self._worth(self._scores(scaled)))

    def decide(self, logits: ArrayLike) -> Int[np.ndarray, "n"]:
        """The index of the decided class for each row, (n,).

        `logits` is (n, k), or one logit per row for two classes.

        Raises: `WrongShape`, `NoRows`, `NotFinite`.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = self._scaled(logits)
            if self._is_binary:
                return (self._binary_margin(scaled) > 0).astype(np.intp)
            return self._best(self._worth(self._scores(scaled)))

    def decided_rows(self, logits: Float[np.ndarray, "n k"]) -> Int[np.ndarray, "k"]:
        """How many rows are decided as each class, (k,): `decide` by chunks of rows.

        Raises: `WrongShape`, `NoRows`, `NotFinite`.
        """
        total = np.zeros(len(self.classes), dtype=np.intp)
        for start in range(0, len(logits), _CHUNK_ROWS):
            decided = self.decide(logits[start : start + _CHUNK_ROWS])
            if total.size == 2:  # counting the ones takes a fifth of the time of `bincount`
                total[1] += np.count_nonzero(decided)
            else:
                total += np.bincount(decided, minlength=total.size)
        if total.size == 2:
            total[0] = len(logits) - total[1]
        return total

    def adjusted(self, logits: ArrayLike) -> Float64[np.ndarray, "n k"]:
        """`softmax(scale * z + bias)`, (n, k): what the rule saw. Not a risk; that is the softmax of the logits."""
        return softmax(self.scores(logits))

    def judge(self, logits: ArrayLike, mapped: Float[np.ndarray, "n k"] | None = None) -> Judged:
        """`decide`, `adjusted` and `margin` at once, and `softmax(mapped)`, of the logits themselves unless given.

        Raises: `WrongShape`, `NoRows`, `NotFinite`.
        """
        few = self.judge_few(logits, mapped)
        if few is not None:
            return Judged(np.array(few.decided, np.intp), *map(np.array, few[1:]))
        if self._is_binary:
            columns = logits if _are_pairs(logits) else self._columns(logits)
            try:
                return _judge_pairs(columns, self._numbers, mapped)
            except NotFinite:
                to_columns(logits)  # where it is the logits that are not finite, says so
                raise
        columns = self._columns(logits)
        with np.errstate(over="ignore", invalid="ignore"):
            scores = self._scores(columns.astype(np.float64) * self.scale)
            adjusted = softmax(scores)
            worth = self._worth(scores, adjusted)
            own = softmax(columns) if mapped is None else _finite(softmax(mapped), "probability")
            return Judged(self._best(worth), own, adjusted, self._margin(worth))

    @cached_property
    def _is_binary(self) -> bool:
        return len(self.classes) == 2 and self.is_affine

    @cached_property
    def _shift(self) -> Float64[np.ndarray, "1"]:
        """What the biases of two classes add to the margin."""
        with np.errstate(over="ignore"):  # then every margin does, and says so
            return np.asarray(self.bias[1:] - self.bias[:1])

    @cached_property
    def _numbers(self) -> list[float]:
        """The scale, the bias and the shift of two classes."""
        return [*self.scale.tolist(), *self.bias.tolist(), *self._shift.tolist()]

    def judge_few(self, logits: ArrayLike, mapped: Float[np.ndarray, "n k"] | None = None) -> FewJudged | None:
        """`judge` of an array of a few rows of two classes in plain Python, which adds, multiplies and compares as
        numpy does, to the last bit, and takes a tenth of the time of its calls.

        None where there are more rows or classes, the rule is not affine, or a number overflows or is not finite.
        """
        if not self._is_binary or not _are_pairs(logits) or len(logits) > FEW_ROWS:
            return None
        return _judge_few_pairs(logits, repeat(self._numbers, len(logits)), mapped)

    def _columns(self, logits: ArrayLike) -> Float[np.ndarray, "n k"]:
        if type(logits) is not np.ndarray and (names := column_names(logits)) is not None and len(names) > 1:
            order = positions_by_name(without_stem(names, "logits"), self.classes, "logits")
            logits = np.asarray(logits)[:, order]
        columns = to_columns(logits)
        if columns.shape[1] != len(self.classes):
            raise WrongShape(f"logits: wanted {len(self.classes)} columns, got {columns.shape[1]}")
        return columns

    def _scaled(self, logits: ArrayLike) -> Float64[np.ndarray, "n k"]:
        return np.asarray(self._columns(logits).astype(np.float64) * self.scale)

    def _scores(self, scaled: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
        return _finite(scaled + self.bias, "score")

    def _binary_margin(self, scaled: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n"]:
        return _finite((scaled[:, 1] - scaled[:, 0]) + self._shift, "margin")  # so each cut is one float64

    def _worth(
        self, scores: Float64[np.ndarray, "n k"], adjusted: Float64[np.ndarray, "n k"] | None = None
    ) -> Float64[np.ndarray, "n k"]:
        """What the rule takes the largest of, (n, k)."""
        if self.is_affine:
            return scores
        q = softmax(scores) if adjusted is None else adjusted
        if self.cost is not None:
            return np.asarray(-(q @ self.cost.T))
        return np.asarray(q if self.weight is None else self.weight * q + self.offset)

    def _best(self, worth: Float64[np.ndarray, "n k"]) -> Int[np.ndarray, "n"]:
        """The first of the largest; of two classes the second only where its margin is above 0."""
        return (self._margin(worth) > 0).astype(np.intp) if len(self.classes) == 2 else np.asarray(worth.argmax(axis=1))

    def _margin(self, worth: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n"]:
        if len(self.classes) == 2:
            return np.asarray(worth[:, 1] - worth[:, 0])
        top = np.partition(worth, -2, axis=1)
        return _finite(top[:, -1] - top[:, -2], "margin")

    @property
    def threshold(self) -> float | None:
        """The probability of the second class above which it is decided; None but for two equally scaled classes."""
        if len(self.classes) != 2 or self.scale[0] != self.scale[1] or not self.is_affine:
            return None
        cut = (self.bias[0] - self.bias[1]) / self.scale[0]
        return float(sigmoid(np.asarray(cut)))

    def to_dict(self) -> dict[str, Any]:
        """`classes`, `scale` and `bias` as plain lists, and what there is of `weight`, `offset` and `cost`."""
        value = {"classes": list(self.classes), "scale": self.scale.tolist(), "bias": self.bias.tolist()}
        extras = {"weight": self.weight, "offset": self.offset, "cost": self.cost}
        return value | {name: array.tolist() for name, array in extras.items() if array is not None}

    @classmethod
    def from_dict(cls, value: object) -> "OperatingPoint":
        """The point that `to_dict` gave. Raises: `BadPoint`."""
        if not isinstance(value, dict):
            raise BadPoint(f"an operating point must be an object, got {type(value).__name__}")
        wanted = {"classes", "scale", "bias"}
        if missing := sorted(wanted - value.keys()):
            raise BadPoint(f"an operating point must have {', '.join(sorted(wanted))}; {', '.join(missing)} is missing")
        if unknown := sorted(str(key) for key in value.keys() - wanted - {"weight", "offset", "cost"}):
            raise BadPoint(f"an operating point has no key {', '.join(unknown)}")
        names = check_classes(value["classes"])
        vectors = {name: value[name] for name in ("scale", "bias", "weight", "offset") if value.get(name) is not None}
        checked = {name: _vector(name, entries, names) for name, entries in vectors.items()}
        if value.get("cost") is not None:
            checked["cost"] = _matrix("cost", value["cost"], names)
        return cls(names, **checked)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, shortest floats that read back exactly."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Writes the canonical JSON to a file."""
        Path(path).write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "OperatingPoint":
        """Reads what `save` wrote; also the point inside a saved `FitResult`.

        Raises: `BadPoint` where the file holds something else.
        """
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise BadPoint(f"{path} is not JSON: {error}") from None
        if isinstance(value, dict) and "point" in value:
            value = value["point"]
        return cls.from_dict(value)

    def __reduce__(self) -> tuple[Any, ...]:
        return OperatingPoint.from_dict, (self.to_dict(),)  # pickled arrays would come back writable

    def __repr__(self) -> str:
        return f"OperatingPoint(classes={self.classes}, scale={self.scale.tolist()}, bias={self.bias.tolist()})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OperatingPoint) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())


class PointSet:
    """Points of the same classes that are asked together: what takes time to prepare is made once."""

    def __init__(self, points: Sequence[OperatingPoint]) -> None:
        self._points = tuple(points)
        self._is_binary = all(point._is_binary for point in points)

    def decide(self, logits: ArrayLike) -> Int[np.ndarray, "m n"]:
        """What each of the m points decides of n rows. Raises: `WrongShape`, `NoRows`, `NotFinite`."""
        columns = logits if _are_pairs(logits) else self._points[0]._columns(logits)
        decided = np.empty((len(self._points), len(columns)), np.intp)
        if not self._is_binary:
            for i, point in enumerate(self._points):
                decided[i] = point.decide(logits)
            return decided
        scale0, scale1, _, _, shift = self._stacked[..., np.newaxis]
        left, right = columns.T.astype(np.float64, "C")  # rows, whose products are several times as fast as of pairs
        step = max(1, _AT_ONCE // len(columns))
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                for i in range(0, len(self._points), step):
                    some = slice(i, i + step)
                    margins = right * scale1[some]
                    margins -= left * scale0[some]
                    margins += shift[some]
                    decided[some] = _finite(margins, "margin") > 0
        except NotFinite:
            to_columns(logits)  # where it is the logits that are not finite, says so
            raise
        return decided

    def decide_few(self, logits: ArrayLike) -> list[list[int]] | None:
        """`decide` as lists, of a few rows of two classes in plain Python, which takes a tenth of the time.

        None where there are more rows or classes, a rule is not affine, or a number overflows or is not finite.
        """
        if not self._is_binary or not _are_pairs(logits) or len(logits) > FEW_ROWS:
            return None
        given = logits.tolist()
        decided: list[list[int]] = []
        for scale0, scale1, _, _, shift in self._numbers:
            row: list[int] = []
            for left, right in given:
                margin = (right * scale1 - left * scale0) + shift
                if not isfinite(margin):
                    return None
                row.append(1 if margin > 0 else 0)
            decided.append(row)
        return decided

    def judge_rows(self, which: Sequence[int], logits: ArrayLike) -> Judged:
        """`judge` with a point for each row, that at the place `which[i]` for row i.

        Raises: `WrongShape`, `NoRows`, `NotFinite`; which row overflows is told of affine points in two classes alone.
        """
        if len(self._points) == 1:
            return self._points[0].judge(logits)
        columns = self._points[0]._columns(logits)
        if self._is_binary:
            return _judge_pairs(columns, self._stacked.take(which, axis=1))
        n = len(columns)
        found = Judged(np.empty(n, np.intp), np.empty(columns.shape), np.empty(columns.shape), np.empty(n))
        order = np.argsort(which, kind="stable")
        ends = np.cumsum(np.bincount(which, minlength=len(self._points)))
        for point, rows in zip(self._points, np.split(order, ends[:-1]), strict=True):
            if not len(rows):
                continue
            for whole, part in zip(found, point.judge(columns[rows]), strict=True):
                whole[rows] = part
        return found

    def judge_few_rows(self, which: Sequence[int], logits: ArrayLike) -> FewJudged | None:
        """`judge_rows` of an array of a few rows, None where `judge_few` would be."""
        if not self._is_binary or not _are_pairs(logits) or len(logits) > FEW_ROWS:
            return None
        return _judge_few_pairs(logits, [self._numbers[i] for i in which])

    @cached_property
    def _numbers(self) -> list[list[float]]:
        return [point._numbers for point in self._points]

    @cached_property
    def _stacked(self) -> Float64[np.ndarray, "5 m"]:
        """The scales, biases and shifts of points of two classes, a row of each."""
        return np.array(self._numbers).T.copy()


def _are_pairs(logits: ArrayLike) -> TypeGuard[np.ndarray]:
    """Whether they are rows of two floats; whether those are finite, the margins tell."""
    if type(logits) is not np.ndarray or logits.dtype.char not in "fd" or logits.ndim != 2:
        return False
    rows, columns = logits.shape
    return bool(columns == 2 and rows > 0)


def _judge_few_pairs(
    columns: Float[np.ndarray, "n 2"], numbers: Iterable[list[float]], mapped: Float[np.ndarray, "n 2"] | None = None
) -> FewJudged | None:
    """A few rows of two classes, each under its own scale, bias and shift."""
    given = columns.tolist()
    seen = given if mapped is None else mapped.tolist()
    margins: list[float] = []
    decided: list[int] = []
    scores: list[list[float]] = []
    for (left, right), (scale0, scale1, bias0, bias1, shift) in zip(given, numbers, strict=True):
        left, right = left * scale0, right * scale1
        margin = (right - left) + shift
        margins.append(margin)
        decided.append(1 if margin > 0 else 0)
        scores.append([left + bias0, right + bias1])
    if not all(map(isfinite, chain(margins, *scores, *(() if mapped is None else seen)))):
        return None
    both = softmax_pairs(seen + scores)
    return FewJudged(decided, both[: len(margins)], both[len(margins) :], margins)


def _judge_pairs(
    columns: Float[np.ndarray, "n 2"],
    numbers: Sequence[float] | Float64[np.ndarray, "5 n"],
    mapped: Float[np.ndarray, "n 2"] | None = None,
) -> Judged:
    """Two classes under one scale, bias and shift, or with a row of each for every row.

    All is made in one array, and each step is one between numbers that lie side by side: numpy sets out for such a step
    in half the time of any other, and with a few hundred numbers that is what a step takes.

    Raises: `NotFinite`, without telling logits that are not finite from numbers that overflow.
    """
    scale0, scale1, bias0, bias1, shift = numbers
    made = np.empty((5, len(columns)))
    both, left, right = made[:4], made[:2], made[2:4]
    own0, score0, own1, score1, margin = made
    with np.errstate(over="ignore", invalid="ignore"):
        both[::2] = columns.T
        np.multiply(own0, scale0, out=score0)
        np.multiply(own1, scale1, out=score1)
        np.subtract(score1, score0, out=margin)
        margin += shift
        score0 += bias0
        score1 += bias1
        if mapped is not None:
            both[::2] = mapped.T
        are_finite = is_finite(made)
        if not are_finite:
            _finite(margin, "margin")
            _finite(both[1::2].T, "score")
        larger = np.maximum(left, right)
        left -= larger
        right -= larger
        np.exp(both, out=both)
        total = np.add(left, right, out=larger)
        left /= total
        right /= total
        if not are_finite:
            _finite(both[::2].T, "probability")
    return Judged((margin > 0).astype(np.intp), both[::2].T, both[1::2].T, margin)


def check_classes(classes: object) -> tuple[str, ...]:
    """Class names as a tuple: at least two, different, none empty. Raises: `BadPoint`."""
    if hasattr(classes, "tolist"):  # an array, a pandas index or series
        classes = classes.tolist()
    if not isinstance(classes, list | tuple) or not all(isinstance(name, str) and name for name in classes):
        raise BadPoint(f"classes must be a list of names, got {classes!r}")
    if len(classes) < 2:
        raise BadPoint(f"wanted at least 2 classes, got {len(classes)}")
    if repeated := [name for name, times in Counter(classes).items() if times > 1]:
        raise BadPoint(f"class names must differ, '{repeated[0]}' comes more than once")
    return tuple(classes)


def _vector(field: str, values: object, classes: tuple[str, ...]) -> Float64[np.ndarray, "k"]:
    """A read-only float64 copy, one finite entry per class; -0.0 becomes 0.0, so equal points have equal digests."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if not isinstance(values, list | tuple) or not all(type(value) in (int, float) for value in values):
        raise BadPoint(f"{field} must be a list of numbers, got {values!r}")
    try:
        array = np.array(values, dtype=np.float64) + 0.0
    except OverflowError:
        raise BadPoint(f"{field} must be a list of finite numbers") from None
    if array.shape != (len(classes),):
        raise BadPoint(f"{field}: wanted {len(classes)} entries, one per class, got shape {array.shape}")
    for name, value in zip(classes, array.tolist(), strict=True):
        if not np.isfinite(value):
            raise BadPoint(f"{field} of class '{name}' must be finite, got {value}")
    array.setflags(write=False)
    return array


def _matrix(field: str, values: object, classes: tuple[str, ...]) -> Float64[np.ndarray, "k k"]:
    """A read-only float64 copy, a row and a column per class."""
    rows = values.tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(rows, list | tuple) or len(rows) != len(classes):
        raise BadPoint(f"{field} must be a list of {len(classes)} rows, one per class")
    array = np.stack(
        [_vector(f"{field} of deciding '{name}'", row, classes) for name, row in zip(classes, rows, strict=True)]
    )
    array.setflags(write=False)
    return array


def _finite(values: Float64[np.ndarray, "n ..."], what: str) -> Float64[np.ndarray, "n ..."]:
    """Raises `NotFinite` with the first row whose number overflows."""
    if not is_finite(values):
        row = int(np.argwhere(~np.isfinite(values))[0][0 if values.ndim < 2 or what != "margin" else 1])
        raise NotFinite(f"the {what} of row {row} overflows under this operating point")
    return np.asarray(values)
