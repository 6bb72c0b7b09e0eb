"""Data that names its classes is matched by them, whatever form it comes in."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from calibrate import OperatingPoint, fit
from tests.models import network
from tests.service.conftest import register
from tests.service.test_calibrate import HEAD, LOGITS, NAMES, Y, call, npz, upload

RIGHT = fit(logits=LOGITS, labels=Y, classes=["clear", "fraud"], metric="f1", prior=[0.9, 0.1]).point
OTHER = LOGITS[:, ::-1]


def point_of(response: Any) -> OperatingPoint:
    """The published point."""
    assert response.status_code == 201, response.text
    return OperatingPoint.from_dict(response.json()["point"])


@pytest.mark.parametrize(
    "arrays",
    [
        {"logits": OTHER, "labels": NAMES},
        {"logits": OTHER, "labels": 1 - Y},
        {"logits": LOGITS[:, 0] - LOGITS[:, 1], "labels": NAMES},
        {"logits": OTHER, "labels": NAMES, "prior": [0.1, 0.9]},
        {"logits": OTHER, "labels": NAMES, "weight": HEAD["weight"][::-1], "bias": HEAD["bias"][::-1]},
    ],
)
def test_a_cache_with_its_classes_in_another_order(fraud: TestClient, arrays: dict[str, Any]) -> None:
    """Logits, labels, prior and head are put in the order of the model."""
    found = point_of(upload(fraud, npz(**arrays, classes=["fraud", "clear"])))
    assert found.classes == ("clear", "fraud")
    assert np.array_equal(found.decide(LOGITS), RIGHT.decide(LOGITS))


@pytest.mark.parametrize("order", [["logits_clear", "logits_fraud"], ["logits_fraud", "logits_clear"]])
def test_csv_columns_are_named_by_class(fraud: TestClient, order: list[str]) -> None:
    """In either order the same point, to the last bit."""
    clear, fraud_ = LOGITS.astype(np.float64).T
    frame = pd.DataFrame({"logits_clear": clear, "logits_fraud": fraud_, "labels": NAMES})
    data = frame[[*order, "labels"]].to_csv(index=False).encode()
    assert point_of(upload(fraud, data)) == RIGHT


def test_classes_that_are_called_by_numbers(client: TestClient) -> None:
    """JSON and files: 1 and 2 are names where one of them can be nothing else, and refused where both can be both."""
    register(client, network(2), name="fraud", classes='["1", "2"]')
    by_name = fit(logits=LOGITS, labels=Y, classes=["1", "2"], metric="f1").point
    data = {"logits": LOGITS.tolist()}
    for labels in ((Y + 1).tolist(), Y.tolist(), [str(y + 1) for y in Y]):
        assert point_of(call(client, {**data, "labels": labels})) == by_name
    assert point_of(upload(client, npz(logits=LOGITS, labels=Y + 1))) == by_name
    reply = call(client, {**data, "labels": [1] * len(Y)})
    assert reply.status_code == 422
    assert "labels[0] is 1, which may be the class '1' by name or '2' by index: write labels as texts" in reply.text
