"""scikit-learn classifiers and pipelines: features and head where the last step is linear or an MLP, else logits.

Decided here: a linear classifier is one with `coef_` and `intercept_` that give its `decision_function`, which is
checked on every batch; the features are what the steps before it make of a row, or of an MLP the last hidden layer. Any
other classifier gives what its `decision_function` does, or the logarithm of its probabilities. Features that come as a
sparse matrix are as wide as a vocabulary, so of them only the logits are kept. The columns of a data frame
are put in the order that the model was fitted with; a `ColumnTransformer` in front picks its own by name.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from calibrate.errors import BadModel
from calibrate.extraction.digest import digest_of
from calibrate.extraction.estimator_cut import EstimatorCut, cut_of, is_thresholded, wrapped
from calibrate.extraction.model import Batch, Extractor, LinearHead
from calibrate.extraction.named import in_order
from calibrate.logits import logits_from_probabilities, sigmoid, softmax

_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "logistic": sigmoid,
}
_CLOSE = 1e-4


def is_classifier(model: Any) -> bool:
    """Whether a model is what scikit-learn calls a classifier."""
    return hasattr(model, "predict") and hasattr(model, "get_params")


def sklearn_extractor(model: Any, first: Batch, *, output_kind: str | None) -> Extractor:
    """A fitted classifier, a pipeline that ends in one, or a search over them.

    `output_kind` "probabilities" takes `predict_proba`, "logits" `decision_function`, both without features. Raises:
    `BadModel`.
    """
    from joblib import hash as joblib_hash
    from sklearn.exceptions import NotFittedError
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import check_is_fitted

    model = getattr(model, "best_estimator_", model)
    try:
        check_is_fitted(model)
    except NotFittedError as error:
        raise BadModel(str(error)) from None
    values = getattr(model, "classes_", None)
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        raise BadModel(f"wanted a classifier with one list of classes, got {type(model).__name__}")
    cut = cut_of(model)
    if is_thresholded(model):
        model = wrapped(model)
    last = model.steps[-1][1] if isinstance(model, Pipeline) else model
    if is_thresholded(last):
        last = wrapped(last)
    before = model[:-1] if isinstance(model, Pipeline) and len(model.steps) > 1 else None
    names = _feature_names(model)

    def rows(batch: Batch) -> Any:
        if len(batch.args) != 1:
            raise BadModel(f"wanted one table of inputs, got {len(batch.args) or ', '.join(batch.named)}")
        given = batch.args[0].numpy() if hasattr(batch.args[0], "detach") else batch.args[0]
        given = in_order(given, names, type(model).__name__)
        return given if before is None else before.transform(given)

    if cut is not None:
        output_kind = _kind_of_cut(cut, last, rows(first), output_kind)
    run, head = _scores(last, rows, output_kind), None
    if output_kind is None and not hasattr(rows(first), "tocoo"):
        if _is_mlp(last):
            run, head = _mlp(last, rows)
        elif _is_linear(last):
            run, head = _linear(last, rows)
    digest = digest_of([joblib_hash(model, hash_name="sha1").encode()])
    return Extractor(run, "scikit-learn", digest, head, tuple(map(str, values.tolist())), None, values)


def _feature_names(model: Any) -> list[str] | None:
    """The columns that a model was fitted with, in its order; None where it has none or picks them by name itself."""
    if hasattr(model, "steps") and hasattr(model.steps[0][1], "transformers_"):
        return None
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _kind_of_cut(cut: EstimatorCut, last: Any, entered: Any, kind: str | None) -> str | None:
    """Return which logits a classifier's own cut is on, and warn that they do not hold it. Raises: `BadModel`."""
    warnings.warn(
        f"the logits do not hold the model's own threshold, {cut.threshold:.6g} on its {cut.on}: "
        "calibrate.point_from_estimator(model) keeps it as an operating point",
        UserWarning,
        stacklevel=2,
    )
    if cut.on == "decision_function":
        if kind == "probabilities":
            raise BadModel("the model's own threshold is on its decision_function, not on probabilities: say logits")
        return kind
    if kind == "probabilities" or not hasattr(last, "decision_function"):
        return kind
    made, said = np.asarray(last.decision_function(entered)), last.predict_proba(entered)[:, 1]
    if np.allclose(sigmoid(made), said, rtol=0, atol=1e-9):
        return kind
    if kind == "logits":
        raise BadModel("the model's own threshold is on its predict_proba, not on decision_function: say probabilities")
    return "probabilities"


def _is_linear(last: Any) -> bool:
    """Whether a classifier's decision is its coefficients' own, a row of them for each class or one for two."""
    weight, k = getattr(last, "coef_", None), len(last.classes_)
    if not hasattr(last, "decision_function") or not isinstance(weight, np.ndarray) or weight.ndim > 2:
        return False
    return len(np.atleast_2d(weight)) == (1 if k == 2 else k) and hasattr(last, "intercept_")


def _linear(last: Any, rows: Callable[[Batch], Any]) -> tuple[Callable[[Batch], np.ndarray], LinearHead]:
    weight = np.atleast_2d(last.coef_)
    bias = np.broadcast_to(np.asarray(last.intercept_, dtype=weight.dtype), (len(weight),)).copy()

    def run(batch: Batch) -> Float[np.ndarray, "n d"]:
        entered = rows(batch)
        features = _plain(entered)
        made = features @ weight.T + bias
        _check(made, np.asarray(last.decision_function(entered)).reshape(made.shape), "decision_function")
        return features

    return run, LinearHead(weight, bias, f"{type(last).__name__}.coef_")


def _is_mlp(last: Any) -> bool:
    return type(last).__name__ == "MLPClassifier" and last.out_activation_ in ("logistic", "softmax")


def _mlp(last: Any, rows: Callable[[Batch], Any]) -> tuple[Callable[[Batch], np.ndarray], LinearHead]:
    weight, bias = np.ascontiguousarray(last.coefs_[-1].T), last.intercepts_[-1]
    activation = _ACTIVATIONS[last.activation]
    if len(weight) > 1 and last.out_activation_ == "logistic":
        raise BadModel(f"the model puts a sigmoid over {len(weight)} logits: classes must exclude each other")

    def run(batch: Batch) -> Float[np.ndarray, "n d"]:
        entered = rows(batch)
        features = _plain(entered).astype(weight.dtype)
        for layer, shift in zip(last.coefs_[:-1], last.intercepts_[:-1], strict=True):
            features = activation(features @ layer + shift)
        made = features @ weight.T + bias
        probabilities = softmax(made) if len(weight) > 1 else sigmoid(np.concatenate([-made, made], axis=1))
        _check(probabilities, last.predict_proba(entered), "predict_proba")
        return features

    return run, LinearHead(weight, bias, "MLPClassifier.coefs_[-1]")


def _scores(last: Any, rows: Callable[[Batch], Any], kind: str | None) -> Callable[[Batch], Float[np.ndarray, "..."]]:
    """Logits, without features."""
    decides, k = hasattr(last, "decision_function"), len(last.classes_)
    if kind == "logits" and not decides:
        raise BadModel(f"{type(last).__name__} has no decision_function; say probabilities")
    if (kind == "probabilities" or not decides) and not hasattr(last, "predict_proba"):
        raise BadModel(f"{type(last).__name__} has no predict_proba")

    def run(batch: Batch) -> Float[np.ndarray, "..."]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of names of columns that steps before it took off
            if kind == "probabilities" or not decides:
                return logits_from_probabilities(last.predict_proba(rows(batch)))
            made = np.asarray(last.decision_function(rows(batch)))
        if made.ndim == 2 and made.shape[1] != k:
            raise BadModel(f"decision_function gives {made.shape[1]} columns for {k} classes; say probabilities")
        return made

    return run


def _plain(features: Any) -> np.ndarray:
    values = np.asarray(features.to_numpy() if hasattr(features, "to_numpy") else features)
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


def _check(made: np.ndarray, said: np.ndarray, what: str) -> None:
    off = np.abs(made - said).max(axis=1)
    if off.max() > _CLOSE * max(1.0, float(np.abs(said).max())):
        row = int(off.argmax())
        raise BadModel(f"the head gives {made[row].tolist()} for row {row}, but {what} {said[row].tolist()}")
