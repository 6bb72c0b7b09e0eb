"""Files of a benchmark: caches to be cross-validated and pairs of them come in; tables, scores and plots go out."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from calibrate.bench.plots import write_plots
from calibrate.bench.result import Benchmark
from calibrate.bench.tables import comparison_to_markdown
from calibrate.bench.trials import Trial, paired_trial, trials_of
from calibrate.errors import BadCache, InputError
from calibrate.io.files import TABLES, read_cache

_SUFFIXES = {".npz", *TABLES}


def read_trials(
    files: Iterable[Path], pairs: Sequence[str] = (), seeds: Iterable[int] = range(10), share: float = 0.5
) -> Iterator[Trial]:
    """The trials of caches and folders, and of pairs written `val.npz:test.npz`.

    A folder stands for its pairs `NAME.val.npz` and `NAME.test.npz` (or Parquet, or Arrow), or where it has none for
    all its caches. A pair is one trial; every other cache is split by `seeds` and `share`.

    Raises: `BadCache`, `InputError`, and what `trials_of` raises.
    """
    seen: dict[str, str] = {}
    for fit, score in [*_found(files), *map(_pair, pairs)]:
        name = fit.stem.removesuffix(".val") if score is not None else fit.stem
        source = f"{fit}" if score is None else f"{fit}:{score}"
        if name in seen:
            if seen[name] == source:
                raise InputError(f"{source} is given twice")
            name = source
        seen[name] = source
        if score is None:
            yield from trials_of(name, read_cache(fit), seeds, share)
        else:
            yield paired_trial(name, read_cache(fit), read_cache(score))


def write_benchmark(folder: Path, result: Benchmark) -> None:
    """Writes `bench.md` (the tables and, beside it, the plots as SVG), `bench.json` and `scores.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["# Rules compared", ""]
    for comparison in result.comparisons:
        plots = write_plots(folder, comparison)
        lines += [comparison_to_markdown(comparison), *(f"![{path.stem}]({path.name})" for path in plots), ""]
    (folder / "bench.md").write_text("\n".join(lines), encoding="utf-8")
    (folder / "bench.json").write_text(json.dumps(result.to_dict(), indent=1) + "\n", encoding="utf-8")
    (folder / "scores.csv").write_text(result.to_csv(), encoding="utf-8")


def _found(files: Iterable[Path]) -> Iterator[tuple[Path, Path | None]]:
    for path in files:
        if not path.is_dir():
            yield path, None
            continue
        caches = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
        fitting = [file for file in caches if file.stem.endswith(".val")]
        for file in fitting:
            score = file.with_name(f"{file.stem.removesuffix('.val')}.test{file.suffix}")
            if score not in caches:
                raise BadCache(f"{file} has no {score.name} beside it")
            yield file, score
        if not caches:
            raise BadCache(f"folder {path} holds no caches: wanted {', '.join(sorted(_SUFFIXES))}")
        if not fitting:
            yield from ((file, None) for file in caches)


def _pair(text: str) -> tuple[Path, Path]:
    """The colon is the one between two names; that of a drive is not."""
    parts = [(text[:i], text[i + 1 :]) for i, letter in enumerate(text) if letter == ":"]
    there = [(Path(fit), Path(score)) for fit, score in parts if Path(fit).is_file() and Path(score).is_file()]
    if len(there) != 1:
        raise BadCache(f"a pair is two files with a colon between, val.npz:test.npz; got {text!r}")
    return there[0]
