"""Logits: columns, probabilities by name, and margins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibrate import InputError, logits_from_probabilities
from calibrate.errors import NotFinite, WrongShape
from calibrate.logits import binary_margins, head_logits, softmax


@given(hnp.arrays(np.float64, (5, 3), elements=st.floats(0.001, 1)))
def test_softmax_of_the_logits_gives_the_probabilities_back(raw: np.ndarray) -> None:
    """For any distribution."""
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    assert np.allclose(softmax(logits_from_probabilities(probabilities)), probabilities)


def test_one_probability_is_that_of_the_second_class() -> None:
    """(n,) and (n, 1), with 0 and 1 as trees give them: finite, in order, and tied where they are equal."""
    p = np.array([0.0, 0.0, 0.25, 1.0])
    for probabilities in (p, p[:, np.newaxis]):
        logits = logits_from_probabilities(probabilities)
        assert np.isfinite(logits).all()
        assert np.allclose(softmax(logits)[:, 1], p)
        margins = binary_margins(logits)
        assert margins[0] == margins[1] < margins[2] < margins[3]


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([[0.5, 0.6]], "probabilities of row 0 must sum to 1, got 1.1"),
        ([[1.5, -0.5]], r"probabilities\[0, 0\] must lie in \[0, 1\], got 1.5"),
        ([2.0], r"must lie in \[0, 1\]"),
        ([[np.nan, 1]], "must be finite"),
    ],
)
def test_what_is_no_distribution_is_refused(probabilities: list[object], message: str) -> None:
    """Logits passed as probabilities do not go through."""
    with pytest.raises(InputError, match=message):
        logits_from_probabilities(np.array(probabilities))


def test_margins_keep_their_type_where_that_is_exact() -> None:
    """One logit stays float32; a difference of two is taken in float64."""
    x = np.array([[0.0, 1.5], [0.0, -2.0]], dtype=np.float32)
    assert binary_margins(x).dtype == np.float32
    assert binary_margins(x + np.float32(1)).dtype == np.float64
    with pytest.raises(NotFinite, match="margin of row 0"):
        binary_margins(np.array([[-1e308, 1e308]]))


def test_a_head_is_applied_alike_in_one_chunk_and_in_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks only bound the memory."""
    rng = np.random.default_rng(0)
    features, weight, bias = rng.normal(size=(100, 7)), rng.normal(size=(4, 7)), rng.normal(size=4)
    monkeypatch.setattr("calibrate.logits._CHUNK_ROWS", 9)
    assert np.allclose(head_logits(features, weight, bias), features @ weight.T + bias)


def test_softmax_does_not_overflow() -> None:
    """At a thousand apart."""
    assert softmax(np.array([[1000.0, 0.0]])).tolist() == [[1.0, 0.0]]


def test_text_is_no_array() -> None:
    """Named, with what was wanted."""
    with pytest.raises(WrongShape, match="wanted numbers"):
        logits_from_probabilities(["0.5"])
