"""What a fit returns can be pickled, copied and sent to another process, whatever its metric and method."""

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from calibrate import FitResult, OperatingPoint, curve, feature_cache, fit
from calibrate.counts import Cells, Counts, Values
from calibrate.errors import InputError
from calibrate.expression import parse_expression
from calibrate.methods import METHODS
from calibrate.metrics import FORMS, METRICS
from calibrate.naming import parse_metric
from calibrate.objective import parse_objective
from tests.problems import Problem, draw

TWO, THREE = draw((0.85, 0.15), 100, 11), draw((0.6, 0.3, 0.1), 120, 12)
ARGUMENTS = {
    "fbeta": "(2)",
    "net_benefit": "(0.1)",
    "relative_accuracy": "(0.9)",
    "cost": "(fp=1, fn=8)",
}


def jaccard(cells: Cells) -> Values:
    """A metric of the user's own, at the top of a module."""
    return np.asarray(cells.tp / (cells.tp + cells.fp + cells.fn))


def fitted(problem: Problem, **options: Any) -> FitResult:
    """A fit with everything that any method reads."""
    k = len(problem.prior)
    cache = feature_cache(
        features=problem.logits, weight=np.eye(k), bias=np.zeros(k), labels=problem.labels, classes=problem.classes
    )
    return fit(cache, prior=problem.prior, **options)


def check(result: FitResult, copied: FitResult) -> None:
    """Everything that can be written, and everything that is computed anew from the decisions."""
    assert copied.to_dict() == result.to_dict()
    elsewhere = 0.3 if len(result.point.classes) == 2 else [0.2, 0.3, 0.5]
    moved = copied.at_prevalence(elsewhere)
    assert moved.to_dict() == result.at_prevalence(elsewhere).to_dict()
    assert moved.evidence["mcc"].value != result.evidence["mcc"].value


def dumped(result: FitResult) -> FitResult:
    """The result through a pickle."""
    loaded: FitResult = pickle.loads(pickle.dumps(result))  # noqa: S301
    return loaded


@pytest.mark.parametrize("method", METHODS)
def test_results_of_every_method_are_pickled(method: str) -> None:
    """With evidence; numbers, notes and report are the same, at another prevalence too."""
    options: dict[str, Any] = {"metric": "f1_macro"}
    if method == "minimum_risk":
        options = {"metric": "mean_cost", "cost_matrix": 1 - np.eye(2)}
    result = fitted(TWO, method=method, **options)
    assert result.evidence
    check(result, dumped(result))


def test_results_of_more_classes_are_pickled() -> None:
    """With means over the classes, a group of them and the worst."""
    constraints = ["recall_worst >= 0.05", "recall_tail >= 0.05"]
    result = fitted(THREE, metric="f1_macro", constraints=constraints, prevalence=[0.5, 0.3, 0.2])
    check(result, dumped(result))


@pytest.mark.parametrize(
    "options",
    [
        {"metric": "precision", "constraints": ["recall >= 0.5", "alerts <= 400 per 1000"]},
        {"metric": "minimize recall", "constraints": "recall >= 0.5 @ average"},
        {"metric": "2*tp/(2*tp + sqrt(fp) + 3*fn^2) + max(recall, npv)"},
        {"metric": jaccard},
        {"metric": "f1", "calibration": "platt", "prevalence": 0.02},
    ],
    ids=["constraints", "promise", "expression", "function", "map"],
)
def test_objectives_are_pickled(options: dict[str, Any]) -> None:
    """Constraints, promises, directions, expressions, functions of a module, maps and prevalences."""
    result = fitted(TWO, **options)
    check(result, dumped(result))
    check(result, copy.deepcopy(result))


def test_a_long_expression_is_pickled() -> None:
    """Its own text has more spaces than what was written, and so more characters than one may write."""
    long = parse_expression("123456+" * 142 + "tp", ["tp"])
    assert len(long.text) > 1000
    copied = pickle.loads(pickle.dumps(long))  # noqa: S301
    assert copied.text == long.text
    assert copied.value({"tp": 3.0}) == 123456 * 142 + 3


@pytest.mark.parametrize("classes", [["a", "b"], ["a", "b", "c"], ["a]", "1", "x[y"]], ids=len)
def test_every_metric_in_every_form_is_pickled(classes: list[str]) -> None:
    """Values, rates, sums and the metrics of each class, on the counts of random decisions."""
    k, rng = len(classes), np.random.default_rng(3)
    costs, amounts = rng.random((k, k)), rng.random((k, k))
    counts = Counts.of_confusion(rng.integers(1, 50, (k, k)), cost_matrix=costs, amounts=amounts)
    tried = 0
    for name in METRICS:
        base = name + ARGUMENTS.get(name, "")
        texts = [base, f"{base}[{classes[1]}]", f"minimize {base}", f"maximize {base}"]
        texts += [f"{name}_{form}{ARGUMENTS.get(name, '')}" for form in FORMS]
        for text in texts:
            try:
                metric = parse_metric(text, classes, classes[0], [1 / k] * k)
            except InputError:
                continue
            tried += 1
            copied = pickle.loads(pickle.dumps(metric))  # noqa: S301
            plain = ("name", "title", "positive", "larger_is_better", "monotone", "survives", "scale", "of_class")
            assert [getattr(copied, each) for each in plain] == [getattr(metric, each) for each in plain]
            assert [each.name for each in copied.each_class] == [each.name for each in metric.each_class]
            assert copied.value(counts).tobytes() == metric.value(counts).tobytes()
            if metric.rate is not None:
                assert copied.rate.trials(counts).tobytes() == metric.rate.trials(counts).tobytes()
    assert tried > 2 * len(METRICS)


def decided_elsewhere(result: FitResult) -> tuple[dict[str, Any], list[int]]:
    """What another process makes of a result."""
    return result.at_prevalence(0.2).to_dict(), result.point.decide(TWO.logits).tolist()


def test_results_reach_other_processes_and_files(tmp_path: Path) -> None:
    """A started process, which imports everything anew, and a file of joblib."""
    result = fitted(TWO, metric="fbeta(2)", constraints="precision >= 0.2")
    wanted = (result.at_prevalence(0.2).to_dict(), result.point.decide(TWO.logits).tolist())
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(decided_elsewhere, result).result() == wanted
    joblib.dump(result, tmp_path / "result.joblib")
    loaded = joblib.load(tmp_path / "result.joblib")
    check(result, loaded)
    loaded.report("Today").write(tmp_path / "loaded.html")
    result.report("Today").write(tmp_path / "own.html")
    assert (tmp_path / "loaded.html").read_bytes() == (tmp_path / "own.html").read_bytes()


def test_points_stay_read_only() -> None:
    """Their digest is of their numbers, and what they compute is kept."""
    point = fitted(TWO, metric="f1").point
    for copied in (pickle.loads(pickle.dumps(point)), copy.deepcopy(point)):  # noqa: S301
        assert copied == point
        assert copied.digest == point.digest
        with pytest.raises(ValueError, match="read-only"):
            copied.bias[0] = 1.0
    costed = OperatingPoint(("a", "b"), np.ones(2), np.zeros(2), cost=np.array([[0.0, 5.0], [1.0, 0.0]]))
    assert pickle.loads(pickle.dumps(costed)) == costed  # noqa: S301


def test_curves_and_objectives_are_pickled() -> None:
    """A curve can still be told for another prevalence."""
    table = curve(feature_cache(logits=TWO.logits, labels=TWO.labels, classes=TWO.classes))
    copied = pickle.loads(pickle.dumps(table))  # noqa: S301
    for name, values in table.at_prevalence(0.4).metrics.items():
        assert copied.at_prevalence(0.4).metrics[name].tobytes() == values.tobytes()
    objective = parse_objective("f1", ["recall >= 0.9 @ 95%"], ["a", "b"])
    copied = pickle.loads(pickle.dumps(objective))  # noqa: S301
    assert (copied.name, copied.monotone) == (objective.name, objective.monotone)


def test_a_lambda_is_copied_but_not_pickled() -> None:
    """Python pickles a function by its name, and names what has none."""
    result = fitted(TWO, metric=lambda cells: cells.tp - 2 * cells.fp)
    check(result, copy.deepcopy(result))
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(result)
