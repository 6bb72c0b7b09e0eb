"""`POST /predict`: rows in, decisions out.

The body is read by hand, without pydantic. The model runs in a thread, which is free of the interpreter lock meanwhile.
"""

import time
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from service.domain import BadRequest, Model, ModelVersion, Principal, TooLarge
from service.inference import Answer, Rows, answer, to_logits
from service.monitoring.monitor import Call
from service.web.state import Parts, call, parts, principal, request_id
from service.web.tensors import read_inputs, read_json, read_numbers

_KEYS = {"model", "model_version", "inputs", "features", "logits", "operating_point", "compare"}
_ROWS = ("inputs", "features", "logits")
MOST_NUMBERS = 10_000_000  # rows times classes: the answer holds two numbers for each, as Python objects


async def predict(request: Request) -> Response:
    """Decides rows under the default operating point, a named one, or one per row, and compares others.

    One run of the model serves all of them. `null` in `inputs` is a missing value.
    """
    body = await request.body()
    service, call_id, told, who = parts(request), request_id(request), call(request), principal(request)
    reply = await service.lanes.predictions.run(
        lambda: orjson.dumps({**_decide(service, body, told, who), "request_id": call_id})
    )
    return Response(reply, media_type="application/json")


def _decide(service: Parts, body: bytes, told: Call, who: Principal) -> dict[str, Any]:
    monitor, registry = service.monitor, service.registry
    with monitor.step("parse"):
        call = read_json(body)
    if unknown := sorted(call.keys() - _KEYS):
        raise BadRequest(f"predict takes {', '.join(sorted(_KEYS))}; got {unknown[0][:100]!r}")
    name = _text(call.get("model"), "model")
    who.check_model(name)
    model = registry.model(name)
    number = call.get("model_version")
    if number is not None and type(number) is not int:
        raise BadRequest(f"model_version must be a whole number, got {number!r}"[:200])
    version = model.version(number)
    told.of(model.name, version.version)
    rows = _rows(call, version, service.settings.predict_rows)
    references = call.get("operating_point")
    if references is not None and not isinstance(references, str):
        references = _texts(references, "operating_point")
    compare = _texts(call.get("compare", []), "compare")
    began = time.perf_counter()
    with monitor.step("run"):
        logits = to_logits(rows, version, registry)
    told.rows = len(logits)
    if rows.inputs is not None:
        monitor.metrics.model_ran(model.name, version.version, told.rows, time.perf_counter() - began)
    with monitor.step("decide"):
        return _reply(model, answer(logits, model, version, references, compare), isinstance(references, list))


def _rows(call: dict[str, Any], version: ModelVersion, most: int) -> Rows:
    given = [key for key in _ROWS if call.get(key) is not None]
    if len(given) != 1:
        raise BadRequest(f"predict needs exactly one of {', '.join(_ROWS)}; got {' and '.join(given) or 'none'}")
    value = call[given[0]]
    most = min(most, MOST_NUMBERS // len(version.classes))
    for rows in value.values() if isinstance(value, dict) else [value]:
        if isinstance(rows, list) and len(rows) > most:
            raise TooLarge(f"a call may have at most {most} rows of {len(version.classes)} classes, got {len(rows)}")
    if given == ["inputs"]:
        return Rows(inputs=read_inputs(value, version.inputs))
    numbers = read_numbers(value, given[0])
    return Rows(features=numbers) if given == ["features"] else Rows(logits=numbers)


def _reply(model: Model, found: Answer, per_row: bool) -> dict[str, Any]:
    classes = found.version.classes
    columns = (found.decided.tolist(), found.probabilities.tolist(), found.adjusted.tolist(), found.margin.tolist())
    reply: dict[str, Any] = {
        "model": model.name,
        "model_version": found.version.version,
        "operating_point": [record.label for record in found.points] if per_row else found.points[0].label,
        "classes": classes,
        "predictions": [
            {"label": classes[label], "probabilities": probabilities, "adjusted": adjusted, "margin": margin}
            for label, probabilities, adjusted, margin in zip(*columns, strict=True)
        ],
    }
    if found.compared:
        reply["compare"] = {
            reference: [classes[label] for label in decided.tolist()] for reference, decided in found.compared.items()
        }
    return reply


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise BadRequest(f"{field} must be a text, {'it is missing' if value is None else 'got another type'}")
    return value


def _texts(value: Any, field: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadRequest(f"{field} must be a list of names")
    return value
