"""What is between two decisions on the same rows, and what of it is left at another prevalence."""

import numpy as np
import pytest

from calibrate import feature_cache, fit
from calibrate.ascent import Sample
from calibrate.counts import Counts
from calibrate.naming import parse_metric, standard_metrics
from calibrate.paired import Paired, measure_gain


def decisions(n: int = 500, k: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and two rules that agree on most rows."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(k, n, p=np.linspace(3, 1, k) / np.linspace(3, 1, k).sum())
    plain = np.where(rng.random(n) < 0.7, labels, rng.integers(0, k, n))
    return labels, plain, np.where(rng.random(n) < 0.9, plain, rng.integers(0, k, n))


@pytest.mark.parametrize("k", [2, 3, 120])
def test_each_decision_alone_is_its_own_table(k: int) -> None:
    """Weights and amounts too, whole or summed from parts."""
    labels, plain, point = decisions(k=k)
    rng = np.random.default_rng(1)
    weights, amounts = rng.random(labels.size), rng.gamma(1, 9, labels.size)
    sample = Sample(np.zeros((labels.size, k)), labels, weights, amounts, None, 1)
    some = [np.arange(200), np.arange(200, labels.size)]
    parts = [Sample(np.zeros((rows.size, k)), labels[rows], weights[rows], amounts[rows], None, 1) for rows in some]
    whole = Paired.of(plain, point, sample)
    summed = Paired.sum([Paired.of(plain[rows], point[rows], part) for rows, part in zip(some, parts, strict=True)])
    for paired in (whole, summed):
        for which, decided in (("plain", plain), ("point", point)):
            table = paired.table(which)
            expected = Counts.of(labels, decided, k, weights=weights, amounts=amounts)
            assert np.allclose(table.counts.hits, expected.hits)
            assert np.allclose(table.counts.predicted, expected.predicted)
            assert table.counts.amounts is not None
            assert expected.amounts is not None
            recovered = parse_metric("recovered[c1]", [f"c{i}" for i in range(k)])
            assert recovered.value(table.counts) == pytest.approx(recovered.value(expected))
            for c in set(labels.tolist()):
                mine = weights[labels == c]
                assert table.worth[c] == pytest.approx(mine.sum() / (mine @ mine))


def test_gains_spread_as_resampled_pairs_do_and_less_than_unpaired_ones() -> None:
    """F1 and cost of two rules that agree on nine rows in ten."""
    rows_in_all = 4000
    labels, plain, point = decisions(rows_in_all)
    sample = Sample(np.zeros((rows_in_all, 2)), labels)
    metrics = [parse_metric(name, ["a", "b"]) for name in ("f1", "cost(fp=1, fn=5)", "recall")]
    paired = Paired.of(plain, point, sample)
    found = measure_gain(paired, metrics, "held_out", np.random.default_rng(0))
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(400):
        rows = rng.integers(0, rows_in_all, rows_in_all)
        one, other = (Counts.of(labels[rows], rule[rows], 2) for rule in (point, plain))
        drawn.append([float(metric.gain(one) - metric.gain(other)) for metric in metrics])
    for metric, draws in zip(metrics, np.transpose(drawn), strict=True):
        interval = found[metric.name]
        better, worse = (float(metric.gain(Counts.of(labels, rule, 2))) for rule in (point, plain))
        assert interval.value == pytest.approx(better - worse)
        assert [interval.low, interval.high] == pytest.approx(
            np.quantile(draws, [0.025, 0.975]).tolist(), abs=0.2 * (interval.high - interval.low)
        )
        alone = [np.ptp(np.quantile(metric.gain(each), [0.025, 0.975])) for each in paired_alone(paired)]
        assert interval.high - interval.low < np.hypot(*alone)


def paired_alone(paired: Paired) -> list[Counts]:
    """Draws of each decision for itself."""
    return [paired.table(which).draw(1000, np.random.default_rng(2))[0] for which in ("plain", "point")]


def test_draws_keep_the_rows_of_each_class_and_costs() -> None:
    """Everything is decided, and a cost matrix is charged for what is drawn."""
    labels, plain, point = decisions(300, 3)
    costs = np.array([[0.0, 5, 9], [1, 0, 3], [2, 2, 0]])
    paired = Paired.of(plain, point, Sample(np.zeros((300, 3)), labels, None, None, costs))
    for both in paired.draw(2000, np.random.default_rng(0)):
        for drawn, rule in zip(both, (plain, point), strict=True):
            expected = Counts.of(labels, rule, 3, cost_matrix=costs)
            assert np.allclose(drawn.predicted.sum(axis=1), 300)
            assert np.allclose(drawn.actual.sum(axis=1), 300)
            assert (drawn.hits <= drawn.predicted + 1e-9).all()
            assert drawn.cost is not None
            assert expected.cost is not None
            assert float(drawn.cost.mean()) == pytest.approx(float(expected.cost), rel=0.06)  # but for the doubt
            assert drawn.hits.mean(axis=0) == pytest.approx(expected.hits, abs=1.5)


@pytest.mark.parametrize(("positives", "share"), [(5, 0.5), (10, 0.2), (20, 0.3)])
def test_the_interval_of_a_gain_on_few_positives_holds_it(positives: int, share: float) -> None:
    """The point finds a share of the positives that the plain model misses; the true gain in recall is that share."""
    rng = np.random.default_rng(positives)
    metric = parse_metric("recall", ["a", "b"])
    held, draws = 0, 300
    for _ in range(draws):
        labels = np.repeat([0, 1], [200, positives])
        plain = (rng.random(labels.size) < 0.4) & (labels == 1)
        point = plain | ((rng.random(labels.size) < share / 0.6) & (labels == 1))
        sample = Sample(np.zeros((labels.size, 2)), labels)
        paired = Paired.of(plain.astype(np.intp), point.astype(np.intp), sample)
        found = measure_gain(paired, [metric], "held_out", rng)["recall"]
        assert found.high - found.low > 0.05
        held += found.low <= share <= found.high
    assert held >= draws * 0.95 - 2 * np.sqrt(draws * 0.95 * 0.05)


def test_the_plain_models_own_rule_gains_nothing_for_certain() -> None:
    """No doubt remains between a rule and itself."""
    rng = np.random.default_rng(0)
    labels = (rng.random(200) < 0.2).astype(int)
    result = fit(logits=rng.normal(labels * 1.5) - 1, labels=labels, metric="f1", method="argmax")
    assert {(each.value, each.low, each.high) for each in result.gain.values()} == {(0.0, 0.0, 0.0)}


def test_a_gain_is_reported_with_the_fit_for_every_metric() -> None:
    """Above 0 is better, also where less is better; amounts included."""
    rng = np.random.default_rng(0)
    labels = (rng.random(400) < 0.2).astype(int)
    cache = feature_cache(
        logits=rng.normal(labels * 1.5) - 2, labels=labels, cost_fp=np.ones(400), cost_fn=rng.gamma(1, 30, 400)
    )
    result = fit(cache, metric="row_cost")
    assert result.gain.keys() == result.evidence.keys() == {m.name for m in standard_metrics(["0", "1"])} | {"row_cost"}
    assert result.gain["row_cost"].low > 0
    assert result.gain["recall"].rows == labels.sum()
    assert result.gain["f1"].rows == labels.size
    assert result.gain["row_cost"].value == pytest.approx(
        result.before["row_cost"].value - result.evidence["row_cost"].value
    )
    assert result.gain["recall"].value > 0 > result.gain["precision"].value
