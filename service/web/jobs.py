"""Jobs over HTTP: looking, waiting, cancelling.

Decided here: an event is the job as it is now, named by a digest of what it says. So whoever comes back with the last
name that it saw is told what is new and nothing twice, whichever server answers, and needs nothing that is kept for it.
"""

import asyncio
import hashlib
import threading
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from anyio import move_on_after
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from calibrate.errors import SetpointError
from calibrate.purpose import fitted_for, prevalence_in_words
from service.domain import Principal
from service.errors import BadRequest, Busy, JobIsOver, TooMany
from service.facts import from_plain
from service.job import Job
from service.web.bodies import answer
from service.web.errors import Fault, problem_body
from service.web.points import point_reply
from service.web.schemas import JobReply, Problem, ProgressReply
from service.web.state import Parts, parts, principal

MOST_STREAMS = 64
MOST_OF_ONE = 8  # streams of one caller, so that no one holds them all
_RETRY_S = 1.0
_LOOK_S = 1.0  # a job that runs on another server tells nobody here
_HEARTBEAT_S = 10.0
_CANCEL_S = 5.0


class Streams:
    """The places for streams of events: so many in all, and so many of one caller."""

    def __init__(self, most: int = MOST_STREAMS, most_of_one: int = MOST_OF_ONE) -> None:
        self._most, self._most_of_one = most, most_of_one
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, name: str) -> None:
        """A place for a caller, to be given back. Raises: `Busy`, `TooMany`."""
        with self._lock:
            if self._held[name] >= self._most_of_one:
                raise TooMany(
                    f"{name} has {self._most_of_one} streams of events open, which is all a caller may", _RETRY_S
                )
            if self._held.total() >= self._most:
                raise Busy(f"{self._most} streams of events are open, which is all this server has; try again later")
            self._held[name] += 1

    def give_back(self, name: str) -> None:
        """A caller's place is free again."""
        with self._lock:
            self._held[name] -= 1
            self._held += Counter()  # forgets who holds none


_streams = Streams()


async def list_jobs(request: Request, limit: int = 100) -> Response:
    """The caller's calibrations, the newest first; everybody's for a caller who may manage."""
    if not 1 <= limit <= 1000:
        raise BadRequest(f"limit must be from 1 to 1000, got {limit}")
    service, who = parts(request), principal(request)

    def run() -> Response:
        return answer([job_reply(service, job, whole=False) for job in service.desk.jobs(who, limit)], list[JobReply])

    return await service.lanes.changes.run(run)


async def show_job(request: Request, job: str) -> Response:
    """A calibration: its state, how far it is, and once it is over its point or what stood in the way."""
    service, who = parts(request), principal(request)
    return await service.lanes.changes.run(lambda: answer(job_reply(service, service.desk.job(job, who)), JobReply))


async def cancel_job(request: Request, job: str) -> Response:
    """Cancels a calibration that waits or runs; one that was cancelled before stays so."""
    service, who = parts(request), principal(request)
    found = await service.lanes.changes.run(lambda: service.desk.cancel(job, who))
    with move_on_after(_CANCEL_S):
        async for found in watched(service, job):
            if found.is_over:
                break
    if found.state in ("done", "failed"):
        raise JobIsOver(f"job {found.id} is {found.state} and can no longer be cancelled")
    return await service.lanes.changes.run(lambda: answer(job_reply(service, found), JobReply))


async def job_events(request: Request, job: str) -> Response:
    """How far a calibration is, as server-sent events: the job whenever it changes, until it is over.

    With `Last-Event-ID` what that event said is not said again; 204 where nothing more will come. The stream ends when
    the caller's key does.
    """
    service, who = parts(request), principal(request)
    found = await service.lanes.changes.run(lambda: service.desk.job(job, who))
    seen = request.headers.get("last-event-id", "")
    if found.is_over:
        name, _ = await service.lanes.changes.run(lambda: _event(service, found))
        if name == seen:
            return Response(status_code=204)
    _streams.take(who.name)
    return Events(_told(service, job, who, seen), who.name)


class Events(StreamingResponse):
    """A stream that gives its place back, however it ends."""

    media_type = "text/event-stream"

    def __init__(self, told: AsyncIterator[bytes], caller: str) -> None:
        super().__init__(told, headers={"Cache-Control": "no-store"})
        self._caller = caller

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            _streams.give_back(self._caller)


async def _told(service: Parts, job_id: str, who: Principal, seen: str) -> AsyncIterator[bytes]:
    quiet_since = asyncio.get_running_loop().time()
    yield b"retry: 2000\n\n"
    async for job in watched(service, job_id):
        if not service.ring.holds(who):
            return
        name, event = await service.lanes.changes.run(lambda job=job: _event(service, job))  # type: ignore[misc]
        now = asyncio.get_running_loop().time()
        if name != seen:
            seen, quiet_since = name, now
            yield event
        elif now - quiet_since >= _HEARTBEAT_S:
            quiet_since = now
            yield b": still there\n\n"
        if service.lifecycle.is_draining:
            return  # who wants to know comes back to whoever answers then


def _event(service: Parts, job: Job) -> tuple[str, bytes]:
    """The name of an event, and the event."""
    data = job_reply(service, job).model_dump_json().encode()
    name = hashlib.sha256(data).hexdigest()[:16]
    kind = job.state if job.is_over else "progress"
    return name, b"id: %s\nevent: %s\ndata: %s\n\n" % (name.encode(), kind.encode(), data)


async def watched(service: Parts, job_id: str) -> AsyncIterator[Job]:
    """A job now, and whenever it may have changed, until it is over."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(changed.set)

    with service.desk.listening(job_id, tell):
        while True:
            changed.clear()
            job = await service.lanes.changes.run(lambda: service.desk.job(job_id))
            yield job
            if job.is_over:
                return
            with move_on_after(_LOOK_S):
                await changed.wait()


def error_of(job: Job) -> SetpointError:
    """What stood in the way of a job that failed."""
    return from_plain(job.error or {"kind": "", "message": ""}, Fault)


def job_reply(service: Parts, job: Job, *, whole: bool = True) -> JobReply:
    """A job as it goes over the wire; `whole` with its point and its error."""
    spec = job.spec["spec"]
    constraints = spec.get("constraints") or ()
    record = service.desk.point(job) if whole else None
    error = None
    if whole and job.state == "failed":
        error = Problem.model_validate(problem_body(error_of(job), job.spec["request_id"]))
    return JobReply(
        id=job.id,
        state=job.state,
        model=job.model,
        model_version=job.spec["model_version"],
        name=spec["name"],
        metric=spec["metric"],
        constraints=list(constraints),
        positive=spec.get("positive"),
        fitted_for=fitted_for(spec["metric"], constraints, prevalence_in_words(spec.get("prevalence"))),
        principal=job.principal,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        attempts=job.attempts,
        cancel_asked=job.cancel_asked,
        data_digest=job.data_digest,
        progress=ProgressReply.model_validate(job.progress) if job.progress else None,
        operating_point=None if job.result is None else job.result["operating_point"],
        result=None if record is None else point_reply(service.registry.model(job.model), record),
        error=error,
    )
