"""Whether a map is kept: the figures behind it, by hand, and what is said."""

import numpy as np
import pytest

from calibrate.errors import UnknownMethod
from calibrate.folds import stratified_folds
from calibrate.logits import to_columns
from calibrate.map_choice import check_calibration, choose_map, harm, try_map
from calibrate.maps import fit_map


def draw(n: int, factor: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of two classes that are `factor` times too large, with labels."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-1, 2, n)
    return to_columns(factor * true), (rng.random(n) < 1 / (1 + np.exp(-true))).astype(np.intp)


def losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log softmax at the label, written down."""
    e = np.exp(logits)
    return np.asarray(-np.log(e[np.arange(len(labels)), labels] / e.sum(axis=1)))


@pytest.mark.parametrize("weighted", [False, True])
def test_a_trial_is_the_mean_and_standard_error_of_what_is_saved_per_row(weighted: bool) -> None:
    """Each row mapped by the fit of the other folds."""
    logits, labels = draw(300, 1.8)
    w = np.random.default_rng(1).uniform(0.5, 2, 300) if weighted else np.ones(300)
    folds = stratified_folds(labels, 5, np.random.default_rng(0))
    saved = np.empty(300)
    for fold in range(5):
        kept, left = folds != fold, folds == fold
        found = fit_map("platt", logits[kept], labels[kept], w[kept])
        saved[left] = losses(logits[left], labels[left]) - losses(found.apply(logits[left]), labels[left])
    trial = try_map("platt", logits, labels, w if weighted else None)
    assert trial is not None
    assert trial.gain == pytest.approx(np.average(saved, weights=w))
    expected = np.sqrt((w**2 * (saved - trial.gain) ** 2).sum()) / w.sum()
    assert trial.standard_error == pytest.approx(expected)
    assert trial.keeps == (trial.gain > trial.standard_error)


def test_what_is_kept_and_what_is_rejected_is_said() -> None:
    """A needed map is kept and fitted on all rows; on calibrated rows none is, by name or by auto."""
    logits, labels = draw(1000, 1.8)
    found = choose_map("temperature", logits, labels)
    assert found.kept is not None
    assert np.array_equal(found.kept.scale, fit_map("temperature", logits, labels).scale)
    assert found.rejected == ()
    assert found.notes[0].startswith("calibration 'temperature' kept; log loss saved per row, cross-fitted:")
    auto = choose_map("auto", logits, labels)
    assert auto.kept is not None
    assert max(auto.trials, key=lambda trial: trial.gain).name == auto.kept.name
    assert len(auto.rejected) == 2
    for name in ("platt", "auto"):
        calm = choose_map(name, *draw(300, 1.0))
        assert calm.kept is None
        assert calm.notes[0].startswith("calibration rejected, the logits stay as they are")
        assert calm.to_dict()["name"] is None
        assert len(calm.to_dict()["trials"]) == (1 if name == "platt" else 3)


def test_a_map_that_is_applied_whatever_comes_is_warned_of() -> None:
    """Only where it does not gain."""
    assert harm("temperature", *draw(1000, 1.8)) == ()
    assert "may do harm" in harm("temperature", *draw(300, 1.0))[0]
    logits, labels = draw(30, 1.0)
    labels[:] = 0
    labels[3] = 1
    assert choose_map("auto", logits, labels).kept is None
    assert "could not be tried" in harm("platt", logits, labels)[0]


def test_unknown_maps_are_named() -> None:
    """With those there are; Platt's in more classes has a hint."""
    with pytest.raises(
        UnknownMethod, match="temperature, bias_corrected_temperature, platt, vector_scaling, auto; got"
    ):
        check_calibration("isotonic", 2)
    with pytest.raises(UnknownMethod, match="try bias_corrected_temperature"):
        check_calibration("platt", 3)
