"""Backup, restore and the audit trail, as an operator does it, beside a running server."""

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from service.client import Client
from tests.databases import KINDS, new_database
from tests.models import WIDTH, network
from tests.servers import Server, running


def setpoint(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command."""
    command = [sys.executable, "-m", "service", *map(str, arguments)]
    given = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=given, check=False)


def fill(server: Server, folder: Path) -> None:
    """Two versions, three points, a default that moved."""
    for seed in (0, 1):
        (folder / "net.onnx").write_bytes(network(2, seed=seed))
        with Client(server.address) as client:
            client.register(folder / "net.onnx", "m", classes='["a", "b"]')
    for bias in (0.1, 1 / 3, -2.5):
        point = {"classes": ["a", "b"], "scale": [1, 1], "bias": [0, bias]}
        server.post("/models/m/operating-points", {"name": "p", "point": point})
    with Client(server.address) as client:
        client.set_default("m", model_version=1, point="p@2", reason="because")


def answers(server: Server) -> list[Any]:
    """What every version and point of the model says of the same rows, without what differs by call."""
    rows = np.random.default_rng(0).normal(size=(50, WIDTH)).tolist()
    asked: list[dict[str, Any]] = [{}, *({"operating_point": f"p@{number}"} for number in (1, 2, 3))]
    asked.append({"model_version": 2, "operating_point": "argmax"})
    said = [server.post("/predict", {"model": "m", "inputs": rows, **each}) for each in asked]
    return [{name: value for name, value in answer.items() if name != "request_id"} for answer in said]


@pytest.mark.parametrize("into", KINDS)
def test_a_store_that_was_restored_answers_as_the_one_that_was_backed_up(into: str, tmp_path: Path) -> None:
    """Bit for bit, whichever database it moved to; the trail goes on from the head that was kept."""
    data, out, there = tmp_path / "data", tmp_path / "a.tar", tmp_path / "there"
    there.mkdir()
    with running(tmp_path) as server:
        fill(server, tmp_path)
        done = setpoint("backup", "--data", data, "--out", out)
        assert done.returncode == 0, done.stderr
        before, trail, models = answers(server), server.get("/audit"), server.get("/models")
        head = "{number}:{hash}".format(**server.get("/audit/head"))
        assert setpoint("audit", "head", "--data", data).stdout == f"{head}\n"
    settings: dict[str, Any] = {}
    if into == "postgresql":
        settings = {"SETPOINT_DATABASE": new_database(into, there).render_as_string(hide_password=False)}
    done = setpoint("restore", out, "--data", there / "data", **settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"4 model files, head {head}\n")
    with running(there, **settings) as server:
        assert answers(server) == before
        assert server.get("/audit") == trail
        assert server.get("/models") == models
        with Client(server.address) as client:
            client.set_default("m", model_version=1, point="p@3", reason="after")
        done = setpoint("audit", "verify", "--head", head, "--data", there / "data", **settings)
        assert (done.returncode, done.stdout[:17]) == (0, "whole: 7 entries,")
    again = setpoint("restore", out, "--data", there / "data", **settings)
    assert (again.returncode, again.stdout) == (1, "")
    assert "is not empty" in again.stderr
    assert again.stderr.count("\n") == 1


def test_a_trail_that_was_changed_past_the_database_is_told_line_by_line(tmp_path: Path) -> None:
    """And one that was written anew, by the head that was kept; the export can be checked by anybody."""
    data = tmp_path / "data"
    with running(tmp_path) as server:
        fill(server, tmp_path)
    head = setpoint("audit", "head", "--data", data).stdout.strip()
    lines = setpoint("audit", "export", "--data", data).stdout.splitlines()
    previous = "0" * 64
    for number, entry in enumerate(map(json.loads, lines), start=1):
        said = [entry[name] for name in ("number", "at", "actor", "action", "model", "details", "previous")]
        assert (entry["number"], entry["previous"]) == (number, previous)
        previous = hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()
        assert entry["hash"] == previous
    assert head == f"{len(lines)}:{previous}"
    with closing(sqlite3.connect(data / "setpoint.db")) as database:
        database.execute("DROP TRIGGER audit_no_update")
        database.execute("DROP TRIGGER audit_no_delete")
        database.execute("UPDATE audit SET actor = 'eve' WHERE id = 2")
        database.execute("DELETE FROM audit WHERE id = 6")
        database.commit()
    done = setpoint("audit", "verify", "--data", data, "--head", head)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "entry 2 was changed: its content does not have its hash",
        "the trail was cut off: it had 6 entries, and has 5",
    ]
    backup = setpoint("backup", "--data", data, "--out", tmp_path / "a.tar")
    assert backup.returncode == 0
    assert backup.stderr == (
        "warning: the audit trail is not whole: entry 2 was changed: its content does not have its hash\n"
    )
    restored = setpoint("restore", tmp_path / "a.tar", "--data", tmp_path / "there")
    assert (restored.returncode, restored.stderr) == (0, backup.stderr)


def test_a_restore_goes_into_an_empty_place_alone(tmp_path: Path) -> None:
    """Other files are left alone, and what a restore leaves that was refused is in nobody's way."""
    data, docs, out = tmp_path / "data", tmp_path / "docs", tmp_path / "a.tar"
    with running(tmp_path) as server:
        fill(server, tmp_path)
    assert setpoint("backup", "--data", data, "--out", out).returncode == 0
    docs.mkdir()
    (docs / "index.md").write_text("mine")
    done = setpoint("restore", out, "--data", docs)
    assert (done.returncode, done.stderr) == (
        1, f"error: the folder {docs} is not empty, it holds 'index.md': a restore needs an empty place\n",
    )  # fmt: skip
    assert [path.name for path in docs.iterdir()] == ["index.md"]
    (docs / "index.md").rename(tmp_path / "index.md")
    (docs / "artifacts").mkdir()
    (docs / "setpoint.db").touch()
    assert setpoint("restore", out, "--data", docs).returncode == 0
    done = setpoint("restore", out, "--data", docs)
    assert done.stderr.endswith("is not empty, it holds a store: a restore needs an empty place\n")


def test_a_database_file_that_is_none_is_named(tmp_path: Path) -> None:
    """By every command, in one line."""
    (tmp_path / "setpoint.db").write_text("not a database, " * 100)
    for command in (["audit", "verify"], ["serve", "--port", "0"]):
        done = setpoint(*command, "--data", tmp_path)
        assert done.returncode == 1
        assert f"the database {tmp_path / 'setpoint.db'} cannot be used: file is not a database" in done.stderr


def test_a_damaged_store_is_backed_up_and_restored_with_a_warning(tmp_path: Path) -> None:
    """A point whose numbers were changed, an entry that is no JSON; the check and the export go on too."""
    data = tmp_path / "data"
    with running(tmp_path) as server:
        fill(server, tmp_path)
    with closing(sqlite3.connect(data / "setpoint.db")) as database:
        database.execute("DROP TRIGGER audit_no_update")
        database.execute("UPDATE audit SET details = '{broken' WHERE id = 3")
        database.execute("UPDATE operating_points SET point = replace(point, '-2.5', '-9.5')")
        database.commit()
    point = "a point does not answer: the point p@3 of model 'm': it does not have its digest, so it was changed in"
    for command in (["backup", "--data", data, "--out", tmp_path / "a.tar"],
                    ["restore", tmp_path / "a.tar", "--data", tmp_path / "there"]):  # fmt: skip
        done = setpoint(*command)
        first, second = done.stderr.splitlines()
        assert done.returncode == 0
        assert first.startswith("warning: the audit trail is not whole: entry 3 cannot be read: ")
        assert second == f"warning: {point} the store"
    done = setpoint("audit", "verify", "--data", data)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("entry 3 cannot be read: ")
    done = setpoint("audit", "export", "--data", data)
    assert [json.loads(line)["number"] for line in done.stdout.splitlines()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("command", [["backup", "--out", "a.tar"], ["audit", "verify"], ["audit", "head"]])
def test_a_folder_without_a_store_is_told_and_left_alone(command: list[str], tmp_path: Path) -> None:
    """Nothing is made by looking."""
    done = setpoint(*command, "--data", tmp_path / "none")
    assert (done.returncode, done.stderr) == (1, f"error: there is no store in {tmp_path / 'none'}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_head_that_is_none_is_refused(tmp_path: Path) -> None:
    """Before anything is opened."""
    done = setpoint("audit", "verify", "--head", "12", "--data", tmp_path)
    assert (done.returncode, done.stderr) == (
        1, "error: --head must be NUMBER:HASH as 'setpoint audit head' prints it, got '12'\n",
    )  # fmt: skip
