"""With few positives the default search is nearer to the best cut there is than the best cut of the fitting rows."""

import numpy as np
import pytest
from scipy.stats import norm

from calibrate import fit

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
