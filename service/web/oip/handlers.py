"""The routes under `/v2`: each parses, asks, wraps.

Decided here: every answer has a body that both readings of the protocol understand, because one client looks at the
status and another at a field; `load` makes sure that a model is in memory; `unload` is refused, since what is
registered is served until its default moves, and a client must not end that for all others. Nothing is configured or
uploaded through `load`: `POST /models` does that, behind a trial.
"""

from importlib.metadata import version as installed
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from service.domain import Model, ModelVersion
from service.errors import BadRequest, Unsupported
from service.registry import Registry
from service.web.bodies import read_small
from service.web.hot import HotCall, Reply
from service.web.oip.infer import infer, most_rows, read_version
from service.web.oip.metadata import index_item, server_metadata
from service.web.oip.metadata import model_config as config_of
from service.web.oip.metadata import model_metadata as metadata_of
from service.web.state import parts, principal
from service.web.tensors import read_json


async def server_metadata_v2(_: Request) -> Response:
    """The server's name, version and the protocol's extensions that it has."""
    return _json(server_metadata(installed("setpoint")))


async def server_live(_: Request) -> Response:
    """The process answers."""
    return _json({"live": True})


async def server_ready(request: Request) -> Response:
    """Every default version is loaded and the store answers; 503 with the reasons where not."""
    reasons = (await parts(request).lifecycle.ready()).reasons
    if reasons:
        return _json({"live": True, "ready": False, "error": "; ".join(reasons)}, 503)
    return _json({"live": True, "ready": True})


async def list_models_v2(request: Request) -> Response:
    """The names of the models, as KServe tells them."""
    return _json({"models": [model.name for model in _visible(request)]})


async def model_metadata(request: Request, model: str) -> Response:
    """The tensors of a model's default version, its classes and its operating points by index."""
    return _metadata(request, *_found(request, model))


async def version_metadata(request: Request, model: str, version: str) -> Response:
    """The tensors of a model version, its classes and its operating points by index."""
    return _metadata(request, *_found(request, model, version))


async def model_ready(request: Request, model: str) -> Response:
    """A model's default version can answer; 503 with the reason where not."""
    return _ready(request, *_found(request, model))


async def version_ready(request: Request, model: str, version: str) -> Response:
    """A model version can answer; 503 with the reason where not."""
    return _ready(request, *_found(request, model, version))


async def model_config(request: Request, model: str) -> Response:
    """A model's default version as Triton's configuration."""
    return _config(request, *_found(request, model))


async def version_config(request: Request, model: str, version: str) -> Response:
    """A model version as Triton's configuration."""
    return _config(request, *_found(request, model, version))


async def infer_model(call: HotCall) -> Reply:
    """Decides rows with a model's default version, under its default operating point or the one that is named."""
    return await infer(call)


async def infer_version(call: HotCall) -> Reply:
    """Decides rows with a model version; one that is staged needs the name of an operating point."""
    return await infer(call)


async def all_statistics(request: Request) -> Response:
    """Counts and times of every version of every model."""
    return _statistics(request, [version for model in _visible(request) for version in model.versions.values()])


async def model_statistics(request: Request, model: str) -> Response:
    """Counts and times of every version of a model."""
    found, _ = _found(request, model)
    return _statistics(request, list(found.versions.values()))


async def version_statistics(request: Request, model: str, version: str) -> Response:
    """Counts and times of a model version."""
    return _statistics(request, [_found(request, model, version)[1]])


async def repository_index(request: Request) -> Response:
    """Every model version and whether it is ready; only those that are with `{"ready": true}`."""
    wanted = _small(await read_small(request)).get("ready", False)
    if not isinstance(wanted, bool):
        raise BadRequest("ready must be true or false")
    registry = parts(request).registry
    items = [
        (version, _not_ready(registry, model, version))
        for model in _visible(request)
        for version in model.versions.values()
    ]
    return _json([index_item(version, reason) for version, reason in items if reason is None or not wanted])


async def load_model(request: Request, model: str) -> Response:
    """Makes sure that a model's default version is in memory."""
    parameters = _small(await read_small(request)).get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadRequest("parameters must be an object")
    if parameters:
        raise Unsupported(
            f"load takes no parameters, got {next(iter(parameters))[:100]!r}: files are registered with POST /models"
        )
    service, (_, version) = parts(request), _found(request, model)
    await service.lanes.changes.run(lambda: service.registry.load(version))
    return _json({"name": model, "load": True})


async def unload_model(request: Request, model: str) -> Response:
    """Refused: a registered model is served to everyone until its default moves."""
    _small(await read_small(request))
    _found(request, model)
    raise Unsupported(
        f"model '{model}' is registered, so it is served to everyone and kept in memory as the server sees fit: a "
        "client cannot unload it. To take a version out of service, move the default with PUT /models/{model}/default"
    )


def _found(request: Request, name: str, version: str | None = None) -> tuple[Model, ModelVersion]:
    """A model that the caller may use, and its version. Raises: `Forbidden`, `UnknownModel`, `UnknownVersion`."""
    principal(request).check_model(name)
    model = parts(request).registry.model(name)
    return model, model.version(read_version(version))


def _visible(request: Request) -> list[Model]:
    """The models that the caller may use."""
    allowed = principal(request).models
    return [model for model in parts(request).registry.models() if allowed is None or model.name in allowed]


def _not_ready(registry: Registry, model: Model, version: ModelVersion) -> str | None:
    """Why a version cannot answer. One that is staged, or was let go of, is loaded by the next call that needs it, so
    it can.
    """
    if model.default.model_version == version.version and registry.is_missing(version):
        return "the default version could not be loaded; the server's log says why"
    return None


def _ready(request: Request, model: Model, version: ModelVersion) -> Response:
    reason = _not_ready(parts(request).registry, model, version)
    said: dict[str, Any] = {"name": model.name, "version": str(version.version), "ready": reason is None}
    return _json(said) if reason is None else _json({**said, "error": reason}, 503)


def _metadata(request: Request, model: Model, version: ModelVersion) -> Response:
    return _json(metadata_of(model, version, parts(request).registry.provider(version)))


def _config(request: Request, model: Model, version: ModelVersion) -> Response:
    return _json(config_of(model, version, most_rows(parts(request), version)))


def _statistics(request: Request, versions: list[ModelVersion]) -> Response:
    told = parts(request).statistics.told
    return _json({"model_stats": [told(version.model, version.version) for version in versions]})


def _small(body: bytes) -> dict[str, Any]:
    """A JSON object, or nothing at all. Raises: `BadRequest`."""
    return read_json(body) if body.strip() else {}


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
