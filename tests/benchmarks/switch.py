"""`python -m tests.benchmarks.switch --keel DIR --data DIR`: up to how many positives the committee beats `exact`.

On drawn scores (`tests.benchmarks.shapes`) the value of each cut in the whole population is a closed form, and its
distance to that of the best cut is the regret. On real sets with 250 positives or more a fifth of the rows trains a
model, validation sets of several sizes are drawn from two fifths, each with the set's own share of positives, and the
rest scores the cuts. Writes docs/few-positives.md; the folders are those of `tests.benchmarks.few_positives`.
"""

import argparse
import multiprocessing
import shlex
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import fill

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from calibrate.methods.bias_adjustment import FEW_OF_A_CLASS
from calibrate.methods.cuts import RULES, committee_rules
from calibrate.methods.cuts.committee import committee_cut
from calibrate.methods.cuts.nonempty import decides_none, keep_nonempty
from calibrate.methods.cuts.profile import counts_at
from calibrate.objective import Objective, parse_objective
from calibrate.sweep import Rows, sweep_cut
from tests.benchmarks.contenders import CLASSES, MODELS, deal, encoded
from tests.benchmarks.shapes import SHAPES, Population
from tests.benchmarks.tabular import RealTable, keel_tables, real_tables

METRICS = ("f1", "g_mean", "mcc", "cost(fp=1, fn=20)")
POSITIVES = (3, 6, 12, 25, 50, 100, 200, 400, 1000, 2000, 5000)
PREVALENCES = (0.01, 0.1)
CUTS = ("exact", "bagged", "smoothed", "expected", "committee", "nonempty")
MIN_POSITIVES = 250
REAL_POSITIVES = (50, 100, 200, 400, 800, 1600, 3200)
SHARES = (0.2, 0.4, 0.4)  # train, pool that validation sets are drawn from, test
REAL_DRAWS = 5
MAX_POSITIVES_OF_NONE = 50  # above, no cut of these decides nobody

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One population or one set, metric and number of positives: what each of `CUTS` comes to in each draw.

    `values` (draws, cuts) are held-out or population values, larger is better; `best` that of the best cut, if known.
    `none` (draws, cuts, 2) is the true and the stated probability that the cut decides nobody.
    """

    source: str
    metric: str
    positives: int
    values: Values
    best: float = np.nan
    none: Values | None = None


def cuts_of(rows: Rows, objective: Objective) -> list[float]:
    """Return the cut of each of `CUTS`; each rule is computed once."""
    places = {name: rule(rows, objective) for name, rule in committee_rules(rows, objective).items()}
    rules = {name: lambda *_, place=place: place for name, place in places.items()}
    single = [committee_cut(rows, objective, {name: rules[name]}).at for name in RULES]
    committee = committee_cut(rows, objective, rules).at
    return [
        sweep_cut(rows, objective).at(), *single, committee, committee_cut(rows, objective, rules, keep_nonempty).at
    ]  # fmt: skip


def drawn_cells(work: tuple[int, float, int, int, Sequence[str]]) -> list[Cell]:
    """Return a cell for each metric of one shape, prevalence and number of positives."""
    index, prevalence, positives, draws, metrics = work
    population = SHAPES[index].population(prevalence)
    cells = []
    for metric in metrics:
        objective = parse_objective(metric, None, CLASSES)
        values, none = np.empty((draws, len(CUTS))), np.zeros((draws, len(CUTS), 2))
        for draw in range(draws):
            rows = population.draw(positives, np.random.default_rng([index, draw, positives, round(1000 * prevalence)]))
            cuts = cuts_of(rows, objective)
            values[draw] = np.nan_to_num(gains(population, objective, cuts))
            if positives <= MAX_POSITIVES_OF_NONE:
                none[draw] = [(population.decides_none(cut, positives), decides_none(rows, cut)) for cut in cuts]
        best = float(np.nanmax(gains(population, objective, _grid(population))))
        cells.append(Cell(f"{population.shape.name}, {prevalence:.0%}", metric, positives, values, best, none))
    return cells


def gains(population: Population, objective: Objective, cuts: Sequence[float] | Values) -> Values:
    """Return the population's metric at each cut, larger is better."""
    return population.values(objective, cuts) * (1 if objective.metric.larger_is_better else -1)


def _grid(population: Population) -> Values:
    ends = population.shape.negatives.at(np.array([1e-4])), population.shape.positives.at(np.array([1 - 1e-5]))
    low, high = (population.slope * float(end[0]) + population.intercept for end in ends)
    return np.linspace(low - 1, high + 1, 10_000)


def real_cells(work: tuple[RealTable, int, Sequence[str]]) -> list[Cell]:
    """Return a cell for each model, metric and size of the validation set on one split of a set."""
    table, seed, metrics = work
    rng = np.random.default_rng(seed)
    train, pool, test = deal(table, SHARES, rng)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        inputs = encoded(table, train)
        return [
            cell
            for fit in MODELS.values()
            for cell in _sizes(table, fit(inputs[train], table.labels[train], seed)(inputs), pool, test, rng, metrics)
        ]


def _sizes(
    table: RealTable, margins: Values, pool: NDArray[np.int64], test: NDArray[np.int64],
    rng: np.random.Generator, metrics: Sequence[str],
) -> Iterator[Cell]:  # fmt: skip
    sides = [pool[table.labels[pool] == label] for label in (0, 1)]
    tested = Rows(margins[test], table.labels[test] == 1)
    for positives in (size for size in REAL_POSITIVES if size <= sides[1].size):
        negatives = round(positives * sides[0].size / sides[1].size)
        sizes = (negatives, positives)
        drawn = [
            np.concatenate([rng.choice(side, size, False) for side, size in zip(sides, sizes, strict=True)])
            for _ in range(REAL_DRAWS)
        ]
        for metric in metrics:
            objective = parse_objective(metric, None, CLASSES)
            values = [
                held_out(tested, objective, cuts_of(Rows(margins[rows], table.labels[rows] == 1), objective))
                for rows in drawn
            ]
            yield Cell(table.name, metric, positives, np.nan_to_num(np.array(values)))


def held_out(rows: Rows, objective: Objective, cuts: Sequence[float]) -> Values:
    """Return the metric of rows at each cut, larger is better."""
    sides = [np.sort(rows.margins[side]) for side in (rows.is_positive, ~rows.is_positive)]
    below = np.stack([np.searchsorted(side, cuts, side="right") for side in sides], axis=-1).astype(np.float64)
    totals = np.array([[[float(side.size) for side in sides]]])
    return np.asarray(objective.score(counts_at(below[np.newaxis], totals, objective.positive)).gain[0])


def drawn_table(cells: Sequence[Cell]) -> Iterator[str]:
    """Yield a line for each metric and number of positives: mean regrets, and what the committee gains on exact."""
    yield f"| metric | positives | best | {' | '.join(CUTS[:-1])} | committee gains on exact | exact leads in |"
    yield "| --- " * (len(CUTS) + 4) + "|"
    for metric, positives, some in _by_size(cells):
        regrets = np.mean([cell.best - cell.values.mean(axis=0) for cell in some], axis=0)
        gained = [_gain(cell.values) for cell in some]
        error = np.sqrt(sum(_gain(cell.values, each=True).var(ddof=1) / len(cell.values) for cell in some)) / len(some)
        shown = [f"{regret:.4f}" for regret in regrets[:-1]]
        best = np.mean([cell.best for cell in some])
        yield (
            f"| {metric} | {positives:,} | {best:.3f} | {' | '.join(shown)} | {np.mean(gained):+.4f} ± {error:.4f} | "
            f"{sum(each < 0 for each in gained)} of {len(some)} |"
        )


def none_table(cells: Sequence[Cell], metric: str) -> Iterator[str]:
    """Yield a line for each number of positives: how often a cut decides nobody, as it is and as it is stated."""
    shown = [CUTS.index(name) for name in ("exact", "committee", "nonempty")]
    heads = [f"{CUTS[i]}: {metric} | decides nobody | stated" for i in shown]
    yield f"| positives | {' | '.join(heads)} |"
    yield "| --- " * (3 * len(shown) + 1) + "|"
    for of_metric, positives, some in _by_size(cells):
        if of_metric == metric and positives <= MAX_POSITIVES_OF_NONE:
            none = np.mean([cell.none.mean(axis=0) for cell in some if cell.none is not None], axis=0)
            values = np.mean([cell.values.mean(axis=0) for cell in some], axis=0)
            columns = [f"{values[i]:.4f} | {none[i, 0]:.2%} | {none[i, 1]:.2%}" for i in shown]
            yield f"| {positives} | {' | '.join(columns)} |"


def real_table(cells: Sequence[Cell]) -> Iterator[str]:
    """Yield a line for each metric and size: means over the sets, each a mean over seeds, models and draws."""
    yield f"| metric | positives | sets | {' | '.join(CUTS[:-1])} | committee gains on exact | exact leads in |"
    yield "| --- " * (len(CUTS) + 4) + "|"
    for metric, positives, some in _by_size(cells):
        names = list(dict.fromkeys(cell.source for cell in some))
        means = np.array([np.mean([c.values.mean(axis=0) for c in some if c.source == name], axis=0) for name in names])
        gained = _gain(means, each=True)
        error = f" ± {gained.std(ddof=1) / np.sqrt(gained.size):.4f}" if gained.size > 1 else ""
        shown = [f"{mean:.4f}" for mean in means.mean(axis=0)[:-1]]
        yield (
            f"| {metric} | {positives:,} | {len(names)} | {' | '.join(shown)} | {gained.mean():+.4f}{error} | "
            f"{(gained < 0).sum()} of {len(names)} |"
        )


def _gain(values: Values, each: bool = False) -> Values:
    gained = values[..., CUTS.index("committee")] - values[..., CUTS.index("exact")]
    return np.asarray(gained if each else gained.mean())


def _by_size(cells: Iterable[Cell]) -> Iterator[tuple[str, int, list[Cell]]]:
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.metric, cell.positives), []).append(cell)
    for metric, positives in sorted(groups, key=lambda key: (METRICS.index(key[0]), key[1])):
        yield metric, positives, groups[metric, positives]


def draws_for(positives: int, scale: float) -> int:
    """Return how many samples to draw: fewer of large ones, which differ less."""
    return max(
        2, round(scale * (120 if positives <= 30 else 60 if positives <= 100 else 30 if positives <= 1000 else 12))
    )


INTRODUCTION = """
With few rows of a class the best cut of the fitting rows follows their chance, and a committee of three rules does
better on new rows. How many is few? `bias_adjustment` takes the committee up to {switch:,} rows of the rarer class and
the exact cut above. Two studies chose that number: drawn scores with known truth, and real sets whose validation rows
are drawn in several sizes. From there on the committee's gain on drawn scores is below 0.001 of F1 and of the G-mean,
and the exact search is simpler and cheaper. What each rule gains on the real sets as they are is on
[another page](bench.md)."""

DRAWN = """
{shapes} shapes of scores, each at {prevalences} of positives ({names}). Regret is the metric of the best cut of the
population less that of the cut, a mean over shapes, prevalences and draws; both are closed forms. The last column
counts the shapes and prevalences where the exact cut has the better mean. Costs count as negative values. The
committee has Platt's map as a fourth member for the G-mean up to 20 positives."""

NONE = """
With a handful of positives the cut may lie so high that a new sample of the same size has no row above it. The point
states that probability as `decides_none`; here beside the true one, with the mean F1 in the population. The search
`nonempty` lowers the committee's cut to the highest one at which the stated probability is at most 1 %."""

REAL = """
Sets with {least} positives or more: {names}. A fifth of the rows trained a logistic regression or a small network;
validation sets with so many positives, and negatives in proportion, were drawn {draws} times from two fifths; the rest
scored the cuts. Means over the sets that have as many ± standard error over the sets, each a mean over {seeds} seeds,
two models and the draws. Larger sizes have fewer sets, so lines do not compare."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, train, compare and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.switch", description=__doc__)
    parser.add_argument("--keel", type=Path, help="folder of KEEL's imbalanced .dat files")
    parser.add_argument("--data", type=Path, help="folder of the other real sets")
    parser.add_argument("--out", type=Path, default=Path("docs/few-positives.md"), help="the page")
    parser.add_argument("--draws", type=float, default=1.0, help="draws of scores, as a multiple of the default")
    parser.add_argument("--most", type=int, default=max(POSITIVES), help="at most so many positives in drawn scores")
    parser.add_argument("--seeds", type=int, default=5, help="splits of each real set")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    drawn_work = [
        (index, prevalence, positives, draws_for(positives, options.draws), METRICS)
        for positives in POSITIVES if positives <= options.most
        for index in range(len(SHAPES))
        for prevalence in PREVALENCES
    ]  # fmt: skip
    tables = [
        table
        for folder, read in ((options.keel, keel_tables), (options.data, real_tables)) if folder is not None
        for table in read(folder) if MIN_POSITIVES <= table.labels.sum() <= table.labels.size / 2
    ]  # fmt: skip
    real_work = [(table, seed, METRICS[:2]) for table in tables for seed in range(options.seeds)]
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        real = [cell for cells in _counted(pool.map(real_cells, real_work), len(real_work)) for cell in cells]
        drawn = [cell for cells in _counted(pool.map(drawn_cells, drawn_work), len(drawn_work)) for cell in cells]
    wrapped = partial(fill, width=120, break_on_hyphens=False)
    command = ["python", "-m", "tests.benchmarks.switch", *["--keel", "KEEL"] * bool(options.keel)]
    command += ["--data", "DATA"] * bool(options.data)
    command += ["--draws", f"{options.draws:g}", "--most", str(options.most), "--seeds", str(options.seeds)]
    text = [
        "# Few positives", wrapped(INTRODUCTION.format(switch=FEW_OF_A_CLASS).strip()),
        f"Written by\n\n    {shlex.join(command)}",
        "## Drawn scores",
        wrapped(
            DRAWN.format(
                shapes=len(SHAPES),
                prevalences=" and ".join(f"{each:.0%}" for each in PREVALENCES),
                names=", ".join(shape.name for shape in SHAPES),
            ).strip()
        ),
        "\n".join(drawn_table(drawn)),
        "## Points that decide nobody", wrapped(NONE.strip()), "\n".join(none_table(drawn, METRICS[0])),
    ]  # fmt: skip
    if tables:
        names = ", ".join(table.name for table in tables)
        caption = REAL.format(least=MIN_POSITIVES, names=names, draws=REAL_DRAWS, seeds=options.seeds)
        text += ["## Real sets", wrapped(caption.strip()), "\n".join(real_table(real))]
    options.out.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    print("\n\n".join(text))


def _counted(results: Iterable[list[Cell]], total: int) -> Iterator[list[Cell]]:
    """Pass results on and report the count on standard error."""
    for done, result in enumerate(results, 1):
        print(f"\r{done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        yield result


if __name__ == "__main__":
    main(sys.argv[1:])
