"""Outputs of a few rows, which are not made arrays on their way into JSON, are those that arrays would be."""

import orjson
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from starlette.testclient import TestClient

from calibrate.operating_point import FEW_ROWS
from service.domain import Model
from service.inference import answer
from service.web.doorway import Doorway
from service.web.oip.outputs import OUTPUTS, array_output, flat_outputs
from service.web.oip.tensors import to_json
from tests.models import network
from tests.service.conftest import CLASSES, Start, publish, register


def models(client: TestClient) -> dict[int, Model]:
    """A model of two classes and one of three; each has the point `argmax`, the first also `p`."""
    register(client, network(2), classes=CLASSES)
    register(client, network(3), "three", classes='["a", "b", "é"]')
    publish(client, "p", 1 / 3)
    assert isinstance(client.app, Doorway)
    registry = client.app._parts.registry
    return {2: registry.model("fraud"), 3: registry.model("three")}


def test_few_rows_are_told_as_many_are(start: Start) -> None:
    """To the last bit, of any numbers, under one point or one a row."""
    known = models(start())

    @given(st.data(), st.integers(1, FEW_ROWS), st.sampled_from([2, 3]), st.sampled_from(["f4", "f8"]))
    def check(data: st.DataObject, n: int, k: int, dtype: str) -> None:
        logits = data.draw(arrays(dtype, (n, k), elements=st.floats(-1e6, 1e6, width=32)))
        model = known[k]
        point = st.sampled_from(["p", "argmax"] if k == 2 else ["argmax"])
        references = data.draw(st.none() | point | st.lists(point, min_size=n, max_size=n))
        found = answer(logits, model, model.version(None), references)
        flat = flat_outputs(found, logits)
        assert list(flat) == list(OUTPUTS)
        for name, values in flat.items():
            wanted = array_output(name, 0, found, logits)
            assert values.shape == wanted.shape
            assert orjson.dumps(to_json(values)) == orjson.dumps(to_json(wanted), option=orjson.OPT_SERIALIZE_NUMPY)

    check()
