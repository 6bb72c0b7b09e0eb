"""scikit-learn: features and head of linear classifiers and MLPs, the scores of all others."""

from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, LinearSVC

from calibrate import FeatureCache, extract
from calibrate.errors import BadModel, UnknownLabel

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
LINEAR: list[Any] = [
    LogisticRegression(), LinearSVC(), SGDClassifier(random_state=0), RidgeClassifier(), LinearDiscriminantAnalysis(),
]  # fmt: skip


def labels(values: list[Any]) -> np.ndarray:
    """Labels that depend on the rows, one class for each value."""
    places = np.minimum((X[:, 0] + X[:, 1] + 2).astype(int).clip(0), len(values) - 1)
    return np.asarray(np.array(values)[places])


def got(model: Any, data: Any, **options: Any) -> FeatureCache:
    """The cache, in memory."""
    cache = extract(model, data, **options)
    assert isinstance(cache, FeatureCache)
    return cache


def decisions(cache: FeatureCache) -> list[str]:
    """The class that each row's largest logit is of."""
    return [cache.classes[i] for i in cache.logits.argmax(axis=1)]


@pytest.mark.parametrize("model", LINEAR, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("values", [["no", "yes"], [7, 3, 5]], ids=["two", "three"])
def test_linear_classifiers(model: Any, values: list[Any]) -> None:
    """Features are what the scaler made, logits the decision function, classes the labels, whatever their order."""
    y = labels(values)
    pipeline = make_pipeline(StandardScaler(), model).fit(X, y)
    cache = got(pipeline, (X, y), batch_rows=17)
    expected = pipeline.decision_function(X)
    ours = cache.logits[:, 1] if len(values) == 2 else cache.logits
    assert np.allclose(ours, expected)
    assert np.allclose(cache.features, pipeline[:-1].transform(X))  # type: ignore[arg-type]
    assert cache.classes == tuple(map(str, sorted(values)))
    assert [cache.classes[i] for i in cache.labels] == y.astype(str).tolist()
    assert decisions(cache) == pipeline.predict(X).astype(str).tolist()


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("k", [2, 3])
def test_mlp(activation: str, k: int) -> None:
    """The last hidden layer, whose head gives the model's own probabilities."""
    y = labels(list(range(k)))
    model = MLPClassifier((6, 5), activation=activation, max_iter=30, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(X, y)
    cache = got(model, X, labels=y)
    assert cache.features is not None
    assert cache.features.shape == (60, 5)
    exps = np.exp(cache.logits - cache.logits.max(axis=1, keepdims=True))
    assert np.allclose(exps / exps.sum(axis=1, keepdims=True), model.predict_proba(X))


@pytest.mark.parametrize(
    "model",
    [RandomForestClassifier(9, random_state=0), HistGradientBoostingClassifier(max_iter=5), GaussianNB(), SVC()],
    ids=lambda model: type(model).__name__,
)
def test_others_give_scores(model: Any) -> None:
    """Decisions are the model's own."""
    y = labels(["a", "b", "c"])
    cache = got(model.fit(X, y), (X, y))
    assert cache.features is None
    assert decisions(cache) == model.predict(X).tolist()
    if hasattr(model, "predict_proba"):
        probable = got(model, (X, y), output_kind="probabilities")
        assert np.allclose(np.exp(probable.logits), np.maximum(model.predict_proba(X), 1e-30))


def test_searches_and_sparse_features() -> None:
    """A search is its best estimator; of a vocabulary only logits are kept; texts are inputs."""
    y = labels([0, 1])
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(X, y)
    assert np.allclose(got(search, (X, y)).logits[:, 1], search.decision_function(X))
    texts = [f"word{i % 5} word{i % 3}" for i in range(60)]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, y)
    cache = got(model, texts, labels=y)
    assert cache.features is None
    assert np.allclose(cache.logits[:, 1], model.decision_function(texts))


def test_a_pipeline_of_columns() -> None:
    """Steps that pick columns get the table as it came."""
    y = labels([0, 1, 2])
    columns = ColumnTransformer([("poly", PolynomialFeatures(), [0, 1]), ("plain", "passthrough", [2])])
    model = make_pipeline(columns, LogisticRegression(max_iter=500)).fit(X, y)
    cache = got(model, (X, y))
    assert cache.features is not None
    assert cache.features.shape == (60, 7)
    assert np.allclose(cache.logits, model.decision_function(X))


def test_what_is_refused() -> None:
    """A model that is not fitted or decides several things at once, labels that it never saw, an option of networks."""
    y = labels([0, 1])
    model = LogisticRegression().fit(X, y)
    with pytest.raises(BadModel, match="not fitted yet"):
        extract(LogisticRegression(), (X, y))
    with pytest.raises(BadModel, match="one list of classes"):
        extract(RandomForestClassifier(2).fit(X, np.stack([y, y], axis=1)), (X, y))
    with pytest.raises(UnknownLabel, match=r"batch 0: labels\[0\] must be 0, 1; got 5"):
        extract(model, (X, np.full(60, 5)))
    with pytest.raises(BadModel, match="head='fc' is for networks only"):
        extract(model, (X, y), head="fc")
    with pytest.raises(BadModel, match="has no decision_function"):
        extract(GaussianNB().fit(X, y), (X, y), output_kind="logits")
