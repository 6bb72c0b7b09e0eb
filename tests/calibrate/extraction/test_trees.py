"""XGBoost and LightGBM: margins that give the models' own probabilities, base score and early stopping included."""

from typing import Any

import numpy as np
import pytest

from calibrate import FeatureCache, extract
from calibrate.errors import BadModel
from calibrate.logits import softmax

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4))


def got(model: Any, data: Any, **options: Any) -> FeatureCache:
    """The cache, in memory."""
    cache = extract(model, data, **options)
    assert isinstance(cache, FeatureCache)
    assert cache.features is None
    return cache


def labels(k: int) -> np.ndarray:
    """The first class is by far the largest, so a base score matters."""
    return (X[:, 0] > 0.9).astype(int) + (k > 2) * (X[:, 0] > 1.3)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("base_score", [None, 0.9])
def test_xgboost(k: int, base_score: float | None) -> None:
    """The classifier and its booster; only the trees up to the best."""
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
    y = labels(k)
    model = xgboost.XGBClassifier(n_estimators=20, max_depth=2, base_score=base_score, early_stopping_rounds=1)
    model.fit(X, y, eval_set=[(RNG.normal(size=(50, 4)), RNG.integers(k, size=50))], verbose=False)
    assert model.best_iteration < model.get_booster().num_boosted_rounds() - 1
    for each in (model, model.get_booster()):
        cache = got(each, (X, y), batch_rows=30)
        assert np.allclose(softmax(cache.logits), model.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("options", [{}, {"sigmoid": 2.5}, {"boost_from_average": False}, {"boosting_type": "rf"}])
def test_lightgbm(k: int, options: dict[str, Any]) -> None:
    """The classifier, whose labels are names, and its booster."""
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed")
    y = np.array(["x", "y", "z"])[labels(k)]
    model = lightgbm.LGBMClassifier(
        n_estimators=9, min_child_samples=5, verbose=-1, subsample=0.5, subsample_freq=1, **options
    ).fit(X, y)
    cache = got(model, (X, y))
    assert np.allclose(softmax(cache.logits), model.predict_proba(X), atol=1e-9)
    assert cache.classes == tuple("xyz"[:k])
    plain = got(model.booster_, (X, labels(k)))
    assert np.array_equal(plain.logits, cache.logits)


def test_what_has_no_logits_is_refused() -> None:
    """Rankers, regressors and one-vs-all models."""
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed")
    with pytest.raises(BadModel, match="objective is reg:squarederror"):
        extract(xgboost.XGBRegressor(n_estimators=2).fit(X, labels(2)), (X, labels(2)))
    model = lightgbm.LGBMClassifier(n_estimators=2, objective="multiclassova", verbose=-1).fit(X, labels(3))
    with pytest.raises(BadModel, match="objective is multiclassova"):
        extract(model, (X, labels(3)))
