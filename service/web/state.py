"""What every handler is given: the parts that `main` wired together, taken off the request."""

from dataclasses import dataclass, field
from typing import cast

from starlette.requests import Request

from service.auth.ring import KeyRing
from service.decisions import DecisionLog
from service.domain import Principal
from service.jobs.desk import Desk
from service.lifecycle import Lifecycle
from service.monitoring.monitor import Call, Monitor
from service.ports import Decisions, Runner
from service.registry import Registry
from service.settings import Settings
from service.shadows import Shadows
from service.web.lanes import Lanes
from service.web.oip.statistics import Statistics


@dataclass(frozen=True)
class Parts:
    """The service without HTTP."""

    settings: Settings
    registry: Registry
    lanes: Lanes
    desk: Desk
    monitor: Monitor
    lifecycle: Lifecycle
    runner: Runner
    kept_decisions: Decisions
    decisions: DecisionLog | None  # None where none are logged
    shadows: Shadows
    ring: KeyRing
    statistics: Statistics = field(default_factory=Statistics)


def parts(request: Request) -> Parts:
    """The parts behind a request."""
    return cast("Parts", request.app.state.parts)


def request_id(request: Request) -> str:
    """The id that the doorway gave the request."""
    return str(request.state.request_id)


def principal(request: Request) -> Principal:
    """Who is calling."""
    return cast("Principal", request.state.principal)


def call(request: Request) -> Call:
    """What is told of the request when it ends."""
    return cast("Call", request.state.call)


def actor(request: Request) -> str:
    """Who is calling, for the audit trail."""
    return principal(request).name
