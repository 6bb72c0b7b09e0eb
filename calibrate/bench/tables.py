"""A comparison as a Markdown table."""

import math
from collections.abc import Mapping

from calibrate.bench.summary import Comparison

_HEAD = (
    "rule", "mean", "rank", "wins / ties / losses", "difference", "Wilcoxon p", "rank by set", "Holm p",
    "better / worse sets", "failed", "ms a fit",
)  # fmt: skip


def comparison_to_markdown(comparison: Comparison, level: int = 2) -> str:
    """One metric's table, what its columns rest on, and the reasons of failures."""
    better = "larger" if comparison.larger_is_better else "smaller"
    lines = [
        f"{'#' * level} {comparison.metric}",
        "",
        f"{counted(comparison.data_sets, 'data set')}, {counted(comparison.trials, 'trial')}"
        + (f" ({comparison.left_out} more left out: undefined)" if comparison.left_out else "")
        + f"; {better} is better; compared with `{comparison.reference}`"
        + ("" if math.isnan(comparison.friedman_p) else f"; Friedman p {_p(comparison.friedman_p)}")
        + ".",
        "",
        f"| {' | '.join(_HEAD)} |",
        f"|{' --- |' * len(_HEAD)}",
    ]
    lines += [f"| {' | '.join(_cells(comparison, i))} |" for i in range(len(comparison.rules))]
    for rule in comparison.rules:
        for reason, times in rule.failures.items():
            lines.append(f"\n`{rule.rule}` failed in {counted(times, 'trial')}, scored as argmax there, as: {reason}")
    return "\n".join(lines) + "\n"


def _cells(comparison: Comparison, index: int) -> list[str]:
    rule = comparison.rules[index]
    if not comparison.trials:
        return [f"`{rule.rule}`", "undefined", *[""] * 7, f"{rule.failed} of {comparison.left_out}", ""]
    numbers = [f"`{rule.rule}`", _number(rule.mean), f"{rule.rank:.2f}"]
    after = [
        f"{rule.failed} of {comparison.trials + comparison.left_out}" if rule.failed else "0",
        f"{rule.seconds * 1000:.3g}",
    ]
    if rule.rule == comparison.reference:
        return [*numbers, "", "", "", f"{rule.rank_by_set:.2f}", "", "", *after]
    error = "" if math.isnan(rule.standard_error) else f" ± {rule.standard_error:.4f}"
    return [
        *numbers,
        f"{rule.wins} / {rule.ties} / {rule.losses}",
        f"{rule.difference:+.4f}{error}",
        _p(rule.wilcoxon_p),
        f"{rule.rank_by_set:.2f}",
        _p(rule.holm_p),
        _by_set(rule.resampled_p, rule.better, rule.worse),
        *after,
    ]


def _by_set(resampled_p: Mapping[str, float], better: int, worse: int) -> str:
    """For one data set the p itself says more."""
    tested = [p for p in resampled_p.values() if not math.isnan(p)]
    if not tested:
        return ""
    return f"{better} / {worse}" + (f" (p {_p(tested[0])})" if len(resampled_p) == 1 else "")


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def _p(value: float) -> str:
    if math.isnan(value):
        return ""
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def counted(number: int, what: str) -> str:
    """A number of things, one or many."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
