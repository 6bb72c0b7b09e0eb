"""What every store of keys keeps, in one suite for all of them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from service.errors import StorageFailed
from service.keys import BadKey, Key, UnknownKey, check_key_name, check_scopes, digest, make_secret
from service.ports import Keys
from service.storage.database import Database
from service.storage.keys import SqlKeys
from service.storage.trail import newest
from tests.databases import KINDS, new_database

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty store."""
    opened = Database(new_database(request.param, tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def keys(database: Database) -> SqlKeys:
    """Its keys."""
    return SqlKeys(database)


def key(name: str = "triage", **fields: object) -> Key:
    """A key with something in every field."""
    key_id, secret = make_secret()
    made = Key(key_id, name, digest(secret.encode()), check_scopes(["predict", "audit"]), frozenset({"m"}), NOW, "op")
    return replace(made, **{"expires_at": NOW + DAY, **fields})  # type: ignore[arg-type]


def actions(database: Database) -> list[tuple[str, str]]:
    """What the audit trail tells, the oldest first."""
    with database.look() as look:
        return [(entry.actor, entry.action) for entry in reversed(newest(look, 100))]


def test_what_was_kept_comes_back(keys: Keys, database: Database) -> None:
    """Field for field, with its audit entry, which holds nothing of the secret."""
    first, second = key(), key("all", models=None, expires_at=None, created_at=NOW + DAY)
    keys.add(second)
    keys.add(first)
    assert keys.all() == [first, second]
    assert actions(database) == [("op", "create key")] * 2
    with database.look() as look:
        told = str([vars(entry) for entry in newest(look, 10)])
    assert first.hash not in told


def test_a_name_is_one_callers(keys: Keys) -> None:
    """While its key is live; then it may have another."""
    held = key()
    keys.add(held)
    with pytest.raises(BadKey, match="live key named 'triage'"):
        keys.add(key(scopes=frozenset({"manage"})))
    assert len(keys.all()) == 1
    keys.add(key(created_at=NOW + 2 * DAY, expires_at=None))
    keys.revoke(keys.all()[1].id, "op", NOW + 3 * DAY)
    keys.add(key(created_at=NOW + 4 * DAY))


def test_a_rotated_key_holds_for_its_grace(keys: Keys, database: Database) -> None:
    """The new one has the old one's name, scopes and models; the old one's end never moves away."""
    old = key(expires_at=None)
    keys.add(old)
    asked = key("", scopes=frozenset(), models=None, expires_at=NOW + 9 * DAY)
    made = keys.rotate(old.id, asked, NOW + DAY)
    assert made == replace(asked, name=old.name, scopes=old.scopes, models=old.models)
    assert {each.id: each for each in keys.all()} == {old.id: replace(old, expires_at=NOW + DAY), made.id: made}
    assert actions(database)[-1] == ("op", "rotate key")
    keys.rotate(old.id, key(""), NOW + 5 * DAY)
    assert {each.expires_at for each in keys.all() if each.id == old.id} == {NOW + DAY}


def test_a_revoked_key_stays_revoked(keys: Keys, database: Database) -> None:
    """And cannot be rotated back to life; neither can one that expired, or that there never was."""
    held = key()
    keys.add(held)
    assert keys.revoke(held.id, "op", NOW, "it leaked").id == held.id
    assert keys.all() == [replace(held, revoked_at=NOW)]
    assert keys.all()[0].state(NOW) == "revoked"
    with pytest.raises(BadKey, match="was revoked at"):
        keys.revoke(held.id, "op", NOW)
    with pytest.raises(BadKey, match="is revoked"):
        keys.rotate(held.id, key(""), NOW)
    with pytest.raises(UnknownKey, match="'nope'"):
        keys.revoke("nope", "op", NOW)
    with pytest.raises(UnknownKey, match="'nope'"):
        keys.rotate("nope", key(""), NOW)
    old = key("old")
    keys.add(old)
    with pytest.raises(BadKey, match="is expired"):
        keys.rotate(old.id, key("", created_at=NOW + 3 * DAY), NOW + 4 * DAY)
    with database.look() as look:
        assert dict(newest(look, 5)[1].details)["reason"] == "it leaked"


def test_a_store_that_fails_says_so(keys: Keys, database: Database) -> None:
    """And keeps nothing."""
    with database.step() as step:
        step.execute(text("ALTER TABLE keys RENAME TO gone"))
    for call in (keys.all, lambda: keys.add(key())):
        with pytest.raises(StorageFailed):
            call()
    assert actions(database) == []


def test_a_secret_is_256_bits_that_a_scanner_finds() -> None:
    """Its id leads to the key; no two are alike."""
    key_id, secret = make_secret()
    assert secret.startswith(f"sp_{key_id}_")
    assert len(secret.split("_", 2)[2]) == 43
    assert len({make_secret()[1] for _ in range(1000)}) == 1000


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65])
def test_names_are_plain(name: str) -> None:
    """They stand in the audit trail and in logs."""
    with pytest.raises(Exception, match="the name of a key"):
        check_key_name(name)


@pytest.mark.parametrize("name", ["local", "token", "operator"])
def test_names_of_callers_without_a_key_are_taken(name: str) -> None:
    """Nobody passes for them in the audit trail."""
    with pytest.raises(BadKey, match="stands for callers without a key"):
        check_key_name(name)


@pytest.mark.parametrize("scopes", [[], ["root"], ["predict", "open"]])
def test_scopes_are_known(scopes: list[str]) -> None:
    """At least one, of the table's."""
    with pytest.raises(BadKey, match="one or more of the scopes predict, calibrate"):
        check_scopes(scopes)
