"""Decisions along tau are those at each tau."""

import numpy as np
import pytest

from calibrate.ascent import Sample
from calibrate.methods.logit_adjustment import decided_along
from tests.problems import MULTICLASS, Problem


@pytest.mark.parametrize("problem", MULTICLASS, ids=str)
@pytest.mark.parametrize("number", [1, 2, 8, 9, 17, 41])
def test_decisions_along_tau_are_those_at_each_tau(problem: Problem, number: int) -> None:
    """Any number of taus, close together or far apart, in any part of the range."""
    sample, log_prior = Sample(problem.logits, problem.labels), np.log(problem.prior)
    for most in (0.01, 4.0, 100.0):
        taus = np.linspace(0.0, most, number)
        along = list(decided_along(sample, log_prior, taus))
        assert len(along) == number
        for tau, decided in zip(taus, along, strict=True):
            assert np.array_equal(decided, sample.decide(-tau * log_prior))
