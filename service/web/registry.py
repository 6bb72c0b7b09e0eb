"""Models, operating points and the default: registering, publishing, listing, moving."""

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from calibrate.errors import BadPoint
from calibrate.operating_point import OperatingPoint
from service.domain import BadRequest, Default, Model, ModelVersion, PointRecord
from service.registry import Registry
from service.web.bodies import answer, from_json, read_form, read_small, read_wire
from service.web.schemas import (
    AuditReply,
    ColumnReply,
    CurveReply,
    DefaultReply,
    DefaultRequest,
    HeadReply,
    InputReply,
    ModelReply,
    Point,
    PointReply,
    PublishRequest,
    VersionReply,
)
from service.web.state import actor, parts, principal

log = logging.getLogger(__name__)

MOST_DETAILS_BYTES = 64 * 2**10
MOST_DETAILS_DEPTH = 20


async def register(request: Request) -> VersionReply:
    """Registers an ONNX file as the next version of a model.

    The first version is served at once under the point `argmax`; a later one is staged, and nothing that is live
    changes until the default is moved to it. The linear head is found in the graph; where there is none, name `output`
    and `output_kind`, and all but `features` works.
    """
    files, texts = await read_form(request, {"file"}, {"name", "classes", "prior", "output", "output_kind"})
    registry = parts(request).registry
    principal(request).check_model(texts.get("name", ""))

    def run() -> ModelVersion:
        return registry.register(
            files["file"],
            name=texts.get("name", ""),
            classes=from_json(texts.get("classes"), list[str], "classes"),
            prior=from_json(texts.get("prior"), list[float], "prior"),
            output=texts.get("output"),
            output_kind=texts.get("output_kind"),
            actor=actor(request),
        )

    version = await parts(request).lanes.registrations.run(run)
    return version_reply(registry, registry.model(version.model), version)


async def list_models(request: Request) -> Response:
    """Every model that the caller may use, with its versions, its default and the names of its points."""
    service, may_see = parts(request), principal(request).may_see
    registry = service.registry

    def run() -> Response:
        seen = [model for model in registry.models() if may_see(model.name)]
        return answer([_model_reply(registry, model) for model in seen], list[ModelReply])

    return await service.lanes.changes.run(run)


async def show_model(request: Request, model: str) -> Response:
    """One model: its inputs and how to write a row for it, classes, head, default, and what it really runs on."""
    service = parts(request)
    registry = service.registry
    return await service.lanes.changes.run(lambda: answer(_model_reply(registry, registry.model(model)), ModelReply))


async def list_points(request: Request, model: str, model_version: int | None = None) -> Response:
    """A model's operating points with their evidence, of one version where `model_version` is given."""
    service = parts(request)

    def run() -> Response:
        found = service.registry.model(model)
        wanted = None if model_version is None else found.version(model_version).version
        listed = [point_reply(found, record) for record in found.points if wanted in (None, record.model_version)]
        return answer(listed, list[PointReply])

    return await service.lanes.changes.run(run)


async def show_point(request: Request, model: str, point: str) -> PointReply:
    """One operating point as `/calibrate` answered it: by `name@version`, or by name the default version's latest."""
    found = parts(request).registry.model(model)
    return point_reply(found, _find(found, point))


async def show_curve(request: Request, model: str, point: str) -> Response:
    """The trade-off curve that an operating point of two classes was chosen on, thinned, with simultaneous bands."""
    service = parts(request)

    def run() -> Response:
        record = _find(service.registry.model(model), point)
        said = orjson.loads(service.registry.curve(record))
        return answer(CurveReply(operating_point=record.label, **said), CurveReply)

    return await service.lanes.changes.run(run)


def _find(model: Model, reference: str) -> PointRecord:
    """A point by `name@version` of any version, or by name the default version's latest. Raises: `UnknownPoint`."""
    for record in model.points:
        if record.label == reference:
            return record
    return model.point(model.version(None), reference)


async def publish(request: Request, model: str) -> PointReply:
    """Publishes a point that was fitted elsewhere; its evidence is marked `submitted`."""
    body, who, service = await read_small(request), actor(request), parts(request)
    return await service.lanes.changes.run(lambda: _publish(service.registry, model, body, who))


def _publish(registry: Registry, model: str, body: bytes, who: str) -> PointReply:
    wanted = read_wire(body, PublishRequest)
    point = OperatingPoint.from_dict(wanted.point.model_dump(exclude_none=True))
    _check_extras(wanted.details.model_extra or {})
    details = wanted.details.model_dump(mode="json")
    details.pop("curve", None)  # names what is kept here, of a calibration that was made here
    promised = [guarantee["interval"] for guarantee in details["guarantees"]]
    told = [each for name in ("evidence", "before", "gain", "model_scores") for each in details[name].values()]
    for interval in (*told, *promised):
        if isinstance(interval, dict):
            interval["kind"] = "submitted"
    found = registry.model(model)
    version = found.version(wanted.model_version).version
    draft = PointRecord(model, version, wanted.name, 0, point, details, datetime.now(UTC))
    _point_reply(found, draft)  # what could not be answered must not be kept
    record = registry.publish(
        model, name=wanted.name, point=point, details=details, model_version=wanted.model_version, actor=who
    )
    return point_reply(registry.model(model), record)


def _check_extras(extras: dict[str, Any]) -> None:
    """Bounds what may come along with a point beside what its type lists. Raises: `BadPoint`."""
    level, depth = list(extras.values()), 1
    while level:
        depth += 1
        if depth > MOST_DETAILS_DEPTH:
            raise BadPoint(f"details may be nested {MOST_DETAILS_DEPTH} deep, got more")
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    if (size := len(orjson.dumps(extras))) > MOST_DETAILS_BYTES:
        raise BadPoint(f"details beyond the known ones may have {MOST_DETAILS_BYTES} bytes, got {size}")


async def set_default(request: Request, model: str) -> DefaultReply:
    """Moves the default to a version and one of its points, both in one step; the way back is the same call."""
    body, who, service = await read_small(request), actor(request), parts(request)

    def run() -> DefaultReply:
        wanted = read_wire(body, DefaultRequest)
        default = service.registry.set_default(
            model, model_version=wanted.model_version, point=wanted.operating_point, actor=who, reason=wanted.reason
        )
        return _default_reply(model, default)

    return await service.lanes.changes.run(run)


async def audit(request: Request, limit: int = 100) -> Response:
    """Who changed what, when, and why: the newest first, at most 1,000, of the models that the caller may use."""
    if not 1 <= limit <= 1000:
        raise BadRequest(f"limit must be from 1 to 1000, got {limit}")
    service, who = parts(request), principal(request)

    def run() -> Response:
        entries = service.registry.audit(limit, who.models)
        return answer(
            [AuditReply(**{**vars(entry), "details": dict(entry.details)}) for entry in entries], list[AuditReply]
        )

    return await service.lanes.changes.run(run)


def point_reply(model: Model, record: PointRecord) -> PointReply:
    """A point as it goes over the wire; where its stored details cannot be read, without them."""
    try:
        return _point_reply(model, record)
    except (ValidationError, BadPoint) as error:
        log.error("the details of %s of model '%s' cannot be read: %s", record.label, record.model, error)
        return _point_reply(model, replace(record, details={"warnings": ["the stored details cannot be read"]}))


def _point_reply(model: Model, record: PointRecord) -> PointReply:
    said_by_us = {
        "model": record.model,
        "model_version": record.model_version,
        "name": record.name,
        "version": record.version,
        "operating_point": record.label,
        "is_default": model.default == Default(record.model_version, record.name, record.version),
        "point": Point(**record.point.to_dict()),
        "digest": record.point.digest,
        "threshold": record.threshold,
        "created_at": record.created_at,
    }
    return PointReply.model_validate({**record.details, **said_by_us})


def version_reply(registry: Registry, model: Model, version: ModelVersion) -> VersionReply:
    """A model version as it goes over the wire."""
    return VersionReply(
        name=version.model,
        model_version=version.version,
        is_default=model.default.model_version == version.version,
        digest=version.digest,
        size_bytes=version.size_bytes,
        inputs=[InputReply(name=port.name, dtype=port.dtype, shape=list(port.shape)) for port in version.inputs],
        columns=[
            ColumnReply(name=column.name, kind=column.kind, missing=column.missing, codes=dict(column.codes))
            for column in version.description.columns
        ],
        notes=list(version.description.notes),
        classes=list(version.classes),
        prior=None if version.prior is None else list(version.prior),
        head=None if version.head is None else HeadReply(**vars(version.head)),
        output=version.output,
        output_kind=version.output_kind,
        provider=registry.provider(version),
        created_at=version.created_at,
    )


def _model_reply(registry: Registry, model: Model) -> ModelReply:
    return ModelReply(
        name=model.name,
        default=_default_reply(model.name, model.default),
        versions=[version_reply(registry, model, version) for version in model.versions.values()],
        operating_points=[record.label for record in model.points],
    )


def _default_reply(model: str, default: Default) -> DefaultReply:
    return DefaultReply(model=model, model_version=default.model_version, operating_point=default.label)
