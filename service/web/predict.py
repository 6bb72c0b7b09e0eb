"""`POST /predict`: rows in, decisions out.

The body is read by hand, without pydantic. Decided here: what is short is done on the event loop, where it is through
before a thread would have begun; a body or an answer that is long is read or written in a thread.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import orjson
from jaxtyping import Float, Int

from calibrate.io.packed import NPY_MAGIC, is_packed, read_packed
from service.decisions import Answered, wait_until_kept
from service.domain import Model, ModelVersion
from service.errors import BadRequest, TooLarge
from service.inference import SCORES, Answer, Rows, answer, find_logits, find_logits_now, rows_of
from service.web.beside import Beside, find_beside
from service.web.hot import HotCall, Reply
from service.web.packed import NPY, POINT_HEADER, npy_reply, read_head, refuse_head, to_features, to_inputs, to_scores
from service.web.records import read_by_class, read_rows
from service.web.tensors import fit_inputs, kind_of, read_json, read_numbers

_ROWS = ("inputs", "features", *SCORES)
_KEYS = {"model", "model_version", *_ROWS, "operating_point", "compare", "priority", "timeout_ms"}
MOST_NUMBERS = 10_000_000  # rows times classes: the answer holds two numbers for each, as Python objects
MOST_COMPARED = 100  # points of one call, each with a label for every row
LEAST_PRIORITY, MOST_TIMEOUT_MS = 1000, 3_600_000
_SHORT_BYTES = 2**18  # of a body, read in about a millisecond
_SHORT_NPY_BYTES = 2**22  # which is not read, only looked through
_SHORT_NUMBERS = 2**12  # of an answer, written in about a millisecond


class Ask(NamedTuple):
    """What a call asks for: rows of a model version, and the points that decide them."""

    model: Model
    version: ModelVersion
    rows: Rows
    references: str | list[str] | None
    compare: list[str]
    priority: int = 0
    timeout_ms: float | None = None
    as_npy: bool = False
    beside: Sequence[Beside] = ()


async def predict(call: HotCall) -> Reply:
    """Decides rows under the default operating point, a named one, or one per row, and compares others.

    One run of the model serves all of them. `null` in `inputs` is a missing value. Rows are lists of numbers in the
    model's order, records (`{"age": 72, "TSH": 30}`) or columns (`{"age": [72, 50], "TSH": [30, null]}`): their names
    are those of the inputs, of the columns that the model describes, or of the classes for `logits`, in any order, and
    a category may be its text. Rows may also come as they lie in memory: a body that is a `.npy` array or Arrow (a
    tensor, or record batches as a stream or a file; columns by the same names, one of lists, or, where nothing names
    them, numbers in order), and then `model`, `model_version`, `operating_point`,
    `compare` (once for each), `priority` and `timeout_ms` in the query, with `rows` as `inputs`, `features`, `logits`,
    `probabilities` or `margins`. `Accept: application/x-npy` asks for such an answer without `compare`: a record for
    each row.

    Scores of any model, or of one that is registered by its classes alone, come as `logits`, as `probabilities` or as
    `margins`, the log-odds of the second of two classes. Of two classes one number a row is the second one's.
    """
    service, body, told = call.parts, call.body, call.told
    came = time.monotonic()
    in_thread = call.in_thread
    told.step("parse")
    if len(body) <= (_SHORT_NPY_BYTES if body.startswith(NPY_MAGIC) else _SHORT_BYTES):
        ask = _read(call)
    else:
        ask = await in_thread(partial(_read, call))
    told.of(ask.model.name, ask.version.version)
    told.step("run")
    until = None if ask.timeout_ms is None else came + ask.timeout_ms / 1000
    logits = await _find(call, ask, ask.version, until)
    told.rows = len(logits)
    is_short = logits.size * (1 + len(ask.compare)) <= _SHORT_NUMBERS
    told.step("decide")
    found = _decide(ask, logits) if is_short else await in_thread(partial(_decide, ask, logits))
    others = await _decide_beside(call, ask, until) if ask.beside else {}
    service.shadows.offer(ask.model, logits, found, ask.rows.inputs)
    if service.decisions is not None:
        told.step("log")
        kept = service.decisions.put(Answered(call.request_id, call.principal.name, ask.rows, found))
        if kept is not None:
            await in_thread(partial(wait_until_kept, kept))
    told.step("write")
    if ask.as_npy:
        return npy_reply(found)
    if is_short:
        return Reply(_reply(ask, found, others, call.request_id))
    return Reply(await in_thread(partial(_reply, ask, found, others, call.request_id)))


async def _find(call: HotCall, ask: Ask, version: ModelVersion, until: float | None) -> Float[np.ndarray, "n k"]:
    """The logits of the rows under a version. Raises: what `find_logits` raises, `ClientDisconnect`."""
    service = call.parts
    given = ask.rows, version, service.registry, service.runner
    logits = find_logits_now(*given)
    if logits is not None:
        return logits
    return await call.wait_for(find_logits(*given, call.in_thread, priority=ask.priority, until=until))


async def _decide_beside(call: HotCall, ask: Ask, until: float | None) -> dict[str, list[str]]:
    """The labels of compared points of other versions, each version run once."""
    logits: dict[tuple[str, int], Float[np.ndarray, "n k"]] = {}
    labels: dict[str, list[str]] = {}
    for each in ask.beside:
        key = each.version.model, each.version.version
        if key not in logits:
            logits[key] = await _find(call, ask, each.version, until)
        decide = partial(each.record.point.decide, logits[key])
        is_short = logits[key].size <= _SHORT_NUMBERS
        decided: Int[np.ndarray, "n"] = decide() if is_short else await call.in_thread(decide)
        labels[each.reference] = _labels(decided[None], each.version.classes)[0]
    return labels


def _decide(ask: Ask, logits: Float[np.ndarray, "n k"]) -> Answer:
    apart = {each.reference for each in ask.beside}
    compare = [reference for reference in ask.compare if reference not in apart] if apart else ask.compare
    return answer(logits, ask.model, ask.version, ask.references, compare)


def _read(asked: HotCall) -> Ask:
    service, body = asked.parts, asked.body
    packed = is_packed(body)
    call = read_head(asked.query, asked.headers) if packed else read_json(body)
    if not packed and not call.keys() <= _KEYS:
        unknown = sorted(call.keys() - _KEYS)
        raise BadRequest(f"predict takes {', '.join(sorted(_KEYS))}; got {unknown[0][:100]!r}")
    if not packed and (asked.query or POINT_HEADER in asked.headers):
        refuse_head(asked.query, asked.headers)
    compare = _compare(call["compare"]) if "compare" in call else []
    name = _text(call.get("model"), "model")
    asked.principal.check_model(name)
    model = service.registry.model(name)
    number = call.get("model_version")
    if number is not None and type(number) is not int:
        raise BadRequest(f"model_version must be a whole number, got {number!r}"[:200])
    version = model.version(number)
    most = service.settings.predict_rows, len(compare)
    if packed:
        found = read_packed(body, service.settings.unpacked_bytes)
        rows = _packed_rows(found, call.get("rows", "inputs"), version, most)
    else:
        rows = _rows(call, version, most)
    beside = find_beside(compare, model, version, service.registry, asked.principal, rows) if compare else ()
    references = call.get("operating_point")
    if references is not None and not isinstance(references, str):
        references = _texts(references, "operating_point", "a name, or a list of names with one for each row")
    as_npy = packed and not compare and NPY in asked.headers.get(b"accept", b"")
    return Ask(model, version, rows, references, compare, _priority(call), _timeout(call), as_npy, beside)


def _rows(call: Mapping[str, Any], version: ModelVersion, most: tuple[int, int]) -> Rows:
    given = [key for key in _ROWS if call.get(key) is not None]
    if len(given) != 1:
        raise BadRequest(f"predict needs exactly one of {', '.join(_ROWS)}; got {' and '.join(given) or 'none'}")
    (kind,), value = given, call[given[0]]
    if kind == "inputs":
        version.check_runs()
    _check_rows(value.values() if isinstance(value, dict) else (value,), version, most)
    if kind == "inputs":
        return Rows(read_rows(value, version.inputs, version.description.columns))
    if kind in ("features", "margins"):
        return rows_of(kind, read_numbers(value, kind))
    return rows_of(kind, read_by_class(value, version.classes, kind))


def _packed_rows(
    found: np.ndarray | dict[str, np.ndarray], kind: str, version: ModelVersion, most: tuple[int, int]
) -> Rows:
    if kind not in _ROWS:
        raise BadRequest(f"rows must be one of {', '.join(_ROWS)}; got {kind[:100]!r}")
    if kind == "inputs":
        version.check_runs()
    _check_rows(found.values() if isinstance(found, dict) else (found,), version, most)
    if kind == "inputs":
        arrays = to_inputs(found, version.inputs, version.description.columns)
        return Rows(inputs=fit_inputs(arrays, version.inputs))
    if kind == "features":
        return Rows(features=to_features(found))
    scores = next(score for score in SCORES if score == kind)
    return rows_of(scores, to_scores(found, version.classes, scores))


def _check_rows(given: Iterable[Any], version: ModelVersion, limits: tuple[int, int]) -> None:
    """`limits` are the most rows of a call, and how many points it compares, of which each has a label for each row."""
    settled, compared = limits
    most = min(settled, MOST_NUMBERS // len(version.classes))
    most_compared = MOST_NUMBERS // (1 + compared)
    for rows in given:
        count = len(rows) if isinstance(rows, list) or (isinstance(rows, np.ndarray) and rows.ndim) else 0
        if count > most:
            raise TooLarge(f"a call may have at most {most} rows of {len(version.classes)} classes, got {count}")
        if count > most_compared:
            raise TooLarge(f"a call that compares {compared} points may have at most {most_compared} rows, got {count}")


def _reply(ask: Ask, found: Answer, others: Mapping[str, list[str]], request_id: str) -> bytes:
    classes = found.version.classes
    per_row = isinstance(ask.references, list)
    reply: dict[str, Any] = {
        "model": ask.model.name,
        "model_version": found.version.version,
        "operating_point": [record.label for record in found.points] if per_row else found.points[0].label,
        "classes": classes,
        "predictions": [
            {"label": classes[label], "probabilities": probabilities, "adjusted": adjusted, "margin": margin}
            for label, probabilities, adjusted, margin in zip(*found.lists(), strict=True)
        ],
    }
    if ask.compare:
        own = dict(zip(found.compared.references, _labels(found.compared.decided, classes), strict=True))
        reply["compare"] = {name: own[name] if name in own else others[name] for name in ask.compare}
    reply["request_id"] = request_id
    return orjson.dumps(reply)


def _labels(decided: Int[np.ndarray, "m n"] | Sequence[list[int]], classes: Sequence[str]) -> list[list[str]]:
    """The names of classes, (m, n)."""
    if isinstance(decided, np.ndarray):  # numpy takes a third of the time of a loop
        names: list[list[str]] = np.array(classes, dtype=object)[decided].tolist()
        return names
    return [[classes[label] for label in row] for row in decided]


def _compare(value: Any) -> list[str]:
    """The points to compare, each once. Raises: `BadRequest`, `TooLarge`."""
    compare = list(dict.fromkeys(_texts(value, "compare")))
    if len(compare) > MOST_COMPARED:
        raise TooLarge(f"a call may compare at most {MOST_COMPARED} points, got {len(compare)}")
    return compare


def _priority(call: Mapping[str, Any]) -> int:
    if "priority" not in call:
        return 0
    value = call["priority"]
    if type(value) is not int or not 0 <= value <= LEAST_PRIORITY:
        raise BadRequest(f"priority must be a whole number from 0 to {LEAST_PRIORITY}, got {value!r}"[:200])
    return value


def _timeout(call: Mapping[str, Any]) -> float | None:
    value = call.get("timeout_ms")
    if value is not None and (type(value) not in (int, float) or not 0 < value <= MOST_TIMEOUT_MS):
        raise BadRequest(f"timeout_ms must be a number above 0 and at most {MOST_TIMEOUT_MS}, got {value!r}"[:200])
    return value


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise BadRequest(f"{field} must be a text, {'it is missing' if value is None else f'got {kind_of(value)}'}")
    return value


def _texts(value: Any, field: str, wanted: str = "a list of names") -> list[str]:
    if not isinstance(value, list) or not set(map(type, value)) <= {str}:
        raise BadRequest(f"{field} must be {wanted}, got {_what(value)}")
    return value


def _what(value: Any) -> str:
    """What stands where names should: of a list the first item that is none."""
    if not isinstance(value, list):
        return kind_of(value)
    place = next(i for i, item in enumerate(value) if not isinstance(item, str))
    return f"{kind_of(value[place])} in place {place}"
