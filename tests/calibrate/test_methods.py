"""Every method on every problem, and what each promises."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit

from calibrate import FitResult, OperatingPoint, feature_cache, fit
from calibrate.counts import Counts
from calibrate.errors import MissingPrior, UndefinedMetric, UnknownMethod
from calibrate.logits import softmax, to_columns
from calibrate.methods import METHODS
from calibrate.methods.bias_adjustment import best_rate
from calibrate.metrics import parse_metric
from tests.problems import BINARY, MULTICLASS, PROBLEMS, Problem
from tests.reference import BINARY_METRICS, best_by_brute_force, binary_metric, cells

WAYS = [
    pytest.param({"method": "bias_adjustment", "search": "exact"}, id="exact"),
    pytest.param({"method": "bias_adjustment", "search": "decimal", "digits": 2}, id="decimal"),
    pytest.param({"method": "logit_adjustment"}, id="logit_adjustment"),
    pytest.param({"method": "prior_threshold"}, id="prior_threshold"),
]
SEARCHED = ("exact", "logit_adjustment")


def fit_problem(problem: Problem, way: dict[str, object], metric: str, **options: object) -> FitResult:
    """A fit without evidence."""
    arrays = {"logits": problem.logits, "labels": problem.labels, "classes": problem.classes, "prior": problem.prior}
    return fit(metric=metric, evidence=False, **{**arrays, **way, **options})  # type: ignore[arg-type]


def reached(problem: Problem, point: OperatingPoint, metric: str) -> float:
    """The metric of a point on the fitting rows; minus infinity where undefined."""
    decided = point.decide(problem.logits)
    counts = Counts.of(problem.labels, decided, len(problem.prior))
    value = float(parse_metric(metric, problem.classes).value(counts))
    return -np.inf if np.isnan(value) else value


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
@pytest.mark.parametrize("metric", ["accuracy", "f1", "g_mean", "fbeta(2)"])
@pytest.mark.parametrize("way", WAYS)
def test_every_method_ends_in_a_point(problem: Problem, metric: str, way: dict[str, object]) -> None:
    """With the problem's classes, states that are distributions, and the best-before promise where one is made."""
    result = fit_problem(problem, way, metric)
    assert result.point.classes == tuple(problem.classes)
    for state in (result.mis_before, result.mis_after):
        assert np.isclose(state.sum(), 1)
    if way["method"] != "prior_threshold" and way.get("search") != "decimal":
        plain = OperatingPoint.argmax(problem.classes)
        tau_1 = fit_problem(problem, {"method": "logit_adjustment", "tau": 1.0}, metric).point
        best = reached(problem, result.point, metric)
        assert best >= reached(problem, plain, metric)
        assert best >= reached(problem, tau_1, metric)


@pytest.mark.parametrize("problem", BINARY, ids=str)
@pytest.mark.parametrize("metric", BINARY_METRICS)
def test_exact_is_brute_force_and_never_worse_than_decimal(problem: Problem, metric: str) -> None:
    """Two classes: the point itself, used as a rule, reaches what trying every cut reaches."""
    if (problem.name, metric) == ("all scores equal", "mcc"):
        with pytest.raises(UndefinedMetric):
            fit_problem(problem, {}, metric)
        return
    logits = to_columns(problem.logits)
    margins = logits[:, 1].astype(np.float64) - logits[:, 0]
    for positive in (0, 1):
        name = problem.classes[positive]
        point = fit_problem(problem, {}, metric, positive=name).point
        value = binary_metric(metric, *cells(problem.labels, point.decide(problem.logits), positive))
        expected = best_by_brute_force(metric, margins, problem.labels, positive)
        assert np.isclose(value, expected, rtol=1e-12, atol=0)
        decimal = fit_problem(problem, {"search": "decimal"}, metric, positive=name).point
        their = binary_metric(metric, *cells(problem.labels, decimal.decide(problem.logits), positive))
        assert np.isnan(their) or value >= their - 1e-12


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_prior_threshold_and_logit_adjustment_at_tau_1_decide_every_row_alike(problem: Problem) -> None:
    """And as dividing each probability by its prior does, wherever that is not a tie."""
    by_prior = fit_problem(problem, {"method": "prior_threshold"}, "f1").point.decide(problem.logits)
    by_tau = fit_problem(problem, {"method": "logit_adjustment", "tau": 1.0}, "f1").point.decide(problem.logits)
    assert np.array_equal(by_prior, by_tau)
    divided = np.log(np.maximum(softmax(to_columns(problem.logits)), 1e-300)) - np.log(problem.prior)
    top = np.sort(divided, axis=1)
    clear = (top[:, -1] - top[:, -2] > 1e-9) & (top[:, -2] > -600)
    assert np.array_equal(by_prior[clear], divided.argmax(axis=1)[clear])


@pytest.mark.parametrize("problem", MULTICLASS, ids=str)
def test_fitted_tau_is_the_best_of_a_fine_grid(problem: Problem) -> None:
    """And lies where no fitted row is about to flip."""
    result = fit_problem(problem, {"method": "logit_adjustment"}, "f1")
    best = reached(problem, result.point, "f1")
    for tau in np.linspace(0, 4, 161):
        point = fit_problem(problem, {"method": "logit_adjustment", "tau": float(tau)}, "f1").point
        assert best >= reached(problem, point, "f1") - 1e-12
    assert result.point.margin(problem.logits).min() > 0


def test_equal_priors_leave_nothing_to_logit_adjustment() -> None:
    """Two classes with the same prior: no tau moves a cut, and 0 says so."""
    result = fit_problem(BINARY[0], {"method": "logit_adjustment"}, "f1", prior=[0.5, 0.5])
    assert result.parameters["tau"] == 0
    assert result.point == OperatingPoint.argmax(BINARY[0].classes)


def plain_decimal_search(train: np.ndarray, margins: np.ndarray, labels: np.ndarray, digits: int) -> float:
    """The paper's search written down directly: root finding for each target, F1 from the four cells."""

    def f1(rate: float) -> float:
        bias = brentq(lambda b: expit(train + b).mean() - rate, -100, 100, xtol=1e-13)
        return binary_metric("f1", *cells(labels, (margins + bias > 0).astype(int)))

    best = max(np.arange(1, 10) / 10, key=f1)
    for digit in range(2, digits + 1):
        near = best + np.arange(-9, 10) / 10**digit
        best = max(near[(near > 1e-9) & (near < 1 - 1e-9)].round(digit), key=f1)
    return float(best)


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_decimal_is_the_papers_search(digits: int) -> None:
    """State and bias on the training rows, the target digit by digit on the validation rows."""
    train, validation = BINARY[1], BINARY[0]
    train_cache = feature_cache(logits=train.logits, labels=train.labels, classes=train.classes)
    result = fit_problem(validation, {"search": "decimal", "digits": digits}, "f1", train=train_cache)
    on_train, on_validation = (problem.logits.astype(np.float64) @ [-1, 1] for problem in (train, validation))
    expected = plain_decimal_search(on_train, on_validation, validation.labels, digits)
    assert result.parameters[f"target[{validation.classes[1]}]"] == expected
    assert result.mis_rows == "train"
    assert np.isclose(result.mis_after[1], expected)
    assert np.isclose(result.mis_before[1], expit(on_train).mean())


def test_decimal_refines_around_the_best_digit() -> None:
    """Single-peaked scores are found to the last digit, ties go to the lowest, and small rates are within reach."""
    assert best_rate(lambda rate: -abs(rate - 0.372), 3) == (0.372, -0.0)
    assert best_rate(lambda rate: -abs(rate - 0.004), 3)[0] == 0.004
    assert best_rate(lambda rate: -abs(rate - 0.999), 3)[0] == 0.999
    assert best_rate(lambda _: 0.0, 3)[0] == 0.001


@pytest.mark.parametrize("problem", MULTICLASS, ids=str)
def test_decimal_reports_the_target_it_reached(problem: Problem) -> None:
    """More than two classes: the state under the point is the target that was chosen."""
    result = fit_problem(problem, {"search": "decimal", "digits": 1}, "g_mean")
    target = [result.parameters[f"target[{name}]"] for name in problem.classes]
    assert np.allclose(result.mis_after, target)


def test_what_is_missing_or_unknown_is_named() -> None:
    """Method, search, options and prior."""
    run = partial(fit_problem, BINARY[0], metric="f1")
    with pytest.raises(UnknownMethod, match="must be one of bias_adjustment, logit_adjustment, prior_threshold"):
        run({"method": "magic"})
    with pytest.raises(UnknownMethod, match="search must be one of exact, decimal; got 'grid'"):
        run({"search": "grid"})
    with pytest.raises(UnknownMethod, match="method 'prior_threshold' has no option 'search'"):
        run({"method": "prior_threshold", "search": "exact"})
    with pytest.raises(UnknownMethod, match="'exact' has no option 'digits'"):
        run({"digits": 2})
    with pytest.raises(UnknownMethod, match="from 1 to 6, got 7"):
        run({"search": "decimal", "digits": 7})
    with pytest.raises(UnknownMethod, match="finite"):
        run({"method": "logit_adjustment", "tau": float("nan")})
    for method in ("logit_adjustment", "prior_threshold"):
        with pytest.raises(MissingPrior, match="pass prior="):
            run({"method": method, "prior": None})


@pytest.mark.parametrize("name", METHODS)
def test_scaled_scores_scale_the_cut(name: str) -> None:
    """Shifting all logits of a row together changes nothing in what is decided."""
    problem = MULTICLASS[1]
    point = fit_problem(problem, {"method": name}, "f1").point
    shifts = np.random.default_rng(0).integers(-8, 8, size=(len(problem.labels), 1))
    assert np.array_equal(point.decide(problem.logits), point.decide(problem.logits + shifts))


def test_a_point_decides_its_fitting_rows_alike_in_both_float_types() -> None:
    """Cuts lie midway, so the float32 copy of float64 rows is decided as the rows were, and the other way round."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, 300)
        for dtypes in pairwise((np.float32, np.float64, np.float32)):
            margins = rng.normal(labels * 1.0).astype(dtypes[0])
            point = fit(logits=margins, labels=labels, metric="f1", evidence=False).point
            served = margins.astype(dtypes[1])
            assert np.array_equal(point.decide(served), point.decide(margins))
