"""Models and the audit trail: registering, listing, telling."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from calibrate.io.description import read_columns
from service.domain import Model, ModelVersion
from service.errors import BadRequest
from service.registry import Registry
from service.web.bodies import answer, from_json, is_multipart, read_form, read_small, read_wire
from service.web.points import default_reply
from service.web.schemas import (
    AuditHeadReply,
    AuditReply,
    ColumnReply,
    HeadReply,
    InputReply,
    ModelReply,
    RegisterRequest,
    VersionReply,
)
from service.web.state import actor, parts, principal

_OF_FILE = ("output", "output_kind", "columns", "allow_random")  # fields that only an ONNX file has
_NO_ENTRY = AuditHeadReply(number=0, hash="0" * 64)


async def register(request: Request) -> VersionReply:
    """Registers the next version of a model: an ONNX file, or its classes alone.

    The first version is served at once under the point `argmax`; a later one is staged, and nothing that is live
    changes until the default is moved to it. The linear head is found in the graph; where there is none, name `output`
    and `output_kind`, and all but `features` works. A model that answers at random (dropout left on) is refused unless
    `allow_random` is true; one whose rows depend on the others of their batch is run row by row, and `warnings` say so.
    Where the file does not describe the columns of its one input, `columns` names them, and rows are matched by name.

    Without a file, in a form or as JSON, a model is registered by its `classes` alone. It decides scores that were
    computed elsewhere: everything but `inputs` and `features` works.
    """
    file: bytes | None = None
    texts: Mapping[str, str] = {}
    if is_multipart(request):
        files, texts = await read_form(request, set(), {"name", "classes", "prior", *_OF_FILE}, optional={"file"})
        file = files.get("file")
        given = {
            "name": texts.get("name", ""),
            "classes": from_json(texts.get("classes"), list[str], "classes"),
            "prior": from_json(texts.get("prior"), list[float], "prior"),
        }
    else:
        given = read_wire(_with_classes(await read_small(request)), RegisterRequest).model_dump()
    registry = parts(request).registry
    principal(request).check_model(given["name"])

    def run() -> ModelVersion:
        if file is not None:
            named = from_json(texts.get("columns"), list[Any], "columns")
            return registry.register(
                file,
                **given,
                output=texts.get("output"),
                output_kind=texts.get("output_kind"),
                columns=None if named is None else read_columns(named),
                allow_random=bool(from_json(texts.get("allow_random"), bool, "allow_random")),
                actor=actor(request),
            )
        if given["classes"] is None:
            raise BadRequest(
                "the form has no file 'file' and no classes: give an ONNX file, or classes to register a model by its "
                "classes alone, for scores that are computed elsewhere"
            )
        if unused := [field for field in _OF_FILE if field in texts]:
            raise BadRequest(f"{unused[0]} is about an ONNX file; the form has no file 'file'")
        return registry.register_classes(**given, actor=actor(request))

    version = await parts(request).lanes.registrations.run(run)
    return version_reply(registry, registry.model(version.model), version)


def _with_classes(body: bytes) -> bytes:
    """The JSON body that registers a model by its classes. Raises: `BadRequest` for what is something else."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict) or "classes" not in value:
        got = "JSON without classes" if isinstance(value, dict) else "neither"
        raise BadRequest(
            "wanted a multipart/form-data body with an ONNX file in 'file', or JSON with the classes of a model that "
            f"is registered by its classes alone; got {got}"
        )
    return body


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


async def audit(request: Request, limit: int = 100, before: int | None = None, model: str | None = None) -> Response:
    """Who changed what, when, and why: the newest first, at most 1,000.

    `model` tells of one model alone. `before` is the number of an entry: those before it are the next page.
    """
    if not 1 <= limit <= 1000:
        raise BadRequest(f"limit must be from 1 to 1000, got {limit}")
    if before is not None and not 1 <= before <= 2**31 - 1:
        raise BadRequest(f"before must be the number of an entry, got {str(before)[:100]}")
    service, who = parts(request), principal(request)
    models = who.models if model is None else frozenset({model} if who.may_see(model) else ())

    def run() -> Response:
        entries = service.registry.audit(limit, models, before)
        return answer(
            [AuditReply(**{**vars(entry), "details": dict(entry.details)}) for entry in entries], list[AuditReply]
        )

    return await service.lanes.changes.run(run)


async def audit_head(request: Request) -> AuditHeadReply:
    """The newest entry of the audit trail. Kept elsewhere, it shows later that nothing before it was changed."""
    service = parts(request)
    newest = await service.lanes.changes.run(lambda: service.registry.audit(1))
    return AuditHeadReply(number=newest[0].number, hash=newest[0].hash) if newest else _NO_ENTRY


def version_reply(registry: Registry, model: Model, version: ModelVersion) -> VersionReply:
    """A model version as it goes over the wire."""
    return VersionReply(
        name=version.model,
        model_version=version.version,
        is_default=model.default.model_version == version.version,
        kind=version.kind,
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
        depends_on_batch=version.depends_on_batch,
        is_random=version.is_random,
        warnings=list(version.warnings),
        created_at=version.created_at,
    )


def _model_reply(registry: Registry, model: Model) -> ModelReply:
    return ModelReply(
        name=model.name,
        default=default_reply(model.name, model.default),
        versions=[version_reply(registry, model, version) for version in model.versions.values()],
        operating_points=[record.label for record in model.points],
        aliases=dict(model.aliases),
    )
