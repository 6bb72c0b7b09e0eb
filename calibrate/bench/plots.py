"""Two pictures of a comparison: the mean ranks with what difference of them would be real, and the paired differences.

Drawn without a date and with fixed names inside, so that the same scores give the same file.
"""

import hashlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.bench.summary import Comparison

_FIXED: Any = {"svg.hashsalt": "setpoint", "svg.fonttype": "none"}


def write_plots(folder: Path, comparison: Comparison, suffix: str = ".svg") -> list[Path]:
    """Writes `METRIC-ranks` and `METRIC-differences` in that format, and gives their paths; none of no trials."""
    if not comparison.trials:
        return []
    stem = _stem(comparison.metric)
    paths = [folder / f"{stem}-ranks{suffix}", folder / f"{stem}-differences{suffix}"]
    draw_ranks(paths[0], comparison)
    draw_differences(paths[1], comparison)
    return paths


def draw_ranks(path: Path, comparison: Comparison) -> None:
    """The mean rank of each rule over data sets, best on top, with half of Nemenyi's critical difference to each side:
    rules whose bars do not overlap differ at 5 %.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rules = sorted(comparison.rules, key=lambda rule: -rule.rank_by_set)
    ranks = [rule.rank_by_set for rule in rules]
    half = 0.0 if math.isnan(comparison.critical_difference) else comparison.critical_difference / 2
    colors = ["tab:orange" if rule.rule == comparison.reference else "tab:blue" for rule in rules]
    with mpl.rc_context(_FIXED):
        figure = Figure(figsize=(6.4, 0.9 + 0.32 * len(rules)), layout="constrained")
        axes = figure.subplots()
        axes.hlines(
            range(len(rules)), np.subtract(ranks, half), np.add(ranks, half), colors=colors, linewidth=5, alpha=0.3
        )
        axes.scatter(ranks, range(len(rules)), c=colors, zorder=3)
        axes.set_yticks(range(len(rules)), [rule.rule for rule in rules], size=9)
        axes.set_xlabel(f"mean rank over {comparison.data_sets} data sets, 1 is best")
        axes.set_title(f"{comparison.metric}: bars that do not overlap differ at 5 %", size=10)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, dpi=120, metadata=_metadata(path))


def draw_differences(path: Path, comparison: Comparison) -> None:
    """Each data set's mean difference to the reference as a dot, their mean with two standard errors as a bar."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rules = [rule for rule in reversed(comparison.rules) if rule.rule != comparison.reference]
    with mpl.rc_context(_FIXED):
        figure = Figure(figsize=(6.4, 1.1 + 0.42 * max(len(rules), 1)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color="0.6", linewidth=1)
        for row, rule in enumerate(rules):
            dots = list(rule.differences.values())
            spread = np.linspace(-0.22, 0.22, len(dots)) if len(dots) > 1 else np.zeros(1)
            axes.scatter(dots, row + spread, s=9, color="0.55", linewidths=0)
            error = 0.0 if math.isnan(rule.standard_error) else 2 * rule.standard_error
            axes.errorbar(rule.difference, row, xerr=error, fmt="o", color="tab:blue", capsize=3, zorder=3)
        axes.set_yticks(range(len(rules)), [rule.rule for rule in rules], size=9)
        _symmetric_log(axes, [dot for rule in rules for dot in rule.differences.values()])
        axes.tick_params(axis="x", labelsize=8)
        bar = "symmetric log scale, bar: mean ± 2 standard errors"
        axes.set_xlabel(f"difference to {comparison.reference}\n({bar})", size=9)
        better = "right" if comparison.larger_is_better else "left"
        axes.set_title(f"{comparison.metric}, a dot a data set; to the {better} is better", size=10)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, dpi=120, metadata=_metadata(path))


def _stem(metric: str) -> str:
    """A file's name: the metric's where it is plain, else what is left of it and a digest."""
    left = re.sub(r"[^A-Za-z0-9_]+", "-", metric).strip("-")
    return metric if left == metric else f"{left[:40]}-{hashlib.sha256(metric.encode()).hexdigest()[:6]}"


def _symmetric_log(axes: Any, dots: list[float]) -> None:
    """A few data sets lie far out and most near zero: linear within a twentieth of the farthest, logarithmic beyond."""
    farthest = max(map(abs, dots), default=0.0)
    if farthest == 0:
        return
    inner = float(f"{farthest / 20:.0e}")
    axes.set_xscale("symlog", linthresh=inner)
    steps = [inner / 2, inner, 5 * inner, 20 * inner]
    axes.set_xticks([*(-step for step in steps), 0, *steps])
    axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:.3g}")


def _metadata(path: Path) -> dict[str, None] | None:
    return {"Date": None} if path.suffix == ".svg" else None
