"""`infer`: a request's headers and body in, the answer's out.

Decided here: rows run as those of `POST /predict` do, in place where that is short, else with those of other callers,
under the request's own `priority` and `timeout`. What is short to read or to write is done on the event loop, the rest
in a thread: texts and whole numbers are read one by one, so fewer of them are short, and of a compressed body nobody
knows what it holds.
"""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from service.decisions import Answered, wait_until_kept
from service.domain import Model, ModelVersion, PointRecord
from service.errors import BadRequest, TimedOut
from service.inference import Answer, Rows, answer, find_logits, find_logits_now
from service.ports import Ran
from service.web.hot import HotCall, Reply
from service.web.oip.codec import HEADER_LENGTH, InferRequest, read_request, write_response
from service.web.oip.outputs import answering_points, make_outputs, wanted_outputs
from service.web.oip.rows import POINT, POINT_HEADER, split_point, to_references, to_rows, whole_body
from service.web.oip.statistics import Times
from service.web.state import Parts

MOST_NUMBERS = 10_000_000  # rows times classes, as in `POST /predict`
MOST_TIMEOUT_S = 3600  # nothing waits longer, whatever a request says
_HEADERS = tuple((name.encode(), name) for name in ("content-encoding", "accept-encoding", HEADER_LENGTH, POINT_HEADER))
_SHORT_BYTES, _SHORT_JSON_BYTES, _SHORT_RAW_BYTES = 2**13, 2**16, 2**22  # each read in about a millisecond
_SHORT_NUMBERS = 2**12  # of an answer, written in about a millisecond; compressed, an eighth of it


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


class Found(NamedTuple):
    """What came of a call's rows: their logits, (n, k), when they were there (s), the seconds that finding them took
    without waiting, and the run of the model that they were part of, None where there was none.
    """

    logits: np.ndarray
    at: float
    spent_s: float
    run: Ran | None


async def infer(call: HotCall) -> Reply:
    """The answer to a call.

    Raises: what `read`, `find_logits` and `write` raise, `StorageFailed` where decisions must be logged and cannot be.
    """
    service, in_thread, headers = call.parts, call.in_thread, _headers(call)
    call.told.step("parse")
    if _is_short(call.body, headers):
        ask = read(call, headers)
    else:
        ask = await in_thread(lambda: read(call, headers))
    try:
        call.told.step("run")
        found = await _find(call, ask)
        packs = 8 if "accept-encoding" in headers else 1
        is_short = found.logits.size * packs <= _SHORT_NUMBERS
        call.told.step("decide")
        decided = decide(ask, found) if is_short else await in_thread(lambda: decide(ask, found))
        if ask.n:
            service.shadows.offer(ask.model, found.logits, decided, ask.rows.inputs)
        if service.decisions is not None and ask.n:
            call.told.step("log")
            kept = service.decisions.put(Answered(call.request_id, call.principal.name, ask.rows, decided))
            if kept is not None:
                await in_thread(lambda: wait_until_kept(kept))
        call.told.step("write")
        accepted = headers.get("accept-encoding", "")
        if is_short:
            return write(call, ask, found, decided, accepted)
        return await in_thread(lambda: write(call, ask, found, decided, accepted))
    except Exception:
        failed(call, ask.version)
        raise


def read(call: HotCall, headers: Mapping[str, str]) -> Ask:
    """A call, checked against the model that it is for; `headers` are looked up in lower case.

    Raises: `Forbidden`, `UnknownModel`, `UnknownVersion`, `BadRequest`, `TooLarge`, `Unsupported`, and `TimedOut` where
    the time that the request gave itself is over.
    """
    begun, service, told = time.perf_counter(), call.parts, call.told
    name = call.names["model"]
    call.principal.check_model(name)
    model = service.registry.model(name)
    version = model.version(read_version(call.names.get("version")))
    told.of(model.name, version.version)
    try:
        request = read_request(call.body, headers, service.settings.body_bytes)
        wanted_outputs(request)
        tensors = request.inputs if request.raw is None else whole_body(request.raw, version)
        own, tensors = split_point(tensors, version)
        rows, n = to_rows(tensors, version, most_rows(service, version))
        references = to_references(own, n, request, headers, model, version)
        ready = time.perf_counter()
        timeout_us = request.schedule.timeout_us
        if timeout_us and ready - told.began > timeout_us / 1e6:
            raise TimedOut(f"the request's timeout of {timeout_us} microseconds was over before it could run")
    except Exception:
        failed(call, version)
        raise
    return Ask(model, version, request, rows, n, references, begun, ready)


def decide(ask: Ask, found: Found) -> Answer:
    """The decisions. Raises: `UnknownPoint`, `NotApproved`, `BadRequest`, `NotFinite` where a point overflows."""
    if not ask.n:
        return _nothing(ask, found.logits)
    return answer(found.logits, ask.model, ask.version, ask.references)


def write(call: HotCall, ask: Ask, found: Found, decided: Answer, accepted: str) -> Reply:
    """The answer as it is sent; it is counted as given."""
    model, version, request, _, n, _, begun, ready = ask
    number, told = version.version, call.told
    media_type, headers, body = write_response(
        model.name,
        str(number),
        request.id,
        {POINT: ",".join(answering_points(decided)), "model_digest": version.digest},
        make_outputs(request, decided, found.logits),
        accepted,
    )
    told.rows = n
    came, given = round(1e9 * (begun - told.began)), round(1e9 * (ready - begun))
    ran, made = round(1e9 * (found.at - ready)), round(1e9 * (time.perf_counter() - found.at))
    spent = min(ran, round(1e9 * found.spent_s))
    times = Times(came + ran - spent, given, spent, made)
    call.parts.statistics.succeeded(model.name, number, n, times, found.run)
    return Reply(body, media_type, headers)


def failed(call: HotCall, version: ModelVersion) -> None:
    """Counts a call that was refused or broke."""
    spent = time.perf_counter() - call.told.began
    call.parts.statistics.failed(version.model, version.version, round(spent * 1e9))


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


def _headers(call: HotCall) -> dict[str, str]:
    """Those that are looked at, by their names in lower case."""
    found = {}
    for key, name in _HEADERS:
        given = call.headers.get(key)
        if given is not None:
            found[name] = given.decode("latin-1")
    return found


def _is_short(body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether reading a call takes about a millisecond at most, whatever it holds."""
    if "content-encoding" in headers or len(body) > _SHORT_RAW_BYTES:
        return False
    if len(body) <= _SHORT_BYTES:
        return True
    told = headers.get(HEADER_LENGTH, "")
    length = int(told) if len(told) < 10 and told.isascii() and told.isdigit() else len(body)
    if length > _SHORT_JSON_BYTES:
        return False
    head = body[:length]
    one_by_one = (b"BYTES", b"\\") if length <= _SHORT_BYTES else (b"BYTES", b"\\", b"INT")
    return not any(word in head for word in one_by_one)


async def _find(call: HotCall, ask: Ask) -> Found:
    """The logits of the rows. Raises: what `find_logits` raises, `ClientDisconnect`."""
    if not ask.n:
        return Found(np.empty((0, len(ask.version.classes))), ask.ready, 0.0, None)
    service = call.parts
    given = ask.rows, ask.version, service.registry, service.runner
    began = time.perf_counter()
    logits = find_logits_now(*given)
    at = time.perf_counter()
    if logits is not None:
        return Found(logits, at, at - began, None if ask.rows.inputs is None else Ran(at - began, ask.n))
    runs: list[Ran] = []
    schedule, until = ask.request.schedule, None
    if schedule.timeout_us:
        left_s = schedule.timeout_us / 1e6 - (at - call.told.began)
        until = time.monotonic() + min(left_s, MOST_TIMEOUT_S)
    work = find_logits(*given, service.lanes.predictions.run, priority=schedule.priority, until=until, told=runs.append)
    logits = await call.wait_for(work)
    done = time.perf_counter()
    return Found(logits, done, runs[0].seconds if runs else done - at, runs[0] if runs else None)


def _nothing(ask: Ask, columns: np.ndarray) -> Answer:
    """The answer to no rows, which no model is run for: a point that is named must be there all the same."""
    references = ask.references
    points: tuple[PointRecord, ...] = ()
    if references is None or isinstance(references, str):
        points = (ask.model.point(ask.version, references),)
    return Answer(ask.version, points, np.empty(0, dtype=np.intp), columns, columns, np.empty(0))
