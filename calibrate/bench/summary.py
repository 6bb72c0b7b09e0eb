"""What many scores come to: means, ranks, paired differences, and the tests that may be made of them.

Decided here. The trials of one data set share rows, so no test takes them for independent. Between data sets the means
over a set's trials are compared: Wilcoxon's signed-rank test of the paired differences, Friedman's test of the ranks,
and after it each rule against the reference by rank, Holm's correction for their number made (Demsar 2006). Within a
data set the corrected resampled t-test allows for the overlap (Nadeau & Bengio 2003); a model that was trained anew for
each seed adds rows to its fitting side, which leaves the test on the careful side. Values that differ by less than
1e-12 are tied: they are rounding.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int

from calibrate.errors import InputError

LEVEL = 0.05
_DECIMALS = 12


@dataclass(frozen=True)
class Score:
    """A rule's value of a metric on the scoring rows of one trial, and how long its fit took.

    Where `failure` says why there is none, `value` is that of argmax.
    """

    data: str
    seed: int
    split: int
    fit_rows: int
    score_rows: int
    metric: str
    rule: str
    value: float
    seconds: float
    failure: str | None


@dataclass(frozen=True)
class RuleSummary:
    """One rule over all data sets.

    `mean` is over the means of the data sets. `rank` is the mean rank over the trials, 1 the best, ties averaged;
    `rank_by_set` the same over the means of the data sets. `wins`, `ties` and `losses` are trials. `difference` is the
    mean over data sets of the value less the reference's, with its `standard_error` over data sets; `differences` holds
    those of each data set. `wilcoxon_p` and `holm_p` (of the ranks) are two-sided. `resampled_p` is the corrected
    resampled t-test in each data set; `better` and `worse` count those below 0.05. `failures` has one message of each
    kind of failure with how often it came. `seconds` is the median of a fit. NaN where undefined: of the reference
    against itself, of a single data set.
    """

    rule: str
    mean: float
    rank: float
    rank_by_set: float
    wins: int
    ties: int
    losses: int
    difference: float
    standard_error: float
    wilcoxon_p: float
    holm_p: float
    differences: Mapping[str, float]
    resampled_p: Mapping[str, float]
    better: int
    worse: int
    failed: int
    failures: Mapping[str, int]
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """One metric: every rule beside the `reference`.

    `left_out` trials are those where some rule and argmax too were undefined. `critical_difference` is Nemenyi's, of
    `rank_by_set`, at 5 %.
    """

    metric: str
    larger_is_better: bool
    reference: str
    data_sets: int
    trials: int
    left_out: int
    friedman_p: float
    critical_difference: float
    rules: tuple[RuleSummary, ...]


def summarize(scores: Sequence[Score], reference: str, *, larger_is_better: bool = True) -> Comparison:
    """The comparison that the scores of one metric make; each trial must have one of each rule.

    Where every trial is undefined for some rule, all are left out and nothing but the failures is known.

    Raises: `InputError` where a rule has not one, or where they are of several metrics.
    """
    if len(metrics := sorted({score.metric for score in scores})) != 1:
        raise InputError(f"wanted scores of one metric, got {', '.join(metrics) or 'none'}")
    rules = list(dict.fromkeys(score.rule for score in scores))
    trials = list(dict.fromkeys((score.data, score.seed, score.split) for score in scores))
    place = {(score.data, score.seed, score.split, score.rule): score for score in scores}
    if len(place) != len(scores) or len(place) != len(trials) * len(rules) or reference not in rules:
        raise InputError(f"wanted one score of each rule, '{reference}' among them, in each of {len(trials)} trials")
    values = np.array([[place[*trial, rule].value for rule in rules] for trial in trials])
    kept = ~np.isnan(values).any(axis=1)
    if not kept.any():
        return _undefined(scores, rules, reference, larger_is_better)
    values, left = np.round(values[kept], _DECIMALS), [trial for trial, keep in zip(trials, kept, strict=True) if keep]
    sets = list(dict.fromkeys(trial[0] for trial in left))
    members = {name: np.array([trial[0] == name for trial in left]) for name in sets}
    means = np.round([values[member].mean(axis=0) for member in members.values()], _DECIMALS)
    sign = 1 if larger_is_better else -1
    ranks, set_ranks = mean_ranks(sign * values), mean_ranks(sign * means)
    base = rules.index(reference)
    holm = rank_p_values(set_ranks, base, len(sets))
    ratio = np.array([place[*trial, reference].score_rows / place[*trial, reference].fit_rows for trial in left])
    seeds = np.array([trial[1] for trial in left])
    summaries = []
    for i, rule in enumerate(rules):
        difference, by_set = values[:, i] - values[:, base], means[:, i] - means[:, base]
        resampled = _by_set(difference, members, ratio, seeds) if i != base else {}
        signs = {name: float(sign * difference[members[name]].mean()) for name, p in resampled.items() if p < LEVEL}
        of_rule = [score for score in scores if score.rule == rule]
        gained = np.round(sign * difference, _DECIMALS)
        summaries.append(
            RuleSummary(
                rule=rule,
                mean=float(means[:, i].mean()),
                rank=float(ranks[i]),
                rank_by_set=float(set_ranks[i]),
                wins=int((gained > 0).sum()),
                ties=int((gained == 0).sum()),
                losses=int((gained < 0).sum()),
                difference=float(by_set.mean()),
                standard_error=float(by_set.std(ddof=1) / math.sqrt(len(sets))) if len(sets) > 1 else math.nan,
                wilcoxon_p=wilcoxon_p(by_set) if i != base else math.nan,
                holm_p=float(holm[i]),
                differences=dict(zip(sets, by_set.tolist(), strict=True)),
                resampled_p=resampled,
                better=sum(gain > 0 for gain in signs.values()),
                worse=sum(gain < 0 for gain in signs.values()),
                failed=sum(score.failure is not None for score in of_rule),
                failures=_failures(of_rule),
                seconds=float(np.median([score.seconds for score in of_rule])),
            )
        )
    return Comparison(
        metric=metrics[0],
        larger_is_better=larger_is_better,
        reference=reference,
        data_sets=len(sets),
        trials=len(left),
        left_out=len(trials) - len(left),
        friedman_p=friedman_p(means),
        critical_difference=critical_difference(len(rules), len(sets)),
        rules=tuple(summaries),
    )


def mean_ranks(values: Float64[np.ndarray, "trials rules"]) -> Float64[np.ndarray, "rules"]:
    """The mean rank of each rule, 1 for the largest value, ties averaged."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-values, axis=1).mean(axis=0))


def wilcoxon_p(differences: Float64[np.ndarray, "sets"]) -> float:
    """Two-sided signed-rank test over data sets; differences of zero are left out. NaN for a single data set, 1 where
    nothing differs.

    Source: Wilcoxon (1945).
    """
    from scipy.stats import wilcoxon

    differences = np.round(differences, _DECIMALS)
    if differences.size < 2:
        return math.nan
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def friedman_p(means: Float64[np.ndarray, "sets rules"]) -> float:
    """Whether the ranks of three rules or more differ over data sets; NaN for fewer, or a single data set.

    Source: Friedman (1937), ties corrected.
    """
    from scipy.stats import friedmanchisquare

    if means.shape[0] < 2 or means.shape[1] < 3:
        return math.nan
    if (means == means[:, :1]).all():
        return 1.0
    return float(friedmanchisquare(*means.T).pvalue)


def rank_p_values(ranks: Float64[np.ndarray, "rules"], reference: int, sets: int) -> Float64[np.ndarray, "rules"]:
    """Each rule's mean rank against the reference's, two-sided, corrected by Holm; NaN for the reference.

    Source: Demsar (2006), section 3.2.2; Holm (1979).
    """
    from scipy.special import ndtr

    rules = ranks.size
    corrected = np.full(rules, np.nan)
    if sets < 2:
        return corrected
    z = (ranks - ranks[reference]) / math.sqrt(rules * (rules + 1) / (6 * sets))
    p = 2 * ndtr(-np.abs(z))
    others = np.delete(np.arange(rules), reference)
    order = others[np.argsort(p[others], kind="stable")]
    steps = np.arange(order.size, 0, -1) * p[order]
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def critical_difference(rules: int, sets: int) -> float:
    """By how much the mean ranks of two rules must differ at 5 %, all pairs compared; NaN for a single rule or set.

    Source: Nemenyi (1963), in Demsar (2006), section 3.2.2.
    """
    from scipy.stats import studentized_range

    if rules < 2 or sets < 2:
        return math.nan
    q = float(studentized_range.ppf(1 - LEVEL, rules, math.inf)) / math.sqrt(2)
    return q * math.sqrt(rules * (rules + 1) / (6 * sets))


def resampled_p(differences: Float64[np.ndarray, "splits"], ratio: float, freedom: int) -> float:
    """Two-sided corrected resampled t-test over splits of one data set; `ratio` is scoring rows over fitting rows.

    The variance is multiplied by 1/J + ratio in place of 1/J, since the splits share rows. The source has J - 1 degrees
    of freedom; the splits of one seed score all rows between them, so each seed takes one away (in simulation 20
    splits in pairs rejected 6.7 % at 5 % with 19, 5.8 % with 10, `tests/statistics`). NaN for none.

    Source: Nadeau & Bengio (2003), "Inference for the generalization error".
    """
    from scipy.special import stdtr

    splits = differences.size
    if splits < 2 or freedom < 1:
        return math.nan
    mean, variance = float(differences.mean()), float(differences.var(ddof=1))
    if variance == 0:
        return 1.0 if mean == 0 else 0.0
    t = mean / math.sqrt((1 / splits + ratio) * variance)
    return float(2 * stdtr(freedom, -abs(t)))


def degrees_of_freedom(seeds: Sequence[int]) -> int:
    """Of splits by the seed of each: one less for each seed, or for all of them where no seed has two."""
    different = len(set(seeds))
    return len(seeds) - (1 if different == len(seeds) else different)


def _by_set(
    differences: Float64[np.ndarray, "trials"],
    members: Mapping[str, Bool[np.ndarray, "trials"]],
    ratio: Float64[np.ndarray, "trials"],
    seeds: Int[np.ndarray, "trials"],
) -> dict[str, float]:
    rounded = np.round(differences, _DECIMALS)
    return {
        name: resampled_p(rounded[member], float(ratio[member].mean()), degrees_of_freedom(seeds[member].tolist()))
        for name, member in members.items()
    }


def _undefined(scores: Sequence[Score], rules: Sequence[str], reference: str, larger_is_better: bool) -> Comparison:
    """A comparison of which nothing is left."""
    nan, summaries = math.nan, []
    for rule in rules:
        of_rule = [score for score in scores if score.rule == rule]
        failed = sum(score.failure is not None for score in of_rule)
        seconds = float(np.median([score.seconds for score in of_rule]))
        means, tests = (nan, nan, nan), (nan, nan, nan, nan)
        summaries.append(RuleSummary(rule, *means, 0, 0, 0, *tests, {}, {}, 0, 0, failed, _failures(of_rule), seconds))
    left_out = len(scores) // len(rules)
    return Comparison(scores[0].metric, larger_is_better, reference, 0, 0, left_out, nan, nan, tuple(summaries))


def _failures(scores: Sequence[Score]) -> dict[str, int]:
    """The first message of each kind, a kind being what stands before the colon."""
    first: dict[str, str] = {}
    times: dict[str, int] = {}
    for score in scores:
        if score.failure is not None:
            message = first.setdefault(score.failure.partition(":")[0], score.failure)
            times[message] = times.get(message, 0) + 1
    return times
