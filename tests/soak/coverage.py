"""The coverage of every interval in full: each fit of `tests.statistics.coverage`, and the page with the table.

An interval fails where it held the point's own value less often than nominal, by more than two standard errors. Among
the hundreds of intervals of the table some fail by chance where their coverage is nominal: `verdict` counts how many do
and how many would by chance alone.
"""

import itertools
import math
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import binom

from tests.statistics.coverage import MANY_SETTINGS, POSITIVES, SETTINGS, Coverage, cover, many_classes, two_classes

PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"
SHARE = 0.05
# Of more classes: rows of the rarest class, how many of the settings, and by how much fewer draws (a fit takes longer).
MANY = {3: ((15, 40, 200), 7, 2), 10: ((15, 40), 3, 5), 50: ((15, 40), 2, 10)}
NOMINAL = 0.95
_TWO = (
    *("recall", "specificity", "precision", "f1", "g_mean", "mcc", "alert_rate", "cost(fp=1, fn=20)"),
    *("gain in recall", "gain in f1"),
)
_SEVERAL = (
    *("accuracy", "balanced_accuracy", "recall[c1]", "f1[c1]", "f1_macro", "g_mean", "recall_worst"),
    "gain in f1_macro",
)

PAGE_TEXT = """# How often the intervals hold

Each cell is the share of draws in which the 95 % interval held the point's own value on new rows, and the mean width
of the interval. The truth is known: margins of two classes are normal (N(0, 1) and N(1.5, 1), {share:.0%} positive),
scores of more are Gaussian. Rows are drawn anew each time, class counts included; a point is fitted on them by the fit
that is named, and what its evidence says is compared with what that very point does. `positives` (`rarest`: rows of the
rarest class) are the expected number. {draws} draws of each, fewer of many classes (the table says how many); draws in
which a fit is infeasible are left out.

`held out` is a fixed point on rows that did not fit it. *Lowest* is the lowest coverage among all metrics of the row.
{verdict}

Written by `make soak ONLY=coverage`; the code is `tests/statistics/coverage.py`. A short form runs in the test suite.

## Two classes

{two}

## Three, ten and fifty classes

{several}
"""


@dataclass(frozen=True)
class Job:
    """One fit of the table: `k` classes, the index of the setting, rows of the rarest class, and how many draws."""

    k: int
    setting: int
    rarest: int
    draws: int

    @property
    def name(self) -> str:
        """The name of the fit."""
        return (SETTINGS if self.k == 2 else MANY_SETTINGS)[self.setting].name


def jobs(draws: int) -> list[Job]:
    """Return every fit of the table, those that take longest first."""
    two = [Job(2, i, rows, draws) for rows, i in itertools.product(POSITIVES[::-1], range(len(SETTINGS)))]
    many = [
        Job(k, i, rows, draws if MANY_SETTINGS[i].cut is not None else max(10, draws // fewer))
        for k, (sizes, settings, fewer) in reversed(MANY.items())
        for rows, i in itertools.product(sizes, range(settings))
    ]
    return many + two


def run_job(job: Job) -> Coverage:
    """Return the coverage of one fit."""
    if job.k == 2:
        return cover(two_classes(SHARE), SETTINGS[job.setting], round(job.rarest / SHARE), range(job.draws))
    population = many_classes(job.k)
    rows = round(job.rarest / min(population.shares))
    return cover(population, MANY_SETTINGS[job.setting], rows, range(job.draws))


def run(draws: int, processes: int) -> tuple[list[tuple[Job, Coverage]], list[str]]:
    """Run every fit, write the page, and return the coverages with the intervals that fail."""
    every = jobs(draws)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(zip(every, pool.map(run_job, every), strict=True))
    PAGE.write_text(page(found, draws), encoding="utf-8")
    failures = [
        f"{job.name}, {job.rarest} rows, {name}: {each.share(name):.3f} of {each.tried[name]}"
        for job, each in found
        for name in each.failures(NOMINAL)
    ]
    return found, failures


def verdict(found: Iterable[tuple[Job, Coverage]]) -> str:
    """How many intervals fail, and how many would by chance."""
    tried = failed = 0
    expected = 0.0
    for _, each in found:
        for name, number in each.tried.items():
            bound = NOMINAL - 2 * (NOMINAL * (1 - NOMINAL) / number) ** 0.5
            tried, failed = tried + 1, failed + (each.share(name) < bound)
            expected += float(binom.cdf(math.ceil(bound * number) - 1, number, NOMINAL))
    return (
        f"Of {tried:,} intervals {failed} lie more than two standard errors below 95 %; were the coverage of each\n"
        f"exactly 95 %, {expected:.0f} would by chance."
    )


def page(found: list[tuple[Job, Coverage]], draws: int) -> str:
    """Return the page."""
    found = sorted(found, key=lambda pair: (pair[0].k, pair[0].rarest, pair[0].setting))
    return PAGE_TEXT.format(
        share=SHARE,
        draws=f"{draws:,}",
        verdict=verdict(found),
        two=_table([(job, each) for job, each in found if job.k == 2], _TWO, "positives"),
        several=_table([(job, each) for job, each in found if job.k > 2], _SEVERAL, "rarest"),
    )


def _table(found: list[tuple[Job, Coverage]], names: Sequence[str], rows: str) -> str:
    several = rows == "rarest"
    heads = ["fit", *(["classes"] if several else []), rows, "draws", "kind", *names, "lowest"]
    lines = [heads, ["---"] * len(heads)]
    for job, each in found:
        if not each.tried:
            continue
        lowest = min(each.tried, key=each.share)
        cells = [job.name, *([str(job.k)] if several else []), str(job.rarest), str(max(each.tried.values()))]
        cells.append(", ".join(sorted(kind.replace("_", "-") for kind in each.kinds)))
        cells += [f"{each.share(n):.3f} ({each.mean_width(n):.2g})" if n in each.tried else "" for n in names]
        lines.append([*cells, f"{each.share(lowest):.3f} {lowest}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
