"""Errors as responses: one table, one body shape, `application/problem+json` (RFC 9457).

The `type` of a problem is made of the error's class name, its `title` of the class's docstring, its `detail` of the
message. What is not in the table is a fault of ours: it is logged whole and answered without its words.
"""

import logging
import math
import re
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from calibrate.errors import Infeasible, InputError, NotConverged, SetpointError
from service import errors
from service.monitoring.monitor import Call
from service.web.oip.shape import is_oip, oip_status, unsupported

log = logging.getLogger(__name__)

# The first class that fits decides.
STATUS: dict[type[SetpointError], int] = {
    errors.BadRequest: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.ForeignOrigin: 403,
    errors.UnknownModel: 404,
    errors.UnknownVersion: 404,
    errors.UnknownPoint: 404,
    errors.UnknownCurve: 404,
    errors.UnknownJob: 404,
    errors.UnknownAlias: 404,
    errors.NotApproved: 409,
    errors.Conflict: 409,
    errors.BadEvidence: 409,
    errors.UnknownRoute: 404,
    errors.WrongVerb: 405,
    errors.TooSlow: 408,
    errors.JobCancelled: 409,
    errors.JobIsOver: 409,
    errors.TooLarge: 413,
    errors.Unsupported: 501,
    errors.UnknownEncoding: 415,
    errors.TooMany: 429,
    errors.ModelFailed: 422,
    errors.OverLimit: 422,
    errors.Busy: 503,
    errors.Starting: 503,
    errors.StorageFailed: 503,
    errors.NoGpu: 503,
    errors.OutOfMemory: 503,
    errors.TimedOut: 504,
    NotConverged: 422,
    InputError: 422,
}
_RETRY_AFTER_S = "1"


class Fault(SetpointError):
    """Something went wrong in the server; its log says what."""


def problem(error: SetpointError, request_id: str, call: Call, path: str) -> Response:
    """The response for an error at a path: under `/v2` in the shape of that protocol. The call is told which."""
    under_v2 = is_oip(path)
    if under_v2:
        error = unsupported(error, path)
    call.problem = problem_type(type(error)).rsplit(":", 1)[1]
    body = problem_body(error, request_id)
    status = oip_status(body["status"]) if under_v2 else body["status"]
    headers = {"Retry-After": _RETRY_AFTER_S} if status == 503 else {}
    if isinstance(error, errors.TooMany):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.WrongVerb):
        headers["Allow"] = ", ".join(error.allowed)
    if under_v2:
        return Response(orjson.dumps({"error": str(error)}), status, headers, "application/json")
    return Response(orjson.dumps(body), status, headers, "application/problem+json")


def problem_body(error: SetpointError, request_id: str) -> dict[str, Any]:
    """What the response for an error says."""
    body = {
        "type": problem_type(type(error)),
        "title": (type(error).__doc__ or "").split("\n")[0],
        "status": next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500),
        "detail": str(error),
        "request_id": request_id,
    }
    if isinstance(error, Infeasible):
        body["nearest"] = [asdict(each) for each in error.nearest]
    return body


def problem_type(kind: type[SetpointError]) -> str:
    """`urn:setpoint:problem:unknown-model` for `UnknownModel`."""
    return "urn:setpoint:problem:" + re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


async def on_error(request: Request, error: Exception) -> Response:
    """Whatever was raised, as a problem; a fault is told here, so that the doorway need not tell it again."""
    request.state.told = True
    return problem(to_fact(error, request), request.state.request_id, request.state.call, request.scope["path"])


def to_fact(error: Exception, request: Request) -> SetpointError:
    """The framework's errors as ours; anything else is a fault."""
    if isinstance(error, SetpointError):
        return error
    if isinstance(error, RequestValidationError):
        return errors.BadRequest("; ".join(_place(item) for item in error.errors()[:5]))
    if isinstance(error, HTTPException):
        if error.status_code == HTTPStatus.NOT_FOUND:
            return errors.UnknownRoute(f"there is nothing at {request.url.path[:200]}")
        if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            return errors.BadRequest(str(error.detail))
    if isinstance(error, MemoryError):
        log.error("request %s took more memory than there is: %s", request.state.request_id, error)
        return errors.TooLarge("the server has not the memory for this request: send fewer rows at once")
    log.exception("request %s failed", request.state.request_id, exc_info=error)
    return Fault("the server failed on this request; its log says why under the request id")


def _place(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"] if part not in ("body", "query", "path"))
    return f"{where or 'body'}: {item['msg']}"
