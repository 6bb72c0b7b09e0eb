"""With few positives the default cut is nearer to the best one than `exact`, and says how often it decides nobody."""

import numpy as np
import pytest
from scipy.stats import norm

from calibrate import fit
from calibrate.methods.cuts.nonempty import decides_none
from calibrate.objective import parse_objective
from tests.benchmarks.shapes import SHAPES
from tests.benchmarks.switch import CUTS, cuts_of, gains

SHIFT, NEGATIVES_PER_POSITIVE = 2.0, 20


def of_population(metric: str, cuts: np.ndarray) -> np.ndarray:
    """The metric of cuts between N(0, 1) and N(2, 1) at their prevalence."""
    recall, fpr = norm.sf(cuts - SHIFT), norm.sf(cuts)
    if metric == "g_mean":
        return np.asarray(np.sqrt(recall * (1 - fpr)))
    return np.asarray(2 * recall / (recall + 1 + NEGATIVES_PER_POSITIVE * fpr))


@pytest.mark.parametrize("metric", ["f1", "g_mean"])
@pytest.mark.parametrize(
    ("positives", "stretch"), [(10, 1.0), (30, 1.0), (10, 2.0)], ids=["10", "30", "10, overconfident"]
)
def test_the_default_has_less_regret_than_the_exact_cut(metric: str, positives: int, stretch: float) -> None:
    """40 draws of the population's metric at the cut: two standard errors of the paired difference apart.

    At 30 positives a model that is overconfident by a factor of 2 takes the gain away.
    """
    labels = np.repeat([1, 0], [positives, NEGATIVES_PER_POSITIVE * positives])
    gained = []
    for seed in range(40):
        scores = np.random.default_rng(seed).normal(labels * SHIFT)
        logits = stretch * (2 * scores - 2 - np.log(NEGATIVES_PER_POSITIVE))

        def reached(search: str | None, logits: np.ndarray = logits) -> float:
            cut = fit(logits=logits, labels=labels, metric=metric, search=search, evidence=False).parameters["cut"]
            place = (cut / stretch + 2 + np.log(NEGATIVES_PER_POSITIVE)) / 2
            return float(of_population(metric, np.array([place]))[0])

        gained.append(reached(None) - reached("exact"))
    assert np.mean(gained) > 2 * np.std(gained) / np.sqrt(len(gained))


@pytest.mark.parametrize("metric", ["f1", "g_mean"])
def test_at_160_positives_the_default_still_has_less_regret_than_the_exact_cut(metric: str) -> None:
    """Over twelve shapes of scores whose population is known, 8 draws of each; two standard errors."""
    objective = parse_objective(metric, None, ["0", "1"])
    gained = []
    for index, shape in enumerate(SHAPES):
        population = shape.population(0.1)
        for draw in range(8):
            rows = population.draw(160, np.random.default_rng([index, draw]))
            labels = rows.is_positive.astype(np.int64)
            cuts = [
                fit(logits=rows.margins, labels=labels, metric=metric, search=search, evidence=False).parameters["cut"]
                for search in (None, "exact")
            ]
            ours, exact = gains(population, objective, cuts)
            gained.append(ours - exact)
    assert np.mean(gained) > 2 * np.std(gained) / np.sqrt(len(gained))


@pytest.mark.parametrize("positives", [3, 5, 8])
def test_the_stated_probability_to_decide_nobody_is_the_true_one_within_a_factor_of_two(positives: int) -> None:
    """A mean over shapes and draws, of exact cuts and of the committee's; the truth is a closed form."""
    objective = parse_objective("f1", None, ["0", "1"])
    probabilities: dict[str, list[tuple[float, float]]] = {"exact": [], "committee": [], "nonempty": []}
    for index, shape in enumerate(SHAPES):
        population = shape.population(0.03)
        for draw in range(12):
            rows = population.draw(positives, np.random.default_rng([index, draw, positives]))
            cuts = dict(zip(CUTS, cuts_of(rows, objective), strict=True))
            for name, pairs in probabilities.items():
                pairs.append((population.decides_none(cuts[name], positives), decides_none(rows, cuts[name])))
    means = {name: np.mean(pairs, axis=0) for name, pairs in probabilities.items()}
    for name in ("exact", "committee"):
        true, stated = means[name]
        assert true / 2 <= stated <= 2 * true + 0.005, name
    assert means["nonempty"][0] <= 0.01
    assert means["nonempty"][1] <= 0.01
