"""One run of a model, any number of operating points.

Whatever a request brings, inputs, features or logits, becomes logits once; each point then decides those. Every answer
is taken from one snapshot of the model, so a batch never mixes two versions. Nothing here knows of HTTP: `find_logits`
and `answer` are what every protocol calls.

Decided here: runs are the runner's to order, which may run rows of several callers together, or at once and in place
where a run is short.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Float64, Int
from numpy.typing import ArrayLike

from calibrate.errors import WrongShape
from calibrate.io.model import Head
from calibrate.logits import head_logits, to_array, to_columns
from calibrate.operating_point import FEW_ROWS, FewJudged, Judged
from calibrate.score_columns import logits_of
from service.domain import Model, ModelVersion, PointRecord, Together
from service.errors import BadRequest
from service.ports import Ran, Runner
from service.registry import Registry

ScoreKind = Literal["logits", "probabilities", "margins"]
SCORES: tuple[ScoreKind, ...] = get_args(ScoreKind)


class Rows(NamedTuple):
    """What a request brings, exactly one of these: inputs by name, features (n, d), or scores of one kind.

    Scores are logits (n, k), probabilities (n, k), or margins (n,), the log-odds of the second of two classes. Of two
    classes logits may be (n,), margins, and probabilities (n,), those of the second class.
    """

    inputs: Mapping[str, np.ndarray] | None = None
    features: ArrayLike | None = None
    logits: ArrayLike | None = None
    probabilities: ArrayLike | None = None
    margins: ArrayLike | None = None


def rows_of(kind: str, values: Any) -> Rows:
    """Rows of the one kind, a field of `Rows`."""
    return Rows(**{kind: values})


class Compared(NamedTuple):
    """What m other points would say: the references to them, and class indices, (m, n)."""

    references: Sequence[str] = ()
    decided: Int[np.ndarray, "m n"] | Sequence[list[int]] = ()


NOT_COMPARED = Compared()


class Answer:
    """Decisions on n rows: class indices, probabilities (of the mapped logits where the point contains a calibration
    map), adjusted probabilities, margins, and what others would say.

    Of a few rows they may be lists, which are made arrays where arrays are asked for: most such answers are written as
    JSON, and arrays on the way there would cost more than the decision.
    """

    __slots__ = ("_judged", "compared", "points", "version")

    def __init__(
        self,
        version: ModelVersion,
        points: tuple[PointRecord, ...],
        decided: Int[np.ndarray, "n"] | list[int],
        probabilities: Float64[np.ndarray, "n k"] | list[list[float]],
        adjusted: Float64[np.ndarray, "n k"] | list[list[float]],
        margin: Float64[np.ndarray, "n"] | list[float],
        compared: Compared = NOT_COMPARED,
    ) -> None:
        self.version, self.points, self.compared = version, points, compared
        self._judged = decided, probabilities, adjusted, margin

    @property
    def decided(self) -> Int[np.ndarray, "n"]:
        """Class indices."""
        return np.asarray(self._judged[0], np.intp)

    @property
    def probabilities(self) -> Float64[np.ndarray, "n k"]:
        """What may be read as a risk."""
        return np.asarray(self._judged[1])

    @property
    def adjusted(self) -> Float64[np.ndarray, "n k"]:
        """What the rule saw."""
        return np.asarray(self._judged[2])

    @property
    def margin(self) -> Float64[np.ndarray, "n"]:
        """How far each decision is from flipping."""
        return np.asarray(self._judged[3])

    def lists(self) -> list[list[Any]]:
        """The four in that order, as lists."""
        return [each if type(each) is list else np.asarray(each).tolist() for each in self._judged]


InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


def find_logits_now(
    rows: Rows, version: ModelVersion, registry: Registry, runner: Runner
) -> Float[np.ndarray, "n k"] | None:
    """The logits of the rows, (n, k), where they are found faster than a thread could be asked; None where not.

    Raises: what `to_logits` raises.
    """
    if rows.inputs is None:
        return to_logits(rows, version, registry) if rows.features is None else None
    session = registry.loaded(version)
    if session is None:
        return None
    logits = runner.run_now(version, session, rows.inputs)
    return None if logits is None else check_width(logits, version)


async def find_logits(
    rows: Rows,
    version: ModelVersion,
    registry: Registry,
    runner: Runner,
    in_thread: InThread,
    *,
    priority: int = 0,
    until: float | None = None,
    told: Callable[[Ran], None] | None = None,
) -> Float[np.ndarray, "n k"]:
    """The logits of the rows, (n, k), without holding up the event loop; `in_thread` runs what is long.

    Raises: what `to_logits` raises, `Busy`, `TimedOut`.
    """
    if rows.inputs is not None:
        session = registry.loaded(version) or await in_thread(lambda: registry.session(version))
        found = await runner.run(version, session, rows.inputs, priority=priority, until=until, told=told)
        return check_width(found, version)
    if rows.features is not None:
        made: Float[np.ndarray, "n k"] = await in_thread(lambda: to_logits(rows, version, registry))
        return made
    return to_logits(rows, version, registry)


def to_logits(rows: Rows, version: ModelVersion, registry: Registry) -> Float[np.ndarray, "n k"]:
    """The logits of the rows, (n, k).

    Raises: `BadRequest` for features of a model without a head, `WrongShape`, `NotFinite`, `ModelFailed`.
    """
    if rows.inputs is not None:
        logits = registry.session(version).run(rows.inputs)
    elif rows.features is not None:
        logits = features_to_logits(rows.features, registry.head(version), version)
    elif rows.probabilities is not None:
        logits = scores_to_logits("probabilities", rows.probabilities, version.classes)
    elif rows.margins is not None:
        logits = scores_to_logits("margins", rows.margins, version.classes)
    else:
        logits = to_columns(rows.logits if rows.logits is not None else [])
    return check_width(logits, version)


def scores_to_logits(kind: ScoreKind, scores: ArrayLike, classes: Sequence[str]) -> Float[np.ndarray, "n k"]:
    """Return scores of one kind as logits with a column per class; probabilities of exactly 0 count as 1e-38.

    Raises: `WrongShape`, `NoRows`, `NotFinite`, each naming the item.
    """
    k = len(classes)
    if kind == "logits":
        return to_columns(scores)
    array = to_array(scores, kind, (1, 2))
    width = 1 if array.ndim == 1 else array.shape[1]
    if kind == "margins" and k != 2:
        raise WrongShape(f"margins are of two classes, the model has {k}: send probabilities or logits")
    if kind == "probabilities" and width != k and (width, k) != (1, 2):
        alone = f", or the one of class '{classes[1]}'" if k == 2 else ""
        raise WrongShape(f"probabilities: wanted {k} columns, one per class{alone}; got {width}")
    return logits_of(kind, array)


def features_to_logits(features: ArrayLike, head: Head | None, version: ModelVersion) -> Float[np.ndarray, "n k"]:
    """The logits of rows of features, (n, d), under a version's head.

    Raises: `BadRequest` where it has none, or no graph, `WrongShape`, `NotFinite`.
    """
    if head is None:
        version.check_runs()
        raise BadRequest(f"model '{version.model}' has no linear head: send inputs or logits, not features")
    array = to_array(features, "features", (2,))
    if array.shape[1] != head.weight.shape[1]:
        raise WrongShape(f"features: wanted {head.weight.shape[1]} columns, got {array.shape[1]}")
    return head_logits(array, head.weight, head.bias)


def check_width(logits: Float[np.ndarray, "n m"], version: ModelVersion) -> Float[np.ndarray, "n m"]:
    """Logits with one column per class of the version. Raises: `WrongShape`."""
    if logits.shape[1] != len(version.classes):
        raise WrongShape(f"logits: wanted {len(version.classes)} columns, one per class, got {logits.shape[1]}")
    return logits


def answer(
    logits: Float[np.ndarray, "n k"],
    model: Model,
    version: ModelVersion,
    references: str | Sequence[str] | None,
    compare: Sequence[str] = (),
) -> Answer:
    """Decides the logits under one point, or each row under its own, and tells what the points in `compare` would say.

    Raises: `UnknownPoint`, `NotApproved`, `BadRequest` where there is not one reference per row, `NotFinite` where a
    point overflows.
    """
    n = len(logits)
    if references is None or isinstance(references, str):
        record = model.point(version, references)
        points: tuple[PointRecord, ...] = (record,)
        judged: Judged | FewJudged = (record.judge_few(logits) if n <= FEW_ROWS else None) or record.judge(logits)
    else:
        if len(references) != n:
            raise BadRequest(f"operating_point: wanted one name, or one per row ({n}), got {len(references)}")
        names = tuple(dict.fromkeys(references))
        asked = model.together(version, names, answers=True)
        place = dict(zip(names, range(len(names)), strict=True))
        which = [place[reference] for reference in references]
        points = tuple([asked.records[i] for i in which])
        judged = _judge_each(logits, asked, which)
    compared = NOT_COMPARED
    if compare:
        others = model.together(version, tuple(compare), answers=False).points
        compared = Compared(compare, others.decide_few(logits) or others.decide(logits))
    decided, probabilities, adjusted, margin = judged
    return Answer(version, points, decided, probabilities, adjusted, margin, compared)


def _judge_each(logits: Float[np.ndarray, "n k"], asked: Together, which: Sequence[int]) -> Judged | FewJudged:
    """Each row under its own point, that at the place `which[i]` for row i."""
    if not asked.are_mapped:
        return asked.points.judge_few_rows(which, logits) or asked.points.judge_rows(which, logits)
    judged = asked.points.judge_rows(which, logits)
    for i, record in enumerate(asked.records):
        if record.calibration is not None:
            own = [row for row, place in enumerate(which) if place == i]
            judged.probabilities[own] = record.probabilities(logits[own])
    return judged
