"""Logit adjustment: the bias `-tau log(prior)`, with tau fitted for the metric on the fitting rows, or given.

In two classes with unequal priors every cut is some tau, so the best tau is read off the exact sweep. In more, tau is
searched on a fine grid from 0 to 4 (which holds argmax and the published tau = 1), finer again around the best of a
large problem's coarser grid, and then placed in the middle of the stretch in which no row changes its decision.

A fitted tau does no harm: it is kept only where it gains, by cross-fitting, over tau = 0 (argmax) and the published
tau = 1, which fit nothing. Under constraints those two, which aim at none, are no match, and the fitted tau stays. The
decisions on the grid are taken once, for all folds.

Source: Menon et al., "Long-tail learning via logit adjustment" (2021), eq. 9 (the post-hoc form).
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Float64, Int

from calibrate.ascent import LARGE, Sample
from calibrate.counts import Counts, stacked
from calibrate.errors import UndefinedMetric, UnknownMethod
from calibrate.folds import parts_of_each_class, stratified_folds
from calibrate.methods.task import Fitted, Task, check_reached, exact_cut
from calibrate.operating_point import OperatingPoint

_MOST_TAU = 4.0
_STEP, _COARSE_STEP = 0.01, 0.1
_TAU_STRIDE = 8
_CHUNK_CELLS = 32_768
_FOLDS = 3


def fit_logit_adjustment(task: Task) -> Fitted:
    """The bias `-tau log(prior)`.

    Raises: `MissingPrior`, `UndefinedMetric`, `Infeasible`, `UnknownMethod` for a bad tau.
    """
    log_prior = np.log(task.needed_prior())
    tau = task.tau
    notes: tuple[str, ...] = ()
    if tau is None:
        tau = _cut_tau(task, log_prior) if len(task.classes) == 2 else best_tau(task, log_prior)
        tau, notes = _kept(task, log_prior, tau)
        check_reached(task, -tau * log_prior, f"at a tau from 0 to {_MOST_TAU:g}")
    elif not np.isfinite(tau):
        raise UnknownMethod(f"tau must be a finite number, got {tau}")
    point = OperatingPoint(task.classes, np.ones(log_prior.size), -tau * log_prior)
    return Fitted(point, {"tau": float(tau)}, notes, rows_had_a_say=task.tau is None)


def _kept(task: Task, log_prior: Float64[np.ndarray, "k"], tau: float) -> tuple[float, tuple[str, ...]]:
    """The fitted tau, or 0 or 1 where it does not gain over them on rows that did not fit it; and what to say of it."""
    if task.objective.constraints:
        return tau, ()
    folds = min(_FOLDS, int(parts_of_each_class(task.labels, task.groups, len(task.classes)).min()))
    if folds < 2:
        return tau, ("a class has one row, so whether a fitted tau gains could not be tried: it is kept",)
    assigned = stratified_folds(task.labels, folds, np.random.default_rng(0), task.groups)
    fit = _left_out_by_cut if len(task.classes) == 2 else _left_out_by_grid
    try:
        decided = fit(task, log_prior, assigned)
    except UndefinedMetric as error:
        return tau, (f"whether a fitted tau gains could not be tried, it is kept: without a part of the rows, {error}",)
    fitted = task.objective.score(task.sample.counts(decided))
    fixed = {each: task.sample.score(-each * log_prior, task.objective) for each in (0.0, 1.0)}
    best = max(fixed, key=lambda each: fixed[each].key)
    keep = fitted.key > fixed[best].key or not fixed[best].feasible
    sign = 1 if task.objective.metric.larger_is_better else -1
    told = ", ".join(
        f"{name} {sign * float(score.gain):.4f}"
        for name, score in (("the fitted tau", fitted), ("tau = 0", fixed[0.0]), ("tau = 1", fixed[1.0]))
    )
    what = f"kept the fitted tau {tau:.4g}" if keep else f"rejected the fitted tau {tau:.4g} for tau = {best:g}"
    return tau if keep else best, (f"{what}: cross-fitted '{task.objective.metric.name}' of {told}",)


def _left_out_by_cut(
    task: Task, log_prior: Float64[np.ndarray, "2"], assigned: Int[np.ndarray, "n"]
) -> Int[np.ndarray, "n"]:
    """Each row of two classes decided by the tau of the other folds. Raises: `UndefinedMetric`."""
    decided = np.empty_like(task.labels)
    for fold in range(assigned.max() + 1):
        tau = _cut_tau(task.with_rows(np.flatnonzero(assigned != fold)), log_prior)
        decided[assigned == fold] = task.sample.decide(-tau * log_prior)[assigned == fold]
    return decided


def _left_out_by_grid(
    task: Task, log_prior: Float64[np.ndarray, "k"], assigned: Int[np.ndarray, "n"]
) -> Int[np.ndarray, "n"]:
    """Each row of more classes decided by the best tau of the other folds on the coarser grid."""
    taus = np.linspace(0.0, _MOST_TAU, round(_MOST_TAU / _COARSE_STEP) + 1)
    rows = [np.flatnonzero(assigned != fold) for fold in range(assigned.max() + 1)]
    samples = [task.with_rows(kept).sample for kept in rows]
    each: list[list[Counts]] = [[] for _ in rows]
    for tau in taus:
        decided = task.sample.decide(-tau * log_prior)
        for counts, sample, kept in zip(each, samples, rows, strict=True):
            counts.append(sample.counts(decided[kept]))
    best = taus[[task.objective.score(stacked(counts)).best() for counts in each]]
    found = np.empty_like(task.labels)
    for fold, tau in enumerate(best):
        found[assigned == fold] = task.sample.decide(-tau * log_prior)[assigned == fold]
    return found


def best_tau(task: Task, log_prior: Float64[np.ndarray, "k"]) -> float:
    """The tau from 0 to 4 with the best objective on the fitting rows, or nearest to meeting its constraints."""
    step = _STEP if task.logits.size <= LARGE else _COARSE_STEP
    best = _best_of(task, log_prior, np.linspace(0.0, _MOST_TAU, round(_MOST_TAU / step) + 1))
    if step > _STEP:
        around = best + np.linspace(-step, step, 2 * round(step / _STEP) + 1)
        best = _best_of(task, log_prior, np.append(around[(around >= 0) & (around <= _MOST_TAU)], best))
    middle = _middle_of_stretch(task.logits, log_prior, best)
    objective, sample = task.objective, task.sample
    kept = sample.score(-middle * log_prior, objective).key >= sample.score(-best * log_prior, objective).key
    return middle if kept else best


def _best_of(task: Task, log_prior: Float64[np.ndarray, "k"], taus: Float64[np.ndarray, "t"]) -> float:
    taus = np.unique(taus)
    counts = [task.sample.counts(decided) for decided in decided_along(task.sample, log_prior, taus)]
    return float(taus[task.objective.score(stacked(counts)).best()])


def decided_along(
    sample: Sample, log_prior: Float64[np.ndarray, "k"], taus: Float64[np.ndarray, "t"]
) -> Iterator[Int[np.ndarray, "n"]]:
    """The decisions on all rows at each of these ascending taus.

    A class's score is a line in tau, so a class that wins a row at two taus wins it at every tau between them: there
    only the other rows are decided again.
    """
    ends = [*range(0, taus.size - 1, _TAU_STRIDE), taus.size - 1]
    biases = -taus[:, np.newaxis] * log_prior
    left = sample.decide(biases[0])
    yield left
    for start, stop in pairwise(ends):
        right = sample.decide(biases[stop])
        rows = np.flatnonzero(left != right)
        if rows.size and stop - start > 1:
            part = Sample(sample.logits[rows], sample.labels[rows])
            for some in part.decide_each(biases[start + 1 : stop]):
                decided = left.copy()
                decided[rows] = some
                yield decided
        else:
            yield from (left for _ in range(start + 1, stop))
        yield right
        left = right


def _cut_tau(task: Task, log_prior: Float64[np.ndarray, "2"]) -> float:
    """The tau whose bias is the exact cut; 0 where the two priors are equal, because then no tau moves anything."""
    spread = float(log_prior[1] - log_prior[0])
    return exact_cut(task).at() / spread if spread else 0.0


def _middle_of_stretch(logits: Float[np.ndarray, "n k"], log_prior: Float64[np.ndarray, "k"], tau: float) -> float:
    """The middle of the taus around this one, kept within 0 to 4, at which every row keeps its decision.

    A row's winner w meets class c where `z_w - z_c = tau (log prior_w - log prior_c)`.
    """
    n, k = logits.shape
    lower, upper = 0.0, _MOST_TAU
    step = max(1, _CHUNK_CELLS // k)
    for start in range(0, n, step):
        some = logits[start : start + step].astype(np.float64)
        winners = (some - tau * log_prior).argmax(axis=1)
        leads = some[np.arange(winners.size), winners][:, np.newaxis] - some
        slopes = log_prior[winners][:, np.newaxis] - log_prior
        meetings = np.full(leads.shape, np.nan)
        np.divide(leads, slopes, out=meetings, where=slopes != 0)
        lower = float(np.max(meetings, where=(slopes < 0) & (meetings <= tau), initial=lower))
        upper = float(np.min(meetings, where=(slopes > 0) & (meetings >= tau), initial=upper))
    return (lower + upper) / 2
