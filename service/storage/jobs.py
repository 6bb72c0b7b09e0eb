"""Jobs in SQL.

Decided here: what a job's owner may still do is decided by the row alone, its owner and the number of the attempt,
never by a clock: a lease only says when its owner was last heard of, and who takes a job over looks whether that
changes, by a clock that cannot be set. So a clock that goes back, or two that differ, can neither run a job twice to
its end nor keep it from being taken over.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select, update

from service.domain import PointRecord
from service.errors import Busy, Forbidden, KeyReused, UnknownJob
from service.job import OVER, Claim, Job, NotOurs
from service.storage import trail
from service.storage.database import Database
from service.storage.keys import read_key
from service.storage.tables import jobs

LEASE_S = 15.0


class SqlJobs:
    """Jobs in a database."""

    def __init__(self, database: Database) -> None:
        self._look, self._step = database.look, database.step

    def add(self, job: Job, most_waiting: int) -> Job:
        """Keeps a new job, or gives the one of the same caller and key. Raises: `KeyReused`, `Busy`."""
        with self._step() as step:
            if job.idempotency_key is not None:
                same = jobs.c.principal == job.principal, jobs.c.idempotency_key == job.idempotency_key
                row = step.execute(select(jobs).where(*same)).one_or_none()
                if row is not None:
                    if row.request_digest != job.request_digest:
                        raise KeyReused(
                            f"the idempotency key {job.idempotency_key[:100]!r} was used for another request, which "
                            f"became job {row.id}: repeat that one, or take a new key"
                        )
                    return _job(row)
            waiting = step.scalar(select(func.count()).where(jobs.c.state == "queued")) or 0
            if waiting >= most_waiting:
                raise Busy(f"{waiting} calibrations wait for their turn, which is all that may; try again later")
            values = {column.name: getattr(job, column.name) for column in jobs.c}
            step.execute(insert(jobs).values({**values, "spec": dict(job.spec)}))
            return job

    def job(self, job_id: str) -> Job:
        """One job. Raises: `UnknownJob`."""
        with self._look() as step:
            return _required(step, job_id)

    def jobs(self, principal: str | None, limit: int) -> list[Job]:
        """The newest jobs first, of one caller or of all."""
        wanted = select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id).limit(limit)
        if principal is not None:
            wanted = wanted.where(jobs.c.principal == principal)
        with self._look() as step:
            return [_job(row) for row in step.execute(wanted)]

    def unended(self) -> list[Job]:
        """What is queued or running, the oldest first."""
        with self._look() as step:
            wanted = select(jobs).where(jobs.c.state.in_(("queued", "running"))).order_by(jobs.c.created_at, jobs.c.id)
            return [_job(row) for row in step.execute(wanted)]

    def claim(self, job: Job, owner: str) -> Job | None:
        """Takes a job as it was seen, for one more attempt; None where it has changed since."""
        now = datetime.now(UTC)
        with self._step() as step:
            taken = step.execute(
                update(jobs)
                .where(_still(job.claim), jobs.c.state == job.state, jobs.c.lease_until == job.lease_until)
                .values(
                    state="running",
                    owner=owner,
                    lease_until=now + timedelta(seconds=LEASE_S),
                    attempts=job.attempts + 1,
                    started_at=job.started_at or now,
                    progress=None,
                )
            )
            return _required(step, job.id) if taken.rowcount else None

    def beat(self, owner: str, progress: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
        """Renews what an owner runs, keeps how far each is, and gives those that are still its own."""
        until = datetime.now(UTC) + timedelta(seconds=LEASE_S)
        ours = jobs.c.owner == owner, jobs.c.state == "running"
        with self._step() as step:
            for job_id, said in progress.items():
                step.execute(
                    update(jobs).where(jobs.c.id == job_id, *ours).values(lease_until=until, progress=dict(said))
                )
            rows = step.execute(select(jobs.c.id, jobs.c.cancel_asked).where(*ours))
            return {row.id: row.cancel_asked for row in rows}

    def cancel(self, job_id: str, actor: str) -> Job:
        """Cancels a job that waits, marks one that runs, leaves one that is over; where it is another's than the
        actor's, that is an audit entry. Raises: `UnknownJob`.
        """
        with self._step() as step:
            found = _required(step, job_id)
            if actor != found.principal and not (found.is_over or found.cancel_asked):
                said = {"job": job_id, "of": found.principal, "state": found.state}
                trail.write(step, datetime.now(UTC), actor, "cancel job", found.model, said)
            if found.state == "queued":
                _end(step, found.claim, {"state": "cancelled", "cancel_asked": True})
            elif found.state == "running":
                step.execute(update(jobs).where(jobs.c.id == job_id).values(cancel_asked=True))
            return _required(step, job_id)

    def end(self, claim: Claim, state: str, error: Mapping[str, Any] | None = None) -> bool:
        """Ends a job as failed or cancelled; False where it is no longer of that claim."""
        with self._step() as step:
            return _end(step, claim, {"state": state, "error": None if error is None else dict(error)})

    def release(self, claim: Claim, *, counted: bool) -> bool:
        """Puts a job back in the queue; False where it is no longer of that claim."""
        values = {"state": "queued", "owner": None, "lease_until": None, "progress": None}
        with self._step() as step:
            left = claim.attempts if counted else claim.attempts - 1
            return bool(step.execute(update(jobs).where(_still(claim)).values(**values, attempts=left)).rowcount)

    def forget(self, before: datetime) -> int:
        """Takes away what was over before then, and gives how many."""
        with self._step() as step:
            over = jobs.c.state.in_(OVER), jobs.c.finished_at < before
            return step.execute(delete(jobs).where(*over)).rowcount


def finish(step: Connection, claim: Claim, record: PointRecord) -> None:
    """A job is done, in the step that publishes its point.

    Raises: `NotOurs`, `Forbidden` where the key that asked for it was revoked or has expired; each undoes that step.
    """
    result = {"operating_point": record.label, "model_version": record.model_version, "digest": record.point.digest}
    if not _end(step, claim, {"state": "done", "result": result}):
        raise NotOurs(f"job {claim.id} was taken over, or is over")
    _check_key_holds(step, _required(step, claim.id))


def _check_key_holds(step: Connection, job: Job) -> None:
    """Raises `Forbidden` where a job was asked for with a key that has ended: what it would do now, nobody may."""
    key_id = job.spec.get("key")
    if key_id is None:
        return
    found = read_key(step, key_id)
    state = "not in the store" if found is None else found.state(datetime.now(UTC))
    if state != "live":
        raise Forbidden(
            f"the key {key_id} of {job.principal}, which asked for this, is {state} by now: nothing was published"
        )


def fail_unended(step: Connection) -> None:
    """Jobs of a store that was restored have failed: their data is no part of a backup."""
    why = {"kind": "JobLost", "message": "its data is no part of the backup that was restored: ask for it once more"}
    for row in step.execute(select(jobs).where(jobs.c.state.in_(("queued", "running")))).all():
        _end(step, _job(row).claim, {"state": "failed", "error": why})


def _end(step: Connection, claim: Claim, values: dict[str, Any]) -> bool:
    ended = {**values, "finished_at": datetime.now(UTC), "owner": None, "lease_until": None, "progress": None}
    return bool(step.execute(update(jobs).where(_still(claim)).values(**ended)).rowcount)


def _still(claim: Claim) -> ColumnElement[bool]:
    return and_(
        jobs.c.id == claim.id,
        jobs.c.owner == claim.owner,  # "is null" where there is none
        jobs.c.attempts == claim.attempts,
        jobs.c.state.in_(("queued", "running")),
    )


def _required(step: Connection, job_id: str) -> Job:
    row = step.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    if row is None:
        raise UnknownJob(f"there is no job {job_id[:100]!r}")
    return _job(row)


def _job(row: Row[Any]) -> Job:
    values = dict(row._mapping)
    for name in ("created_at", "started_at", "finished_at", "lease_until"):
        at = values[name]
        values[name] = at if at is None or at.tzinfo else at.replace(tzinfo=UTC)
    return Job(**values)
