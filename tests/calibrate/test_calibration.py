"""Fits behind a calibration map: the point contains the map, and the evidence cross-fits both."""

import json

import numpy as np
import pytest

from calibrate import OperatingPoint, fit
from calibrate.errors import UnknownMethod
from calibrate.evidence import of_fit
from calibrate.folds import stratified_folds
from calibrate.logits import softmax
from calibrate.maps import fit_map
from calibrate.methods import METHODS, Fitted, Task, after_map
from calibrate.methods.calibration import mapped
from calibrate.objective import parse_objective
from calibrate.tables import print_result

CLASSES = ["a", "b", "c"]


def draw(n: int, seed: int, factor: float = 2.5) -> tuple[np.ndarray, np.ndarray]:
    """Three classes whose logits are too large and shifted."""
    rng = np.random.default_rng(seed)
    true = 2 * rng.normal(size=(n, 3)) + [0.0, -1.0, -2.0]
    labels = np.array([rng.choice(3, p=row) for row in softmax(true)])
    return factor * true + [0.0, 0.0, 1.5], labels


LOGITS, LABELS = draw(600, 0)
COSTS = [[0, 4.0, 20.0], [1.0, 0, 6.0], [2.0, 1.0, 0]]


@pytest.mark.parametrize("method", ["minimum_risk", "plug_in", "logit_adjustment", "bias_adjustment"])
def test_the_point_decides_as_the_method_does_on_mapped_logits(method: str) -> None:
    """The method on logits that were mapped beforehand, with the rows' own frequencies as prior, row by row."""
    way = {"method": method, "metric": "f1", "cost_matrix": COSTS, "evidence": False, "classes": CLASSES}
    result = fit(logits=LOGITS, labels=LABELS, prior=[0.2, 0.3, 0.5], calibration="auto", **way)  # type: ignore[arg-type]
    assert result.calibration is not None
    kept = result.calibration.kept
    assert kept is not None
    prior = np.bincount(LABELS) / LABELS.size if kept.bias.any() else [0.2, 0.3, 0.5]
    by_hand = fit(logits=kept.apply(LOGITS), labels=LABELS, prior=prior, **way)  # type: ignore[arg-type]
    assert np.array_equal(result.point.decide(LOGITS), by_hand.point.decide(kept.apply(LOGITS)))
    assert np.allclose(result.point.adjusted(LOGITS), by_hand.point.adjusted(kept.apply(LOGITS)))
    rest = kept.rest_of(result.point)
    assert np.allclose(rest.scale, by_hand.point.scale)
    assert np.allclose(rest.bias, by_hand.point.bias)


def test_costs_are_better_served_by_calibrated_probabilities() -> None:
    """The rule of least expected cost, on new rows, behind a map and without one."""
    held = draw(20_000, 1)
    costs = {}
    for calibration in (None, "auto"):
        point = fit(
            logits=LOGITS, labels=LABELS, classes=CLASSES, metric="mean_cost", method="minimum_risk",
            cost_matrix=COSTS, calibration=calibration, evidence=False,
        ).point  # fmt: skip
        costs[calibration] = np.array(COSTS)[point.decide(held[0]), held[1]].mean()
    assert costs["auto"] < 0.95 * costs[None]


def test_a_map_that_does_not_gain_is_rejected_and_the_point_is_the_methods() -> None:
    """On rows that the model is right about: identity, said in the notes, the trials in the record."""
    rng = np.random.default_rng(2)
    margins = rng.normal(-1, 2, 300)
    labels = (rng.random(300) < 1 / (1 + np.exp(-margins))).astype(int)
    plain = fit(logits=margins, labels=labels, metric="f1", evidence=False)
    result = fit(logits=margins, labels=labels, metric="f1", calibration="temperature", evidence=False)
    assert result.point == plain.point
    assert result.calibration is not None
    assert result.calibration.kept is None
    assert [trial.name for trial in result.calibration.rejected] == ["temperature"]
    assert any("calibration rejected" in note for note in result.notes)
    assert json.loads(json.dumps(result.to_dict()))["calibration"]["name"] is None
    assert plain.to_dict()["calibration"] is None


def test_the_map_is_fitted_inside_every_fold() -> None:
    """A method that looks at nothing is still cross-fitted behind a map, and each part is mapped by the others' map."""
    seen = []

    def spying(task: Task) -> Fitted:
        seen.append(task.logits)
        return METHODS["prior_threshold"].fit(task)

    labels = LABELS.astype(np.intp)
    objective = parse_objective("f1", None, CLASSES)
    task = Task(LOGITS, labels, tuple(CLASSES), objective, LOGITS, prior=np.array([0.5, 0.3, 0.2]))
    staged = after_map(spying, "temperature")
    found = of_fit(task, staged(task), staged, [objective.metric])
    assert found.procedure["f1"].kind == "cross_fitted"
    folds = stratified_folds(labels, 5, np.random.default_rng(0))
    for fold, logits in enumerate(seen[1:]):
        expected = fit_map("temperature", LOGITS[folds != fold], labels[folds != fold])
        assert np.allclose(logits, expected.apply(LOGITS[folds != fold]))
    assert len(seen) == 6


@pytest.mark.parametrize("name", ["temperature", "platt", "bias_corrected_temperature", "vector_scaling"])
def test_a_map_as_a_method_is_the_map_and_argmax(name: str) -> None:
    """Always applied, with a warning where it may do harm; the metric has no say."""
    logits, labels = (np.column_stack([np.zeros(600), LOGITS[:, 1] - LOGITS[:, 0]]), (LABELS == 1).astype(int))
    result = fit(logits=logits, labels=labels, metric="f1", method=name)
    expected = fit_map(name, logits, labels.astype(np.intp))
    assert np.array_equal(result.point.scale, expected.scale)
    assert np.array_equal(result.point.bias, expected.bias)
    assert result.threshold == pytest.approx(0.5)
    assert result.evidence["f1"].kind == "optimism_corrected"
    assert result.calibration is not None
    assert result.calibration.to_dict()["name"] == name
    with pytest.raises(UnknownMethod, match="takes no calibration before it"):
        fit(logits=logits, labels=labels, metric="f1", method=name, calibration="auto")
    with pytest.raises(UnknownMethod, match="cannot keep 'recall"):
        fit(logits=logits, labels=labels, metric="f1", method=name, constraints="recall >= 0.5")


def test_threshold_and_cut_of_two_classes(capsys: pytest.CaptureFixture[str]) -> None:
    """The threshold is on the calibrated probability, the cut on the model's own margin, both of the same point."""
    margins = LOGITS[:, 1] - LOGITS[:, 0]
    labels = (LABELS == 1).astype(int)
    result = fit(logits=margins, labels=labels, metric="f1", calibration="platt", evidence=False)
    assert result.calibration is not None
    kept = result.calibration.kept
    assert kept is not None
    decided = result.point.decide(margins)
    columns = np.column_stack([np.zeros(600), margins])
    assert np.array_equal(softmax(kept.apply(columns))[:, 1] > result.threshold, decided == 1)
    assert np.array_equal(margins > result.parameters["cut"], decided == 1)
    plain = fit(logits=margins, labels=labels, metric="f1", evidence=False)
    assert result.parameters["cut"] == pytest.approx(plain.parameters["cut"])
    assert result.parameters["gap"] == pytest.approx(plain.parameters["gap"])
    assert OperatingPoint.from_dict(result.to_dict()["point"]) == result.point
    print_result(result)
    shown = capsys.readouterr().out
    assert "calibrated probability" in shown
    assert "map" in shown


def test_a_mapped_task_maps_the_state_rows_too() -> None:
    """Training rows by the same map; the prior stays where the map has no bias."""
    objective = parse_objective("f1", None, CLASSES)
    task = Task(LOGITS, LABELS.astype(np.intp), tuple(CLASSES), objective, LOGITS[:50], prior=np.array([0.5, 0.3, 0.2]))
    cold = fit_map("temperature", LOGITS, LABELS.astype(np.intp))
    assert np.array_equal(mapped(task, cold).state_logits, cold.apply(LOGITS[:50]))
    assert np.array_equal(mapped(task, cold).needed_prior(), task.needed_prior())
