"""The exact best cut, beside a sort of the same array and beside scikit-learn."""

import numpy as np
from sklearn.metrics import precision_recall_curve

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
