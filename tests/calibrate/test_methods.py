"""Every method on every problem, and what each promises."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit

from calibrate import FitResult, OperatingPoint, feature_cache, fit
from calibrate.counts import Counts
from calibrate.errors import BadCosts, Infeasible, MissingCosts, MissingPrior, NotFinite, UndefinedMetric, UnknownMethod
from calibrate.folds import stratified_folds
from calibrate.logits import softmax, to_columns
from calibrate.methods import METHODS
from calibrate.methods.bias_adjustment import best_rate
from calibrate.methods.plug_in import gradient
from calibrate.naming import parse_metric
from calibrate.objective import parse_objective
from tests.problems import BINARY, MULTICLASS, PROBLEMS, Problem, draw
from tests.reference import BINARY_METRICS, best_by_brute_force, binary_metric, cells

WAYS = [
    pytest.param({"method": "bias_adjustment"}, id="default"),
    pytest.param({"method": "bias_adjustment", "search": "exact"}, id="exact"),
    pytest.param({"method": "bias_adjustment", "search": "decimal", "digits": 2}, id="decimal"),
    pytest.param({"method": "logit_adjustment"}, id="logit_adjustment"),
    pytest.param({"method": "prior_threshold"}, id="prior_threshold"),
    pytest.param({"method": "plug_in"}, id="plug_in"),
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
    if way.get("search") == "exact" or way["method"] == "logit_adjustment":
        plain = OperatingPoint.argmax(problem.classes)
        tau_1 = fit_problem(problem, {"method": "logit_adjustment", "tau": 1.0}, metric).point
        if any("kept argmax" in note or "rejected" in note for note in result.notes):
            return  # cross-fitting spoke against what is best on the fitting rows
        best = reached(problem, result.point, metric)
        assert best >= reached(problem, plain, metric)
        assert best >= reached(problem, tau_1, metric)


@pytest.mark.parametrize("problem", BINARY, ids=str)
@pytest.mark.parametrize("metric", BINARY_METRICS)
def test_exact_is_brute_force_and_never_worse_than_decimal(problem: Problem, metric: str) -> None:
    """Two classes: the point itself, used as a rule, reaches what trying every cut reaches."""
    if (problem.name, metric) == ("all scores equal", "mcc"):
        with pytest.raises(UndefinedMetric):
            fit_problem(problem, {"search": "exact"}, metric)
        return
    logits = to_columns(problem.logits)
    margins = logits[:, 1].astype(np.float64) - logits[:, 0]
    for positive in (0, 1):
        name = problem.classes[positive]
        point = fit_problem(problem, {"search": "exact"}, metric, positive=name).point
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
    assert result.notes[0].startswith("kept the fitted tau")
    best = reached(problem, result.point, "f1")
    for tau in np.linspace(0, 4, 161):
        point = fit_problem(problem, {"method": "logit_adjustment", "tau": float(tau)}, "f1").point
        assert best >= reached(problem, point, "f1") - 1e-12
    assert result.point.margin(problem.logits).min() > 0


@pytest.mark.parametrize("problem", [BINARY[0], MULTICLASS[0]], ids=str)
def test_a_fitted_tau_is_kept_only_where_it_gains_on_rows_that_did_not_fit_it(problem: Problem) -> None:
    """The three cross-fitted values are said, recomputed here fold by fold, and the best of them is what is taken."""
    folds = stratified_folds(problem.labels.astype(np.intp), 3, np.random.default_rng(0))
    for metric in ("accuracy", "f1", "balanced_accuracy"):
        result = fit_problem(problem, {"method": "logit_adjustment"}, metric)
        decided = np.empty_like(problem.labels)
        for fold in range(3):
            kept, left = folds != fold, folds == fold
            part = Problem("part", problem.logits[kept], problem.labels[kept], problem.prior)
            # Under a constraint that always holds, the fitted tau stays, so this is the fit without the gate.
            way: dict[str, object] = {"method": "logit_adjustment", "constraints": ["accuracy >= 0"]}
            decided[left] = fit_problem(part, way, metric).point.decide(problem.logits[left])
        parsed = parse_metric(metric, problem.classes)
        values = {"fitted": float(parsed.value(Counts.of(problem.labels, decided, len(problem.prior))))}
        for tau in (0.0, 1.0):
            point = fit_problem(problem, {"method": "logit_adjustment", "tau": tau}, metric).point
            values[f"tau = {tau:g}"] = reached(problem, point, metric)
        note = next(note for note in result.notes if "the fitted tau" in note)
        assert all(f"{values[f'tau = {tau}']:.4f}" in note for tau in (0, 1))
        if len(problem.prior) == 2:  # in more classes the folds' taus are searched on a coarser grid
            assert f"{values['fitted']:.4f}" in note
            assert note.startswith("kept") == (values["fitted"] > max(values["tau = 0"], values["tau = 1"]))
        if note.startswith("rejected"):
            assert result.parameters["tau"] in (0.0, 1.0)


def test_argmax_is_kept_where_nothing_that_was_fitted_gains() -> None:
    """Three classes, calibrated, for accuracy: no bias beats the model's own rule on new rows."""
    rng = np.random.default_rng(5)
    logits = 2 * rng.normal(size=(150, 3))
    labels = np.array([rng.choice(3, p=row) for row in softmax(logits)])
    result = fit(logits=logits, labels=labels, metric="accuracy", evidence=False, classes=["a", "b", "c"])
    assert "kept argmax: cross-fitted 'accuracy' of free biases" in result.notes[-1]
    assert result.point == OperatingPoint.argmax(["a", "b", "c"])
    bound = fit(logits=logits, labels=labels, metric="accuracy", constraints="recall_worst >= 0.1", evidence=False)
    assert "argmax" not in bound.notes[-1]


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
    assert best_rate(lambda rate: (0.0, -abs(rate - 0.372)), 3) == (0.372, (0.0, -0.0))
    assert best_rate(lambda rate: (0.0, -abs(rate - 0.004)), 3)[0] == 0.004
    assert best_rate(lambda rate: (0.0, -abs(rate - 0.999)), 3)[0] == 0.999
    assert best_rate(lambda _: (0.0, 0.0), 3)[0] == 0.001


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
    with pytest.raises(UnknownMethod, match=r"search must be one of exact, committee, nonempty, .*; got 'grid'"):
        run({"search": "grid"})
    with pytest.raises(UnknownMethod, match="method 'prior_threshold' has no option 'search'"):
        run({"method": "prior_threshold", "search": "exact"})
    for search in ("exact", "committee", "bagged"):
        with pytest.raises(UnknownMethod, match=f"'{search}' has no option 'digits'"):
            run({"search": search, "digits": 2})
    with pytest.raises(UnknownMethod, match="search 'smoothed' is for two classes, these are 3"):
        fit_problem(MULTICLASS[0], {"search": "smoothed"}, "f1")
    with pytest.raises(UnknownMethod, match="from 1 to 6, got 7"):
        run({"search": "decimal", "digits": 7})
    with pytest.raises(UnknownMethod, match="finite"):
        run({"method": "logit_adjustment", "tau": float("nan")})
    for method in ("logit_adjustment", "prior_threshold"):
        with pytest.raises(MissingPrior, match="pass prior="):
            run({"method": method, "prior": None})


_NOT_OF_SHIFTED_LOGITS = {name for name, row in METHODS.items() if row.reads_head} | {"lws", "vector_scaling"}


@pytest.mark.parametrize("name", sorted(METHODS.keys() - _NOT_OF_SHIFTED_LOGITS - {"platt", "auto"}))
def test_scaled_scores_scale_the_cut(name: str) -> None:
    """Shifting all logits of a row together changes nothing in what is decided; only scales per class take them as they
    come. Platt's map is for two classes, and auto is one of the others.
    """
    problem = MULTICLASS[1]
    costs = 1 - np.eye(len(problem.prior))
    point = fit_problem(problem, {"method": name, "cost_matrix": costs}, "f1").point
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


def test_the_cost_rule_is_the_closed_form_and_equals_the_sweep_on_calibrated_scores() -> None:
    """p* = c10 / (c10 + c01); on a million rows whose labels were drawn from the model, the fitted cut finds it."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-2, 2, 1_000_000)
    labels = (rng.random(logits.size) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    costs = [[0, 8.0], [1.0, 0]]
    closed = fit(
        logits=logits, labels=labels, metric="mean_cost", method="minimum_risk", cost_matrix=costs, evidence=False
    )
    assert closed.point.threshold == pytest.approx(1 / 9)
    named = fit(logits=logits, labels=labels, metric="cost(fp=1, fn=8)", method="minimum_risk", evidence=False)
    assert named.point == closed.point
    for metric, matrix in (("mean_cost", costs), ("cost(fp=1, fn=8)", None)):
        swept = fit(logits=logits, labels=labels, metric=metric, cost_matrix=matrix, evidence=False)
        assert swept.point.threshold == pytest.approx(1 / 9, abs=0.01)


def test_with_more_classes_the_cost_rule_takes_the_least_expected_cost() -> None:
    """Row by row, from the probabilities; and it is among the best points for that cost on calibrated rows."""
    problem = draw((0.6, 0.3, 0.1), 500, 8, np.float64)
    costs = np.array([[0.0, 4.0, 20.0], [1.0, 0.0, 6.0], [2.0, 1.0, 0.0]])
    point = fit_problem(problem, {"method": "minimum_risk", "cost_matrix": costs}, "mean_cost").point
    q = np.exp(problem.logits) / np.exp(problem.logits).sum(axis=1, keepdims=True)
    assert np.array_equal(point.decide(problem.logits), [(costs @ row).argmin() for row in q])
    assert (point.margin(problem.logits) >= 0).all()
    assert OperatingPoint.from_dict(point.to_dict()) == point


@pytest.mark.parametrize(
    ("costs", "error", "said"),
    [
        (None, MissingCosts, "pass cost_matrix="),
        ([[0, 1]], BadCosts, "2 rows and 2 columns"),
        ([[0, 1], [0, 0]], BadCosts, "class 'class a' must cost more than the right one"),
        ([[0, np.nan], [1, 0]], NotFinite, "cost_matrix"),
    ],
)
def test_costs_that_no_rule_can_follow_are_refused(costs: object, error: type[Exception], said: str) -> None:
    """Missing, of the wrong shape, or asking for one class always."""
    with pytest.raises(error, match=said):
        fit_problem(BINARY[0], {"method": "minimum_risk", "cost_matrix": costs}, "f1")
    with pytest.raises(MissingCosts, match="mean_cost"):
        fit_problem(BINARY[0], {"method": "bias_adjustment"}, "mean_cost")


def test_the_plug_in_rule_is_the_published_one_for_macro_f1() -> None:
    """Weight and offset are 2/(P + Q) and -F/(P + Q), up to one factor."""
    problem = MULTICLASS[1]
    objective = parse_objective("f1", None, problem.classes)
    counts = Counts.of(problem.labels, problem.logits.argmax(axis=1), 5)
    weight, offset = gradient(objective, counts)
    both = counts.actual + counts.predicted
    f1 = 2 * counts.hits / both
    assert np.allclose(weight * weight.sum() ** -1, (2 / both) / (2 / both).sum(), rtol=1e-6)
    assert np.allclose(offset / weight, -f1 / 2, rtol=1e-6)


def posterior(prior: tuple[float, ...], n: int, seed: int) -> Problem:
    """Rows whose logits are the true posterior: unit normals around the corners of a simplex, three apart."""
    rng = np.random.default_rng(seed)
    k = len(prior)
    labels = np.concatenate([np.arange(k), rng.choice(k, p=prior, size=n - k)])
    return Problem("posterior", 3 * (rng.normal(size=(n, k)) + 3 * np.eye(k)[labels]) + np.log(prior), labels, prior)


def test_the_plug_in_rule_beats_a_bias_on_new_rows_for_macro_f1() -> None:
    """Where the logits are the true posterior: the mean over draws, beside argmax and the fitted tau."""
    prior = tuple(np.array([2.0**-c for c in range(8)]) / sum(2.0**-c for c in range(8)))
    values = []
    for seed in range(8):
        fitting, held = posterior(prior, 5000, seed), posterior(prior, 40_000, seed + 100)
        points = [fit_problem(fitting, {"method": method}, "f1").point for method in ("plug_in", "logit_adjustment")]
        values.append([reached(held, p, "f1") for p in (*points, OperatingPoint.argmax(fitting.classes))])
    plug_in, tau, argmax = np.mean(values, axis=0)
    assert plug_in > tau
    assert plug_in > argmax


@pytest.mark.parametrize("problem", MULTICLASS, ids=str)
def test_free_biases_are_kept_only_where_cross_fitting_gains(problem: Problem) -> None:
    """What was weighed and what was kept is said; the result is never worse than the best tau on the fitting rows."""
    result = fit_problem(problem, {"method": "bias_adjustment"}, "f1")
    assert any("kept" in note and "tau line" in note and "argmax" in note for note in result.notes)
    tau = fit_problem(problem, {"method": "logit_adjustment"}, "f1").point
    assert reached(problem, result.point, "f1") >= reached(problem, tau, "f1")


@pytest.mark.parametrize("way", WAYS[:3])
def test_constraints_hold_on_the_fitting_rows_whatever_the_method(way: dict[str, object]) -> None:
    """And where they cannot, that is what is said, with how near they come."""
    for problem in (BINARY[0], MULTICLASS[0]):
        last = problem.classes[-1]
        result = fit_problem(problem, way, "accuracy", constraints=[f"recall[{last}] >= 0.8"])
        assert reached(problem, result.point, f"recall[{last}]") >= 0.8
        assert result.constraints == (f"recall[{last}] >= 0.8",)
        with pytest.raises(Infeasible, match="comes to") as caught:
            fit_problem(problem, way, "accuracy", constraints=["accuracy >= 1", f"recall[{last}] >= 0.8"])
        assert caught.value.nearest
    with pytest.raises(UnknownMethod, match="fits nothing for a metric, so it cannot keep"):
        fit_problem(BINARY[0], {"method": "prior_threshold"}, "f1", constraints="recall >= 0.5")


def test_auto_takes_the_best_by_cross_fitting_and_shows_all() -> None:
    """The table holds every method that could be fitted, each as its own cross-fitted evidence has it."""
    problem = draw((0.9, 0.1), 400, 7, lead=1.0)
    arrays = {"logits": problem.logits, "labels": problem.labels, "classes": problem.classes}
    result = fit(**arrays, metric="g_mean", method="auto", prior=problem.prior)  # type: ignore[arg-type]
    assert set(result.compared) == {"argmax", "prior_threshold", "logit_adjustment", "bias_adjustment", "plug_in"}
    assert any("left out minimum_risk" in note for note in result.notes)
    assert result.compared[result.method].value == max(each.value for each in result.compared.values())
    for name, interval in result.compared.items():
        alone = fit(**arrays, metric="g_mean", method=name, prior=problem.prior)  # type: ignore[arg-type]
        cross_fitted = alone.procedure or alone.evidence  # a method that fits nothing has held-out evidence alone
        assert interval.value == pytest.approx(cross_fitted["g_mean"].value)
        if name == result.method:
            assert alone.point == result.point


def test_auto_evidence_scores_the_choice_and_not_the_winner() -> None:
    """Each fold chooses anew among the methods on its own rows, so the procedure may be below the table's best."""
    problem = draw((0.8, 0.2), 120, 3, lead=0.5)
    values = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(problem.labels)  # nothing to be learned: any gain of the winner is luck
        result = fit(logits=problem.logits, labels=labels, metric="f1", method="auto", prior=problem.prior, rng=rng)
        values.append((max(each.value for each in result.compared.values()), result.procedure["f1"].value))
    table, evidence = np.mean(values, axis=0)
    assert evidence < table


def test_auto_keeps_constraints_and_fails_as_the_methods_do() -> None:
    """Methods that fit nothing take part only where they happen to meet the constraints."""
    problem = draw((0.9, 0.1), 300, 5)
    way: dict[str, object] = {"method": "auto"}
    result = fit_problem(problem, way, "precision", constraints=["recall >= 0.95"])
    assert reached(problem, result.point, "recall") >= 0.95
    assert "argmax" not in result.compared
    with pytest.raises(Infeasible):
        fit_problem(problem, way, "precision", constraints=["recall >= 1.1"])
