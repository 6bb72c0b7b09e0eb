"""The exact best cut, beside a sort of the same array and beside scikit-learn."""

import tracemalloc

import numpy as np
from jaxtyping import Float64, Int
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve
from sklearn.model_selection import TunedThresholdClassifierCV

from calibrate import curve, feature_cache, fit
from calibrate.objective import parse_objective
from calibrate.sweep import Rows, sweep_cut
from tests.benchmarks.timing import Result, in_turn
from tests.reference import binary_metric, cells


def best_f1(rows: int = 10_000_000, positives: float = 0.002) -> Result:
    """F1 over float32 margins, 0.2 % of them positive."""
    rng = np.random.default_rng(0)
    labels = (rng.random(rows) < positives).astype(np.int64)
    margins = rng.normal(labels * 3.0).astype(np.float32)
    is_positive = labels == 1
    objective = parse_objective("f1", None, ["no", "yes"])

    def reached(cut: float) -> str:
        return f"F1 {binary_metric('f1', *cells(labels, (margins > cut).astype(np.int64))):.9f}"

    def ours() -> str:
        return str(sweep_cut(Rows(margins, is_positive), objective).at())

    def scikit_learn() -> str:
        precision, recall, thresholds = precision_recall_curve(labels, margins)
        with np.errstate(invalid="ignore"):
            f1 = 2 * precision[:-1] * recall[:-1] / (precision[:-1] + recall[:-1])
        return str(np.nextafter(thresholds[np.nanargmax(f1)], np.float32(-np.inf)))

    def sort() -> str:
        return f"sorted, largest {np.sort(margins)[-1]:.3f}"

    taken = in_turn(
        f"Best cut for F1, {rows:,} float32 margins, {positives:.1%} positive",
        {
            "sweep_cut": ours,
            "np.sort of the margins": sort,
            "scikit-learn precision_recall_curve + argmax": scikit_learn,
        },
    )
    rows_ = [
        row if "sort" in row.name else type(row)(row.name, row.seconds, reached(float(row.answer)))
        for row in taken.rows
    ]
    return Result(taken.title, rows_)


def _tuned(margins: Float64[np.ndarray, "n"], labels: Int[np.ndarray, "n"]) -> float:
    """The cut of scikit-learn's tuner over a model that is fitted already."""
    model = LogisticRegression()
    model.classes_, model.coef_, model.intercept_ = np.array([0, 1]), np.ones((1, 1)), np.zeros(1)
    model.n_features_in_ = 1
    tuned = TunedThresholdClassifierCV(
        FrozenEstimator(model), scoring="f1", cv="prefit", refit=False, response_method="decision_function"
    )
    tuned.fit(margins[:, np.newaxis], labels)
    return float(np.nextafter(tuned.best_threshold_, -np.inf))


def beside_the_tuner(rows: int = 1_000_000, positives: float = 0.002) -> Result:
    """The same beside scikit-learn's own threshold tuner, which tries 100 cuts of a model that is fitted already."""
    rng = np.random.default_rng(0)
    labels = (rng.random(rows) < positives).astype(np.int64)
    margins = rng.normal(labels * 3.0)
    objective = parse_objective("f1", None, ["no", "yes"])

    def reached(cut: float) -> str:
        return f"F1 {binary_metric('f1', *cells(labels, (margins > cut).astype(np.int64))):.9f}"

    def ours() -> str:
        return reached(sweep_cut(Rows(margins, labels == 1), objective).at())

    def tuner() -> str:
        return reached(_tuned(margins, labels))

    contenders = {"sweep_cut": ours, "scikit-learn TunedThresholdClassifierCV, prefit": tuner}
    return in_turn(f"Best cut for F1, {rows:,} float64 margins, {positives:.1%} positive", contenders, rounds=1)


def ten_times_more(rows: int = 100_000_000, positives: float = 0.002) -> Result:
    """The same at 10^8, and how much memory it takes beyond the margins and the labels."""
    rng = np.random.default_rng(0)
    is_positive = rng.random(rows, dtype=np.float32) < positives
    margins = rng.standard_normal(rows, dtype=np.float32)
    margins[is_positive] += 3
    objective = parse_objective("f1", None, ["no", "yes"])
    tracemalloc.start()
    sweep_cut(Rows(margins, is_positive), objective)
    peak = 1 + tracemalloc.get_traced_memory()[1] / margins.nbytes
    tracemalloc.stop()

    def ours() -> str:
        cut = sweep_cut(Rows(margins, is_positive), objective).at()
        return f"cut {cut:.6f}, memory at its peak {peak:.2f} x the margins"

    def sort() -> str:
        return f"sorted, largest {np.sort(margins)[-1]:.3f}"

    contenders = {"sweep_cut": ours, "np.sort of the margins": sort}
    return in_turn(f"Best cut for F1, {rows:,} float32 margins, {positives:.1%} positive", contenders, rounds=1)


def everything_on(rows: int = 1_000_000, positives: float = 0.002) -> Result:
    """A whole fit, with cross-fitted evidence, intervals and a simultaneous band, beside the tuner's cut alone."""
    rng = np.random.default_rng(0)
    labels = (rng.random(rows) < positives).astype(np.int64)
    margins = rng.normal(labels * 3.0)

    def reached(cut: float) -> str:
        return f"F1 {binary_metric('f1', *cells(labels, (margins > cut).astype(np.int64))):.9f}"

    def ours() -> str:
        cache = feature_cache(logits=margins, labels=labels)
        result = fit(cache, metric="f1")
        band = curve(cache, confidence=0.95).bands["recall"]
        f1, auc = result.evidence["f1"], result.model_scores["roc_auc"]
        cut = float(result.point.bias[0] - result.point.bias[1])
        return (
            f"{reached(cut)}, cross-fitted {f1.value:.4f} [{f1.low:.4f}, {f1.high:.4f}], AUC {auc}, "
            f"{band[0].size:,} cuts with a band"
        )

    contenders = {
        "fit with its evidence, and the curve with its band": ours,
        "scikit-learn TunedThresholdClassifierCV, prefit, no evidence": lambda: reached(_tuned(margins, labels)),
    }
    return in_turn(f"Everything on, {rows:,} float64 margins, {positives:.1%} positive", contenders, rounds=1)
