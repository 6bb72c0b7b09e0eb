"""Models, operating points and the default: registering, publishing, listing, moving."""

from anyio import to_thread
from starlette.requests import Request

from calibrate.operating_point import OperatingPoint
from service.domain import BadRequest, Default, Model, ModelVersion, PointRecord
from service.registry import Registry
from service.web.bodies import from_json, read_form, read_wire
from service.web.schemas import (
    AuditReply,
    ColumnReply,
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
from service.web.state import actor, parts


async def register(request: Request) -> VersionReply:
    """Registers an ONNX file as the next version of a model.

    The first version is served at once under the point `argmax`; a later one is staged, and nothing that is live
    changes until the default is moved to it. The linear head is found in the graph; where there is none, name `output`
    and `output_kind`, and all but `features` works.
    """
    files, texts = await read_form(request, {"file"}, {"name", "classes", "prior", "output", "output_kind"})
    registry = parts(request).registry

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

    version = await to_thread.run_sync(run)
    return version_reply(registry, registry.model(version.model), version)


async def list_models(request: Request) -> list[ModelReply]:
    """Every model, with its versions, its default and the names of its points."""
    registry = parts(request).registry
    return [_model_reply(registry, model) for model in registry.models()]


async def show_model(request: Request, model: str) -> ModelReply:
    """One model: its inputs and how to write a row for it, classes, head, default, and what it really runs on."""
    registry = parts(request).registry
    return _model_reply(registry, registry.model(model))


async def list_points(request: Request, model: str, model_version: int | None = None) -> list[PointReply]:
    """A model's operating points with their evidence, of one version where `model_version` is given."""
    found = parts(request).registry.model(model)
    wanted = None if model_version is None else found.version(model_version).version
    return [point_reply(found, record) for record in found.points if wanted in (None, record.model_version)]


async def show_point(request: Request, model: str, point: str) -> PointReply:
    """One operating point as `/calibrate` answered it: by `name@version`, or by name the default version's latest."""
    found = parts(request).registry.model(model)
    for record in found.points:
        if record.label == point:
            return point_reply(found, record)
    return point_reply(found, found.point(found.version(None), point))


async def publish(request: Request, model: str) -> PointReply:
    """Publishes a point that was fitted elsewhere; its evidence is marked `submitted`."""
    wanted = await read_wire(request, PublishRequest)
    point = OperatingPoint.from_dict(wanted.point.model_dump())
    details = wanted.details.model_dump(mode="json")
    for interval in (*details["evidence"].values(), *details["before"].values()):
        interval["kind"] = "submitted"
    who, registry = actor(request), parts(request).registry
    record = await to_thread.run_sync(
        lambda: registry.publish(
            model, name=wanted.name, point=point, details=details, model_version=wanted.model_version, actor=who
        )
    )
    return point_reply(registry.model(model), record)


async def set_default(request: Request, model: str) -> DefaultReply:
    """Moves the default to a version and one of its points, both in one step; the way back is the same call."""
    wanted = await read_wire(request, DefaultRequest)
    who, registry = actor(request), parts(request).registry
    default = await to_thread.run_sync(
        lambda: registry.set_default(
            model, model_version=wanted.model_version, point=wanted.operating_point, actor=who, reason=wanted.reason
        )
    )
    return _default_reply(model, default)


async def audit(request: Request, limit: int = 100) -> list[AuditReply]:
    """Who changed what, when, and why: the newest first, at most 1,000."""
    if not 1 <= limit <= 1000:
        raise BadRequest(f"limit must be from 1 to 1000, got {limit}")
    entries = await to_thread.run_sync(parts(request).registry.audit, limit)
    return [AuditReply(**{**vars(entry), "details": dict(entry.details)}) for entry in entries]


def point_reply(model: Model, record: PointRecord) -> PointReply:
    """A point as it goes over the wire."""
    said_by_us = {
        "model": record.model,
        "model_version": record.model_version,
        "name": record.name,
        "version": record.version,
        "operating_point": record.label,
        "is_default": model.default == Default(record.model_version, record.name, record.version),
        "point": Point(**record.point.to_dict()),
        "digest": record.point.digest,
        "threshold": record.point.threshold,
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
