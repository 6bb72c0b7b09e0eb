"""The benchmark of rules does what its page says: splits, the peer's own decisions, and the page itself."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from calibrate import feature_cache
from tests.benchmarks.contenders import SHARES, deal, encoded, network, scikit_learn_tuner, trials_of_table
from tests.benchmarks.few_positives import DEFAULT, main
from tests.benchmarks.tabular import RealTable, keel_tables, table


def write_keel(folder: Path, name: str, rows: int = 160, seed: int = 0) -> None:
    """A set in KEEL's format: stray spaces, a category, a gap."""
    rng = np.random.default_rng(seed)
    labels = rng.random(rows) < 0.25
    x = rng.normal(size=rows) + 1.5 * labels
    lines = []
    for i in range(rows):
        value, label = "?" if i == 3 else f"{x[i]:.4f}", " positive" if labels[i] else "negative"
        lines.append(f"{value}, {'ab'[i % 2]}, {rng.normal():.4f},{label}")
    (folder / f"{name}.dat").write_text("\n".join(lines) + "\n")


def test_keel_files_are_read_as_they_are(tmp_path: Path) -> None:
    """Numbers with their gaps, categories as codes, small sets left out."""
    write_keel(tmp_path, "one")
    write_keel(tmp_path, "small", rows=100)
    (found,) = keel_tables(tmp_path)
    assert found.name == "one"
    assert found.numbers.shape == (160, 2)
    assert np.isnan(found.numbers[3, 0])
    assert np.isnan(found.numbers).sum() == 1
    assert found.categories[:4, 0].tolist() == [0, 1, 0, 1]
    assert 20 <= found.labels.sum() < 60


def test_rows_with_the_same_inputs_are_one_group() -> None:
    """Whatever their labels."""
    found = table("twins", [[1.0, 2.0, 1.0, None], ["a", "a", "a", "b"]], np.array([0, 1, 1, 0]))
    assert found.groups[0] == found.groups[2]
    assert np.unique(found.groups).size == 3


def test_groups_stay_together_and_shares_are_met() -> None:
    """Of each class, within the size of a group."""
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 600, 2000)
    labels = (rng.random(2000) < 0.1).astype(np.int64)
    one = RealTable("groups", np.zeros((2000, 1)), np.zeros((2000, 0), dtype=np.int32), labels, groups)
    parts = deal(one, SHARES, np.random.default_rng(1))
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(2000))
    held = [set(groups[part]) for part in parts]
    assert sum(map(len, held)) == len(set().union(*held))
    for part, share in zip(parts, SHARES, strict=True):
        assert labels[part].sum() == pytest.approx(share * labels.sum(), abs=5)
        assert part.size == pytest.approx(share * 2000, rel=0.1)


def test_encoding_learns_from_the_training_rows_only() -> None:
    """Their mean is 0 and their deviation 1; a category that only others have changes nothing."""
    numbers = np.arange(20.0)[:, np.newaxis]
    categories = np.r_[np.tile([0, 1], 8), [2, 2, 2, 2]].astype(np.int32)[:, np.newaxis]
    one = RealTable("encoded", numbers, categories, np.zeros(20, dtype=np.int64), np.arange(20))
    made = encoded(one, np.arange(16))
    assert made.shape == (20, 3)
    assert made[:16, 0].mean() == pytest.approx(0)
    assert made[:16, 0].std() == pytest.approx(1)
    assert made[16:, 1:].tolist() == [[0, 0]] * 4


def test_the_networks_logit_is_scikit_learns() -> None:
    """Through its probability."""
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(60, 3)), np.arange(60) % 2
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    with pytest.warns(ConvergenceWarning):
        logits = network(inputs, labels, 0)(inputs)
    with pytest.warns(ConvergenceWarning):
        same = MLPClassifier((32,), max_iter=200, random_state=0).fit(inputs, labels)
    assert 1 / (1 + np.exp(-logits)) == pytest.approx(same.predict_proba(inputs)[:, 1])


@pytest.mark.parametrize("metric", ["f1", "g_mean"])
def test_the_peer_decides_as_scikit_learn_does(metric: str) -> None:
    """On the fitting rows and on others, row for row."""
    from sklearn.frozen import FrozenEstimator
    from sklearn.model_selection import TunedThresholdClassifierCV

    from tests.benchmarks.contenders import _SCORING

    rng = np.random.default_rng(3)
    labels = (rng.random(150) < 0.2).astype(np.int64)
    margins = rng.normal(size=150) * 3 + 2 * labels - 2
    cache = feature_cache(logits=margins, labels=labels, classes=["no", "yes"])
    point = scikit_learn_tuner(cache, metric)
    model = LogisticRegression()
    model.classes_, model.coef_, model.intercept_ = np.array([0, 1]), np.ones((1, 1)), np.zeros(1)
    model.n_features_in_ = 1
    tuned = TunedThresholdClassifierCV(FrozenEstimator(model), scoring=_SCORING[metric], cv="prefit", refit=False)
    tuned.fit(margins[:, np.newaxis], labels)
    others = rng.normal(size=1000) * 5
    for rows in (margins, others):
        assert point.decide(rows).tolist() == tuned.predict(rows[:, np.newaxis]).tolist()


def test_a_trial_for_each_model_on_the_same_rows(tmp_path: Path) -> None:
    """The prior is that of the training rows; nothing is scored that trained or fitted."""
    write_keel(tmp_path, "one")
    (one,) = keel_tables(tmp_path)
    first, second = trials_of_table(one, 1)
    assert (first.split, second.split) == (0, 1)
    assert first.fit.labels.tolist() == second.fit.labels.tolist()
    assert (first.fit.rows, first.score.rows) == (48, 64)
    assert first.fit.prior == pytest.approx(np.bincount(one.labels) / 160, abs=0.02)


def test_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Written by the command: verdicts, tables, plots beside it, the means of each set."""
    (tmp_path / "keel").mkdir()
    for seed in range(2):
        write_keel(tmp_path / "keel", f"set{seed}", seed=seed)
    out = tmp_path / "bench.md"
    rules = ["argmax", "bias_adjustment:decimal:1", DEFAULT]
    chosen = [text for rule in rules for text in ("--rule", rule)]
    main(["--keel", str(tmp_path / "keel"), "--out", str(out), "--seeds", "1", "--jobs", "1", *chosen])
    assert f"written to {out}" in capsys.readouterr().out
    text = out.read_text()
    assert f"## What `{DEFAULT}` gains" in text
    assert "| KEEL | f1 | `scikit-learn tuner` |" in text
    assert "python -m tests.benchmarks.few_positives --keel KEEL --rule argmax" in text
    assert str(tmp_path) not in text
    assert text.count("| `argmax` |") == 6
    for name in ("f1-ranks", "f1-differences", "g_mean-ranks", "g_mean-differences"):
        link = f"bench/keel/{name}.svg"
        assert f"]({link})" in text
        assert (tmp_path / link).exists()
    lines = (tmp_path / "bench" / "by-set.csv").read_text().splitlines()
    assert lines[0].split(",")[:5] == ["group", "data", "model", "metric", "argmax"]
    assert len(lines) == 1 + 2 * 2 * 2
