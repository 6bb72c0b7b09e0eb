"""A calibration as a job: what is asked, how far it is, and what came of it.

A job is *queued*, *running*, and then *done*, *failed* or *cancelled*, for good. Whoever runs it holds a claim: its own
name and the number of the attempt. Both must still be those in the store when the job ends, so one that was taken over
meanwhile ends once, by whoever has it now.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from calibrate.errors import SetpointError

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: tuple[JobState, ...] = get_args(JobState)
OVER: frozenset[str] = frozenset({"done", "failed", "cancelled"})
MOST_ATTEMPTS = 3


class NotOurs(SetpointError):
    """A job that was taken over by another server, or is over, can no longer be ended by this one."""


class WorkerGone(SetpointError):
    """The process of a job ended before it had answered: it was killed, or it crashed."""


@dataclass(frozen=True)
class Claim:
    """The right to end a job: the attempt of an owner."""

    id: str
    owner: str | None
    attempts: int


@dataclass(frozen=True)
class Job:
    """One calibration that was asked for.

    `spec` is what to fit and how to publish it, with where the data lies (`data`), the model version that it is for,
    the id of the request that asked and that of the API key it came with (`key`, null where it came with none);
    `data_digest` is the SHA-256 of the data as it came in. `progress` has the stage, the rows once they are known, and
    where a stage can be counted what is done of what total. `result` names the point, `error` is the fact that stood
    in the way.
    """

    id: str
    kind: str
    state: JobState
    model: str
    principal: str
    idempotency_key: str | None
    request_digest: str
    spec: Mapping[str, Any]
    data_digest: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    owner: str | None = None
    lease_until: datetime | None = None
    attempts: int = 0
    cancel_asked: bool = False
    progress: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it will never change again."""
        return self.state in OVER

    @property
    def claim(self) -> Claim:
        """The claim of whoever runs it now."""
        return Claim(self.id, self.owner, self.attempts)
