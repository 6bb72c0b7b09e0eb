"""Extraction gives a row the scores that it gets alone, warns where it cannot, and refuses random scores."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from calibrate import extract
from calibrate.errors import BadModel
from tests.models import network
from tests.unstable import X, alone, centred, dropout, noise, normalised, quantised, together

Y = np.random.default_rng(3).integers(0, 2, size=len(X))


@pytest.mark.parametrize("data", [quantised("dynamic", 2), centred()], ids=["int8", "mean"])
def test_rows_that_depend_on_their_batch_are_run_by_themselves(data: bytes) -> None:
    """The logits are those of ONNX Runtime on one row at a time, which those of a batch are not; told in a warning."""
    with pytest.warns(UserWarning, match="each row is run by itself"):
        cache = extract(data, (X, Y), progress=False)
    assert np.abs(together(data, "logits") - alone(data, "logits")).max() > 1e-2
    assert np.abs(np.asarray(cache.logits) - alone(data, "logits")).max() < 1e-5


@pytest.mark.parametrize("data", [network(2), quantised("static", 2), dropout(training=False)],
                         ids=["float", "static", "dropout"])  # fmt: skip
def test_other_models_are_run_in_batches_without_a_word(data: bytes) -> None:
    """Rounding is no reason."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert extract(data, (X, Y), progress=False).rows == len(X)


@pytest.mark.parametrize("data", [dropout(), noise(), normalised()], ids=["dropout", "noise", "norm"])
def test_random_answers_are_refused(data: bytes) -> None:
    """With the operator and what to do."""
    with pytest.raises(BadModel, match=r"batch 0: .*(Dropout|RandomNormalLike|BatchNormalization).*model\.eval\(\)"):
        extract(data, (X, Y), progress=False)


class _Module(nn.Module):
    """Layers around what is done to their features."""

    def __init__(self, between: object) -> None:
        super().__init__()
        self.body, self.head, self.between = nn.Linear(4, 6), nn.Linear(6, 2), between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head(self.between(self.body(x)))  # type: ignore[operator, no-any-return]


def test_a_module_that_draws_numbers_in_evaluation_mode_is_refused() -> None:
    """As the function for dropout does unless told otherwise; a layer of dropout is switched off."""
    with pytest.raises(BadModel, match=r"two runs on the same rows differ by .*training=False"):
        extract(_Module(nn.functional.dropout), (X, Y), progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extract(_Module(nn.Dropout()).train(), (X, Y), progress=False)


def test_a_module_whose_rows_depend_on_their_batch_is_warned_of() -> None:
    """Statistics of the batch; no warning where a batch has one row. A model that fails on one row is reported."""
    with pytest.warns(UserWarning, match="together and alone they differ"):
        extract(_Module(lambda z: z - z.mean(dim=0)), (X, Y), progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extract(_Module(lambda z: z - z.mean(dim=0)), (X[:9], Y[:9]), batch_rows=1, progress=False)
    with pytest.warns(UserWarning, match="could not be run on single rows"):
        extract(_Module(nn.BatchNorm1d(6, track_running_stats=False)), (X, Y), progress=False)
