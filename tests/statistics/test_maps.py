"""Do no harm: maps that would hurt a small sample are rejected, and those that it needs are kept."""

import numpy as np
import pytest

from calibrate.logits import to_columns
from calibrate.map_choice import try_map

DRAWS = {"temperature": 40, "platt": 15}  # a fit of two variables takes longer here


def share_kept(name: str, n: int, factor: float, shift: float) -> float:
    """How often a map is kept on n rows whose log-odds were made `factor` times too large and shifted."""
    kept = 0
    for seed in range(DRAWS[name]):
        rng = np.random.default_rng(seed)
        true = rng.normal(-1, 2, n)
        labels = (rng.random(n) < 1 / (1 + np.exp(-true))).astype(np.intp)
        trial = try_map(name, to_columns(factor * true + shift), labels)
        assert trial is not None
        kept += trial.keeps
    return kept / DRAWS[name]


@pytest.mark.parametrize(("name", "n"), [("temperature", 100), ("temperature", 1000), ("platt", 300)])
def test_maps_of_calibrated_small_samples_are_rejected(name: str, n: int) -> None:
    """Where the logits are true, every map makes them worse: kept on 0 % to 5 % of 60 draws (17 % to 45 % without the
    standard error).
    """
    assert share_kept(name, n, 1, 0) <= 0.2


@pytest.mark.parametrize("name", ["temperature", "platt"])
def test_maps_of_miscalibrated_samples_are_kept(name: str) -> None:
    """Over-confident by x 1.8: kept on 95 % to 98 % of 60 draws of 300 rows, on all of 1,000."""
    assert share_kept(name, 300, 1.8, 0.5) >= 0.8
    if name == "temperature":
        assert share_kept(name, 1000, 1.8, 0.5) >= 0.95
