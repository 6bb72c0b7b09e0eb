"""The demo's picture: the precision-recall curve of the test rows, with the operating points on it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from calibrate.counts import Counts
from calibrate.logits import binary_margins
from calibrate.naming import parse_metric
from calibrate.operating_point import OperatingPoint


def draw(
    path: Path,
    logits: Float[np.ndarray, "n 2"],
    labels: Int[np.ndarray, "n"],
    points: Mapping[str, OperatingPoint],
) -> None:
    """Writes a PNG: every cut there is as a curve, each point where its decisions on these rows put it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    classes = next(iter(points.values())).classes
    recall, precision = (parse_metric(name, classes) for name in ("recall", "precision"))
    cuts = np.unique(binary_margins(logits))[::-1]
    rules = [Counts.of(labels, (binary_margins(logits) >= cut).astype(int), 2) for cut in cuts]
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    x, y = [float(recall.value(rule)) for rule in rules], [float(precision.value(rule)) for rule in rules]
    axes.plot(x, y, drawstyle="steps-pre", color="0.55", linewidth=1.2, label="every cut")
    for (name, point), marker in zip(points.items(), "osD^v", strict=False):
        counts = Counts.of(labels, point.decide(logits), 2)
        at = float(recall.value(counts)), float(precision.value(counts))
        axes.plot(*at, marker, markersize=9, label=f"{name}: recall {at[0]:.2f}, precision {at[1]:.2f}", clip_on=False)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(
        f"One model, {len(points)} operating points: {len(labels)} patients that fitted none of them", size=10
    )
    axes.legend(loc="lower left", fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
