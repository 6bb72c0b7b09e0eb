"""API keys from their making to their end, by the command and at a server that runs meanwhile."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner, Result

from calibrate.errors import InputError
from service.auth.rates import Rates
from service.auth.ring import KeyRing
from service.cli import app
from service.errors import StorageFailed
from service.keys import Key, digest
from service.main import make_app
from service.settings import Settings
from tests.models import network
from tests.servers import running
from tests.service.conftest import CLASSES, Start, alive, refused, register

SEEN_S = 1.0  # within which a running server sees a change
TOKEN = "a-token-of-32-characters-or-more"


def setpoint(*arguments: str, data: Path) -> Result:
    """Runs the command on a folder."""
    return CliRunner().invoke(app, ["keys", *arguments, "--data", str(data)])


def made(data: Path, *arguments: str) -> dict[str, Any]:
    """A new key."""
    result = setpoint("create", "--name", "triage", *arguments, "--json", data=data)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def bearer(key: str) -> dict[str, str]:
    """The header that presents a key."""
    return {"Authorization": f"Bearer {key}"}


def ask(client: TestClient, headers: dict[str, str]) -> Any:
    """A call that needs a key."""
    return client.get("/models", headers=headers)


def test_the_first_key_closes_a_server_that_was_open(start: Start, tmp_path: Path) -> None:
    """Within a second; then every way to present the key works, and it is in no list and no file of the store."""
    client = start()
    assert ask(client, {}).status_code == 200
    key = made(tmp_path / "data", "--scope", "predict", "--scope", "manage")["key"]
    time.sleep(SEEN_S)
    refused(ask(client, {}), 401, "unauthorized")
    basic = base64.b64encode(f"anyone:{key}".encode()).decode()
    for headers in (
        {"Authorization": f"Bearer {key}"},
        {"authorization": f"bearer  {key} "},
        {"X-API-Key": key},
        {"Authorization": f"Basic {basic}"},
        {"Authorization": "Negotiate x", "X-API-Key": key},
    ):
        assert ask(client, headers).status_code == 200, headers
    for headers in (
        {"Authorization": key},
        {"Authorization": f"Bearer {key[:-1]}"},
        {"Authorization": f"Bearer {key}x"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(key.encode()).decode()},
        {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()},
        {"X-API-Key": ""},
        {"Authorization": "Bearer wrong", "X-API-Key": key},
        {"Authorization": "Basic !!!", "X-API-Key": key},
        {"Authorization": "Negotiate x", "Cookie": f"key={key}"},
    ):
        refused(ask(client, headers), 401, "unauthorized")
    refused(client.get(f"/models?key={key}"), 401, "unauthorized")
    client.headers.update(bearer(key))
    register(client, network(2), classes=CLASSES)
    alive(client)
    for file in (tmp_path / "data").iterdir():
        if file.is_file():
            assert key.split("_", 2)[2].encode() not in file.read_bytes()
    assert key not in setpoint("list", "--json", data=tmp_path / "data").stdout


def test_who_has_a_key_is_in_the_audit_trail_by_its_name(start: Start, tmp_path: Path) -> None:
    """The keys' own changes too, by the operator."""
    key = made(tmp_path / "data", "--scope", "manage", "--scope", "audit")
    client = start()
    client.headers.update(bearer(key["key"]))
    register(client, network(2), classes=CLASSES)
    entries = client.get("/audit").json()
    assert entries[0]["actor"] == "triage"
    assert entries[-1]["action"] == "create key"
    assert entries[-1]["actor"].startswith("operator")
    assert entries[-1]["details"]["id"] == key["id"]


def test_a_rotated_key_and_the_old_one_both_hold_for_the_grace(start: Start, tmp_path: Path) -> None:
    """Then the old one does not; the caller stays the same."""
    data = tmp_path / "data"
    old = made(data, "--scope", "predict", "--model", "fraud")
    client = start()
    result = setpoint("rotate", old["id"], "--grace", "2s", "--json", data=data)
    assert result.exit_code == 0, result.output
    new = json.loads(result.stdout)
    assert (new["name"], new["scopes"], new["models"]) == ("triage", ["predict"], ["fraud"])
    time.sleep(SEEN_S)
    assert ask(client, bearer(new["key"])).status_code == 200
    assert ask(client, bearer(old["key"])).status_code == 200
    time.sleep(1.2)
    refused(ask(client, bearer(old["key"])), 401, "unauthorized")
    assert ask(client, bearer(new["key"])).status_code == 200
    assert "expired" in setpoint("list", data=data).stdout


def test_a_revoked_key_is_refused_and_the_server_stays_closed(start: Start, tmp_path: Path) -> None:
    """Also where it was the only one: losing every key never opens a door."""
    data = tmp_path / "data"
    key = made(data, "--scope", "predict")
    client = start()
    assert ask(client, bearer(key["key"])).status_code == 200
    other = json.loads(
        setpoint("create", "--name", "b", "--scope", "predict", "--expires", "never", "--json", data=data).stdout
    )
    said = json.loads(setpoint("revoke", other["id"], "--json", data=data).stdout)
    assert (said["id"], said["state"]) == (other["id"], "revoked")
    assert "key" not in said
    result = setpoint("revoke", key["id"], "--reason", "it leaked", data=data)
    assert "revoked" in result.stdout
    time.sleep(SEEN_S)
    refused(ask(client, bearer(key["key"])), 401, "unauthorized")
    refused(ask(client, {}), 401, "unauthorized")
    refused(ask(start(), {}), 401, "unauthorized")


def test_a_key_ends_by_itself(start: Start, tmp_path: Path) -> None:
    """Without the store being asked."""
    key = made(tmp_path / "data", "--scope", "predict", "--expires", "5s")
    made_at = time.monotonic()
    client = start()
    assert ask(client, bearer(key["key"])).status_code == 200
    time.sleep(made_at + 5.1 - time.monotonic())
    refused(ask(client, bearer(key["key"])), 401, "unauthorized")


def test_keys_open_a_server_to_other_machines(tmp_path: Path) -> None:
    """A token is not needed then."""
    data = tmp_path / "data"
    made(data, "--scope", "predict")
    make_app(Settings(host="0.0.0.0", data=data))  # noqa: S104


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "--name", "a b", "--scope", "predict"], "the name of a key"),
        (["create", "--name", "token", "--scope", "predict"], "stands for callers without a key"),
        (["create", "--name", "x", "--scope", "root"], "one or more of the scopes"),
        (["create", "--name", "x", "--scope", "predict", "--model", "../x"], "the name of a model"),
        (["create", "--name", "x", "--scope", "predict", "--expires", "soon"], "--expires must be a number"),
        (["create", "--name", "x", "--scope", "predict", "--expires", "99999w"], "100 years at most"),
        (["create", "--name", "x", "--scope", "predict", "--expires", "0d"], "--expires must be more than 0"),
        (["rotate", "nope", "--expires", "0s"], "--expires must be more than 0"),
        (["rotate", "nope"], "there is no key 'nope'"),
        (["revoke", "nope"], "there is no key 'nope'"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, arguments: list[str], said: str) -> None:
    """With the item, and nothing is kept."""
    before = [made(tmp_path, "--scope", "predict")["id"]]
    result = setpoint(*arguments, data=tmp_path)
    assert said in str(result.exception)
    assert [key["id"] for key in json.loads(setpoint("list", "--json", data=tmp_path).stdout)] == before


@pytest.mark.parametrize("command", [["list"], ["rotate", "x"], ["revoke", "x"]])
def test_a_folder_without_a_store_is_told_as_one(tmp_path: Path, command: list[str]) -> None:
    """And nothing is made in it: a name with a slip is not a store without keys."""
    result = setpoint(*command, data=tmp_path / "typo")
    assert str(result.exception) == f"there is no store in {tmp_path / 'typo'}"
    assert not (tmp_path / "typo").exists()


def test_the_first_key_makes_the_store_and_says_where(tmp_path: Path) -> None:
    """Once; a command that is refused makes none, and a store without keys is told as one."""
    data = tmp_path / "new"
    asked = ("create", "--scope", "predict", "--name")
    assert setpoint(*asked, "token", data=data).exception
    assert not data.exists()
    first = setpoint(*asked, "a", data=data)
    assert f"made a new store in {data}, where there was none" in first.stderr
    assert first.stdout.startswith("sp_")
    assert "made a new store" not in setpoint(*asked, "b", data=data).stderr
    make_app(Settings(data=tmp_path / "empty"))
    assert setpoint("list", data=tmp_path / "empty").stdout == "there are no keys\n"


def test_a_setting_that_is_wrong_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the command has no use for it."""
    monkeypatch.setenv("SETPOINT_PORT", "http")
    assert "port" in str(setpoint("list", data=tmp_path).exception)
    assert isinstance(setpoint("list", data=tmp_path).exception, InputError)


def test_an_address_that_presents_wrong_keys_is_made_to_wait(start: Start, tmp_path: Path) -> None:
    """The token is not compared meanwhile, so it cannot be guessed; a key, which nobody guesses, still works."""
    key = made(tmp_path / "data", "--scope", "predict")["key"]
    client = start(token=TOKEN, failures_per_min=3)
    assert ask(client, bearer(TOKEN)).status_code == 200
    for _ in range(3):
        refused(ask(client, bearer("wrong")), 401, "unauthorized")
    for guess in ("wrong", TOKEN):
        answer = ask(client, bearer(guess))
        refused(answer, 429, "too-many")
        assert 1 <= int(answer.headers["retry-after"]) <= 20
    assert ask(client, bearer(key)).status_code == 200
    refused(ask(client, {}), 401, "unauthorized")


def test_callers_have_a_rate_each(start: Start, tmp_path: Path) -> None:
    """For what works: predictions and calibrations; just below it passes, above it is 429, other callers are not."""
    data = tmp_path / "data"
    first = made(data, "--scope", "predict", "--scope", "manage", "--scope", "calibrate")["key"]
    other = json.loads(setpoint("create", "--name", "b", "--scope", "predict", "--json", data=data).stdout)["key"]
    client = start(predict_per_s=0.2, calibrate_per_min=2)
    client.headers.update(bearer(first))
    register(client, network(2), classes=CLASSES)
    alive(client)
    answer = client.post("/predict", json={})
    assert "triage calls /predict more often" in refused(answer, 429, "too-many")
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    for _ in range(2):
        refused(client.post("/calibrate", json={}), 400, "bad-request")
    refused(client.post("/calibrate", json={}), 429, "too-many")
    assert client.get("/models").status_code == 200
    client.headers.update(bearer(other))
    alive(client)


def test_a_bucket_fills_at_its_rate() -> None:
    """One caller's calls take nothing from another's; what is kept is bounded."""
    rates = Rates(1000.0, 2.0)
    assert [rates.take("a") for _ in range(2)] == [0, 0]
    wait_s = rates.take("a")
    assert 0 < wait_s <= 0.001
    assert rates.take("b") == 0
    time.sleep(0.002)
    assert rates.take("a") == 0
    for i in range(20_000):
        rates.take(i)
    assert len(rates._buckets) == 10_000


class Failing:
    """Keys of a store that goes away."""

    def __init__(self, kept: list[Key]) -> None:
        self.kept, self.reads, self.fails = kept, 0, False

    def all(self) -> list[Key]:
        """What was kept, while there is a store."""
        self.reads += 1
        if self.fails:
            raise StorageFailed("gone")
        return self.kept


def test_keys_hold_while_the_store_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, and read again when it is back."""
    from tests.service.test_access import new_key

    key, headers = new_key(frozenset({"predict"}))
    keys = Failing([key])
    ring = KeyRing(keys, every_s=0.01)  # type: ignore[arg-type]
    ring.start()
    presented = digest(headers["authorization"].split()[1].encode())
    keys.fails, seen = True, keys.reads
    while keys.reads < seen + 5:
        time.sleep(0.01)
    assert ring.find(presented) == key.principal
    keys.fails, keys.kept, seen = False, [], keys.reads
    while keys.reads < seen + 3:
        time.sleep(0.01)
    assert ring.find(presented) is None
    assert ring.guarded
    ring.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "keys cannot be read, those that were read last hold: gone"
    ]


def test_named_hosts_and_pages_of_the_server(start: Start) -> None:
    """What the settings name is taken, with and without a token; a proxy may end TLS; nobody else's page may call."""
    open_one = start(hosts="setpoint.example,[fd00::1]")
    for host in ("setpoint.example", "SETPOINT.example:8443", "127.0.0.1", "[fd00::1]:80"):
        assert open_one.get("/models", headers={"host": host}).status_code == 200
    refused(open_one.get("/models", headers={"host": "other.example"}), 403, "foreign-origin")
    client = start(token=TOKEN, hosts="setpoint.example")
    client.headers.update(bearer(TOKEN))
    named = {"host": "setpoint.example"}
    assert client.get("/models", headers=named).status_code == 200
    assert client.get("/models", headers={**named, "origin": "https://setpoint.example"}).status_code == 200
    refused(client.get("/models"), 403, "foreign-origin")
    for said in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        refused(client.get("/models", headers={**named, **said}), 403, "foreign-origin")
    any_host = start(token=TOKEN)
    assert any_host.get("/models", headers={"host": "x.example", **bearer(TOKEN)}).status_code == 200


@pytest.mark.parametrize("name", ["authorization", "host", "x-api-key", "origin"])
def test_what_decides_comes_once(start: Start, name: str) -> None:
    """Of two, a proxy and this server may believe another."""
    client = start()
    request = client.build_request("GET", "/models")
    request.headers = type(request.headers)([*request.headers.multi_items(), (name, "a"), (name, "b")])
    assert f"'{name}' came more than once" in refused(client.send(request), 400, "bad-request")


@pytest.mark.parametrize(("verb", "path"), [("GET", "/models"), ("POST", "/predict")])
def test_addresses_of_proxies_are_believed_only_where_they_are_named(tmp_path: Path, verb: str, path: str) -> None:
    """Else anyone could wear another's address, and be made to wait in their place."""
    from http.client import HTTPConnection

    def wrong(server: Any, address: str) -> int:
        connection = HTTPConnection(server.address.removeprefix("http://"), timeout=30)
        headers = {"X-Forwarded-For": address, "Authorization": "Bearer wrong"}
        connection.request(verb, path, b"{}" if verb == "POST" else None, headers)
        status = connection.getresponse().status
        connection.close()
        return status

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with running(tmp_path / "a", SETPOINT_TOKEN=TOKEN, SETPOINT_FAILURES_PER_MIN="1") as server:
        assert [wrong(server, f"192.0.2.{i}") for i in range(3)] == [401, 429, 429]
    with running(
        tmp_path / "b", SETPOINT_TOKEN=TOKEN, SETPOINT_FAILURES_PER_MIN="1", SETPOINT_PROXIES="127.0.0.1"
    ) as server:
        assert [wrong(server, f"192.0.2.{i}") for i in range(3)] == [401, 401, 401]
        assert wrong(server, "192.0.2.0") == 429
