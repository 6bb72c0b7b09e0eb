"""What every store of jobs keeps, and every spool."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, text

from service.errors import Busy, Forbidden, KeyReused, StorageFailed, UnknownJob
from service.job import Claim, Job, NotOurs
from service.jobs.arriving import Arriving
from service.keys import Key
from service.storage.database import Database
from service.storage.jobs import SqlJobs, fail_unended
from service.storage.keys import SqlKeys
from service.storage.spool import FolderSpool
from service.storage.sql import SqlStore
from tests.contracts.test_store import promoted, record, version
from tests.databases import raw

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def asked(number: int = 1, **fields: Any) -> Job:
    """A job as it is asked for."""
    spec = {"spec": {"name": "p"}, "data": {"spool": "s", "file": f"o/{number}"}, "model_version": 1}
    made = Job(f"job{number}", "calibrate", "queued", "m", "ann", None, "r" * 64, spec, "d" * 64, NOW)
    return replace(made, created_at=NOW + timedelta(seconds=number), **fields)


@pytest.fixture
def database(address: URL) -> Iterator[Database]:
    """An empty database."""
    opened = Database(address)
    yield opened
    opened.close()


@pytest.fixture
def jobs(database: Database) -> SqlJobs:
    """An empty store of jobs."""
    return SqlJobs(database)


def test_a_job_comes_back_as_it_went_in(jobs: SqlJobs, address: URL) -> None:
    """Also to another server."""
    made = asked(idempotency_key="k")
    assert jobs.add(made, 1) == made
    other = Database(address)
    assert SqlJobs(other).job("job1") == jobs.job("job1") == made
    other.close()
    with pytest.raises(UnknownJob, match="there is no job 'nope'"):
        jobs.job("nope")


def test_one_key_is_one_job_of_a_caller(jobs: SqlJobs) -> None:
    """However many ask at once; another request is refused, another caller is not; the full queue is no matter then."""
    found: list[Job] = []
    threads = [
        threading.Thread(target=lambda i=i: found.append(jobs.add(asked(i, idempotency_key="k"), 1))) for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.id for job in found}) == 1
    with pytest.raises(KeyReused, match=f"which became job {found[0].id}"):
        jobs.add(asked(7, idempotency_key="k", request_digest="x" * 64), 9)
    assert jobs.add(asked(8, idempotency_key="k", principal="ben"), 2).id == "job8"
    assert [job.id for job in jobs.jobs("ben", 9)] == ["job8"]
    assert len(jobs.jobs(None, 9)) == 2
    assert len(jobs.jobs(None, 1)) == 1


def test_the_queue_is_bounded(jobs: SqlJobs) -> None:
    """Those that run do not count."""
    jobs.add(asked(1), 2)
    jobs.add(asked(2), 2)
    with pytest.raises(Busy, match="2 calibrations wait"):
        jobs.add(asked(3), 2)
    assert jobs.claim(jobs.job("job1"), "me") is not None
    jobs.add(asked(3), 2)
    assert [job.id for job in jobs.unended()] == ["job1", "job2", "job3"]


def test_a_job_is_claimed_by_one(jobs: SqlJobs) -> None:
    """Of eight that saw it at once; each attempt is counted."""
    jobs.add(asked(), 1)
    seen = jobs.job("job1")
    taken: list[Job | None] = []
    threads = [threading.Thread(target=lambda i=i: taken.append(jobs.claim(seen, f"o{i}"))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (mine,) = [job for job in taken if job is not None]
    assert (mine.state, mine.attempts, mine.started_at is not None) == ("running", 1, True)
    assert jobs.claim(seen, "late") is None
    other = jobs.claim(jobs.job("job1"), "other")
    assert other is not None
    assert (other.owner, other.attempts) == ("other", 2)


def test_a_lease_that_was_renewed_meanwhile_is_not_taken(jobs: SqlJobs) -> None:
    """Who saw it before that comes too late; a beat keeps progress and tells what is to be cancelled."""
    jobs.add(asked(), 1)
    assert jobs.claim(jobs.job("job1"), "me") is not None
    seen = jobs.job("job1")
    assert jobs.beat("me", {"job1": {"stage": "fitting"}}) == {"job1": False}
    assert jobs.claim(seen, "other") is None
    assert jobs.job("job1").progress == {"stage": "fitting"}
    assert jobs.cancel("job1", "ann").cancel_asked
    assert jobs.beat("me", {"job1": {}}) == {"job1": True}
    assert jobs.beat("other", {"job1": {"stage": "x"}}) == {}
    assert jobs.job("job1").progress == {}


def test_who_lost_a_job_can_no_longer_end_it(jobs: SqlJobs) -> None:
    """Nor publish for it: the step that would is undone as a whole."""
    jobs.add(asked(), 1)
    first = jobs.claim(jobs.job("job1"), "me")
    second = jobs.claim(jobs.job("job1"), "me")  # the same server, once more
    assert first is not None
    assert second is not None
    assert not jobs.end(first.claim, "failed", {"kind": "Busy", "message": ""})
    assert not jobs.release(first.claim, counted=True)
    assert jobs.release(second.claim, counted=False)
    assert (jobs.job("job1").state, jobs.job("job1").attempts, jobs.job("job1").owner) == ("queued", 1, None)
    assert not jobs.end(second.claim, "cancelled")


def test_a_job_is_done_in_the_step_that_publishes_its_point_and_only_once(jobs: SqlJobs, database: Database) -> None:
    """Point, audit entry, default and end; a second time, or for a claim that was lost, nothing."""
    points = SqlStore(database)
    points.add_version(version(), "ann")
    jobs.add(asked(), 1)
    lost = jobs.claim(jobs.job("job1"), "me")
    held = jobs.claim(jobs.job("job1"), "other")
    assert lost is not None
    assert held is not None
    for claim in (lost.claim, Claim("nope", "me", 1)):
        with pytest.raises(NotOurs):
            points.add_point(record(), "ann", promoted("why"), claim)
    assert points.model("m").default.point == "argmax"
    assert len(points.audit(9)) == 1
    points.add_point(record(), "ann", promoted("why"), held.claim)
    done = jobs.job("job1")
    assert (done.state, done.owner, done.finished_at is not None) == ("done", None, True)
    assert done.result == {"operating_point": "p@1", "model_version": 1, "digest": record().point.digest}
    assert [entry.details.get("job") for entry in points.audit(9)] == [None, "job1", None]
    with pytest.raises(NotOurs):
        points.add_point(record(), "ann", job=held.claim)
    assert [point.label for point in points.model("m").points] == ["argmax@1", "p@1"]


def test_a_job_of_a_key_that_has_ended_publishes_nothing(jobs: SqlJobs, database: Database) -> None:
    """Revoked, expired or never there; nor is the job done. One of a live key, or of none, is."""
    points, keys = SqlStore(database), SqlKeys(database)
    points.add_version(version(), "ann")
    made = Key("k1", "ann", "1" * 64, frozenset({"calibrate"}), None, NOW, "operator")
    keys.add(made)
    keys.add(replace(made, id="k2", name="ben", hash="2" * 64, expires_at=NOW + timedelta(days=1)))
    keys.add(replace(made, id="k3", name="eve", hash="3" * 64))
    keys.revoke("k3", "operator", NOW)
    for number, key_id in enumerate(("k2", "k3", "k4"), 1):
        jobs.add(asked(number, spec={**asked().spec, "key": key_id}), 9)
        held = jobs.claim(jobs.job(f"job{number}"), "me")
        assert held is not None
        with pytest.raises(Forbidden, match=f"the key {key_id} of ann, which asked for this, is .* by now"):
            points.add_point(record(), "ann", promoted("why"), held.claim)
        assert jobs.job(f"job{number}").state == "running"
    assert [point.label for point in points.model("m").points] == ["argmax@1"]
    without: list[dict[str, Any]] = [{"key": "k1"}, {"key": None}, {}]
    for number, key in enumerate(without, 4):
        jobs.add(asked(number, spec={**asked().spec, **key}), 9)
        held = jobs.claim(jobs.job(f"job{number}"), "me")
        assert held is not None
        points.add_point(record(), "ann", job=held.claim)
        assert jobs.job(f"job{number}").state == "done"


def test_cancelling_ends_what_waits_and_marks_what_runs(jobs: SqlJobs) -> None:
    """What is over stays as it is."""
    jobs.add(asked(1), 3)
    jobs.add(asked(2), 3)
    assert jobs.cancel("job1", "ann").state == "cancelled"
    running = jobs.claim(jobs.job("job2"), "me")
    assert running is not None
    assert jobs.cancel("job2", "ann").state == "running"
    assert jobs.end(running.claim, "cancelled")
    assert jobs.cancel("job2", "ann") == jobs.job("job2")
    assert jobs.unended() == []
    with pytest.raises(UnknownJob):
        jobs.cancel("nope", "ann")


def test_who_cancels_anothers_job_is_in_the_audit_trail(jobs: SqlJobs, database: Database) -> None:
    """Once for each; who cancels an own one, or one that is over, is not."""
    for number in (1, 2, 3):
        jobs.add(asked(number), 9)
    assert jobs.claim(jobs.job("job2"), "me") is not None
    jobs.cancel("job3", "ann")
    for _ in range(2):
        for job_id in ("job1", "job2", "job3"):
            jobs.cancel(job_id, "boss")
    told = [(entry.actor, entry.action, entry.model, dict(entry.details)) for entry in SqlStore(database).audit(9)]
    assert told == [
        ("boss", "cancel job", "m", {"job": "job2", "of": "ann", "state": "running"}),
        ("boss", "cancel job", "m", {"job": "job1", "of": "ann", "state": "queued"}),
    ]


def test_what_was_over_for_long_is_forgotten(jobs: SqlJobs) -> None:
    """Never what waits or runs, however old."""
    jobs.add(asked(1), 9)
    jobs.add(asked(2), 9)
    jobs.cancel("job1", "ann")
    assert jobs.forget(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert jobs.forget(datetime.now(UTC) + timedelta(hours=1)) == 1
    assert [job.id for job in jobs.jobs(None, 9)] == ["job2"]


def test_a_store_that_is_gone_says_so(jobs: SqlJobs, address: URL) -> None:
    """Every method."""
    raw(address, lambda connection: connection.execute(text("DROP TABLE jobs")))
    claim = Claim("job1", "me", 1)
    for call in (
        lambda: jobs.add(asked(), 1), lambda: jobs.job("x"), lambda: jobs.jobs(None, 1), jobs.unended,
        lambda: jobs.claim(asked(), "me"), lambda: jobs.beat("me", {}), lambda: jobs.cancel("x", "ann"),
        lambda: jobs.end(claim, "failed"), lambda: jobs.release(claim, counted=True), lambda: jobs.forget(NOW),
    ):  # fmt: skip
        with pytest.raises(StorageFailed):
            call()


def test_a_spool_tells_who_is_gone_and_sweeps_what_they_left(tmp_path: Path) -> None:
    """A process that was killed; never what a job still needs, nor what a living process has."""
    spool = FolderSpool(tmp_path / "jobs")
    program = (
        "import sys, pathlib, os, signal; from service.storage.spool import FolderSpool; "
        "s = FolderSpool(pathlib.Path(sys.argv[1])); print(s.id, s.owner, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "jobs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        name, owner = other.stdout.readline().split()
        assert name == spool.id
        for left in ("needed", "not"):
            spool.path(f"{owner}/{left}").write_text("rows")
        spool.sweep(frozenset())
        assert not spool.is_gone(owner)
        assert spool.path(f"{owner}/not").exists()
        other.kill()
        other.wait()
    assert spool.is_gone(owner)
    assert not spool.is_gone(spool.owner)
    assert not spool.is_gone("of nobody")
    spool.sweep(frozenset({f"{owner}/needed"}))
    assert spool.is_gone(owner)
    assert [path.name for path in spool.path(owner).iterdir() if path.name != "lock"] == ["needed"]
    spool.sweep(frozenset())
    assert not spool.path(owner).exists()
    assert spool.path(spool.owner).exists()
    spool.close()


def test_data_arrives_whole_with_its_digest_and_for_its_owner_alone(tmp_path: Path) -> None:
    """And says where it cannot be kept."""
    spool = FolderSpool(tmp_path / "jobs")
    with Arriving(spool) as arriving:
        arriving.write(b"ab")
        arriving.write(b"c")
        assert arriving.finish() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert arriving.path.read_bytes() == b"abc"
    assert arriving.path.stat().st_mode & 0o777 == 0o600
    spool.drop(arriving.name)
    spool.drop(arriving.name)
    assert not arriving.path.exists()
    spool.close()
    with pytest.raises(StorageFailed, match="cannot be used"):
        FolderSpool(tmp_path / "jobs" / "id" / "sub")


def test_what_a_backup_cannot_hold_has_failed_after_a_restore(jobs: SqlJobs, database: Database) -> None:
    """Rather than wait for data that nobody has; what was over stays as it was."""
    for number in (1, 2, 3):
        jobs.add(asked(number), 9)
    jobs.claim(jobs.job("job1"), "me")
    jobs.cancel("job3", "ann")
    with database.step() as step:
        fail_unended(step)
    assert [jobs.job(f"job{number}").state for number in (1, 2, 3)] == ["failed", "failed", "cancelled"]
    assert "no part of the backup" in str((jobs.job("job1").error or {})["message"])
