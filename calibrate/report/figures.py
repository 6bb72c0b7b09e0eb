"""The pictures of a report, drawn by matplotlib without a display; imported when one is asked for."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from calibrate.curve import Curve
from calibrate.logits import sigmoid
from calibrate.report.content import Content, Quality

_COLOURS = ("#6b7280", "#0b6bcb", "#c2410c", "#15803d", "#7e22ce", "#0e7490")
_MARKERS = "osD^vP"
_LONGEST_LABEL, _TICK_LETTERS = 24, 70

Axes = Any  # matplotlib has no part in the types of a program that may run without it


def figures(content: Content) -> dict[str, Callable[[Axes], None]]:
    """What there is to draw, by title: each draws itself on the axes that it is given."""
    drawn: dict[str, Callable[[Axes], None]] = {}
    if (curve := content.curve) is not None:
        drawn["Precision and recall"] = lambda axes: _precision_recall(axes, content, curve)
        drawn["ROC curve"] = lambda axes: _roc(axes, content, curve)
        drawn[f"{content.metric} against the cut"] = lambda axes: _against_cut(axes, content, curve)
    if quality := content.quality:
        drawn["Reliability of the model's probabilities"] = lambda axes: _reliability(axes, quality)
    if content.states:
        drawn["Model imbalance state"] = lambda axes: _states(axes, content)
    return drawn


def to_svg(draw: Callable[[Axes], None]) -> str:
    """One figure as an SVG element, the same bytes every time."""
    import io

    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.hashsalt": "setpoint",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "text.parse_math": False,
    }
    with mpl.rc_context(style):  # a name with two $ is no formula
        figure = Figure(figsize=(5.6, 4.0), layout="constrained")
        draw(figure.subplots())
        out = io.StringIO()
        figure.savefig(
            out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")), transparent=True
        )
    text = out.getvalue()
    return text[text.index("<svg") :]


def to_png(drawn: Mapping[str, Callable[[Axes], None]], title: str) -> bytes:
    """All figures on one sheet."""
    import matplotlib as mpl

    with mpl.rc_context({"text.parse_math": False}):
        return _sheet(drawn, title)


def _sheet(drawn: Mapping[str, Callable[[Axes], None]], title: str) -> bytes:
    import io

    from matplotlib.figure import Figure

    rows = -(-len(drawn) // 2)
    figure = Figure(figsize=(11.2, 4.2 * rows + 0.4), layout="constrained")
    figure.suptitle(title, wrap=True)
    places = np.atleast_1d(figure.subplots(rows, 2)).ravel()
    for axes, (name, draw) in zip(places, drawn.items(), strict=False):
        draw(axes)
        axes.set_title(name, size=10)
    for axes in places[len(drawn) :]:
        axes.set_axis_off()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _precision_recall(axes: Axes, content: Content, curve: Curve) -> None:
    recall, precision = curve.metrics["recall"], curve.metrics["precision"]
    _band(axes, curve, "recall", "precision")
    axes.plot(recall, precision, color="0.35", linewidth=1.2)
    _points(axes, content, "recall", "precision")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    _finish(axes, "lower left")


def _roc(axes: Axes, content: Content, curve: Curve) -> None:
    _band(axes, curve, "fpr", "recall")
    axes.plot(curve.metrics["fpr"], curve.metrics["recall"], color="0.35", linewidth=1.2)
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
    _points(axes, content, "fpr", "recall")
    axes.set(xlabel="false positive rate", ylabel="recall", xlim=(-0.01, 1), ylim=(0, 1.02))
    _finish(axes)


def _band(axes: Axes, curve: Curve, x: str, y: str) -> None:
    """The simultaneous band of `y` drawn over the measured `x`."""
    band = curve.bands.get(y)
    if band is not None:
        low, high = band
        axes.fill_between(curve.metrics[x], low, high, color="0.88", linewidth=0, label="95 % band, the whole curve")


def _points(axes: Axes, content: Content, x: str, y: str) -> None:
    for place, (name, found) in enumerate(content.points.items()):
        colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
        across, up = found[x], found[y]
        if not (np.isfinite(across.value) and np.isfinite(up.value)):
            continue
        error = {
            "xerr": [[across.value - across.low], [across.high - across.value]],
            "yerr": [[up.value - up.low], [up.high - up.value]],
        }
        axes.errorbar(
            across.value, up.value, **error, fmt=marker, color=colour, markersize=6, linewidth=0.9, label=_short(name)
        )


def _against_cut(axes: Axes, content: Content, curve: Curve) -> None:
    axes.plot(curve.margin, curve.metrics[content.metric], color="0.35", linewidth=1.2)
    for place, (name, cut) in enumerate(content.cuts.items()):
        axes.axvline(cut, color=_COLOURS[place % len(_COLOURS)], linewidth=1.2, label=f"{_short(name)}: {_share(cut)}")
    for row in content.neighbours:
        axes.plot(row["margin"], row[content.metric], "o", color="0.1" if row["chosen"] else "0.6", markersize=4)
    low, high = np.quantile(curve.margin, [0.01, 0.99])
    reach = [low, high, *content.cuts.values()]
    axes.set(xlim=(min(reach) - 0.5, max(reach) + 0.5), xlabel="cut, as a probability", ylabel=_short(content.metric))
    shares = np.array([10.0**power for power in range(-9, 0)])
    ticks = np.concatenate([shares, [0.5], 1 - shares[::-1]])
    odds = np.log(ticks) - np.log1p(-ticks)
    inside = (odds > axes.get_xlim()[0]) & (odds < axes.get_xlim()[1])
    axes.set_xticks(odds[inside], [f"{tick:.9g}" for tick in ticks[inside]], rotation=30)
    _finish(axes)


def _share(margin: float) -> str:
    return f"{float(sigmoid(np.asarray(margin))):.3g}"


def _reliability(axes: Axes, quality: Quality) -> None:
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
    for place, bins in enumerate(quality.values()):
        x, y, low, high = (np.array([b[name] for b in bins]) for name in ("predicted", "observed", "low", "high"))
        axes.errorbar(
            x, y, yerr=[y - low, high - y], fmt=_MARKERS[place] + "-", color=_COLOURS[place], markersize=4, linewidth=1
        )
    highest = max(max(b["high"], b["predicted"]) for bins in quality.values() for b in bins)
    axes.set(xlabel="predicted probability", ylabel="observed share", xlim=(0, highest), ylim=(0, highest))
    _finish(axes, None)


def _states(axes: Axes, content: Content) -> None:
    width = 0.8 / len(content.states)
    for place, (name, state) in enumerate(content.states.items()):
        x = np.arange(state.size) + (place - (len(content.states) - 1) / 2) * width
        axes.bar(x, state, width, color=_COLOURS[place % len(_COLOURS)], label=_short(name))
    axes.set_yscale("log")
    names = [_short(name) for name in content.classes]
    upright = len(names) > 12 or sum(map(len, names)) > _TICK_LETTERS
    axes.set_xticks(range(len(names)), names, rotation=90 if upright else 0)
    axes.set(ylabel="mean predicted probability (log scale)")
    _finish(axes)


def _short(name: str) -> str:
    """A name that leaves room for the picture; the tables have it whole."""
    return name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"


def _finish(axes: Axes, legend: str | None = "best") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    if legend is not None:
        axes.legend(fontsize=8, frameon=False, loc=legend)
