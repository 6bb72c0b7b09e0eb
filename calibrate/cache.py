"""The feature cache: last-layer features or logits of some rows, with their labels and what the model knew.

Decided here: everything is checked once, on the way in, so no method checks again; logits are always there (made from
features and head where they were not given, in float64). What carries a name is matched by it: the columns of a table
by `calibrate.names`, labels by `calibrate.labels`.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int
from numpy.typing import ArrayLike

from calibrate.counts import rows_by_class
from calibrate.errors import BadCache, BadPrior, MissingClass, WrongShape, shown
from calibrate.labels import can_only_index, label_indices
from calibrate.logits import head_logits, to_array
from calibrate.origin import Origin
from calibrate.score_columns import check_same_rows, class_names, features_by_number, numbers_by_class, score_columns

ROW_COLUMNS = ("logits", "labels", "features", "sample_weight", "cost_fp", "cost_fn", "group")
_CHECKED_ROWS = 1000
_FEW_SCORES, _SUMS_TO_1 = 10, 1e-3  # of what may be probabilities: fewer scores than that can lie in [0, 1] by chance
_DIGESTED_ROWS = 65_536  # at a time: logits that do not lie row by row are copied
_LARGEST_NUMBER = 1e100  # of weights and amounts: their squares are summed


@dataclass(frozen=True, eq=False)
class FeatureCache:
    """Rows of one model's last layer; made by `feature_cache` or `read_cache`, which check that everything fits.

    `logits` (n, k) and `labels` (n,), indices into `classes`; `features` (n, d) with the head's `weight` (k, d) and
    `bias` (k,) where known; `prior` (k,), the class frequencies that the model was trained under. Per row (n,):
    `sample_weight`, for how many rows it stands; `cost_fp` and `cost_fn`, what a false alarm and a miss on it cost;
    `group`, a number that rows share which belong together (one card, one patient). `origin` says which model made the
    rows, None where that is unknown; a fit does not depend on it, so `digest` leaves it out.
    """

    logits: Float[np.ndarray, "n k"]
    labels: Int[np.ndarray, "n"]
    classes: tuple[str, ...]
    features: Float[np.ndarray, "n d"] | None = None
    weight: Float[np.ndarray, "k d"] | None = None
    bias: Float[np.ndarray, "k"] | None = None
    prior: Float64[np.ndarray, "k"] | None = None
    sample_weight: Float64[np.ndarray, "n"] | None = None
    cost_fp: Float64[np.ndarray, "n"] | None = None
    cost_fn: Float64[np.ndarray, "n"] | None = None
    group: Int[np.ndarray, "n"] | None = None
    origin: Origin | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.labels.size)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of logits, labels, classes, weights, costs and groups: what a fit depends on."""
        parts = hashlib.sha256(repr((self.classes, self.logits.dtype.str, self.logits.shape)).encode())
        for start in range(0, self.rows, _DIGESTED_ROWS):
            parts.update(np.ascontiguousarray(self.logits[start : start + _DIGESTED_ROWS]).data)
        parts.update(np.ascontiguousarray(self.labels, dtype=np.int64).data)
        for column in ("sample_weight", "cost_fp", "cost_fn", "group"):
            if (values := getattr(self, column)) is not None:
                parts.update(column.encode())
                parts.update(np.ascontiguousarray(values).data)
        return parts.hexdigest()


@dataclass(frozen=True, eq=False)
class CacheStream:
    """Rows that may be larger than memory, as checked caches of some of them; made by `open_cache`.

    `classes` and `prior` (k,) are those of every batch, `rows` is how many there are in all, `origin` the model that
    made all of them, None where that is unknown. Each call of `batches` begins again with the first; one batch at a
    time is in memory.
    """

    classes: tuple[str, ...]
    prior: Float64[np.ndarray, "k"] | None
    rows: int
    batches: Callable[[], Iterator[FeatureCache]]
    origin: Origin | None = None


def feature_cache(
    *,
    labels: ArrayLike,
    features: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    probabilities: ArrayLike | None = None,
    margins: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    prior: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    cost_fp: ArrayLike | None = None,
    cost_fn: ArrayLike | None = None,
    group: ArrayLike | None = None,
) -> FeatureCache:
    """Return a checked cache of arrays, or of tables whose columns have names.

    Args:
        labels: (n,), class names or whole numbers; see `calibrate.labels`.
        features: (n, d), the last layer's input. Columns named 0 to d-1 are put in that order.
        logits: (n, k), or (n,) for the one logit of a two-class model. Without any they are made from `features`,
            `weight` and `bias`.
        probabilities: In place of logits: (n, k), rows that sum to 1, or (n,) for the second of two classes.
        margins: In place of logits: (n,), log-odds of the second of two classes, or any score that grows with them.
        classes: Names in the order of the columns. Without them the names of the columns are the classes, else "0",
            "1", ...; a table whose columns are named by class is put in the order of `classes`.
        weight: (k, d) of the model's head; one row (1, d) becomes (2, d).
        bias: (k,) of the model's head.
        prior: (k,), the class frequencies of training, or those by class name (a mapping, a pandas series).
        sample_weight: (n,), at least 0: for how many rows each stands.
        cost_fp: (n,), at least 0: what a false alarm on each row costs.
        cost_fn: (n,), at least 0: what a miss on each row costs.
        group: (n,), names or whole numbers, kept as numbers from 0 on.

    Raises: `BadCache`, `WrongShape`, `WrongColumns`, `NoRows`, `NotFinite`, `UnknownLabel`, `BadPrior`, `BadPoint`,
    each naming the item.

    >>> cache = feature_cache(logits=[-2.0, 0.5, 1.0], labels=["clear", "fraud", "fraud"], classes=["clear", "fraud"])
    >>> cache.classes, cache.logits.shape, cache.labels.tolist()
    (('clear', 'fraud'), (3, 2), [0, 1, 1])
    """
    scores = {"logits": logits, "probabilities": probabilities, "margins": margins}
    passed = [name for name, values in scores.items() if values is not None]
    if len(passed) > 1:
        raise BadCache(f"pass one of logits, probabilities and margins; got {' and '.join(passed)}")
    beside = {"sample_weight": sample_weight, "cost_fp": cost_fp, "cost_fn": cost_fn, "group": group}
    for name, values in {**scores, "features": features, **beside}.items():
        check_same_rows(values, labels, name)
    features_ = None if features is None else to_array(features_by_number(features), "features", (2,))
    weight_, bias_ = _head(weight, bias, features_)
    named: tuple[str, ...] | None = None
    if passed:
        logits_, named = score_columns(scores[passed[0]], passed[0], classes)
    elif features_ is None:
        raise BadCache("a cache must have features or logits, it has neither")
    elif weight_ is None or bias_ is None:
        raise BadCache("features need the head's weight (and bias) to become logits, or logits beside them")
    else:
        logits_ = head_logits(features_, weight_, bias_)
    if features_ is not None and features_.shape[0] != logits_.shape[0]:
        raise WrongShape(f"features have {features_.shape[0]} rows, logits {logits_.shape[0]}")
    if weight_ is not None and weight_.shape[0] != logits_.shape[1]:
        raise WrongShape(f"weight is for {weight_.shape[0]} classes, logits have {logits_.shape[1]} columns")
    if logits is not None and features_ is not None and weight_ is not None and bias_ is not None:
        _check_head(features_, weight_, bias_, logits_)
    if classes is None and named is not None and can_only_index(labels, named):
        raise BadCache(
            f"labels are numbers and the columns are named ({', '.join(map(shown, named[:20]))}): pass labels by name, "
            "or classes= in the order that the numbers count"
        )
    names = class_names(named if classes is None else classes, logits_.shape[1], labels)
    indices = label_indices(labels, names)
    if indices.size != logits_.shape[0]:
        raise WrongShape(f"labels: wanted {logits_.shape[0]}, one per row, got {indices.size}")
    prior_ = None if prior is None else check_prior(prior, names)
    return FeatureCache(
        logits_,
        indices,
        names,
        features_,
        weight_,
        bias_,
        prior_,
        _column(sample_weight, "sample_weight", indices.size),
        _column(cost_fp, "cost_fp", indices.size),
        _column(cost_fn, "cost_fn", indices.size),
        _group(group, indices.size),
    )


def check_prior(prior: ArrayLike, classes: Sequence[str], name: str = "prior") -> Float64[np.ndarray, "k"]:
    """A prior (or what `name` calls it) that sums to 1 with every entry above zero.

    Raises: `BadPrior`, naming the class.
    """
    array = to_array(numbers_by_class(prior, classes, name), name, (1,)).astype(np.float64)
    if array.size != len(classes):
        raise BadPrior(f"{name}: wanted {len(classes)} entries, one per class, got {array.size}")
    for label, share in zip(classes, array.tolist(), strict=True):
        if share <= 0:
            raise BadPrior(f"{name} of class '{label}' must be > 0, got {share}")
    if abs(array.sum() - 1) > 1e-3:
        raise BadPrior(f"{name} must sum to 1, got {array.sum():g} from {array.tolist()[:20]}")
    return np.asarray(array / array.sum())


def check_every_class_has_rows(cache: FeatureCache) -> None:
    """Raises `MissingClass` with the first class that no label names, or whose rows all have weight 0."""
    counts = rows_by_class(cache.labels, len(cache.classes), cache.sample_weight)
    for name, count in zip(cache.classes, counts.tolist(), strict=True):
        if count == 0:
            present = ", ".join(f"{c}: {n:g}" for c, n in zip(cache.classes[:20], counts.tolist(), strict=False))
            what = "no rows" if cache.sample_weight is None else "no weight"
            raise MissingClass(f"class '{name}' has {what}, wanted at least one row of each class; rows: {present}")


def doubt_of(cache: FeatureCache) -> str | None:
    """Return what is doubtful of the logits: all in [0, 1] with rows that sum to 1, they look like probabilities."""
    logits, rows = cache.logits, cache.rows
    if rows < 2 or logits.min() < 0 or logits.max() > 1:
        return None
    one_score = logits.shape[1] == 2 and not logits[:, 0].any()
    if (one_score and rows < _FEW_SCORES) or not (one_score or (np.abs(logits.sum(axis=1) - 1) < _SUMS_TO_1).all()):
        return None
    sums = "" if one_score else " and the rows sum to 1"
    return (
        f"the logits look like probabilities: all lie in [0, 1]{sums}. If they are, pass them as probabilities "
        "(probabilities=, scores_are probabilities): taken as logits, what is reported as probabilities is wrong"
    )


def counted_rows(cache: FeatureCache) -> FeatureCache:
    """Return the rows that count: a row of weight 0 is no row."""
    if cache.sample_weight is None or cache.sample_weight.all():
        return cache
    counts = cache.sample_weight > 0
    columns = {name: getattr(cache, name) for name in ROW_COLUMNS}
    return replace(cache, **{name: values[counts] for name, values in columns.items() if values is not None})


def _column(values: ArrayLike | None, name: str, rows: int) -> Float64[np.ndarray, "n"] | None:
    """Numbers of at least 0, one per row, whose squares and sums float64 can hold."""
    if values is None:
        return None
    column = to_array(values, name, (1,)).astype(np.float64)
    if column.size != rows:
        raise WrongShape(f"{name}: wanted {rows} entries, one per row, got {column.size}")
    if (column < 0).any():
        row = int(np.flatnonzero(column < 0)[0])
        raise BadCache(f"{name}[{row}] must be at least 0, got {column[row]}")
    beyond = (column > _LARGEST_NUMBER) | ((column > 0) & (column < 1 / _LARGEST_NUMBER))
    if beyond.any():
        row = int(np.flatnonzero(beyond)[0])
        raise BadCache(
            f"{name}[{row}] must be 0, or from {1 / _LARGEST_NUMBER:g} to {_LARGEST_NUMBER:g}, got {column[row]}"
        )
    return column


def _group(values: ArrayLike | None, rows: int) -> Int[np.ndarray, "n"] | None:
    """Which rows belong together, as numbers from 0 on, in the order of the names or numbers that were given."""
    if values is None:
        return None
    listed: Any = values
    if not isinstance(values, list | tuple):
        array = np.asarray(values)
        listed = array.tolist() if array.dtype.kind == "O" else values
    if isinstance(listed, list | tuple):
        if len(listed) != rows:
            raise WrongShape(f"group: wanted {rows} entries, one per row, got {len(listed)}")
        kinds = {type(value) for value in listed}
        if kinds != {str} and not all(issubclass(kind, int | np.integer) for kind in kinds):
            raise BadCache("group must hold names or whole numbers, all of one kind")
        places = {value: place for place, value in enumerate(sorted(set(listed)))}
        return np.array([places[value] for value in listed], dtype=np.int64)
    array = np.asarray(values)
    if array.shape != (rows,):
        raise WrongShape(f"group: wanted {rows} entries, one per row, got shape {array.shape}")
    if array.dtype.kind not in "iuU":
        raise BadCache(f"group must hold names or whole numbers, got type {array.dtype}")
    return np.unique(array, return_inverse=True)[1].astype(np.int64)


def _head(
    weight: ArrayLike | None, bias: ArrayLike | None, features: Float[np.ndarray, "n d"] | None
) -> tuple[Float[np.ndarray, "k d"] | None, Float[np.ndarray, "k"] | None]:
    if weight is None:
        if bias is not None:
            raise BadCache("bias of a head was given without its weight")
        return None, None
    weight_ = to_array(weight, "weight", (1, 2))
    weight_ = weight_[np.newaxis] if weight_.ndim == 1 else weight_
    bias_ = to_array(bias, "bias", (1,)) if bias is not None else np.zeros(weight_.shape[0], weight_.dtype)
    if bias_.shape[0] != weight_.shape[0]:
        raise WrongShape(f"bias: wanted {weight_.shape[0]} entries, one per row of weight, got {bias_.shape[0]}")
    if features is not None and features.shape[1] != weight_.shape[1]:
        raise WrongShape(f"features: wanted {weight_.shape[1]} columns, as weight has, got {features.shape[1]}")
    if weight_.shape[0] == 1:
        weight_ = np.concatenate([np.zeros_like(weight_), weight_])
        bias_ = np.concatenate([np.zeros_like(bias_), bias_])
    return weight_, bias_


def _check_head(
    features: Float[np.ndarray, "n d"],
    weight: Float[np.ndarray, "k d"],
    bias: Float[np.ndarray, "k"],
    logits: Float[np.ndarray, "n k"],
) -> None:
    """The first rows must give the logits beside them, up to a shift per row and half-precision rounding."""
    made = head_logits(features[:_CHECKED_ROWS], weight, bias)
    off = made - logits[:_CHECKED_ROWS]
    off = np.abs(off - off.mean(axis=1, keepdims=True)).max(axis=1)
    worst = int(off.argmax())
    if off[worst] > 0.02 * max(1.0, float(np.abs(made).max())):
        raise BadCache(
            f"logits of row {worst} are {logits[worst].tolist()[:10]}, but features, weight and bias give "
            f"{made[worst].tolist()[:10]}"
        )
