"""Runs every rule on every trial, in this process or in several; the answer does not depend on how many.

Decided here: a rule that fails on a trial, because it raises or because its decisions leave the metric undefined on the
scoring rows, is scored as argmax there, which is what somebody whose fit failed goes on with, and counted. Where that
too is undefined the trial says nothing about the metric and is left out of it, for all rules alike.
"""

import math
import multiprocessing
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor

from calibrate.bench.result import Benchmark
from calibrate.bench.rules import Rule, named_rules
from calibrate.bench.summary import Score, summarize
from calibrate.bench.trials import Trial
from calibrate.errors import InputError, SetpointError
from calibrate.evidence import table_of
from calibrate.metrics import Metric
from calibrate.naming import parse_metric
from calibrate.operating_point import OperatingPoint
from calibrate.samples import frequencies, sample_of

Progress = Callable[[int, int], None]


def bench(
    trials: Iterable[Trial],
    *,
    rules: Sequence[str] | Mapping[str, Rule],
    metrics: Sequence[str],
    reference: str | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Benchmark:
    """Fits each rule for each metric on the fitting rows of each trial, and compares them on the scoring rows.

    `rules` are names, or functions by name; with more than one of `jobs`, processes, they must pickle: functions of a
    module. `reference` is the rule that the others are compared with, the first unless named. `progress` is called with
    how many trials are done and how many there are.

    Raises: `InputError` for no trials, rules or metrics, trials that are the same, a reference that is no rule, or
    rules that do not pickle; `UnknownMethod`; `UnknownMetric` and the like for a metric that a data set's classes do
    not have.
    """
    trials = list(trials)
    entered = dict(rules) if isinstance(rules, Mapping) else named_rules(rules)
    reference = next(iter(entered), "") if reference is None else reference
    if not (trials and entered and metrics):
        raise InputError(f"wanted trials, rules and metrics, got {len(trials)}, {len(entered)} and {len(metrics)}")
    if reference not in entered:
        raise InputError(f"reference must be one of {', '.join(entered)}; got '{reference}'")
    if len({(trial.data, trial.seed, trial.split) for trial in trials}) < len(trials):
        raise InputError("two trials have the same data set, seed and split, so their scores could not be told apart")
    if jobs < 1:
        raise InputError(f"jobs must be at least 1, got {jobs}")
    directions = _directions(trials, metrics)
    scores: list[Score] = []
    for done, found in enumerate(_measured(trials, entered, tuple(directions), jobs), 1):
        scores += found
        if progress is not None:
            progress(done, len(trials))
    comparisons = tuple(
        summarize([score for score in scores if score.metric == name], reference, larger_is_better=larger)
        for name, larger in directions.items()
    )
    return Benchmark(comparisons, tuple(scores))


def measure_trial(trial: Trial, rules: Mapping[str, Rule], metrics: Sequence[str]) -> list[Score]:
    """Each rule's score for each metric on one trial."""
    scores = []
    for text in metrics:
        metric = _metric(trial, text)
        plain = _held_out(OperatingPoint.argmax(trial.fit.classes), trial, metric)
        for name, rule in rules.items():
            failure, value = None, math.nan
            started = time.perf_counter()
            try:
                point = rule(trial.fit, text)
                seconds = time.perf_counter() - started
                value = _held_out(point, trial, metric)
                if math.isnan(value):
                    failure = f"metric '{metric.name}' is undefined (0/0) on the scoring rows"
            except (SetpointError, ValueError, ArithmeticError) as error:  # ValueError: of rules that others wrote
                seconds = time.perf_counter() - started
                failure = f"{type(error).__name__}: {error}"
            scores.append(
                Score(
                    trial.data, trial.seed, trial.split, trial.fit.rows, trial.score.rows, text, name,
                    plain if failure else value, seconds, failure,
                )
            )  # fmt: skip
    return scores


def _measured(
    trials: Sequence[Trial], rules: Mapping[str, Rule], metrics: Sequence[str], jobs: int
) -> Iterator[list[Score]]:
    """The scores of each trial, in the order of the trials."""
    if jobs == 1:
        for trial in trials:
            yield measure_trial(trial, rules, metrics)
        return
    try:
        pickle.dumps(rules)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(f"with more than one job rules must be functions of a module: {error}") from None
    # Spawned, not forked: the same on every system, and no lock of a thread is copied halfway.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(measure_trial, trial, rules, metrics) for trial in trials]
        try:
            for future in waiting:
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _metric(trial: Trial, text: str) -> Metric:
    known = frequencies(trial.fit) if trial.fit.prior is None else trial.fit.prior.tolist()
    return parse_metric(text, trial.fit.classes, None, known)


def _held_out(point: OperatingPoint, trial: Trial, metric: Metric) -> float:
    sample = sample_of(trial.score, [metric])
    return float(metric.value(table_of(point.decide(sample.logits), sample).counts))


def _directions(trials: Sequence[Trial], metrics: Sequence[str]) -> dict[str, bool]:
    """Whether larger is better, by metric; each is read against the classes of each data set before any work."""
    directions: dict[str, bool] = {}
    for trial in {trial.data: trial for trial in trials}.values():
        for text in metrics:
            metric = _metric(trial, text)
            sample_of(trial.score, [metric])
            directions[text] = metric.larger_is_better
    return directions
