"""Fitting on more rows than memory holds: the exact cut of two classes, in passes over batches.

The first pass gathers the positives, the second counts every batch against them, a third scores. Memory is a batch and
the distinct margins of positives (all distinct margins where the objective is not monotone). Counts add up exactly, of
weights too, so files may come in any number, cut and order with the same answer. A row of weight 0 is no row. The folds
of the evidence are drawn from a row's margin and label, not from its place: equal rows are never on both sides.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from calibrate.ascent import Sample
from calibrate.cache import CacheStream, FeatureCache, check_prior, counted_rows, doubt_of
from calibrate.cautions import fragile_bounds, unnamed_majority
from calibrate.counts import summable
from calibrate.errors import BadCache, BadConstraint, Infeasible, MissingClass, UndefinedMetric
from calibrate.evidence import FOLDS, NO_EVIDENCE, Evidence, measure_procedure, measured
from calibrate.fit import FEW_ROWS
from calibrate.fitted_rows import ComputedStatistics
from calibrate.logits import binary_margins, sigmoid
from calibrate.methods.task import point_at
from calibrate.metrics import Metric
from calibrate.naming import MetricText, standard_metrics
from calibrate.objective import Objective, parse_objective
from calibrate.operating_point import OperatingPoint
from calibrate.optimism import Corrections, decided_by_own_fold
from calibrate.paired import Paired
from calibrate.purpose import positive_class
from calibrate.result import FitResult
from calibrate.samples import sample_of
from calibrate.sweep import Cut, Rows, Tally, best_cut, with_highest

Progress = Callable[[str, int], None]


def fit_stream(
    stream: CacheStream,
    *,
    metric: MetricText,
    constraints: str | Sequence[str] | None = None,
    positive: str | None = None,
    prior: ArrayLike | None = None,
    evidence: bool = True,
    rng: np.random.Generator | None = None,
    progress: Progress | None = None,
) -> FitResult:
    """The exact cut (bias adjustment) for a metric on a stream of two classes; as `fit` with search "exact" in memory.

    The evidence is that of `fit`, with five folds. `progress` is called with what is being done and how many rows of it
    are done.

    Raises: as `fit`; `BadCache` for more than two classes: read those into memory with `read_cache`.
    """
    if len(stream.classes) != 2:
        raise BadCache(f"a stream is fitted for two classes, this one has {len(stream.classes)}: read_cache it whole")
    given = stream.prior if prior is None else check_prior(prior, stream.classes)
    objective = parse_objective(
        metric, constraints, stream.classes, positive, None if given is None else given.tolist()
    )
    if objective.certified:
        raise BadConstraint(f"a stream cannot certify '{objective.certified[0].text}': read_cache it whole")
    index = objective.positive
    scan = _Scan(stream, objective, progress)
    edges, digest, totals, state_before = _gather(scan)
    tallies = [Tally.at(edges, objective.reads("amounts")) for _ in range(FOLDS if evidence else 1)]
    for cache, sample in scan.batches("counting"):
        rows = scan.rows(cache, sample)
        folds = _folds(rows.margins, cache.labels) if evidence else np.zeros(cache.rows, dtype=np.int64)
        for fold, tally in enumerate(tallies):
            tally.add(rows.some(folds == fold))
    cut = best_cut(_together(tallies, edges), objective)
    point = _point(cut, index, stream.classes)
    found, state_after = (
        _score(scan, point, tallies, positive, rng) if evidence else (NO_EVIDENCE, _state_only(scan, point))
    )
    doubt = doubt_of(next(stream.batches()))
    few = [
        f"class '{name}' has {int(rows)} rows: the point and its evidence may be far off on new data"
        for name, rows in zip(stream.classes, totals.tolist(), strict=True)
        if rows < FEW_ROWS
    ]
    return FitResult(
        point=point,
        method="bias_adjustment",
        metric=objective.metric.name,
        constraints=tuple(constraint.text for constraint in objective.constraints),
        options={"search": "exact"},
        parameters={"cut": float(-point.bias[1]), "gap": cut.gap},
        prior=given,
        positive=positive_class(stream.classes, positive),
        evidence=found.point,
        before=found.argmax,
        gain=found.gain,
        procedure=found.procedure,
        found=found,
        survives=tuple(each.name for each in _metrics(scan, positive) if each.survives),
        statistics=ComputedStatistics({}, state_before, state_after, digest),
        mis_rows="fitting",
        rows=scan.counted,
        notes=(f"streamed: {edges.size} cuts, three passes",),
        warnings=(
            *(() if doubt is None else (doubt,)),
            *few,
            *found.warnings,
            *fragile_bounds(found.point, objective, certifies=False),
            *(unnamed_majority([int(n) for n in totals], stream.classes, objective) if positive is None else ()),
        ),
        origin=stream.origin,
    )


class _Scan:
    """The batches of a stream, as many times as they are asked for, and what the objective wants of them."""

    def __init__(self, stream: CacheStream, objective: Objective, progress: Progress | None) -> None:
        self.stream, self.objective, self._progress = stream, objective, progress
        self.counted = 0  # rows, and below the sums of their weights and amounts: known after the first pass
        self.weight: float | None = None
        self.amount: float | None = None

    def batches(self, what: str) -> Iterator[tuple[FeatureCache, Sample]]:
        """Each batch, checked, with its weights and amounts."""
        done = 0
        for batch in self.stream.batches():
            if batch.group is not None:
                raise BadCache("rows of a group must be held together, and a stream does not: read_cache it whole")
            cache = counted_rows(batch)
            if cache.rows:
                yield cache, sample_of(cache, self.objective.metrics)
            done += batch.rows
            if self._progress is not None:
                self._progress(what, done)

    def rows(self, cache: FeatureCache, sample: Sample) -> Rows:
        """A batch as the sweep takes it."""
        margins, positive = binary_margins(sample.logits), self.objective.positive
        toward = margins if positive == 1 else -margins
        weights = None if cache.sample_weight is None else summable(cache.sample_weight, self.weight)
        amounts = None if sample.amounts is None else summable(sample.amounts, self.amount)
        return Rows(toward, sample.labels == positive, weights, amounts)


def _gather(scan: _Scan) -> tuple[Float[np.ndarray, "m"], str, np.ndarray, np.ndarray]:
    """The edges; a digest of the rows, whatever their order; the rows of each class; the model imbalance state."""
    edges: np.ndarray = np.empty(0, dtype=np.float32)
    top, total, digest = -np.inf, np.zeros(2), 0
    mean, weight, amount = 0.0, np.zeros(2), 0.0
    for cache, sample in scan.batches("gathering"):
        rows = scan.rows(cache, sample)
        kept = rows.margins[rows.is_positive] if scan.objective.monotone else rows.margins
        edges = np.unique(np.concatenate([edges.astype(np.result_type(edges, kept)), kept]))
        top = max(top, float(rows.margins.max()))
        total += np.bincount(cache.labels, minlength=2)
        weight += np.bincount(cache.labels, cache.sample_weight, 2)
        amount += 0.0 if sample.amounts is None else float(sample.amounts.sum())
        mean += float(sigmoid(binary_margins(cache.logits).astype(np.float64)).sum())
        digest = (digest + int(_keys(rows.margins, cache.labels).sum())) % 2**64
    for name, there in zip(scan.stream.classes, weight.tolist(), strict=True):
        if there == 0:
            raise MissingClass(f"class '{name}' has no rows, wanted at least one row of each class")
    edges = with_highest(edges, top)
    scan.counted, scan.weight, scan.amount = int(total.sum()), float(weight.sum()), amount
    share = mean / scan.counted
    whole = hashlib.sha256(f"{scan.stream.classes}{total.tolist()}{digest}".encode()).hexdigest()
    return edges, whole, total, np.array([1 - share, share])


def _keys(margins: Float[np.ndarray, "n"], labels: Int[np.ndarray, "n"]) -> np.ndarray:
    """A well-mixed number for each row from its margin and label alone (the finaliser of SplitMix64)."""
    with np.errstate(over="ignore"):
        key = (margins.astype(np.float64) + 0.0).view(np.uint64) + labels.astype(np.uint64)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(key ^ (key >> np.uint64(31)))


def _folds(margins: Float[np.ndarray, "n"], labels: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    return (_keys(margins, labels) % np.uint64(FOLDS)).astype(np.int64)


def _together(tallies: Sequence[Tally], edges: Float[np.ndarray, "m"]) -> Tally:
    total = Tally.at(edges, tallies[0].amounts_below is not None)
    for tally in tallies:
        total.merge(tally)
    return total


def _point(cut: Cut, positive: int, classes: tuple[str, ...]) -> OperatingPoint:
    return point_at((cut if positive == 1 else cut.mirrored()).at(), classes)


def _score(
    scan: _Scan, point: OperatingPoint, tallies: Sequence[Tally], named: str | None, rng: np.random.Generator | None
) -> tuple[Evidence, np.ndarray]:
    """Each row decided by the point, by the cuts of the folds, and by argmax; and the state under the point."""
    positive, classes = scan.objective.positive, scan.stream.classes
    try:
        fitted = [
            _point(
                best_cut(_together([*tallies[:f], *tallies[f + 1 :]], tallies[0].edges), scan.objective),
                positive,
                classes,
            )
            for f in range(FOLDS)
        ]
    except (UndefinedMetric, Infeasible) as error:
        why = f"evidence from simultaneous bands, which are wider: without one part of the rows, {error}"
        return _banded(scan, point, named, why), _state_only(scan, point)
    plain = OperatingPoint.argmax(classes)
    parts: list[Corrections] = []
    procedure: list[Paired] = []
    state = np.zeros(2)
    for cache, sample in scan.batches("scoring"):
        folds = _folds(scan.rows(cache, sample).margins, cache.labels)
        by_fold = [each.decide(cache.logits) for each in fitted]
        decided = plain.decide(cache.logits)
        parts.append(Corrections.of(decided, point.decide(cache.logits), folds, by_fold, sample))
        procedure.append(Paired.of(decided, decided_by_own_fold(folds, by_fold), sample))
        state += point.adjusted(cache.logits).sum(axis=0)
    listed = _metrics(scan, named)
    rows = Paired.sum(procedure)
    found = measured(Corrections.sum(parts).paired(), "optimism_corrected", listed, rng)
    found = replace(found, procedure=measure_procedure(rows, listed, rng), procedure_rows=rows)
    return found, np.asarray(state / scan.counted)


def _metrics(scan: _Scan, named: str | None) -> list[Metric]:
    """The metrics of the evidence: the standard ones and those of the objective."""
    every = (*standard_metrics(scan.stream.classes, named), *scan.objective.metrics)
    return list({each.name: each for each in every}.values())


def _banded(scan: _Scan, point: OperatingPoint, named: str | None, why: str) -> Evidence:
    """The evidence by bands that hold wherever the cut was chosen, where none can be fitted without a fold."""
    plain = OperatingPoint.argmax(scan.stream.classes)
    parts = [
        Paired.of(plain.decide(cache.logits), point.decide(cache.logits), sample)
        for cache, sample in scan.batches("scoring")
    ]
    return replace(measured(Paired.sum(parts), "simultaneous", _metrics(scan, named), None), warnings=(why,))


def _state_only(scan: _Scan, point: OperatingPoint) -> np.ndarray:
    state = np.zeros(2)
    for cache, _ in scan.batches("scoring"):
        state += point.adjusted(cache.logits).sum(axis=0)
    return np.asarray(state / scan.counted)
