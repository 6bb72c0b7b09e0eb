"""Models whose operating points the benchmark of rules chooses, and the peer that it enters beside the library."""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer, recall_score
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from calibrate import FeatureCache, OperatingPoint, feature_cache
from calibrate.bench import Trial, paired_trial
from calibrate.logits import binary_margins
from calibrate.methods.task import point_at
from tests.benchmarks.tabular import RealTable

CLASSES = ("negative", "positive")
SHARES = (0.3, 0.3, 0.4)  # train, validation, test
_MANY_ROWS = 5000
_FARTHEST = 700.0  # beyond, a probability is 0 or 1 in float64

Fit = Callable[[NDArray[np.float64], NDArray[np.int64], int], Callable[[NDArray[np.float64]], NDArray[np.float64]]]


def logistic_regression(
    inputs: NDArray[np.float64], labels: NDArray[np.int64], seed: int
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """The logit (n,) of new rows."""
    model = LogisticRegression(max_iter=1000, random_state=seed).fit(inputs, labels)
    return lambda rows: np.asarray(model.decision_function(rows))


def network(
    inputs: NDArray[np.float64], labels: NDArray[np.int64], seed: int
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """One hidden layer of 32; the logit itself, not of a rounded probability. Many rows stop early."""
    many = labels.size > _MANY_ROWS
    model = MLPClassifier(
        (32,), max_iter=200, early_stopping=many, n_iter_no_change=5 if many else 10, random_state=seed
    )
    model.fit(inputs, labels)
    (first, last), (shift, offset) = model.coefs_, model.intercepts_
    return lambda rows: (np.maximum(rows @ first + shift, 0) @ last + offset)[:, 0]


MODELS: dict[str, Fit] = {"logistic regression": logistic_regression, "small network": network}


def trials_of_table(table: RealTable, seed: int) -> list[Trial]:
    """A trial for each model, trained on the training rows; the number of its split is that of the model."""
    train, validation, test = deal(table, SHARES, np.random.default_rng(seed))
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        inputs = encoded(table, train)
        prior = np.bincount(table.labels[train], minlength=2) / train.size
        found = []
        for split, fit in enumerate(MODELS.values()):
            logits = fit(inputs[train], table.labels[train], seed)
            parts = [
                feature_cache(logits=logits(inputs[rows]), labels=table.labels[rows], classes=CLASSES, prior=prior)
                for rows in (validation, test)
            ]
            trial = paired_trial(table.name, parts[0], parts[1], seed)
            found.append(Trial(trial.data, seed, split, trial.fit, trial.score))
    return found


def deal(table: RealTable, shares: tuple[float, ...], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Rows in parts of about these shares of each class; a group is all in one part.

    Groups with positives are dealt by how many they have, the others by their rows.
    """
    group = np.unique(table.groups, return_inverse=True)[1].reshape(-1)
    positives = np.bincount(group, table.labels)
    weights = np.where(positives > 0, positives, np.bincount(group))
    part = np.empty(weights.size, dtype=np.int64)
    for stratum in (positives > 0, positives == 0):
        order = rng.permutation(np.flatnonzero(stratum))
        middles = np.cumsum(weights[order]) - weights[order] / 2
        part[order] = np.searchsorted(np.cumsum(shares)[:-1] * weights[order].sum(), middles)
    return [np.flatnonzero(part[group] == i) for i in range(len(shares))]


def encoded(table: RealTable, train: NDArray[np.int64]) -> NDArray[np.float64]:
    """All rows as inputs of a model: medians for gaps, standardised, one-hot; learnt on the training rows only."""
    d = table.numbers.shape[1]
    steps = []
    if d:
        filled = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
        steps.append(("numbers", make_pipeline(filled, StandardScaler()), slice(0, d)))
    if table.categories.shape[1]:
        rare = OneHotEncoder(
            min_frequency=max(1, train.size // 200), handle_unknown="infrequent_if_exist", sparse_output=False
        )
        steps.append(("categories", rare, slice(d, d + table.categories.shape[1])))
    made = ColumnTransformer(steps)
    everything = np.hstack([table.numbers, table.categories])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a category or gap that the training rows do not have
        made.fit(everything[train])
        return np.asarray(made.transform(everything))


def geometric_mean(labels: NDArray[np.int64], decided: NDArray[np.int64]) -> float:
    """Of the recalls of both classes."""
    return float(np.sqrt(np.prod(recall_score(labels, decided, average=None, zero_division=0.0))))


_SCORING = {"f1": "f1", "g_mean": make_scorer(geometric_mean)}


def scikit_learn_tuner(cache: FeatureCache, metric: str) -> OperatingPoint:
    """TunedThresholdClassifierCV as its users have it for a model that is trained: frozen, prefit, defaults else."""
    margins = np.clip(binary_margins(cache.logits).astype(np.float64), -_FARTHEST, _FARTHEST)
    model = LogisticRegression()
    model.classes_, model.coef_, model.intercept_ = np.array([0, 1]), np.ones((1, 1)), np.zeros(1)
    model.n_features_in_ = 1
    tuned = TunedThresholdClassifierCV(FrozenEstimator(model), scoring=_SCORING[metric], cv="prefit", refit=False)
    with config_context(assume_finite=True, skip_parameter_validation=True):  # a third faster, the answer the same
        tuned.fit(margins[:, np.newaxis], cache.labels)
    threshold = np.nextafter(tuned.best_threshold_, -np.inf)  # it decides at the threshold too
    with np.errstate(divide="ignore"):
        cut = np.clip(np.log(max(threshold, 0.0)) - np.log1p(-threshold), -_FARTHEST, _FARTHEST)
    return point_at(float(cut), cache.classes)
