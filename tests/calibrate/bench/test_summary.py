"""Means, ranks and tests of a comparison, against scipy on the plain arrays, closed forms and a table by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from calibrate.bench import Score, summarize
from calibrate.bench.summary import critical_difference, degrees_of_freedom, rank_p_values, resampled_p, wilcoxon_p
from calibrate.bench.tables import comparison_to_markdown
from calibrate.errors import InputError

RULES = ("a", "b", "c")


def scores_of(values: np.ndarray, *, failed: tuple[tuple[int, int, int], ...] = ()) -> list[Score]:
    """A score for each data set, seed and rule of an array of that shape."""
    return [
        Score(
            f"set {i}", seed, 0, 50, 100, "f1", RULES[rule], float(values[i, seed, rule]), 0.01 * (rule + 1),
            "Infeasible: no cut" if (i, seed, rule) in failed else None,
        )
        for i, seed, rule in np.ndindex(values.shape)
    ]  # fmt: skip


def drawn(sets: int = 12, seeds: int = 4) -> np.ndarray:
    """Values with ties, rule c a little better than the others."""
    rng = np.random.default_rng(0)
    return np.round(rng.uniform(0.3, 0.7, (sets, 1, 1)) + rng.normal(0, 0.05, (sets, seeds, 3)) + [0, 0, 0.03], 2)


@pytest.mark.parametrize("larger", [True, False])
def test_a_comparison_is_what_scipy_finds(larger: bool) -> None:
    """Ranks by trial and by data set, Wilcoxon and Friedman on the means of the data sets."""
    values = drawn()
    found = summarize(scores_of(values), "a", larger_is_better=larger)
    sign = -1 if larger else 1
    means = values.mean(axis=1)
    trials = values.reshape(-1, 3)
    ranks = stats.rankdata(sign * trials, axis=1).mean(axis=0)
    by_set = stats.rankdata(np.round(sign * means, 12), axis=1).mean(axis=0)
    assert (found.data_sets, found.trials, found.left_out) == (12, 48, 0)
    assert found.friedman_p == pytest.approx(stats.friedmanchisquare(*means.T).pvalue)
    for i, rule in enumerate(found.rules):
        difference = means[:, i] - means[:, 0]
        assert rule.rule == RULES[i]
        assert rule.mean == pytest.approx(values[..., i].mean())
        assert (rule.rank, rule.rank_by_set) == pytest.approx((ranks[i], by_set[i]))
        assert rule.difference == pytest.approx(difference.mean())
        assert rule.standard_error == pytest.approx(stats.sem(difference))
        assert list(rule.differences.values()) == pytest.approx(difference)
        assert rule.seconds == pytest.approx(0.01 * (i + 1))
        if i:
            assert rule.wilcoxon_p == pytest.approx(stats.wilcoxon(np.round(difference, 12)).pvalue)
            gained = -sign * (trials[:, i] - trials[:, 0])
            assert (rule.wins, rule.losses) == ((gained > 1e-9).sum(), (gained < -1e-9).sum())
            assert rule.wins + rule.ties + rule.losses == 48
    assert math.isnan(found.rules[0].wilcoxon_p)


def test_a_table_by_hand() -> None:
    """Two data sets of two trials; c wins everywhere, b ties once."""
    values = np.array([[[0.5, 0.5, 0.6], [0.4, 0.3, 0.6]], [[0.2, 0.1, 0.3], [0.2, 0.3, 0.4]]])
    a, b, c = summarize(scores_of(values), "a").rules
    assert (a.mean, b.mean, c.mean) == pytest.approx((0.325, 0.3, 0.475))
    assert (a.rank, b.rank, c.rank) == pytest.approx((2.375, 2.625, 1.0))
    assert (a.rank_by_set, b.rank_by_set, c.rank_by_set) == (2.25, 2.75, 1.0)
    assert (b.wins, b.ties, b.losses) == (1, 1, 2)
    assert c.differences == pytest.approx({"set 0": 0.15, "set 1": 0.15})
    assert c.standard_error == pytest.approx(0, abs=1e-12)
    assert c.difference == pytest.approx(0.15)
    assert c.wins == 4


def test_the_corrected_resampled_t_test() -> None:
    """Without overlap it is the t-test of scipy; with it the variance grows by J times the ratio (Nadeau & Bengio)."""
    differences = np.random.default_rng(1).normal(0.02, 0.05, 10)
    assert resampled_p(differences, 0.0, 9) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    t = stats.ttest_1samp(differences, 0).statistic / math.sqrt(1 + 10 * 1.5)
    assert resampled_p(differences, 1.5, 7) == pytest.approx(2 * stats.t(7).sf(abs(t)))
    assert math.isnan(resampled_p(differences[:1], 1.0, 1))
    assert math.isnan(resampled_p(differences[:2], 1.0, 0))
    assert (resampled_p(np.zeros(3), 1.0, 2), resampled_p(np.full(3, 0.25), 1.0, 2)) == (1.0, 0.0)


def test_degrees_of_freedom() -> None:
    """One split for each of ten seeds; two folds for each of ten; five for each of three; two of one seed."""
    found = [degrees_of_freedom(list(range(seeds)) * folds) for seeds, folds in [(10, 1), (10, 2), (3, 5), (1, 2)]]
    assert found == [9, 10, 12, 1]


def test_one_data_set_has_its_own_test_and_no_other() -> None:
    """Scoring rows are twice the fitting rows here."""
    values = drawn(1, 10)
    rule = summarize(scores_of(values), "a").rules[2]
    assert rule.resampled_p == {"set 0": pytest.approx(resampled_p(values[0, :, 2] - values[0, :, 0], 2.0, 9))}
    assert all(map(math.isnan, (rule.wilcoxon_p, rule.holm_p, rule.standard_error)))


def test_sets_that_are_really_better_are_counted() -> None:
    """By their sign, turned where smaller is better."""
    values = np.repeat(np.array([0.5, 0.6, 0.5])[np.newaxis, np.newaxis], 3, axis=0).repeat(5, axis=1)
    values[2, :, 1] = 0.3
    assert [(rule.better, rule.worse) for rule in summarize(scores_of(values), "a").rules] == [(0, 0), (2, 1), (0, 0)]
    turned = summarize(scores_of(values), "a", larger_is_better=False).rules
    assert (turned[1].better, turned[1].worse) == (1, 2)


def test_ranks_against_the_reference_by_holm() -> None:
    """Demsar's own example, four rules on 14 data sets: p of 0.016, 0.019 and 0.607 before the correction."""
    p = rank_p_values(np.array([3.143, 2.0, 2.893, 1.964]), 0, 14)
    plain = 2 * stats.norm.sf(np.abs(np.array([3.143, 2.0, 2.893, 1.964]) - 3.143) / math.sqrt(4 * 5 / (6 * 14)))
    assert plain[[3, 1, 2]] == pytest.approx([0.016, 0.019, 0.607], abs=2e-3)
    assert math.isnan(p[0])
    assert p[[3, 1, 2]] == pytest.approx([3 * plain[3], 3 * plain[3], plain[2]])


def test_nemenyis_critical_difference() -> None:
    """Demsar's examples: 2.569 and 2.728 over the root of 2 for four and five rules, from his table 5."""
    assert critical_difference(4, 14) == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=2e-3)
    assert critical_difference(5, 30) == pytest.approx(2.728 * math.sqrt(5 * 6 / (6 * 30)), abs=2e-3)
    assert math.isnan(critical_difference(4, 1))


def test_nothing_differs() -> None:
    """Then nothing is significant, and nothing warns."""
    found = summarize(scores_of(np.full((4, 3, 3), 0.5)), "a")
    assert found.friedman_p == 1.0
    assert found.rules[1].wilcoxon_p == 1.0
    assert found.rules[1].rank == 2.0
    assert math.isnan(wilcoxon_p(np.array([0.1])))


def test_undefined_trials_are_left_out_for_all_and_failures_counted() -> None:
    """One trial of eight; the failure of the other is scored as it stands."""
    values = drawn(4, 2)
    values[1, 1, 2] = np.nan
    found = summarize(scores_of(values, failed=((1, 1, 2), (0, 0, 2))), "a")
    assert (found.trials, found.left_out) == (7, 1)
    assert found.rules[2].failed == 2
    assert found.rules[2].failures == {"Infeasible: no cut": 2}
    assert found.rules[0].differences == dict.fromkeys([f"set {i}" for i in range(4)], 0.0)
    assert found.rules[2].differences["set 1"] == pytest.approx(values[1, 0, 2] - values[1, 0, 0])


def test_scores_that_do_not_belong_together_are_refused() -> None:
    """A rule missing in a trial, no reference, nothing defined."""
    scores = scores_of(drawn(2, 2))
    for wrong, reference in [(scores[:-1], "a"), (scores, "d"), ([], "a"), ([*scores, scores[0]], "a")]:
        with pytest.raises(InputError):
            summarize(wrong, reference)


def test_a_metric_that_is_undefined_everywhere_leaves_nothing_but_its_failures() -> None:
    """No error: the other metrics of a long run stand."""
    found = summarize(scores_of(np.full((2, 2, 3), np.nan), failed=((0, 0, 1),)), "a")
    assert (found.data_sets, found.trials, found.left_out) == (0, 0, 4)
    assert [rule.failed for rule in found.rules] == [0, 1, 0]
    assert all(math.isnan(rule.mean) for rule in found.rules)
    assert "0 data sets, 0 trials (4 more left out: undefined)" in comparison_to_markdown(found)
