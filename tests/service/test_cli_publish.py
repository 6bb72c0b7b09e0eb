"""`setpoint publish` and `setpoint calibrate` say what a point does now, and what is left to do."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calibrate import feature_cache, write_cache
from service.cli import app
from service.client import Refused
from tests.models import network
from tests.servers import Server, running
from tests.service.jobs import LABELS, LOGITS
from tests.service.test_keys import made

POINT = {"classes": ["clear", "fraud"], "scale": [1.0, 1.0], "bias": [0.0, 1.0]}
BAD = {"f1": {"value": 0.5, "low": 0.4, "high": 0.6, "confidence": 0.95, "rows": 60, "kind": "held_out"}}


@dataclass(frozen=True)
class FourEyes:
    """A server where what one publishes another approves, and the keys of two."""

    server: Server
    ann: str
    bob: str


@pytest.fixture(scope="module")
def four_eyes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FourEyes]:
    """With the model `m` of two classes."""
    folder = tmp_path_factory.mktemp("four-eyes")
    rights = [option for scope in ("manage", "approve", "calibrate", "predict") for option in ("--scope", scope)]
    ann, bob = (made(folder / "data", "--name", name, *rights)["key"] for name in ("ann", "bob"))
    (folder / "m.onnx").write_bytes(network(2))
    with running(folder, SETPOINT_APPROVAL="four_eyes") as server:
        said(server, ann, "publish", str(folder / "m.onnx"), "--model", "m", "--classes", "clear,fraud")
        yield FourEyes(server, ann, bob)


def said(server: Server, key: str, *arguments: str) -> str:
    """What a command prints for whoever has the key. Raises: what it raises."""
    done = CliRunner().invoke(app, [*arguments, "--server", server.address], env={"SETPOINT_TOKEN": key})
    if isinstance(done.exception, Exception):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_draft_is_told_as_one(four_eyes: FourEyes, tmp_path: Path) -> None:
    """With the command that somebody else lets it answer by; the one that is told works."""
    (tmp_path / "p.json").write_text(json.dumps(POINT))
    server = four_eyes.server
    assert said(server, four_eyes.ann, "publish", str(tmp_path / "p.json"), "--model", "m") == (
        "published p@1 for version 1 of model 'm', a draft that answers nobody until somebody else than ann approves "
        "it: 'setpoint points approve m p@1 --reason ...'\n"
    )
    with pytest.raises(Refused, match="--override"):
        said(server, four_eyes.bob, "points", "approve", "m", "p@1", "--reason", "x")
    said(server, four_eyes.bob, "points", "approve", "m", "p@1", "--reason", "x", "--override")


def test_a_draft_is_not_made_the_default(four_eyes: FourEyes, tmp_path: Path) -> None:
    """It is said that it was published nevertheless, and what is left to do."""
    (tmp_path / "d.json").write_text(json.dumps(POINT))
    asked = ("publish", str(tmp_path / "d.json"), "--model", "m", "--make-default", "better")
    with pytest.raises(Refused) as refusal:
        said(four_eyes.server, four_eyes.ann, *asked)
    assert str(refusal.value) == (
        "published d@1 for version 1 of model 'm', but not made the default: it is a draft that answers nobody until "
        "somebody else than ann approves it: 'setpoint points approve m d@1 --reason ...'. 'setpoint points default m "
        "d@1 --reason ...' is what is left to do; publishing it again would add a version"
    )


def test_a_calibrated_draft_is_told_as_one(four_eyes: FourEyes, tmp_path: Path) -> None:
    """Also when its job is looked up."""
    write_cache(tmp_path / "c.npz", feature_cache(logits=LOGITS, labels=LABELS, classes=["clear", "fraud"]))
    told = said(four_eyes.server, four_eyes.ann, "calibrate", str(tmp_path / "c.npz"), "--model", "m", "--metric", "f1")
    first = told.splitlines()[0]
    assert first.startswith("published c@1 for version 1 of model 'm', a draft that answers nobody until")
    assert first.endswith("'setpoint points approve m c@1 --reason ...'")
    (job,) = json.loads(said(four_eyes.server, four_eyes.ann, "jobs", "list", "--json"))
    assert said(four_eyes.server, four_eyes.ann, "jobs", "show", job["id"]) == told


def test_a_point_that_its_evidence_speaks_against_is_published_and_not_the_default(
    server: Server, tmp_path: Path
) -> None:
    """It is said so, with the option that the command line has."""
    (tmp_path / "m.onnx").write_bytes(network(2))
    said(server, "", "publish", str(tmp_path / "m.onnx"), "--model", "bad", "--classes", "clear,fraud")
    saved = {"point": POINT, "metric": "f1", "constraints": ["f1 >= 0.6"], "evidence": BAD}
    (tmp_path / "p.json").write_text(json.dumps(saved))
    asked = ("publish", str(tmp_path / "p.json"), "--model", "bad")
    with pytest.raises(Refused) as refusal:
        said(server, "", *asked, "--make-default", "x")
    told = str(refusal.value)
    assert told.startswith(
        "published p@1 for version 1 of model 'bad', but not made the default: the server refused it"
    )
    assert "--override with the reason lets it answer nevertheless" in told
    assert "'setpoint points default bad p@1 --reason ...' is what is left to do" in told
    assert said(server, "", *asked).startswith("published p@2 for version 1 of model 'bad'; it answers requests that")
