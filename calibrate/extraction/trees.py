"""XGBoost and LightGBM: the margins of boosted trees, which are logits without features.

Decided here: margins are asked of the library, so that they hold its base score (XGBoost adds it, LightGBM folds it
into the first tree) and, of a model that was stopped early, only the trees up to the best; on the first batch they must
give the library's own probabilities. LightGBM's `sigmoid` option scales them, and of its random forest the raw score
is a sum. What has margins that are no logits, a ranker or a one-vs-all model, is refused.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from calibrate.errors import BadModel
from calibrate.extraction.digest import digest_of
from calibrate.extraction.model import Batch, Extractor
from calibrate.extraction.named import in_order
from calibrate.logits import sigmoid, softmax, to_columns
from calibrate.names import column_names

_XGBOOST = ("binary:logistic", "binary:logitraw", "multi:softprob", "multi:softmax")
_LIGHTGBM = ("binary", "multiclass")
_CLOSE = 1e-4


def is_booster(model: Any) -> bool:
    """Whether a model is of one of the two libraries."""
    return type(model).__module__.split(".")[0] in ("xgboost", "lightgbm")


def tree_extractor(model: Any) -> Extractor:
    """A booster, or the scikit-learn classifier around one. Raises: `BadModel`."""
    return _xgboost(model) if type(model).__module__.startswith("xgboost") else _lightgbm(model)


def _xgboost(model: Any) -> Extractor:
    import json

    import xgboost

    booster = model if isinstance(model, xgboost.Booster) else model.get_booster()
    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    if objective not in _XGBOOST:
        raise BadModel(f"the objective is {objective}, wanted one of {', '.join(_XGBOOST)}")
    best = booster.attr("best_iteration")
    trees = (0, 0) if best is None else (0, int(best) + 1)
    checked: list[bool] = []

    def run(batch: Batch) -> Float[np.ndarray, "..."]:
        rows = xgboost.DMatrix(in_order(_only(batch), booster.feature_names, "XGBoost"), enable_categorical=True)
        margins = booster.predict(rows, output_margin=True, iteration_range=trees)
        if not checked and objective in ("binary:logistic", "multi:softprob"):
            _check(margins, booster.predict(rows, iteration_range=trees))
            checked.append(True)
        return np.asarray(margins)

    return Extractor(run, "xgboost", digest_of([bytes(booster.save_raw("ubj"))]), **_classes(model))


def _lightgbm(model: Any) -> Extractor:
    import lightgbm

    booster = model if isinstance(model, lightgbm.Booster) else model.booster_
    text = booster.model_to_string(num_iteration=-1)
    objective, *options = next((line for line in text.splitlines() if line.startswith("objective=")), "=").split()
    if objective.removeprefix("objective=") not in _LIGHTGBM:
        raise BadModel(f"the objective is {objective.partition('=')[2] or 'none'}, wanted {' or '.join(_LIGHTGBM)}")
    scale = next((float(option[8:]) for option in options if option.startswith("sigmoid:")), 1.0)
    if "average_output" in text.splitlines():  # a random forest, whose raw score is a sum
        scale /= booster.best_iteration if booster.best_iteration > 0 else booster.current_iteration()
    checked: list[bool] = []

    def run(batch: Batch) -> Float[np.ndarray, "..."]:
        rows = _lightgbm_rows(_only(batch), booster.feature_name())
        margins = scale * np.asarray(booster.predict(rows, raw_score=True))
        if not checked:
            _check(margins, np.asarray(booster.predict(rows)))
            checked.append(True)
        return margins

    return Extractor(run, "lightgbm", digest_of([text.encode()]), **_classes(model))


def _lightgbm_rows(table: Any, names: list[str]) -> Any:
    """A table in the order that the booster was trained with, which LightGBM itself does not look at.

    It names the columns of arrays `Column_0`, ..., and writes spaces as underscores.
    """
    columns = column_names(table)
    if columns is None or names == [f"Column_{i}" for i in range(len(names))]:
        return table
    own = {str(name).replace(" ", "_"): str(name) for name in columns}
    return in_order(table, [own.get(name, name) for name in names], "LightGBM")


def _classes(model: Any) -> dict[str, Any]:
    """The labels that a scikit-learn classifier was trained with; a plain booster knows indices only."""
    values = getattr(model, "classes_", None)
    return {} if values is None else {"values": np.asarray(values), "classes": tuple(map(str, np.asarray(values)))}


def _check(margins: np.ndarray, probabilities: np.ndarray) -> None:
    made = sigmoid(margins.astype(np.float64)) if margins.ndim == 1 else softmax(to_columns(margins))
    off = np.abs(made - probabilities)
    if off.max() > _CLOSE:
        row = int(off.reshape(len(off), -1).max(axis=1).argmax())
        raise BadModel(
            f"the margins of row {row} give the probabilities {made[row].tolist()}, but the model says "
            f"{probabilities[row].tolist()}: they are no logits"
        )


def _only(batch: Batch) -> Any:
    if len(batch.args) != 1:
        raise BadModel(f"wanted one table of inputs, got {len(batch.args) or ', '.join(batch.named)}")
    rows = batch.args[0]
    return rows.numpy() if hasattr(rows, "detach") else rows
