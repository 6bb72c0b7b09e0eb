"""A stream is fitted as its rows in memory are, whatever its parts and their order."""

from collections.abc import Iterator

import numpy as np
import pytest

from calibrate import CacheStream, FeatureCache, feature_cache, fit, fit_stream
from calibrate.errors import BadCache, Infeasible, MissingClass


def rows(n: int = 4000, seed: int = 0) -> dict[str, np.ndarray]:
    """Float32 logits with ties, weights and costs."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.05).astype(np.int64)
    return {
        "logits": np.round(rng.normal(size=n) + 2 * labels - 1, 3).astype(np.float32),
        "labels": labels,
        "sample_weight": rng.integers(1, 4, n).astype(np.float64),
        "cost_fp": np.full(n, 2.0),
        "cost_fn": np.round(rng.gamma(1, 100, n)),
    }


def stream_of(data: dict[str, np.ndarray], parts: int, seed: int = 0) -> CacheStream:
    """The rows shuffled and cut into uneven parts."""
    n = data["labels"].size
    order = np.random.default_rng(seed).permutation(n)
    cuts = np.sort(np.random.default_rng(seed).choice(np.arange(1, n), parts - 1, replace=False))

    def batches() -> Iterator[FeatureCache]:
        for part in np.split(order, cuts):
            yield feature_cache(classes=["no", "yes"], **{name: column[part] for name, column in data.items()})

    return CacheStream(("no", "yes"), None, n, batches)


@pytest.mark.parametrize(
    ("metric", "options"),
    [("f1", {}), ("g_mean", {"positive": "no"}), ("precision", {"constraints": ["recall >= 0.5"]}),
     ("2*tp/(2*tp + fp + 3*fn)", {}), ("alert_rate", {"constraints": ["recall >= 0.7", "alert_rate >= 0.05"]}),
     ("savings", {})],
)  # fmt: skip
@pytest.mark.parametrize("weighted", [False, True])
def test_the_point_is_that_of_the_rows_in_memory(metric: str, options: dict[str, object], weighted: bool) -> None:
    """From one part or a hundred, in any order, also with weights and costs; and so is every figure."""
    data = rows()
    if not weighted:
        del data["sample_weight"]
    cache = feature_cache(classes=["no", "yes"], **data)
    whole = fit(cache, metric=metric, search="exact", evidence=False, **options)  # type: ignore[arg-type]
    results = [
        fit_stream(stream_of(data, parts, seed), metric=metric, **options)  # type: ignore[arg-type]
        for parts, seed in ((1, 0), (7, 1), (100, 2))
    ]
    for result in results:
        assert result.point == whole.point
        assert np.allclose(result.mis_before, whole.mis_before)
        assert np.allclose(result.mis_after, whole.mis_after)
        assert result.evidence == results[0].evidence
        assert result.data_digest == results[0].data_digest
    assert results[0].evidence[metric].kind == "optimism_corrected"
    assert results[0].procedure[metric].kind == "cross_fitted"


def test_the_evidence_is_about_that_of_the_rows_in_memory() -> None:
    """Other folds, the same procedure; the plain model's figures are the same to the last digit."""
    data = rows(20_000)
    ours = fit_stream(stream_of(data, 5), metric="f1")
    theirs = fit(feature_cache(classes=["no", "yes"], **data), metric="f1", search="exact")
    assert ours.before["f1"].value == theirs.before["f1"].value
    assert abs(ours.evidence["f1"].value - theirs.evidence["f1"].value) < 0.02
    assert ours.evidence["recall"].rows == theirs.evidence["recall"].rows


def test_progress_is_told_for_every_pass() -> None:
    """With the rows that are done."""
    told: list[tuple[str, int]] = []
    fit_stream(stream_of(rows(100), 4), metric="f1", progress=lambda what, done: told.append((what, done)))
    assert [done for what, done in told if what == "counting"][-1] == 100
    assert {what for what, _ in told} == {"gathering", "counting", "scoring"}


def test_what_cannot_be_streamed_is_refused() -> None:
    """A class without rows, more than two classes, constraints that no cut meets."""
    data = rows(200)
    with pytest.raises(Infeasible, match="comes to"):
        fit_stream(stream_of(data, 3), metric="f1", constraints=["recall >= 1", "precision >= 0.9"])
    with pytest.raises(MissingClass, match="class 'yes' has no rows"):
        fit_stream(stream_of({**data, "labels": data["labels"] * 0}, 3), metric="f1")
    with pytest.raises(BadCache, match="two classes, this one has 3"):
        fit_stream(CacheStream(("a", "b", "c"), None, 1, lambda: iter(())), metric="f1")
