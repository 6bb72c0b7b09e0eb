"""The threshold that a scikit-learn classifier has of its own decides logits as the classifier decides rows."""

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from calibrate import FeatureCache, OperatingPoint, extract, point_from_estimator
from calibrate.errors import BadModel, BadPoint

RNG = np.random.default_rng(4)
X = RNG.normal(size=(300, 3))
Y = np.where(X @ [1.0, 0.5, 0.0] + RNG.normal(size=300) > 0.9, "sick", "fine")
FOREST = RandomForestClassifier(10, random_state=0, max_features=1)
HUBER = SGDClassifier("modified_huber", random_state=0)  # its probabilities are no sigmoid of its scores
LINEAR = make_pipeline(StandardScaler(), LogisticRegression())


def check(model: Any, **options: Any) -> FeatureCache:
    """Every row is decided as `predict` does; the cache is returned."""
    with pytest.warns(UserWarning, match=r"own threshold, .* calibrate\.point_from_estimator\(model\)"):
        cache: FeatureCache = extract(model, (X, Y), **options)
    point = point_from_estimator(model)
    decided = np.array(point.classes)[point.decide(cache.logits)]
    assert decided.tolist() == model.predict(X).tolist()
    assert 0 < (decided == "sick").sum() < 300
    return cache


@pytest.mark.parametrize("label", ["fine", "sick"])
@pytest.mark.parametrize(
    "inner", [LINEAR, FOREST, GaussianNB(), HistGradientBoostingClassifier(max_iter=20), HUBER],
    ids=["linear", "forest", "bayes", "boosted", "huber"],
)  # fmt: skip
def test_a_tuned_threshold(inner: Any, label: str) -> None:
    """On the probability of either class, whatever the classifier's decision function is."""
    scorer = make_scorer(f1_score, pos_label=label)
    check(TunedThresholdClassifierCV(inner, scoring=scorer, cv=3, random_state=0).fit(X, Y))


@pytest.mark.parametrize("label", ["fine", "sick"])
@pytest.mark.parametrize("inner", [LINEAR, FOREST, HistGradientBoostingClassifier(max_iter=20)], ids=["l", "f", "h"])
def test_rows_at_the_threshold_itself(inner: Any, label: str) -> None:
    """A row whose probability equals the threshold is of the positive class, and the next below is not."""
    fitted = FrozenEstimator(inner.fit(X, Y))
    column = inner.predict_proba(X)[:, list(inner.classes_).index(label)]
    for threshold in np.unique(column)[1:-1][::7]:
        model = FixedThresholdClassifier(fitted, threshold=float(threshold), pos_label=label).fit(X, Y)
        assert (column == threshold).any()
        check(model)


def test_votes_of_a_forest() -> None:
    """Tenths of trees: every threshold that is written as one, and both ends, where all or none are positive."""
    fitted = FrozenEstimator(FOREST.fit(X, Y))
    rows = np.concatenate([X, X[:5]])
    for threshold in [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5, -0.5]:
        model = FixedThresholdClassifier(fitted, threshold=threshold).fit(X, Y)
        with pytest.warns(UserWarning, match="own threshold"):
            logits = extract(model, (rows, model.predict(rows)), output_kind="probabilities", classes=["fine", "sick"])
        point = point_from_estimator(model)
        assert np.array(point.classes)[point.decide(logits.logits)].tolist() == model.predict(rows).tolist()


@pytest.mark.parametrize("label", ["fine", "sick", None])
def test_a_threshold_on_the_decision_function(label: str | None) -> None:
    """Of margins, ties among them, with the features and the head of the linear step within."""
    inner = LinearSVC().fit(X, Y)
    scores = inner.decision_function(X) * (-1 if label == "fine" else 1)
    for threshold in np.sort(scores)[[20, 150, 280]]:
        model = FixedThresholdClassifier(
            FrozenEstimator(inner), threshold=float(threshold), pos_label=label, response_method="decision_function"
        ).fit(X, Y)
        assert check(model).weight is not None
    with pytest.raises(BadModel, match="on its decision_function"), pytest.warns(UserWarning, match="own threshold"):
        extract(model, (X, Y), output_kind="probabilities")


def test_where_the_classifier_may_stand() -> None:
    """Behind the steps of a pipeline, around a pipeline, as the best of a search; the head within is found."""
    fixed = FixedThresholdClassifier(LogisticRegression(), threshold=0.3)
    cache = check(make_pipeline(StandardScaler(), fixed).fit(X, Y))
    assert cache.features is not None
    assert np.allclose(cache.features, StandardScaler().fit_transform(X))
    assert check(FixedThresholdClassifier(LINEAR, threshold=0.3).fit(X, Y)).features is not None
    search = GridSearchCV(fixed, {"threshold": [0.25, 0.4]}, cv=2).fit(X, Y)
    check(search)
    named = point_from_estimator(search, classes=["0", "1"])
    assert named == OperatingPoint(("0", "1"), np.ones(2), point_from_estimator(search).bias)
    assert named.threshold == pytest.approx(search.best_params_["threshold"], abs=1e-12)


def test_what_is_refused() -> None:
    """A classifier without a threshold, one that is not fitted, names that do not fit, scores of another kind."""
    with pytest.raises(BadModel, match=r"got LogisticRegression, which has no threshold .*OperatingPoint\.argmax"):
        point_from_estimator(LogisticRegression().fit(X, Y))
    for model in (FixedThresholdClassifier(LogisticRegression()), TunedThresholdClassifierCV(LogisticRegression())):
        with pytest.raises(BadModel, match="is not fitted yet"):
            point_from_estimator(model)
    fitted = FixedThresholdClassifier(HUBER, threshold=0.4).fit(X, Y)
    with pytest.raises(BadPoint, match="wanted 2 names, got 3"):
        point_from_estimator(fitted, classes=["a", "b", "c"])
    with pytest.raises(BadModel, match="on its predict_proba"), pytest.warns(UserWarning, match="own threshold"):
        extract(fitted, (X, Y), output_kind="logits")
