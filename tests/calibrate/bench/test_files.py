"""Files of a benchmark, and the command that reads and writes them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calibrate import feature_cache, write_cache
from calibrate.bench import bench, trials_of
from calibrate.bench.files import read_trials, write_benchmark
from calibrate.bench.plots import _stem
from calibrate.errors import BadCache, InputError
from tests.problems import draw


def write(path: Path, seed: int) -> Path:
    """A cache of 120 rows."""
    path.parent.mkdir(exist_ok=True)
    problem = draw((0.8, 0.2), 120, seed)
    write_cache(path, feature_cache(logits=problem.logits, labels=problem.labels, prior=problem.prior))
    return path


def test_files_folders_and_pairs(tmp_path: Path) -> None:
    """Caches are split, pairs are not; a folder with pairs is its pairs."""
    one = write(tmp_path / "one.npz", 1)
    for name in ("a.val.npz", "a.test.npz", "a.train.npz", "b.val.parquet", "b.test.parquet"):
        write(tmp_path / "pairs" / name, len(name))
    for name in ("c.npz", "d.arrow"):
        write(tmp_path / "whole" / name, 3)
    files = [one, tmp_path / "pairs", tmp_path / "whole"]
    pair = f"{tmp_path / 'pairs' / 'a.train.npz'}:{tmp_path / 'pairs' / 'a.test.npz'}"
    trials = list(read_trials(files, [pair], range(2), 0.5))
    found = [(trial.data, trial.seed, trial.split) for trial in trials]
    split = [(seed, i) for seed in (0, 1) for i in (0, 1)]
    assert found == [
        *(("one", *where) for where in split),
        ("a", 0, 0),
        ("b", 0, 0),
        *((name, *where) for name in "cd" for where in split),
        ("a.train", 0, 0),
    ]


def test_what_is_missing_or_twice_is_named(tmp_path: Path) -> None:
    """A fitting file without scoring file, an empty folder, a cache given twice, a pair that is none."""
    one = write(tmp_path / "one.npz", 1)
    write(tmp_path / "half" / "a.val.npz", 2)
    with pytest.raises(BadCache, match=r"a\.val\.npz has no a\.test\.npz"):
        list(read_trials([tmp_path / "half"]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadCache, match="holds no caches"):
        list(read_trials([tmp_path / "empty"]))
    with pytest.raises(InputError, match="given twice"):
        list(read_trials([one, one]))
    with pytest.raises(BadCache, match="a pair is two files"):
        list(read_trials([], [f"{one}:missing.npz"]))


def test_what_is_written(tmp_path: Path) -> None:
    """Tables with their pictures, the same pictures for the same scores."""
    problem = draw((0.8, 0.2), 120, 1)
    cache = feature_cache(logits=problem.logits, labels=problem.labels, prior=problem.prior)
    trials = [trial for name in "ab" for trial in trials_of(name, cache, [ord(name)])]
    result = bench(trials, rules=["argmax", "prior_threshold", "bias_adjustment"], metrics=["f1", "2*tp/(2*tp+fp+fn)"])
    for folder in ("first", "second"):
        write_benchmark(tmp_path / folder, result)
    text = (tmp_path / "first" / "bench.md").read_text()
    plots = sorted(path.name for path in (tmp_path / "first").glob("*.svg"))
    assert len(plots) == 4
    assert {"f1-ranks.svg", "f1-differences.svg"} < set(plots)
    assert all(f"]({name})" in text for name in plots)
    for name in plots:
        drawn = (tmp_path / "first" / name).read_text()
        assert drawn == (tmp_path / "second" / name).read_text()
        assert "prior_threshold" in drawn
    assert json.loads((tmp_path / "first" / "bench.json").read_text()) == json.loads(json.dumps(result.to_dict()))
    assert (tmp_path / "first" / "scores.csv").read_text() == result.to_csv()


def test_a_metric_of_which_nothing_is_left_is_written_too(tmp_path: Path) -> None:
    """Argmax never alerts here, so its precision is undefined in every trial."""
    cache = feature_cache(logits=np.linspace(-9.0, -1.0, 40), labels=np.arange(40) % 2)
    result = bench(trials_of("low", cache, [0]), rules=["argmax", "bias_adjustment"], metrics=["precision"])
    write_benchmark(tmp_path, result)
    assert "`argmax` failed in 2 trials" in (tmp_path / "bench.md").read_text()
    assert json.loads((tmp_path / "bench.json").read_text())["comparisons"][0]["trials"] == 0


def test_two_metrics_never_share_a_picture() -> None:
    """However they are written, and a long one is no long file name."""
    assert _stem("g_mean") == "g_mean"
    assert len({_stem(text) for text in ("tp/(tp+fp)", "tp*(tp-fp)", "tp-tp-fp", "tp" + "+tp" * 300)}) == 4
    assert len(_stem("tp" + "+tp" * 300)) < 60


def run(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "service", "bench", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_the_command(tmp_path: Path) -> None:
    """Two caches, two processes; tables for people, JSON for programs, files for both."""
    first, second = write(tmp_path / "first.npz", 1), write(tmp_path / "second.npz", 2)
    options = [
        "--rule",
        "argmax",
        "--rule",
        "bias_adjustment:exact",
        "--metric",
        "f1",
        "--seeds",
        "2",
        "--share",
        "0.5",
    ]
    options += ["--reference", "bias_adjustment:exact"]
    table = run(first, second, *options, "--out", tmp_path / "out").stdout
    assert "f1, larger is better: 2 data sets, 8 trials" in table
    assert "bias_adjustment:exact" in table
    said = json.loads(run(first, second, *options, "--jobs", "2", "--json").stdout)
    saved = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert [s["value"] for s in said["scores"]] == [s["value"] for s in saved["scores"]]
    assert said["comparisons"][0]["reference"] == "bias_adjustment:exact"
    assert (tmp_path / "out" / "f1-ranks.svg").exists()
    assert "got none" in run(code=1).stderr
    assert "share must be" in run(first, "--share", "2", code=1).stderr
