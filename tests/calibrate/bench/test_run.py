"""Rules on trials: the library's own answers, the same in any number of processes, failures counted."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from calibrate import FeatureCache, OperatingPoint, feature_cache, fit
from calibrate.bench import Benchmark, Trial, bench, named_rules, trials_of
from calibrate.errors import Infeasible, InputError, MissingCosts, UnknownMethod, UnknownMetric
from tests.problems import draw


def cache_of(seed: int, rows: int = 120) -> FeatureCache:
    """Two classes with a prior."""
    problem = draw((0.8, 0.2), rows, seed)
    return feature_cache(logits=problem.logits, labels=problem.labels, classes=["no", "yes"], prior=problem.prior)


def trials(sets: int = 2, seeds: int = 2) -> list[Trial]:
    """Half of the rows fit."""
    return [trial for i in range(sets) for trial in trials_of(f"set {i}", cache_of(i), range(seeds))]


def fails_on_set_1(cache: FeatureCache, metric: str) -> OperatingPoint:
    """A rule that cannot do it all."""
    if cache.digest in {trial.fit.digest for trial in trials() if trial.data == "set 1"}:
        raise Infeasible(f"no cut for {metric}")
    return fit(cache, metric=metric, evidence=False).point


def never(cache: FeatureCache, metric: str) -> OperatingPoint:  # noqa: ARG001
    """Decides the first class always: its precision is undefined."""
    return OperatingPoint(cache.classes, np.ones(2), np.array([0.0, -1e6]))


def untimed(result: Benchmark) -> list[tuple[object, ...]]:
    """The scores but for the time that they took."""
    return [(s.data, s.seed, s.split, s.metric, s.rule, s.value, s.failure) for s in result.scores]


def test_each_score_is_that_of_the_librarys_fit_by_scikit_learn() -> None:
    """Fitted on the one part, scored on the other."""
    result = bench(trials(), rules=["argmax", "logit_adjustment", "bias_adjustment:decimal:2"], metrics=["f1"])
    options = {"logit_adjustment": {}, "bias_adjustment:decimal:2": {"search": "decimal", "digits": 2}}
    at = {(s.data, s.seed, s.split, s.rule): s for s in result.scores}
    for trial in trials():
        points = {"argmax": OperatingPoint.argmax(("no", "yes"))}
        for name, chosen in options.items():
            method = name.split(":")[0]
            points[name] = fit(trial.fit, metric="f1", method=method, evidence=False, **chosen).point  # type: ignore[arg-type]
        for name, point in points.items():
            score = at[trial.data, trial.seed, trial.split, name]
            assert score.value == pytest.approx(f1_score(trial.score.labels, point.decide(trial.score.logits)))
            assert (score.fit_rows, score.score_rows) == (trial.fit.rows, trial.score.rows)
            assert score.seconds > 0
    assert len(at) == len(result.scores) == 2 * 2 * 2 * 3


def test_the_answer_does_not_depend_on_the_number_of_processes() -> None:
    """Nor the order of the scores."""
    given = {"rules": ["argmax", "bias_adjustment:exact"], "metrics": ["f1", "cost(fp=1, fn=5)"]}
    told: list[tuple[int, int]] = []
    one = bench(trials(), progress=lambda *progress: told.append(progress), **given)  # type: ignore[arg-type]
    two = bench(trials(), jobs=2, **given)  # type: ignore[arg-type]
    assert untimed(one) == untimed(two)
    assert told == [(i, 8) for i in range(1, 9)]
    assert [(c.metric, c.larger_is_better) for c in one.comparisons] == [("f1", True), ("cost(fp=1, fn=5)", False)]


def test_a_rule_that_fails_is_scored_as_argmax_and_counted() -> None:
    """On its trials only; the table says how often and why."""
    rules = {**named_rules(["argmax", "bias_adjustment"]), "half": fails_on_set_1}
    result = bench(trials(), rules=rules, metrics=["f1"])
    values = {(s.data, s.seed, s.split, s.rule): s.value for s in result.scores}
    for (data, seed, split, rule), value in values.items():
        if rule == "half":
            other = "argmax" if data == "set 1" else "bias_adjustment"
            assert value == values[data, seed, split, other]
    summary = result.comparisons[0].rules[2]
    assert (summary.failed, summary.failures) == (4, {"Infeasible: no cut for f1": 4})
    text = result.to_markdown()
    assert "| 4 of 8 |" in text
    assert "`half` failed in 4 trials, scored as argmax there, as: Infeasible: no cut for f1" in text


def test_an_undefined_score_is_a_failure() -> None:
    """Argmax stands in; where that is undefined too the trial is left out."""
    result = bench(trials(), rules={**named_rules(["argmax"]), "never": never}, metrics=["precision"])
    comparison = result.comparisons[0]
    assert comparison.rules[1].failed == 8
    assert comparison.rules[1].ties == comparison.trials
    assert "is undefined (0/0) on the scoring rows" in next(iter(comparison.rules[1].failures))


def test_the_tables_and_the_json() -> None:
    """A row for each rule, a score for each line; nothing that is not JSON."""
    result = bench(trials(), rules=["argmax", "bias_adjustment"], metrics=["f1", "g_mean"], reference="bias_adjustment")
    said = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert [c["metric"] for c in said["comparisons"]] == ["f1", "g_mean"]
    assert said["comparisons"][0]["rules"][0]["difference"] == result.comparisons[0].rules[0].difference
    assert said["comparisons"][0]["rules"][1]["wilcoxon_p"] is None
    assert len(said["scores"]) == 2 * 2 * 2 * 2 * 2
    lines = result.to_csv().splitlines()
    assert lines[0].startswith("data,seed,split,fit_rows,score_rows,metric,rule,value")
    assert len(lines) == 1 + len(said["scores"])
    text = result.to_markdown()
    assert "## f1\n" in text
    assert "2 data sets, 8 trials; larger is better; compared with `bias_adjustment`" in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == 4
    assert {row.count("|") for row in rows} == {12}
    assert f"| {result.comparisons[0].rules[0].mean:.4f} |" in rows[0]


def test_more_than_two_classes() -> None:
    """A metric of one class, and of all."""
    problem = draw((0.5, 0.3, 0.2), 90, 1)
    cache = feature_cache(logits=problem.logits, labels=problem.labels, classes=["a", "b", "c"], prior=problem.prior)
    found = bench(
        trials_of("three", cache, [0]), rules=["argmax", "prior_threshold"], metrics=["recall[c]", "f1_macro"]
    )
    assert all(not math.isnan(score.value) for score in found.scores)


def test_what_cannot_be_run_is_refused_before_any_work() -> None:
    """Rules, reference, metrics, jobs."""
    some = trials(1, 1)
    with pytest.raises(InputError, match="reference must be one of argmax"):
        bench(some, rules=["argmax"], metrics=["f1"], reference="exact")
    with pytest.raises(InputError, match="wanted trials, rules and metrics, got 0, 1 and 1"):
        bench([], rules=["argmax"], metrics=["f1"])
    with pytest.raises(UnknownMetric):
        bench(some, rules=["argmax"], metrics=["f7"])
    with pytest.raises(MissingCosts):
        bench(some, rules=["argmax"], metrics=["row_cost"])
    with pytest.raises(InputError, match="two trials have the same data set, seed and split"):
        bench([*some, some[0]], rules=["argmax"], metrics=["f1"])
    with pytest.raises(InputError, match="jobs must be at least 1"):
        bench(some, rules=["argmax"], metrics=["f1"], jobs=0)
    with pytest.raises(InputError, match="functions of a module"):
        bench(some, rules={"mine": lambda cache, _: never(cache, "")}, metrics=["f1"], jobs=2)


@pytest.mark.parametrize(
    "name",
    [
        "best",
        "bias_adjustment:best",
        "logit_adjustment:exact",
        "bias_adjustment:decimal:two",
        "argmax:1",
        "",
        "a:b:c:d",
    ],
)
def test_a_name_that_is_no_rule(name: str) -> None:
    """It is shown."""
    with pytest.raises(UnknownMethod):
        named_rules([name])


def test_a_rule_is_named_once() -> None:
    """Its scores could not be told apart."""
    with pytest.raises(InputError, match="named twice"):
        named_rules(["argmax", "argmax"])


def test_weights_and_costs_reach_the_score() -> None:
    """Costs per row are those of the scoring rows."""
    cache = cache_of(5)
    costly = replace(cache, cost_fp=np.full(cache.rows, 1.0), cost_fn=np.full(cache.rows, 7.0))
    result = bench(trials_of("costs", costly, [0]), rules=["argmax"], metrics=["row_cost", "cost(fp=1, fn=7)"])
    own, same = (comparison.rules[0].mean for comparison in result.comparisons)
    assert own == pytest.approx(same)
