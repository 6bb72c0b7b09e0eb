"""`setpoint points` against a running server: what only looks changes nothing, what changes needs a reason."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calibrate.errors import InputError
from service.cli import app
from service.client import Client, Refused
from service.terminal import plain
from tests.models import network
from tests.servers import Server

EVIDENCE = {"f1": {"value": 0.5, "low": 0.4, "high": 0.6, "confidence": 0.95, "rows": 60, "kind": "held_out"}}
POINT = {"classes": ["clear", "fraud"], "scale": [1.0, 1.0], "bias": [0.0, 1.0]}


@pytest.fixture
def model(server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A model of the test's own, with the points `p@1` and `p@2`."""
    name = f"cli-{abs(hash(request.node.name)) % 10**8}"
    (tmp_path / "net.onnx").write_bytes(network(2))
    with Client(server.address) as client:
        client.register(tmp_path / "net.onnx", name, classes='["clear", "fraud"]')
        for _ in range(2):
            details = {"metric": "f1", "constraints": ["f1 >= 0.6"], "evidence": EVIDENCE}
            client.do("POST", "models", name, "operating-points", name="p", point=POINT, details=details)
    return name


def points(server: Server, *arguments: str) -> str:
    """What a command prints. Raises: what it raises."""
    done = CliRunner().invoke(app, ["points", *arguments, "--server", server.address], catch_exceptions=True)
    if isinstance(done.exception, Exception):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_point_lives_from_list_to_retired(server: Server, model: str) -> None:
    """Each command says what is so now."""
    lines = points(server, "list", model).splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["point", "state"], ["argmax@1", "approved"], ["p@1", "approved"], ["p@2", "approved"],
    ]  # fmt: skip
    assert lines[1].endswith("default")
    assert points(server, "default", model) == (
        f"default of model '{model}': argmax@1 of version 1; nothing was before it\n"
    )
    with pytest.raises(Refused, match=r"\(409\).* wanted f1 >= 0.6, found 0.5 \[0.4, 0.6\] \(submitted, 60 rows\)"):
        points(server, "default", model, "p@1", "--reason", "try")
    with pytest.raises(Refused, match="--override with the reason lets it answer nevertheless"):
        points(server, "alias", model, "prod", "p@2", "--reason", "for the tills")
    for command in ("approve", "retire", "shadow"):
        with pytest.raises(Refused, match=r"wanted a point of model .* with its version, as p@2; got 'p'"):
            points(server, command, model, "p", "--reason", "x")
    said = points(server, "default", model, "p@1", "--reason", "try", "--override", "--expected", "argmax@1")
    assert f"default of model '{model}': p@1 of version 1; a rollback goes back to argmax@1 of version 1" in said
    assert "warning: wanted f1 >= 0.6" in said
    points(server, "alias", model, "prod", "p@2", "--reason", "for the tills", "--override")
    assert points(server, "alias", model).splitlines()[1].split() == ["prod", "p@2", "1"]
    assert json.loads(points(server, "alias", model, "prod", "--drop", "--reason", "gone", "--json")) == []
    assert points(server, "shadow", model, "p@2", "--reason", "watch") == f"p@2 of model '{model}' is in the shadow\n"
    server.post("/predict", {"model": model, "inputs": [[0, 0, 0, 0]] * 3})
    counted = points(server, "shadow", model, "p@2")
    assert counted.startswith("p@2 (shadow): 3 rows, 0 % differ, 0 not counted\n")
    points(server, "approve", model, "p@2", "--reason", "as good", "--override")
    points(server, "retire", model, "p@2", "--reason", "not used")
    shown = points(server, "show", model, "p@2")
    assert "p@2 of version 1: retired: not used\n" in shown
    assert "approved by local\n" in shown
    assert "submitted for f1 with f1 >= 0.6; positive class 'fraud'\n" in shown


def test_a_rollback_says_first_what_it_would_do(server: Server, model: str) -> None:
    """Without a reason nothing moves."""
    points(server, "default", model, "p@1", "--reason", "x", "--override")
    for _ in range(2):
        assert "a rollback goes back to argmax@1" in points(server, "rollback", model)
    said = points(server, "rollback", model, "--reason", "misses cards")
    assert said == f"default of model '{model}': argmax@1 of version 1; nothing was before it\n"
    (newest, *_) = server.get(f"/audit?model={model}")
    assert (newest["action"], newest["details"]["reason"]) == ("roll back", "misses cards")
    assert json.loads(points(server, "default", model, "--json"))["operating_point"] == "argmax@1"


@pytest.mark.parametrize(
    "arguments", [("default", "p@1"), ("alias", "a", "p@1"), ("alias", "a"), ("alias", "a", "p@1", "--drop")]
)
def test_a_change_without_its_reason_is_not_asked_for(server: Server, model: str, arguments: tuple[str, ...]) -> None:
    """Nor one that is not told whole."""
    command, *rest = arguments
    with pytest.raises(InputError, match="--reason, which is kept"):
        points(server, command, model, *rest)


def test_a_reason_cannot_reach_the_terminal(model: str, server: Server) -> None:
    """It is shown, with its control characters written out."""
    with Client(server.address) as client:
        path = ("models", model, "operating-points", "p@1", "retire")
        client.do("POST", *path, reason="old \x1b[2J\nforged line")
    shown = points(server, "show", model, "p@1")
    assert "\x1b" not in shown
    assert "retired: old \\u001b[2J\\nforged line\n" in shown
    with pytest.raises(Refused) as refusal:
        points(server, "default", model, "p@1", "--reason", "x")
    assert plain(str(refusal.value)).count("u001b") == 1
