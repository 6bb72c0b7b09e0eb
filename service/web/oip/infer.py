"""`infer`: a request's headers and body in, the answer's out, without a transport.

Decided here: it is three steps, `read`, a run of the model, `write`, so that whoever answers calls ahead of the
framework may do each where it belongs, and run rows of several callers together; `infer` does them in a row.
"""

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from calibrate.errors import SetpointError
from service.decisions import Answered as Entry
from service.domain import BadRequest, Busy, Model, ModelVersion, PointRecord, Principal
from service.inference import Answer, Rows, answer, to_logits
from service.monitoring.monitor import Call
from service.web.decisions import wait_until_kept
from service.web.oip.codec import InferRequest, InferResponse, read_request, write_response
from service.web.oip.outputs import answering_points, make_outputs, wanted_outputs
from service.web.oip.rows import POINT, to_references, to_rows, whole_body
from service.web.oip.statistics import Times
from service.web.state import Parts

MOST_NUMBERS = 10_000_000  # rows times classes, as in `POST /predict`
Answered = tuple[int, dict[str, str], bytes]


class Asked(NamedTuple):
    """A call as it came: `model` and `version` are of its address, `headers` are looked up in lower case, `told` is
    what is told of it when it ends, and knows when it began.
    """

    service: Parts
    who: Principal
    told: Call
    model: str
    version: str | None
    headers: Mapping[str, str]
    body: bytes


class Ask(NamedTuple):
    """A call that was read: `n` rows, the points that decide them, when its reading began and when it ended (s)."""

    model: Model
    version: ModelVersion
    request: InferRequest
    rows: Rows
    n: int
    references: str | Sequence[str] | None
    begun: float
    ready: float


def infer(asked: Asked) -> Answered:
    """Status, headers and body of the answer.

    Raises: what `read` and `write` raise, `NotFinite`, `ModelFailed`.
    """
    monitor = asked.service.monitor
    with monitor.step("parse"):
        ask = read(asked)
    try:
        if ask.n:
            with monitor.step("run"):
                logits = to_logits(ask.rows, ask.version, asked.service.registry)
        else:
            logits = np.empty((0, len(ask.version.classes)))
        ran = time.perf_counter()
        with monitor.step("decide"):
            return write(asked, ask, logits, ran)
    except SetpointError:
        failed(asked, ask.version)
        raise


def read(asked: Asked) -> Ask:
    """A call, checked against the model that it is for.

    Raises: `Forbidden`, `UnknownModel`, `UnknownVersion`, `BadRequest`, `TooLarge`, `Unsupported`, and `Busy` where the
    time that the request gave itself is over.
    """
    begun = time.perf_counter()
    asked.who.check_model(asked.model)
    model = asked.service.registry.model(asked.model)
    version = model.version(read_version(asked.version))
    asked.told.of(model.name, version.version)
    try:
        request = read_request(asked.body, asked.headers, asked.service.settings.body_bytes)
        wanted_outputs(request)
        tensors = dict(request.inputs) if request.raw is None else whole_body(request.raw, version)
        own = None if any(port.name == POINT for port in version.inputs) else tensors.pop(POINT, None)
        rows, n = to_rows(tensors, version, most_rows(asked.service, version))
        references = to_references(own, n, request, asked.headers, model, version)
        ready = time.perf_counter()
        timeout_us = request.schedule.timeout_us
        if timeout_us and ready - asked.told.began > timeout_us / 1e6:
            raise Busy(f"the request's timeout of {timeout_us} microseconds was over before it could run")
    except SetpointError:
        failed(asked, version)
        raise
    return Ask(model, version, request, rows, n, references, begun, ready)


def write(asked: Asked, ask: Ask, logits: np.ndarray, ran: float) -> Answered:
    """The answer, from the logits of the rows and when they were there.

    Raises: `UnknownPoint`, `BadRequest`, `NotFinite` where a point overflows, `StorageFailed` where decisions must be
    logged and cannot be.
    """
    name, number = ask.model.name, ask.version.version
    decided = answer(logits, ask.model, ask.version, ask.references) if ask.n else _nothing(ask, logits)
    if ask.n:
        asked.service.shadows.offer(ask.model, logits, decided)
    log = asked.service.decisions
    if log is not None and ask.n:
        with asked.service.monitor.step("log"):
            wait_until_kept(log.put(Entry(asked.told.request_id, asked.who.name, ask.rows, decided)))
    reply = InferResponse(
        model=name,
        version=str(number),
        id=ask.request.id,
        parameters={POINT: ",".join(answering_points(decided)), "model_digest": ask.version.digest},
        outputs=make_outputs(ask.request, decided, logits),
    )
    headers, body = write_response(reply, asked.headers.get("accept-encoding", ""))
    asked.told.rows = ask.n
    if ask.n and ask.rows.inputs is not None:
        asked.service.monitor.metrics.model_ran(name, number, ask.n, ran - ask.ready)
    moments = (asked.told.began, ask.begun, ask.ready, ran, time.perf_counter())
    spans = (round((after - before) * 1e9) for before, after in pairwise(moments))
    asked.service.statistics.succeeded(name, number, ask.n, Times(*spans))
    return 200, headers, body


def failed(asked: Asked, version: ModelVersion) -> None:
    """Counts a call that was refused or broke."""
    spent = time.perf_counter() - asked.told.began
    asked.service.statistics.failed(version.model, version.version, round(spent * 1e9))


def read_version(text: str | None) -> int | None:
    """The number of a version in an address, None for the default one. Raises: `BadRequest`."""
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise BadRequest(f"a model's version is a whole number, got {text[:50]!r}")
    return int(text)


def most_rows(service: Parts, version: ModelVersion) -> int:
    """The most rows of one call."""
    return min(service.settings.predict_rows, MOST_NUMBERS // len(version.classes))


def _nothing(ask: Ask, columns: np.ndarray) -> Answer:
    """The answer to no rows, which no model is run for: a point that is named must be there all the same."""
    references = ask.references
    points: tuple[PointRecord, ...] = ()
    if references is None or isinstance(references, str):
        points = (ask.model.point(ask.version, references),)
    return Answer(ask.version, points, np.empty(0, dtype=np.intp), columns, columns, np.empty(0), {})
