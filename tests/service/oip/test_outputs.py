"""Outputs of a few rows, which are not made arrays on their way into JSON, are those that arrays would be."""

from datetime import UTC, datetime

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibrate.io.description import Description
from calibrate.operating_point import FEW_ROWS, OperatingPoint
from service.domain import Default, Model, ModelVersion, PointRecord
from service.inference import answer
from service.web.oip.outputs import OUTPUTS, array_output, flat_outputs
from service.web.oip.tensors import to_json

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def model_of(classes: tuple[str, ...]) -> Model:
    """A model with the points `p` and `q`."""
    version = ModelVersion("m", 1, "d", "d", 1, (), classes, "z", "logits", None, None, Description(), NOW)
    k = len(classes)
    points = tuple(
        PointRecord("m", 1, name, 1, OperatingPoint(classes, scale * np.ones(k), np.arange(k) / 3), {}, NOW)
        for name, scale in (("p", 1.0), ("q", 0.7))
    )
    return Model("m", {1: version}, points, Default(1, "p", 1))


MODELS = {2: model_of(("clear", "fraud")), 3: model_of(("a", "b", "é"))}


@given(st.data(), st.integers(1, FEW_ROWS), st.sampled_from([2, 3]), st.sampled_from(["f4", "f8"]))
def test_few_rows_are_told_as_many_are(data: st.DataObject, n: int, k: int, dtype: str) -> None:
    """To the last bit, of any numbers, under one point or one a row."""
    logits = data.draw(arrays(dtype, (n, k), elements=st.floats(-1e6, 1e6, width=32)))
    point = st.sampled_from(["p", "q", "q@1"])
    references = data.draw(st.none() | point | st.lists(point, min_size=n, max_size=n))
    model = MODELS[k]
    found = answer(logits, model, model.version(None), references)
    flat = flat_outputs(found, logits)
    assert list(flat) == list(OUTPUTS)
    for name, values in flat.items():
        wanted = array_output(name, 0, found, logits)
        assert values.shape == wanted.shape
        assert orjson.dumps(to_json(values)) == orjson.dumps(to_json(wanted), option=orjson.OPT_SERIALIZE_NUMPY)
