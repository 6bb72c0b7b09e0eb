"""The selector finds the epoch that is best under its own point, keeps its state, and scores the choice honestly."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from calibrate import OperatingPoint, feature_cache, fit
from calibrate.errors import BadCache, UndefinedMetric, UnknownMethod
from calibrate.training import EpochSelector
from tests.reference import binary_metric, cells

LABELS = np.repeat([0, 1], [160, 40])
# How far apart the classes are and where the bias lies, epoch by epoch: the third ranks best, the first decides best.
EPOCHS = [(1.5, 1.0), (2.0, 4.0), (3.0, 5.0), (1.0, 0.5)]


def margins(spread: float, bias: float, seed: int = 0) -> NDArray[np.float64]:
    """Two normals, `spread` apart, with the cut at `bias` from the negatives' middle."""
    return np.random.default_rng(seed).normal(size=LABELS.size) + LABELS * spread - bias


def run(selector: EpochSelector, **more: Any) -> None:
    """Four epochs."""
    for epoch, (spread, bias) in enumerate(EPOCHS):
        selector.after_epoch(epoch, margins(spread, bias), LABELS, state={"epoch": np.array([epoch])}, **more)


@pytest.mark.parametrize("scoring", ["cross_fitted", "half_split", "same_rows"])
def test_the_best_pair_is_kept_and_the_plain_metric_would_have_picked_another(scoring: str) -> None:
    """The point is the one that fitting on that epoch's choosing rows gives; the state is a copy."""
    selector = EpochSelector("f1", classes=["no", "yes"], scoring=scoring)
    run(selector)
    found = selector.result()
    assert (found.best.epoch, found.plain.epoch) == (2, 0)
    assert found.best.state == {"epoch": np.array([2])}
    assert found.plain.point == OperatingPoint.argmax(("no", "yes"))
    assert [epoch.epoch for epoch in found.epochs] == [0, 1, 2, 3]
    assert found.best.value == max(epoch.adjusted for epoch in found.epochs)
    assert found.plain.value == max(epoch.plain for epoch in found.epochs)
    if scoring != "half_split":
        wanted = fit(
            logits=margins(*EPOCHS[2]),
            labels=LABELS,
            classes=["no", "yes"],
            metric="f1",
            search="exact",
            evidence=False,
        )
        assert found.best.point == wanted.point
        value = binary_metric("f1", *cells(LABELS, found.best.point.decide(margins(*EPOCHS[2]))))
        assert found.best.value == pytest.approx(value)
    if scoring == "same_rows":
        assert found.evidence == {}
    else:
        ways = ["adjusted", "plain", "plain, adjusted afterwards"]
        assert list(found.evidence) == ways
        values = [found.evidence[way].value for way in ways]
        assert values[0] > max(values[1:])
        assert {interval.kind for interval in found.evidence.values()} == {
            "cross_fitted" if scoring == "cross_fitted" else "held_out"
        }
    assert 0 < found.share <= 1
    assert found.seconds == pytest.approx(sum(epoch.seconds for epoch in found.epochs))


def test_half_split_scores_the_pair_on_rows_that_it_never_saw() -> None:
    """Its value is that of the kept point on the other half, and the halves share no row."""
    selector = EpochSelector("f1", classes=["no", "yes"], scoring="half_split")
    run(selector)
    (track,) = selector._tracks
    assert not set(track.chooses) & set(track.scored)
    assert track.chooses.size + track.scored.size == LABELS.size
    found = selector.result()
    hidden = margins(*EPOCHS[2])[track.scored]
    value = binary_metric("f1", *cells(LABELS[track.scored], found.best.point.decide(hidden)))
    assert found.evidence["adjusted"].value == pytest.approx(value)
    assert found.evidence["adjusted"].rows is not None


def test_groups_stay_together() -> None:
    """No group has rows on both sides of a fold."""
    groups = np.arange(LABELS.size) // 4
    selector = EpochSelector("f1")
    selector.after_epoch(0, cache=feature_cache(logits=margins(2, 1), labels=LABELS, group=groups))
    assert len(selector._tracks) == 6
    for track in selector._tracks:
        assert not set(groups[track.chooses]) & set(groups[track.scored])
    assert selector.result().evidence["adjusted"].kind == "cross_fitted"


def test_more_classes_and_caches_with_a_head() -> None:
    """Logits of three classes, and features with the head that made them."""
    rng = np.random.default_rng(1)
    labels = rng.choice(3, p=[0.7, 0.2, 0.1], size=120)
    selector = EpochSelector("g_mean", classes=["a", "b", "c"], method="tau_normalization", scoring="half_split")
    for epoch, lead in enumerate((0.5, 2.0, 1.0)):
        features = rng.normal(size=(120, 3)) + lead * np.eye(3)[labels]
        weight = np.diag([2.0, 1.0, 0.5])
        cache = feature_cache(features=features, labels=labels, weight=weight, classes=["a", "b", "c"])
        selector.after_epoch(epoch, cache=cache, state=lambda: "kept")
    assert selector.result().best.epoch == 1
    assert selector.result().best.state == "kept"


def test_an_epoch_that_cannot_be_judged_is_noted() -> None:
    """Diverged, or undefined at every cut; the run goes on. A state's function is called for better epochs only."""
    called = []
    selector = EpochSelector("mcc", classes=["no", "yes"])
    diverged = selector.after_epoch(0, np.full(LABELS.size, np.nan), LABELS)
    assert "must be finite" in diverged.note
    constant = selector.after_epoch(1, np.zeros(LABELS.size), LABELS, state=lambda: called.append(1))
    assert "undefined" in constant.note
    assert np.isnan(constant.adjusted)
    with pytest.raises(UndefinedMetric, match="none of 2 epochs"):
        selector.result()
    for epoch, spread in ((2, 2.0), (3, 1.0), (4, 3.0)):
        selector.after_epoch(epoch, margins(spread, 1.0), LABELS, state=lambda: called.append(2))
    assert called == [2, 2]
    assert selector.result().best.epoch == 4
    assert np.isfinite(selector.result().evidence["adjusted"].value)


def test_the_rows_must_stay_the_same() -> None:
    """And be there; scoring needs a name that there is, and two rows of each class."""
    selector = EpochSelector("f1", classes=["no", "yes"])
    run(selector)
    with pytest.raises(BadCache, match="same order"):
        selector.after_epoch(4, margins(1, 1), LABELS[::-1])
    with pytest.raises(BadCache, match="logits and labels"):
        selector.after_epoch(4, margins(1, 1))
    with pytest.raises(UnknownMethod, match="scoring must be one of cross_fitted, half_split, same_rows"):
        EpochSelector("f1", scoring="test_rows")
    with pytest.raises(UnknownMethod, match="has no option 'tau', only digits, positive, prior, search"):
        EpochSelector("f1", tau=1.0)
    with pytest.raises(UnknownMethod, match="does not survive the choice of an epoch"):
        EpochSelector("f1", constraints="recall >= 0.5 @ 95%").after_epoch(0, margins(1, 1), LABELS)
    with pytest.raises(BadCache, match="two rows of each class"):
        EpochSelector("f1").after_epoch(0, [0.0, 1.0, 2.0], [0, 0, 1])


def test_tensors_are_taken_as_they_are() -> None:
    """Half precision, with a gradient."""
    torch = pytest.importorskip("torch")
    selector = EpochSelector("f1", classes=["no", "yes"], scoring="same_rows")
    logits = torch.tensor(margins(2.0, 1.0), dtype=torch.bfloat16, requires_grad=True)
    state = {"w": torch.ones(2, requires_grad=True)}
    selector.after_epoch(0, logits, torch.tensor(LABELS), state=state)
    kept = selector.result().best.state["w"]
    assert not kept.requires_grad
    assert kept is not state["w"]
