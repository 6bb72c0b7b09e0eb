"""Calibration maps: against scikit-learn and plain minimisation, and at the edges where a likelihood has no maximum."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from calibrate.errors import UnknownMethod
from calibrate.logits import softmax, to_columns
from calibrate.maps import MAPS, CalibrationMap, fit_map, fit_platt
from calibrate.operating_point import OperatingPoint
from calibrate.ranking import log_loss
from tests.problems import MULTICLASS, PROBLEMS, Problem


def binary_rows(n: int, seed: int, scale: float = 1.0, bias: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Margins and labels that were drawn from `sigmoid((margin - bias) / scale)`."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-2, 2, n)
    return scale * true + bias, (rng.random(n) < 1 / (1 + np.exp(-true))).astype(np.intp)


@pytest.mark.parametrize("weighted", [False, True])
def test_platts_line_is_the_logistic_regression_on_his_targets(weighted: bool) -> None:
    """Each row twice, as a positive by its target and as a negative by the rest, for scikit-learn without a penalty."""
    margins, labels = binary_rows(300, 0, 1.8, 1.0)
    w = np.random.default_rng(1).uniform(0.2, 3, 300) if weighted else np.ones(300)
    positives, negatives = w @ labels, w @ (1 - labels)
    t = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    line = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    line.fit(np.tile(margins, 2)[:, None], np.repeat([1, 0], 300), np.concatenate([w * t, w * (1 - t)]))
    expected = [line.coef_[0, 0], line.intercept_[0]]
    assert np.allclose(fit_platt(margins, labels == 1, w if weighted else None), expected, rtol=1e-5)
    found = fit_map("platt", to_columns(margins), labels, w)
    assert np.allclose([*found.scale, *found.bias], [expected[0], expected[0], 0, expected[1]], rtol=1e-5)


def test_temperature_is_the_logistic_regression_without_intercept() -> None:
    """On two classes, to the little that its penalty moves it."""
    margins, labels = binary_rows(2000, 2, 1.8)
    line = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(margins[:, None], labels)
    found = fit_map("temperature", to_columns(margins), labels)
    assert np.allclose(found.scale, line.coef_[0, 0], rtol=1e-3)
    assert not found.bias.any()


def plain_loss(x: np.ndarray, name: str, problem: Problem, temperature: float | None = None) -> float:
    """What the module says that a map minimises, written down directly; the scales in units of the temperature's."""
    z, k = problem.logits.astype(np.float64), len(problem.prior)
    scales = {"temperature": 1, "bias_corrected_temperature": 1, "vector_scaling": k}[name]
    unit = np.exp(x[0]) if temperature is None else temperature * x[:scales]
    b = np.zeros(k) if temperature is None else x[scales:]
    scores = z * unit + b
    loss = float((logsumexp(scores, axis=1) - scores[np.arange(len(z)), problem.labels]).sum())
    if temperature is None:
        return loss + 0.05 * float(x[0]) ** 2
    return loss + float(((x[:scales] - 1) ** 2).sum() / 2 + ((b - b.mean()) ** 2).sum() / 20)


@pytest.mark.parametrize("problem", MULTICLASS, ids=str)
@pytest.mark.parametrize("name", [name for name in MAPS if name != "platt"])
def test_a_map_minimises_what_the_module_says(problem: Problem, name: str) -> None:
    """A minimiser without gradients, over the formula as it is written, finds nothing lower and the same map."""
    found = fit_map(name, problem.logits, problem.labels)
    cold = fit_map("temperature", problem.logits, problem.labels).scale[0]
    if name == "temperature":
        ours, temperature = np.log(found.scale[:1]), None
    else:
        scales = found.scale if name == "vector_scaling" else found.scale[:1]
        ours, temperature = np.concatenate([scales / cold, found.bias]), float(cold)
    arguments = (name, problem, temperature)
    start = np.zeros(1) if temperature is None else np.concatenate([np.ones_like(scales), np.zeros(len(found.bias))])
    theirs = minimize(plain_loss, start, arguments, method="BFGS", options={"gtol": 1e-4})
    assert plain_loss(ours, *arguments) <= theirs.fun + 1e-6
    assert np.allclose(
        softmax(found.apply(problem.logits)),
        softmax(problem.logits * (np.exp(theirs.x) if temperature is None else cold * theirs.x[: scales.size])
                + (0 if temperature is None else theirs.x[scales.size :])),
        atol=1e-3,
    )  # fmt: skip


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
@pytest.mark.parametrize("name", MAPS)
def test_every_map_on_every_problem_is_finite_and_no_worse(problem: Problem, name: str) -> None:
    """One positive, separable, huge, tiny and tied margins. Platt's targets may lose a little where rows are few."""
    logits, k = to_columns(problem.logits), len(problem.prior)
    if name == "platt" and k > 2:
        with pytest.raises(UnknownMethod, match="platt is for two classes"):
            fit_map(name, logits, problem.labels)
        return
    found = fit_map(name, logits, problem.labels)
    assert np.isfinite(found.scale).all()
    assert np.isfinite(found.bias).all()
    assert (found.scale > 0).all()
    assert (found.bias[0], found.scale.shape, found.bias.shape) == (0, (k,), (k,))
    after = log_loss(found.apply(logits), problem.labels)
    if name != "platt" or problem.labels.size > 10:
        assert after <= log_loss(logits, problem.labels) + 1e-12


@pytest.mark.parametrize("name", ["temperature", "platt", "bias_corrected_temperature"])
def test_a_known_distortion_is_undone(name: str) -> None:
    """Logits that are 1.8 times too large, and shifted where the map has a bias: the map finds both back."""
    bias = 0.0 if name == "temperature" else 1.0
    margins, labels = binary_rows(100_000, 3, 1.8, bias)
    found = fit_map(name, to_columns(margins), labels)
    assert np.allclose(found.scale, 1 / 1.8, rtol=0.02)
    assert np.allclose(found.bias, [0, -bias / 1.8], atol=0.03)


@pytest.mark.parametrize("name", MAPS)
def test_the_unit_of_the_logits_does_not_matter(name: str) -> None:
    """Saturated logits, a thousand times too large, end in the same probabilities to what the penalty moves."""
    margins, labels = binary_rows(3000, 4)
    plain, saturated = to_columns(margins), to_columns(1000 * margins)
    ours = fit_map(name, saturated, labels).apply(saturated)
    assert np.allclose(softmax(ours), softmax(fit_map(name, plain, labels).apply(plain)), atol=2e-3)


@pytest.mark.parametrize("name", MAPS)
def test_a_weight_is_a_row_repeated(name: str) -> None:
    """And a row of weight 0 is no row."""
    margins, labels = binary_rows(200, 5, 1.5)
    times = np.random.default_rng(6).integers(0, 4, 200)
    weighted = fit_map(name, to_columns(margins), labels, times.astype(np.float64))
    repeated = fit_map(name, to_columns(np.repeat(margins, times)), np.repeat(labels, times))
    assert np.allclose(weighted.scale, repeated.scale, rtol=1e-4)
    assert np.allclose(weighted.bias, repeated.bias, atol=1e-4)


def test_a_point_after_a_map_decides_plain_logits_as_it_decided_mapped_ones() -> None:
    """Affine, with a weight and an offset, and with costs."""
    rng = np.random.default_rng(7)
    logits, classes = rng.normal(size=(500, 3)), ("a", "b", "c")
    mapped = CalibrationMap("vector_scaling", np.array([0.5, 2.0, 1.5]), np.array([0.0, 1.0, -0.5]))
    scale, bias = np.array([1.0, 3.0, 0.5]), np.array([0.2, 0.0, -1.0])
    cost = rng.random((3, 3))
    for point in (
        OperatingPoint(classes, scale, bias),
        OperatingPoint(classes, scale, bias, weight=np.array([1.0, 2.0, 3.0]), offset=np.array([0.1, 0.0, -0.2])),
        OperatingPoint(classes, scale, bias, cost=cost),
    ):
        whole = mapped.then(point)
        assert np.array_equal(whole.decide(logits), point.decide(mapped.apply(logits)))
        assert np.allclose(whole.adjusted(logits), point.adjusted(mapped.apply(logits)), atol=1e-12)


def test_an_unknown_map_is_named() -> None:
    """With those there are."""
    with pytest.raises(UnknownMethod, match="one of temperature, bias_corrected_temperature"):
        fit_map("isotonic", np.zeros((2, 2)), np.array([0, 1]))
