"""The FastAPI application: the routes of the table, the errors of the table, and the OpenAPI document of both."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from calibrate.errors import SetpointError
from service.web.console import console, console_file
from service.web.errors import on_error
from service.web.examples import EXAMPLES, TAGS, tag_of
from service.web.hot import as_endpoint
from service.web.oip.schemas import OipError
from service.web.oip.shape import is_oip
from service.web.request_schemas import take_out_defaults
from service.web.routes import ROUTES, Route
from service.web.rules import Rules
from service.web.schemas import Problem
from service.web.state import Parts

_PROBLEM = {
    "description": "What went wrong, as a problem of RFC 9457.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}

_OIP_ERROR = {
    "description": "What went wrong, as the protocol tells it.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OipError"}}},
}
_TENSORS = {
    "description": "JSON of `Inference-Header-Content-Length` bytes, then the raw tensors in its order.",
    "type": "string",
    "format": "binary",
}


def make_web(
    parts: Parts | None, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None
) -> tuple[FastAPI, Rules]:
    """The application and who may call which of its routes; without parts it can only describe itself."""
    make = FastAPIOffline if parts is None or parts.settings.docs else _without_docs
    app: FastAPI = make(title="Setpoint", version=version("setpoint"), lifespan=lifespan, redoc_url=None)
    app.router.redirect_slashes = False
    app.state.parts = parts
    for route in ROUTES:
        app.add_api_route(
            route.path,
            as_endpoint(route.handler, route.path) if route.hot else route.handler,
            methods=[route.verb],
            response_model=route.reply,
            response_class=route.answer,
            status_code=route.status,
            operation_id=route.handler.__name__,
            responses=_responses(route),
        )
    app.add_route("/", lambda _: RedirectResponse("/console"), include_in_schema=False)
    app.add_route("/console", console, include_in_schema=False)
    app.add_route("/console/{name}", console_file, include_in_schema=False)
    for kind in (SetpointError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, on_error)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    return app, Rules(ROUTES)


def _responses(route: Route) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {"default": _OIP_ERROR if is_oip(route.path) else _PROBLEM}
    for status, (kind, said) in route.others.items():
        found[status] = {"description": said, **({} if kind is None else {"model": kind})}
    return found


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the bodies that the routes read by hand and the token they ask for."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes, summary=_SUMMARY)
        wanted: list[tuple[type[BaseModel], Literal["validation"]]] = [
            (Problem, "validation"),
            (OipError, "validation"),
        ]
        for route in ROUTES:
            wanted += [(kind, "validation") for kind in (route.json, route.form) if kind is not None]
        _, schemas = models_json_schema(wanted, ref_template="#/components/schemas/{model}")
        components = document["components"]
        components["schemas"] = dict(sorted({**components["schemas"], **schemas["$defs"]}.items()))
        for unused in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(unused, None)
        bodies = {kind.__name__ for route in ROUTES for kind in (route.json, route.form) if kind is not None}
        take_out_defaults(components["schemas"], bodies)
        components["securitySchemes"] = _SECURITY
        document["tags"] = [{"name": name, "description": said} for name, said in TAGS.items()]
        for route in ROUTES:
            _complete(document["paths"][route.path][route.verb.lower()], route)
        app.openapi_schema = document
    return app.openapi_schema


def _without_docs(**given: Any) -> FastAPI:
    return FastAPI(**given, docs_url=None, openapi_url=None)


_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "basic": {"type": "http", "scheme": "basic", "description": "The key is the password; the name is not looked at."},
}
_SUMMARY = "Serves a model with operating points that its users choose"


def _examples(body: type[BaseModel]) -> dict[str, Any]:
    examples = EXAMPLES.get(body.__name__, {})
    return {"examples": {name: {"value": value} for name, value in examples.items()}} if examples else {}


def _complete(operation: dict[str, Any], route: Route) -> None:
    operation["responses"].pop("422", None)
    operation["security"] = [] if route.scope == "open" else [{way: []} for way in _SECURITY]
    operation["x-scope"] = route.scope
    operation["tags"] = [tag_of(route.path)]
    for name, said in route.headers.items():
        told = {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": said}
        operation.setdefault("parameters", []).append(told)
    answers = operation["responses"].get(str(route.status), {}).get("content", {})
    if "text/event-stream" in answers:
        answers["text/event-stream"] = {}  # a schema there would be that of each event, whose data is the job's
    content = {"application/json": route.json, "multipart/form-data": route.form}
    if route.json or route.form:
        operation["requestBody"] = {
            "required": not route.optional,
            "content": {
                kind: {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}, **_examples(body)}
                for kind, body in content.items()
                if body is not None
            },
        }
    if route.binary:
        tensors = {"application/octet-stream": {"schema": _TENSORS}}
        operation["requestBody"]["content"] |= tensors
        operation["responses"]["200"]["content"] |= tensors
