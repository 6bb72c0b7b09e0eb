"""A model's description survives the trip through its metadata, and a malformed one is refused."""

import json

import pytest

from calibrate.errors import BadModel
from calibrate.io.description import Column, Description, read_description


def test_what_is_written_is_read() -> None:
    """Every field; nothing at all is an empty description."""
    description = Description(
        ("negative", "sick"),
        (0.9, 0.1),
        (Column("age", "number", "the median, 54"), Column("sex", "category", "neither", {"F": 0, "M": 1})),
        ("TBG dropped",),
    )
    assert read_description(description.to_metadata()) == description
    assert read_description({"other": "x"}) == Description()


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"classes": 3},
        {"classes": [1]},
        {"prior": ["a"]},
        {"prior": [float("nan")]},
        {"prior": [10**400]},
        {"classes": ["a", "\ud800"]},
        {"columns": [{}]},
        {"columns": [{"name": "a", "kind": "text", "missing": ""}]},
        {"columns": [{"name": "a", "kind": "number", "missing": "", "codes": {"x": True}}]},
        {"notes": [None]},
    ],
)
def test_a_malformed_description_is_refused(value: object) -> None:
    """Whatever is in it."""
    with pytest.raises(BadModel, match="entry 'setpoint' is malformed"):
        read_description({"setpoint": json.dumps(value)})
    with pytest.raises(BadModel):
        read_description({"setpoint": json.dumps(value)[:-1] + "["})
