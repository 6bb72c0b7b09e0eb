"""Only a point that meets the constraints may win, in every method; rows and logits at the edge of what there is."""

from typing import Any

import numpy as np
import pytest

from calibrate import OperatingPoint, feature_cache, fit
from calibrate.ascent import Climb
from calibrate.errors import Infeasible
from calibrate.methods import Fitted, Task, after_map
from calibrate.objective import parse_objective

FALSELY_INFEASIBLE = [(8, 5, "accuracy", "recall[c4] >= 0.7"), (14, 5, "f1", "recall_worst >= 0.4"),
                      (26, 5, "f1", "recall_worst >= 0.4"), (29, 5, "accuracy", "recall[c4] >= 0.7")]  # fmt: skip


def overlapping(seed: int, k: int) -> dict[str, Any]:
    """Some 120 rows of k classes that overlap much, four of each at least."""
    rng = np.random.default_rng(seed)
    prior = np.array([0.6, 0.25, 0.15, 0.08, 0.05][:k])
    prior /= prior.sum()
    labels = np.concatenate([np.repeat(np.arange(k), 4), rng.choice(k, p=prior, size=120 - 4 * k)])
    logits = rng.normal(size=(120, k)) + np.log(prior)
    logits[np.arange(120), labels] += 1.2
    return {"logits": logits, "labels": labels, "classes": [f"c{i}" for i in range(k)], "prior": prior}


@pytest.mark.parametrize(("seed", "k", "metric", "constraint"), FALSELY_INFEASIBLE)
@pytest.mark.parametrize("method", ["bias_adjustment", "auto"])
def test_a_candidate_that_breaks_a_constraint_does_not_win(
    seed: int, k: int, metric: str, constraint: str, method: str
) -> None:
    """The climb meets the constraint and a tau that cross-fits better does not: the fit is not infeasible."""
    data = overlapping(seed, k)
    result = fit(**data, metric=metric, constraints=constraint, method=method, evidence=False)
    decided, labels = result.point.decide(data["logits"]), data["labels"]
    recalls = [float((decided == c)[labels == c].mean()) for c in range(k)]
    assert (recalls[4] >= 0.7) if "c4" in constraint else (min(recalls) >= 0.4)


@pytest.mark.parametrize("seed", range(4))
def test_infeasible_is_raised_only_where_every_candidate_is(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the three candidates are: the fit takes a feasible one, and is infeasible only if there is none."""
    data = overlapping(seed, 3)
    prior = data["prior"]
    candidates = {"climb": np.zeros(3), "tau": -np.log(prior)}
    worst = {
        name: min((((data["logits"] + bias).argmax(1) == c)[data["labels"] == c]).mean() for c in range(3))
        for name, bias in {**candidates, "half": -np.log(prior) / 2}.items()
    }
    monkeypatch.setattr(
        "calibrate.methods.bias_adjustment.coordinate_ascent",
        lambda sample, objective, _, **__: Climb(np.zeros(3), sample.score(np.zeros(3), objective), 1, "fixed"),
    )
    monkeypatch.setattr("calibrate.methods.bias_adjustment.best_tau", lambda *_: 1.0)
    for bound in sorted({0.0, 1.0, *(round(value, 6) for value in worst.values())}):
        options: dict[str, Any] = {
            "constraints": f"recall_worst >= {bound - 1e-5}",
            "evidence": False,
        }
        if max(worst.values()) < bound - 1e-5:
            with pytest.raises(Infeasible, match="recall_worst"):
                fit(**data, metric="accuracy", **options)
            continue
        decided = fit(**data, metric="accuracy", **options).point.decide(data["logits"])
        assert min((decided == c)[data["labels"] == c].mean() for c in range(3)) >= bound - 1e-5


def test_auto_takes_a_point_that_meets_the_constraints_though_none_can_be_cross_fitted() -> None:
    """Without a part of the rows the constraint is out of reach; on all of them one cut meets it."""
    margins = np.array([9.0, 8.0, 7.0, 0.5, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0])
    labels = np.array([1, 1, 0, 0, 0, 0, 0, 1, 0, 0])
    data: dict[str, Any] = {"logits": margins, "labels": labels, "classes": ["no", "yes"]}
    options: dict[str, Any] = {
        "metric": "f1",
        "constraints": ["precision >= 0.66", "alert_rate >= 0.3", "alert_rate <= 0.3"],
    }
    result = fit(**data, **options, method="auto", evidence=False)
    assert result.point.decide(margins).sum() == 3
    assert "none could be cross-fitted" in result.notes[0]
    with pytest.raises(Infeasible, match=r"'precision >= 0.7' comes to 0.666667"):
        fit(**data, metric="f1", constraints=["precision >= 0.7", "alert_rate >= 0.3"], method="auto")


def test_tau_normalization_keeps_a_constraint_that_holds_on_a_narrow_stretch() -> None:
    """The tau in the middle of two grid points is taken only if it is as good as they are."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        features, weight = rng.normal(size=(90, 4)), rng.normal(size=(3, 4)) * np.array([[2.0], [1.0], [0.4]])
        labels = (features @ weight.T + rng.normal(size=(90, 3))).argmax(1)
        cache = feature_cache(
            features=features, weight=weight, bias=np.zeros(3), labels=labels, classes=["a", "b", "c"]
        )
        norms = np.linalg.norm(weight, axis=1)
        taus = np.linspace(0, 4, 401)
        decided = [(features @ weight.T * norms**-tau).argmax(1) for tau in taus]
        worst = [min((each == c)[labels == c].mean() for c in range(3)) for each in decided]
        options: dict[str, Any] = {
            "constraints": f"recall_worst >= {max(worst)}",
            "evidence": False,
        }
        point = fit(cache, metric="accuracy", method="tau_normalization", **options).point
        reached = min((point.decide(cache.logits) == c)[labels == c].mean() for c in range(3))
        assert reached >= max(worst)


def test_a_map_behind_which_a_constraint_is_out_of_reach_is_dropped() -> None:
    """The logits as they are can meet it, so the fit is not infeasible, and a note says what became of the map."""
    data = overlapping(8, 5)
    task_fits: list[int] = []

    def only_unmapped(task: Task) -> Fitted:
        task_fits.append(1)
        if task.logits is not plain.logits:
            raise Infeasible("no cut", ())
        return Fitted(OperatingPoint.argmax(task.classes))

    logits = data["logits"] * 5
    objective = parse_objective("accuracy", ["recall_worst >= 0"], data["classes"])
    plain = Task(logits, data["labels"], tuple(data["classes"]), objective, logits)
    fitted = after_map(only_unmapped, "temperature")(plain)
    assert len(task_fits) == 2
    assert fitted.calibration is not None
    assert fitted.calibration.kept is None
    assert "dropped" in fitted.notes[-1]


@pytest.mark.parametrize("size", [1e37, 1e39, 1e150, 1e306])
@pytest.mark.parametrize("k", [2, 3])
def test_logits_that_float32_cannot_hold_are_fitted_as_small_ones_are(size: float, k: int) -> None:
    """Without a warning, and with the decisions of the same logits at a size that it can hold."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.tile(np.arange(k), 2), rng.integers(0, k, 100)])
    small = rng.normal(size=(labels.size, k))
    small[np.arange(labels.size), labels] += 1
    scale, held = 2.0 ** np.floor(np.log2(size / 8)), 2.0**100  # beside either the prior moves nothing
    searches = ["exact", "decimal", "committee", "bagged", "smoothed"] if k == 2 else ["exact", "decimal"]
    for search in searches:
        options: dict[str, Any] = {"labels": labels, "classes": list("abc"[:k]), "metric": "f1_macro", "search": search}
        options["evidence"] = k == 2
        large = fit(logits=small * scale, **options)
        if search in ("exact", "bagged"):
            expected = fit(logits=small * held, **options).point.decide(small * held)
            assert np.array_equal(large.point.decide(small * scale), expected)


@pytest.mark.parametrize("search", ["exact", "committee", "bagged", "smoothed", "expected", "decimal", None])
@pytest.mark.parametrize("k", [2, 3])
def test_a_row_of_weight_zero_is_no_row(search: str | None, k: int) -> None:
    """The point is that of a fit without those rows, wherever their logits lie."""
    if k == 3 and search not in ("exact", "decimal", None):
        return
    rng = np.random.default_rng(3)
    labels = np.concatenate([np.tile(np.arange(k), 4), rng.integers(0, k, 60)])
    logits = rng.normal(size=(labels.size, k))
    logits[np.arange(labels.size), labels] += 1
    weights = rng.choice([0.5, 1.0, 2.0], labels.size)
    more = rng.normal(size=(20, k)) * 30
    options: dict[str, Any] = {"metric": "f1_macro", "search": search, "evidence": False}
    names = list("abc"[:k])
    without = fit(feature_cache(logits=logits, labels=labels, classes=names, sample_weight=weights), **options)
    with_rows = feature_cache(
        logits=np.concatenate([more, logits]),
        labels=np.concatenate([rng.integers(0, k, 20), labels]),
        classes=names,
        sample_weight=np.concatenate([np.zeros(20), weights]),
    )
    found = fit(with_rows, **options)
    assert found.point.bias.tolist() == without.point.bias.tolist()
    assert found.rows == labels.size
