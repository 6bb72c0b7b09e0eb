"""`EpochSelector`: after every epoch adjust the bias, validate, and keep the best (epoch, point) pair.

An imbalanced model's plain metric jumps about from epoch to epoch with its bias, and hides which epoch ranks the rows
best. So each epoch is judged under the operating point that it would be served with.

Decided here: the pair is chosen as the paper does, by the metric on the rows that fitted the point. That number
flatters, twice: the point has seen the rows, and it is the best of all epochs. So what is reported for the choice comes
from rows that had no say in it, neither in the point nor in the epoch:

- `cross_fitted` (default): in each of five folds the whole choice is made without the fold's rows and decides them; the
  pair that is kept is chosen on all rows. It scores the procedure. Six fits an epoch.
- `half_split`: half of each class's rows choose, the other half scores that very pair. One fit an epoch, half the rows.
- `same_rows`: the choice alone, without evidence. One fit an epoch.

Beside it the same is told of two other ways on the same rows: the epoch with the best plain metric, decided plainly,
and that epoch with its bias adjusted afterwards. An epoch whose logits are not finite, or whose metric is undefined at
every cut, is noted and never chosen. Every epoch must come with the same rows in the same order.

Source: "Regulating imbalanced deep models with user-specified metrics", the training strategy.
"""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from calibrate.cache import (
    ROW_COLUMNS,
    FeatureCache,
    check_every_class_has_rows,
    check_prior,
    counted_rows,
    feature_cache,
)
from calibrate.errors import BadCache, Infeasible, MissingClass, NotConverged, NotFinite, UndefinedMetric, UnknownMethod
from calibrate.evidence import FOLDS, table_of
from calibrate.folds import parts_of_each_class, stratified_folds
from calibrate.methods import Task, find_method
from calibrate.methods.bias_adjustment import search_for
from calibrate.naming import MetricText
from calibrate.objective import Objective, parse_objective
from calibrate.operating_point import OperatingPoint
from calibrate.samples import frequencies, sample_of
from calibrate.uncertainty import Interval, Kind, measure

SCORINGS = ("cross_fitted", "half_split", "same_rows")
State = Mapping[str, Any] | Callable[[], Any] | None
_WAYS = ("adjusted", "plain", "plain, adjusted afterwards")
_WORST = (-np.inf, -np.inf)


@dataclass(frozen=True)
class Epoch:
    """One epoch: the metric under its point and of the plain model, both on the rows that chose; NaN where undefined.

    `seconds` is what the selector took, `share` its part of the whole epoch's time; `note` says what went wrong.
    """

    epoch: float
    adjusted: float
    plain: float
    seconds: float
    share: float
    note: str = ""


@dataclass(frozen=True, eq=False)
class Choice:
    """An epoch with its point, the metric on the rows that chose it, and what was kept of the model."""

    epoch: float
    point: OperatingPoint
    value: float
    state: Any = None


@dataclass(frozen=True, eq=False)
class Selection:
    """What was chosen and what can be said of it.

    `best` is the pair to serve; `plain` what the plain metric would have picked. `evidence` holds the metric's interval
    on rows without a say in the choice, by way: "adjusted" (how `best` was chosen), "plain", and "plain, adjusted
    afterwards"; empty under `same_rows`. `seconds` and `share` are the cost of all epochs together.
    """

    metric: str
    scoring: str
    best: Choice
    plain: Choice
    epochs: tuple[Epoch, ...]
    evidence: Mapping[str, Interval]
    seconds: float
    share: float


@dataclass
class _Track:
    """One run of the choice: the rows that choose, the rows they must not see, and the best so far of each way."""

    chooses: Int[np.ndarray, "m"]
    scored: Int[np.ndarray, "s"]
    key: tuple[float, float] = _WORST
    plain_key: tuple[float, float] = _WORST
    decided: dict[str, Int[np.ndarray, "s"]] = field(default_factory=dict)


class EpochSelector:
    """Keeps the best (epoch, point) pair of a training run.

    `metric`, `constraints`, `method` and `options` (`search`, `digits`, `tau`, `positive`, `prior`) are those of `fit`.
    `search` is `exact` unless told, for speed. `scoring` says which rows answer for the choice; `rng` deals them out,
    the same every time without one.

    >>> selector = EpochSelector("f1", classes=["clear", "fraud"], scoring="same_rows")
    >>> labels = [0, 0, 0, 1, 1]
    >>> selector.after_epoch(0, [-3.0, -1.0, -2.0, -1.5, -2.5], labels, state={"step": 0}).adjusted
    0.6666666666666666
    >>> selector.after_epoch(1, [-3.0, -2.0, -2.5, -1.0, -0.5], labels, state={"step": 1}).plain
    0.0
    >>> chosen = selector.result().best
    >>> chosen.epoch, chosen.state, chosen.point.bias.tolist()
    (1, {'step': 1}, [0.0, 1.5])
    """

    def __init__(
        self,
        metric: MetricText,
        *,
        classes: Sequence[str] | None = None,
        constraints: str | Sequence[str] | None = None,
        method: str = "bias_adjustment",
        scoring: str = "cross_fitted",
        rng: np.random.Generator | None = None,
        **options: Any,
    ) -> None:
        if scoring not in SCORINGS:
            raise UnknownMethod(f"scoring must be one of {', '.join(SCORINGS)}; got {str(scoring)[:100]!r}")
        self.metric, self.classes, self.scoring = metric, classes, scoring
        self._method, self._constraints, self._options = find_method(method), constraints, options
        known = {"positive", "prior", *self._method.options}
        if foreign := sorted(options.keys() - known):
            raise UnknownMethod(f"method '{method}' has no option '{foreign[0]}', only {', '.join(sorted(known))}")
        self._rng = np.random.default_rng(0) if rng is None else rng
        self._labels: Int[np.ndarray, "n"] | None = None
        self._tracks: list[_Track] = []
        self._objective: Objective | None = None
        self._rows: FeatureCache | None = None
        self._epochs: list[Epoch] = []
        self._best: Choice | None = None
        self._plain: Choice | None = None
        self._started = self._ended = time.perf_counter()

    def after_epoch(
        self,
        epoch: float,
        logits: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        *,
        cache: FeatureCache | None = None,
        state: State = None,
    ) -> Epoch:
        """Judges an epoch by its validation `logits` (n, k) and `labels` (n,), or by a `cache` of features and head.

        `state` is kept where this epoch is the best so far: a mapping, as `model.state_dict()` gives it, is copied (to
        the host); a function is called, only then, and its answer is kept.

        Raises: `BadCache` where the rows are not those of the first epoch, and what `fit` raises, but for what is
        noted.
        """
        begun = time.perf_counter()
        training = begun - self._ended
        adjusted = plain = float("nan")
        note = ""
        try:
            rows = self._checked(cache, logits, labels)
            adjusted, plain, note = self._judge(epoch, self._task(rows), state)
        except NotFinite as error:
            note = str(error)
        seconds = time.perf_counter() - begun
        judged = Epoch(epoch, adjusted, plain, seconds, seconds / (training + seconds), note)
        self._epochs.append(judged)
        self._ended = time.perf_counter()
        return judged

    def result(self) -> Selection:
        """The choice so far, with its evidence. Raises: `UndefinedMetric` where no epoch could be judged."""
        if self._best is None or self._plain is None or self._objective is None or self._rows is None:
            said = f": {self._epochs[-1].note}" if self._epochs else ""
            raise UndefinedMetric(f"none of {len(self._epochs)} epochs could be judged{said}")
        seconds = sum(epoch.seconds for epoch in self._epochs)
        return Selection(
            metric=self._objective.metric.name,
            scoring=self.scoring,
            best=self._best,
            plain=self._plain,
            epochs=tuple(self._epochs),
            evidence=self._evidence(self._objective, self._rows),
            seconds=seconds,
            share=seconds / (self._ended - self._started),
        )

    def _checked(self, cache: FeatureCache | None, logits: ArrayLike | None, labels: ArrayLike | None) -> FeatureCache:
        """The rows as a cache; those of the first epoch are dealt out, later ones must be the same."""
        if cache is None:
            if logits is None or labels is None:
                raise BadCache("pass logits and labels of the validation rows, or a cache of them")
            cache = feature_cache(logits=to_host(logits), labels=to_host(labels), classes=self.classes)
        if self._labels is None:
            check_every_class_has_rows(cache)
        cache = counted_rows(cache)
        if self._labels is None:
            self._labels = cache.labels
            self._tracks = self._deal(cache)
        elif not np.array_equal(self._labels, cache.labels):
            raise BadCache("every epoch must come with the same validation rows in the same order: the labels differ")
        self._rows = cache
        return cache

    def _task(self, cache: FeatureCache) -> Task:
        """What `fit` would be given, without what it reports of the model: that takes several times longer."""
        known = self._options.get("prior", cache.prior)
        prior = None if known is None else check_prior(known, cache.classes)
        if self._objective is None:
            self._objective = parse_objective(
                self.metric,
                self._constraints,
                cache.classes,
                self._options.get("positive"),
                frequencies(cache) if prior is None else prior.tolist(),
            )
            if self._objective.certified:
                raise UnknownMethod(
                    f"'{self._objective.certified[0].text}' does not survive the choice of an epoch on the same rows: "
                    "choose without it, then fit it on other rows"
                )
        sample = sample_of(cache, self._objective.metrics)
        return Task(
            logits=cache.logits,
            labels=cache.labels,
            classes=cache.classes,
            objective=self._objective,
            state_logits=cache.logits,
            weights=sample.weights,
            amounts=sample.amounts,
            at_stake=sample.at_stake,
            prior=prior,
            search=search_for(self._options.get("search", "exact"), cache.labels, len(cache.classes)),
            digits=self._options.get("digits"),
            tau=self._options.get("tau"),
            head_weight=cache.weight,
            head_bias=cache.bias,
            groups=cache.group,
        )

    def _deal(self, cache: FeatureCache) -> list[_Track]:
        """The first track makes the choice that is kept; each other one makes it without the rows that it scores."""
        everything, nothing = np.arange(cache.rows), np.arange(0)
        if self.scoring == "same_rows":
            return [_Track(everything, nothing)]
        least = int(parts_of_each_class(cache.labels, cache.group, len(cache.classes)).min())
        if least < 2:
            unit = "rows" if cache.group is None else "groups"
            raise BadCache(
                f"{self.scoring} needs two {unit} of each class, the rarest has {least}: same_rows needs one"
            )
        number = 2 if self.scoring == "half_split" else min(FOLDS, least)
        folds = stratified_folds(cache.labels, number, self._rng, cache.group)
        tracks = [
            _Track(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(folds.max() + 1)
        ]
        return tracks[:1] if self.scoring == "half_split" else [_Track(everything, nothing), *tracks]

    def _judge(self, epoch: float, whole: Task, state: State) -> tuple[float, float, str]:
        objective, plain_point = whole.objective, OperatingPoint.argmax(whole.classes)
        values, notes = (float("nan"), float("nan")), []
        for track in self._tracks:
            task = whole.with_rows(track.chooses) if track.scored.size else whole
            plain_counts = task.sample.counts(plain_point.decide(task.logits))
            plain = objective.score(plain_counts).key
            try:
                point = self._method.fit(task).point
            except (UndefinedMetric, Infeasible, MissingClass, NotConverged) as error:
                notes.append(str(error))
                point, counts, key = plain_point, plain_counts, _WORST
            else:
                counts = task.sample.counts(point.decide(task.logits))
                key = objective.score(counts).key
            hidden = whole.logits[track.scored]
            better, plainly = key > track.key, plain > track.plain_key
            if track is self._tracks[0]:
                values = float(objective.metric.value(counts)), float(objective.metric.value(plain_counts))
                if key == _WORST:
                    values = float("nan"), values[1]
                if better:
                    self._best = Choice(epoch, point, values[0], kept(state))
                if plainly or self._plain is None:
                    self._plain = Choice(epoch, plain_point, values[1])
            elif not hidden.size:
                continue
            if better:
                track.key = key
            if plainly:
                track.plain_key = plain
            if hidden.size and (better or "adjusted" not in track.decided):
                track.decided["adjusted"] = point.decide(hidden)
            if hidden.size and (plainly or "plain" not in track.decided):
                track.decided["plain"] = plain_point.decide(hidden)
                track.decided["plain, adjusted afterwards"] = point.decide(hidden)
        return *values, "; ".join(dict.fromkeys(notes))

    def _evidence(self, objective: Objective, rows: FeatureCache) -> dict[str, Interval]:
        tracks = [track for track in self._tracks if track.scored.size]
        if not tracks:
            return {}
        order = np.concatenate([track.scored for track in tracks])
        sample = sample_of(_part(rows, order), objective.metrics)
        kind: Kind = "held_out" if self.scoring == "half_split" else "cross_fitted"
        found = {}
        for way in _WAYS:
            table = table_of(np.concatenate([track.decided[way] for track in tracks]), sample)
            found[way] = measure(table, [objective.metric], kind, np.random.default_rng(0))[objective.metric.name]
        return found


def _part(cache: FeatureCache, rows: Int[np.ndarray, "m"]) -> FeatureCache:
    """Some of the rows."""
    if rows.size == cache.rows and (rows[1:] > rows[:-1]).all():
        return cache
    some = {name: getattr(cache, name) for name in ROW_COLUMNS}
    return replace(cache, **{name: value[rows] for name, value in some.items() if value is not None})


def to_host(values: Any) -> ArrayLike:
    """A tensor of any device and precision as an array; anything else as it is."""
    if not hasattr(values, "detach"):
        return values  # type: ignore[no-any-return]
    values = values.detach()
    values = values.float() if values.is_floating_point() and values.element_size() < 4 else values
    return values.cpu().numpy()  # type: ignore[no-any-return]


def kept(state: State) -> Any:
    """What a function answers, or a copy of a mapping; tensors on the host."""
    if callable(state):
        return state()
    if state is None:
        return None
    return {
        name: value.detach().cpu().clone() if hasattr(value, "detach") else copy.deepcopy(value)
        for name, value in state.items()
    }
