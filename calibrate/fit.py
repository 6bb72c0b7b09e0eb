"""`fit`: from a cache and a metric to an operating point with its evidence.

Decided here: the evidence is about the point that is signed. It comes from other rows where some are given for it, or
where the method did not use the labels at all (a prior threshold); else from the fitting rows, corrected for optimism.
What the procedure gives, cross-fitted, is a field of its own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from calibrate.ascent import Sample
from calibrate.cache import (
    FeatureCache,
    check_every_class_has_rows,
    check_prior,
    counted_rows,
    doubt_of,
    feature_cache,
)
from calibrate.cautions import fragile_bounds, on_average, unnamed_majority
from calibrate.counts import rows_by_class
from calibrate.errors import BadCache, UnknownMethod
from calibrate.evidence import NO_EVIDENCE, Evidence, held_out, of_fit, table_of
from calibrate.fitted_rows import LazyStatistics, float32_step
from calibrate.map_choice import check_calibration, harm
from calibrate.maps import MAPS
from calibrate.methods import METHODS, Fitted, Task, after_map, find_method
from calibrate.methods.bias_adjustment import search_for
from calibrate.methods.cuts.nonempty import MAX_DECIDES_NONE
from calibrate.metrics import Metric
from calibrate.naming import MetricText, standard_metrics
from calibrate.objective import Objective, parse_objective
from calibrate.one_model import model_doubt
from calibrate.prevalence import ByClass, at_prevalence, corrected, correction_of, read_prevalence
from calibrate.purpose import positive_class
from calibrate.result import FitResult
from calibrate.samples import check_cost_matrix, frequencies, sample_of
from calibrate.uncertainty import Interval, measure

FEW_ROWS = 30
FEW_DECIDED = 10


def fit(
    cache: FeatureCache | None = None,
    *,
    metric: MetricText,
    constraints: str | Sequence[str] | None = None,
    method: str = "bias_adjustment",
    train: FeatureCache | None = None,
    search: str | None = None,
    digits: int | None = None,
    tau: float | None = None,
    positive: str | None = None,
    prior: ArrayLike | None = None,
    prevalence: ByClass | None = None,
    negatives_kept: ByClass | None = None,
    class_weights: ByClass | None = None,
    cost_matrix: ArrayLike | None = None,
    calibration: str | None = None,
    evidence: FeatureCache | bool = True,
    rng: np.random.Generator | None = None,
    progress: Callable[[str], None] | None = None,
    logits: ArrayLike | None = None,
    probabilities: ArrayLike | None = None,
    margins: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
) -> FitResult:
    """Fits an operating point for a metric on a cache, or on scores, `labels` and `classes`.

    Scores are `logits` (n, k) or (n,), `probabilities` (n, k) or (n,), or `margins` (n,): arrays, or tables whose
    columns are the classes; `feature_cache` says how each is read.

    `metric` is a name (`f1`, `fbeta(2)`, `recall[fraud]`, `f1_macro`), the user's own expression over `tp fp fn tn n`
    and the named rates, or a function of `Cells`; it is maximised, or minimised where it is a cost or an error.
    `constraints` are texts such as `recall >= 0.9`, `alerts <= 200 per 100000`, or as promises about new rows
    `recall >= 0.9 @ 95%` and `recall >= 0.9 @ average`. `cost_matrix` (k, k) has a row for
    each decision and a column for each true class. `train` is a cache of the model's training rows, on which the model
    imbalance state is taken. `prior` (k,) is from the call, else from the cache, else from `train`. `prevalence` is how
    frequent the classes are where the point will be used: by name, (k,), or the share of the positive one of two; rows
    are weighted to it, and probabilities moved. `negatives_kept` is the rate at which training rows were kept, of the
    negatives or by class, and `class_weights` the weight of each class in the training loss. `search` ("exact",
    "committee", "nonempty", "bagged", "smoothed", "expected", "decimal"; "auto" or none for the default) and `digits`
    belong to bias adjustment, `tau` to logit adjustment and tau-normalisation. `calibration` names a calibration map
    that the method works behind, kept only where it gains in cross-fitted log loss; "auto" takes the one that gains
    most. `evidence` is True for that of the fitting rows, a cache for that of those held-out rows, False for none.
    `rng` draws folds and intervals; without one the draw is the same every time. `progress` is called with the name of
    each step as it begins: "fitting", "evidence", "scores". Where `train` or `evidence` is known to be of another model
    than the fitting rows it is refused, and where that is unknown there is a warning.

    Raises: `InputError` of the kind that fits what is wrong with the input, among them `UndefinedMetric` and
    `Infeasible`; `NotConverged`.

    >>> result = fit(logits=[-2.0, -1.5, 0.1, -1.0], labels=[0, 0, 1, 1], classes=["clear", "fraud"], metric="f1")
    >>> result.point.decide([-1.2, -1.4])
    array([1, 0])
    """
    scores = {"logits": logits, "probabilities": probabilities, "margins": margins}
    whole = _one_cache(cache, scores, labels, classes)
    _check_other_rows(train, evidence)
    other_rows = {"train": train, "evidence": evidence if isinstance(evidence, FeatureCache) else None}
    doubts = [
        doubt
        for name, rows in other_rows.items()
        if rows is not None and (doubt := model_doubt(rows, whole, (name, "the fitting rows"))) is not None
    ]
    check_every_class_has_rows(whole)
    cache = counted_rows(whole)
    shares = None if prevalence is None else read_prevalence(prevalence, cache.classes, positive)
    rows = cache if shares is None else at_prevalence(cache, shares)
    chosen = find_method(method)
    given = {"search": search, "digits": digits, "tau": tau}
    options = {name: value for name, value in given.items() if value is not None}
    if foreign := sorted(options.keys() - chosen.options):
        raise UnknownMethod(f"method '{method}' has no option '{foreign[0]}'")
    check_calibration(calibration, len(cache.classes))
    if calibration is not None and method in MAPS:
        raise UnknownMethod(f"method '{method}' is a calibration map itself, so it takes no calibration before it")
    priors = [given for given in (prior, cache.prior, None if train is None else train.prior) if given is not None]
    checked_prior = check_prior(priors[0], cache.classes) if priors else None
    objective = parse_objective(
        metric,
        constraints,
        cache.classes,
        positive,
        frequencies(cache) if checked_prior is None else checked_prior.tolist(),
        None if cost_matrix is None else check_cost_matrix(cost_matrix, cache.classes),
    )
    if objective.constraints and not chosen.keeps_constraints:
        raise UnknownMethod(
            f"method '{method}' fits nothing for a metric, so it cannot keep '{objective.constraints[0].text}'"
        )
    if objective.certified:
        _check_certifies(objective, method, search, digits)
        if calibration is not None:
            raise UnknownMethod(f"'{objective.certified[0].text}' is certified on the logits: leave calibration out")
    correction = correction_of(
        cache.classes,
        positive=positive,
        negatives_kept=negatives_kept,
        class_weights=class_weights,
        prior=checked_prior,
        prevalence=shares,
    )
    sample = sample_of(rows, objective.metrics, objective.cost_matrix)
    task = Task(
        logits=cache.logits,
        labels=cache.labels,
        classes=cache.classes,
        objective=objective,
        state_logits=cache.logits if train is None else train.logits,
        weights=sample.weights,
        amounts=sample.amounts,
        at_stake=sample.at_stake,
        prior=checked_prior,
        search="exact" if objective.certified else search_for(search, cache.labels, len(cache.classes)),
        digits=digits,
        tau=tau,
        prevalence=shares,
        head_weight=cache.weight,
        head_bias=cache.bias,
        groups=cache.group,
    )
    fit_task = chosen.fit if calibration is None else after_map(chosen.fit, calibration)
    if not chosen.by_order(task):
        fit_task = corrected(fit_task, correction)
    if isinstance(evidence, FeatureCache) and evidence.digest == whole.digest:
        raise BadCache(
            "the evidence rows are the fitting rows; pass other rows, or True for evidence from the fitting rows"
        )
    tell = progress or (lambda _: None)
    tell("fitting")
    fitted = fit_task(task)
    tell("evidence")
    used = chosen if fitted.method is None else find_method(fitted.method)
    metrics = {each.name: each for each in (*standard_metrics(cache.classes, positive), *objective.metrics)}
    found, shown = NO_EVIDENCE, cache
    if isinstance(evidence, FeatureCache):
        shown = counted_rows(evidence)
        others = shown if shares is None else at_prevalence(shown, shares)
        tested = sample_of(others, objective.metrics, objective.cost_matrix)
        found = held_out(fitted.point, tested, list(metrics.values()), rng, known_prevalence=shares is not None)
    elif evidence:
        found = of_fit(task, fitted, fit_task, list(metrics.values()), rng=rng)
    tell("scores")
    statistics = LazyStatistics(cache, whole, fitted.point, task.state_logits, positive, shares)
    keeps_rows = shown is cache is whole and train is None
    return FitResult(
        point=fitted.point,
        method=fitted.method or method,
        metric=objective.metric.name,
        constraints=tuple(constraint.text for constraint in objective.constraints),
        options={**options, "search": task.search} if "search" in used.options else options,
        parameters=fitted.parameters,
        prior=task.prior,
        positive=positive_class(cache.classes, positive),
        evidence=found.point,
        before=found.argmax,
        gain=found.gain,
        procedure=found.procedure,
        prevalence=shares,
        survives=tuple(name for name, each in metrics.items() if each.survives),
        correction=correction,
        found=found,
        statistics=statistics if keeps_rows else statistics.computed(),
        mis_rows="fitting" if train is None else "train",
        rows=cache.rows,
        compared=_comparison(fitted, sample, objective.metric),
        guarantees=fitted.guarantees,
        notes=(*fitted.notes, *on_average(objective)),
        warnings=(
            *(() if (doubt := doubt_of(cache)) is None else (doubt,)),
            *_warnings(task, fitted),
            *doubts,
            *(harm(method, task.logits, task.labels, task.weights, task.groups) if method in MAPS else ()),
            *found.warnings,
            *(_absent(shown) if isinstance(evidence, FeatureCache) else ()),
            *_compared(found, objective),
            *fragile_bounds(found.point, objective, certifies=chosen.certifies and calibration is None),
            *(unnamed_majority(_rows_of_each(cache), cache.classes, objective) if positive is None else ()),
        ),
        calibration=fitted.calibration,
        shown_rows=shown,
        origin=whole.origin,
    )


def _rows_of_each(cache: FeatureCache) -> list[int]:
    return [int(rows) for rows in np.bincount(cache.labels, minlength=len(cache.classes))]


def _comparison(fitted: Fitted, sample: Sample, metric: Metric) -> dict[str, Interval]:
    return {
        name: measure(table_of(decided, sample), [metric], "cross_fitted", np.random.default_rng(0))[metric.name]
        for name, decided in fitted.compared.items()
    }


def _check_certifies(objective: Objective, method: str, search: str | None, digits: int | None) -> None:
    """Only an exact search can stay within what is certified."""
    text = objective.certified[0].text
    if not find_method(method).certifies:
        able = ", ".join(name for name, row in METHODS.items() if row.certifies)
        raise UnknownMethod(f"method '{method}' cannot certify '{text}'; {able} can")
    if search not in (None, "auto", "exact") or digits is not None:
        raise UnknownMethod(f"'{text}' is certified by an exact search: leave search and digits out, got '{search}'")


def _absent(rows: FeatureCache) -> Iterator[str]:
    """The classes of which the evidence has no row."""
    for name, number in zip(rows.classes, np.bincount(rows.labels, minlength=len(rows.classes)), strict=True):
        if number == 0:
            yield f"the evidence has no row of class '{name}': how the point decides them is unknown"


def _compared(found: Evidence, objective: Objective) -> Iterator[str]:
    """What the evidence says against the point, or against the model."""
    name = objective.metric.name
    if name in found.point:
        ours, plain = found.point[name], found.argmax[name]
        sign = 1 if objective.metric.larger_is_better else -1
        if sign * ours.value < sign * plain.value and not objective.constraints:
            yield (
                f"{ours.kind.replace('_', '-')} '{name}' is {ours.value:.4g}, the plain model's {plain.value:.4g}: "
                "on these rows nothing is gained by moving away from argmax"
            )
    if "mcc" in found.argmax and found.argmax["mcc"].high < 0:
        yield "the plain model decides worse than chance: are the classes in the order of the logits?"


def _check_other_rows(train: object, evidence: object) -> None:
    """Raise `BadCache` for what is no cache: the name of a file would pass as `True`."""
    if train is not None and not isinstance(train, FeatureCache):
        raise BadCache(f"train must be a feature cache, got {type(train).__name__}: read_cache reads one from a file")
    if not isinstance(evidence, FeatureCache | bool | np.bool_):
        raise BadCache(
            f"evidence must be True, False or a feature cache, got {type(evidence).__name__}: "
            "read_cache reads one from a file"
        )


def _one_cache(
    cache: FeatureCache | None,
    scores: Mapping[str, ArrayLike | None],
    labels: ArrayLike | None,
    classes: Sequence[str] | None,
) -> FeatureCache:
    passed: dict[str, Any] = {name: values for name, values in scores.items() if values is not None}
    beside = [*passed, *(name for name, value in (("labels", labels), ("classes", classes)) if value is not None)]
    if cache is not None and not isinstance(cache, FeatureCache):
        raise BadCache(f"wanted a feature cache, got {type(cache).__name__}: read_cache reads one from a file")
    if cache is not None and beside:
        raise BadCache(f"pass a cache or arrays, not both; got a cache and {', '.join(beside)}")
    if cache is not None:
        return cache
    if not passed or labels is None:
        wanted = "logits (or probabilities, or margins) and labels"
        raise BadCache(f"pass a cache, or {wanted}; got {', '.join(beside) or 'neither'}")
    return feature_cache(**passed, labels=labels, classes=classes)


def _warnings(task: Task, fitted: Fitted) -> list[str]:
    warnings = []
    k, name = len(task.classes), task.objective.name
    rows = rows_by_class(task.labels, k).astype(np.intp).tolist()
    decided = fitted.point.decided_rows(task.logits).tolist()
    for label, actual in zip(task.classes, rows, strict=True):
        if actual < FEW_ROWS:
            warnings.append(f"class '{label}' has {actual} rows: the point and its evidence may be far off on new data")
    for label, actual, times in zip(task.classes, rows, decided, strict=True):
        if times < min(FEW_DECIDED, actual):
            warnings.append(
                f"{times or 'no'} fitting row{'' if times == 1 else 's'} of {task.labels.size} decided '{label}': "
                f"'{name}' alone asks for that; a constraint, such as recall[{label}] >= 0.8, asks for more"
            )
    none = fitted.parameters.get("decides_none", 0.0)
    if none > MAX_DECIDES_NONE:
        positive = task.objective.measured.positive
        rarer = task.classes[positive if 2 * rows[positive] <= task.labels.size else 1 - positive]
        advice = "" if task.search == "nonempty" else "; search='nonempty' keeps that to 1 in 100"
        warnings.append(
            f"in about {100 * none:.2g} of 100 new samples of this size the point decides no row '{rarer}'{advice}"
        )
    cut, gap = fitted.parameters.get("cut"), fitted.parameters.get("gap")
    if cut is not None and gap is not None and gap < 4 * float(float32_step(np.asarray(abs(cut)))):
        warnings.append(f"the margins beside the cut are {gap:.3g} apart: a float32 model may decide them either way")
    return warnings
