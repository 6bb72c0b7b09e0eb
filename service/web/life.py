"""The life of a point: its state, the default and the way back, and aliases. Every change needs a reason."""

from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from service.domain import Model, PointState
from service.evidence import examine
from service.points import Asked, to_alias, to_default, to_previous, to_state, without_alias
from service.registry import Registry
from service.web.bodies import read_small, read_wire
from service.web.life_schemas import (
    AliasReply,
    AliasRequest,
    ApproveRequest,
    DefaultRequest,
    MovedReply,
    RollbackRequest,
    StateRequest,
)
from service.web.points import default_reply, point_reply
from service.web.schemas import PointReply
from service.web.state import actor, parts, principal

T = TypeVar("T")


async def show_default(request: Request, model: str) -> MovedReply:
    """What answers when a request names nothing, and what a rollback would go back to."""
    return _moved(parts(request).registry.model(model))


async def set_default(request: Request, model: str) -> MovedReply:
    """Moves the default to a version and one of its points, both in one step.

    Refused where the point's own evidence breaks the constraints it was fitted for, or is worse than the plain model's
    beyond chance, unless `override` is true; the reason is kept.
    """
    body = await read_small(request)

    def run(registry: Registry, who: str) -> MovedReply:
        wanted = read_wire(body, DefaultRequest)
        asked = Asked(who, wanted.reason, registry.approval, wanted.override)
        found = registry.model(model)
        number = found.find(wanted.operating_point, wanted.model_version).model_version
        registry.load(found.version(number if wanted.model_version is None else wanted.model_version))
        decide = to_default(wanted.operating_point, asked, model_version=wanted.model_version, expected=wanted.expected)
        return _moved(registry.change(model, decide, who))

    return await _run(request, run)


async def roll_back(request: Request, model: str) -> MovedReply:
    """Moves the default back to what it was before, as `GET` on the default tells; again, and it goes further back."""
    body = await read_small(request)

    def run(registry: Registry, who: str) -> MovedReply:
        wanted = read_wire(body, RollbackRequest)
        found = registry.model(model)
        if found.previous is not None:
            registry.load(found.version(found.previous.model_version))
        asked = Asked(who, wanted.reason, registry.approval)
        decide = to_previous(asked, expected=wanted.expected, seen=found.previous)
        return _moved(registry.change(model, decide, who))

    return await _run(request, run)


async def approve(request: Request, model: str, point: str) -> PointReply:
    """Lets a draft or a shadow answer; with four eyes not by its author, nor without evidence but with `override`."""
    wanted = read_wire(await read_small(request), ApproveRequest)
    return await _to_state(request, model, point, "approved", wanted)


async def shadow(request: Request, model: str, point: str) -> PointReply:
    """Has a point computed with every prediction of its model version, and counted, but never answered.

    A point of another version than the default one is run on what the default version answers too, and refused where
    that takes other inputs or has other classes.
    """
    wanted = read_wire(await read_small(request), StateRequest)
    return await _to_state(request, model, point, "shadow", wanted)


async def retire(request: Request, model: str, point: str) -> PointReply:
    """Takes a point out of use: whoever names it is told why. Not while it is the default or an alias leads to it."""
    wanted = read_wire(await read_small(request), StateRequest)
    return await _to_state(request, model, point, "retired", wanted)


async def list_aliases(request: Request, model: str) -> list[AliasReply]:
    """Every alias of a model, and the point that it leads to."""
    found = parts(request).registry.model(model)
    return [_alias_reply(found, alias) for alias in found.aliases]


async def set_alias(request: Request, model: str, alias: str) -> AliasReply:
    """Makes a name that leads to a point, or leads it to another. It may stand wherever a point's name may."""
    body = await read_small(request)

    def run(registry: Registry, who: str) -> AliasReply:
        wanted = read_wire(body, AliasRequest)
        asked = Asked(who, wanted.reason, registry.approval, wanted.override)
        decide = to_alias(alias, wanted.operating_point, asked, expected=wanted.expected)
        return _alias_reply(registry.change(model, decide, who), alias)

    return await _run(request, run)


async def drop_alias(request: Request, model: str, alias: str, reason: str = "") -> list[AliasReply]:
    """Takes an alias away, and tells those that are left; the point stays as it is."""

    def run(registry: Registry, who: str) -> list[AliasReply]:
        left = registry.change(model, without_alias(alias, Asked(who, reason, registry.approval)), who)
        return [_alias_reply(left, other) for other in left.aliases]

    return await _run(request, run)


async def _to_state(request: Request, model: str, point: str, state: PointState, wanted: StateRequest) -> PointReply:
    override = isinstance(wanted, ApproveRequest) and wanted.override

    may_approve = "approve" in principal(request).scopes

    def run(registry: Registry, who: str) -> PointReply:
        asked = Asked(who, wanted.reason, registry.approval, override, may_approve)
        changed = registry.change(model, to_state(point, state, asked), who)
        return point_reply(changed, changed.exact(point))

    return await _run(request, run)


async def _run(request: Request, work: Callable[[Registry, str], T]) -> T:
    service, who = parts(request), actor(request)
    return await service.lanes.changes.run(lambda: work(service.registry, who))


def _moved(model: Model) -> MovedReply:
    found = examine(model.exact(model.default.label))
    return MovedReply(
        **default_reply(model.name, model.default).model_dump(),
        previous=None if model.previous is None else default_reply(model.name, model.previous),
        warnings=[*found.against, *found.doubts, *found.missing, *model.version(None).warnings],
    )


def _alias_reply(model: Model, alias: str) -> AliasReply:
    label = model.aliases[alias]
    return AliasReply(alias=alias, operating_point=label, model_version=model.version_of(label))
