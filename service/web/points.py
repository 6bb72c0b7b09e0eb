"""Operating points: publishing and showing them."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from calibrate.errors import BadPoint, SetpointError, shown
from calibrate.naming import parse_metric
from calibrate.operating_point import OperatingPoint
from calibrate.purpose import Purpose
from calibrate.stored_curve import stored_at_prevalence
from service.domain import Default, Model, PointRecord
from service.errors import BadRequest
from service.registry import Registry
from service.web.bodies import answer, read_small, read_wire
from service.web.schemas import CurveReply, DefaultReply, Point, PointDetails, PointReply, PublishRequest
from service.web.state import actor, parts

log = logging.getLogger(__name__)

MOST_EVIDENCE = 1000  # numbers of each kind, beside those of the classes
MOST_DETAILS_BYTES = 64 * 2**10
MOST_DETAILS_DEPTH = 20


async def list_points(request: Request, model: str, model_version: int | None = None) -> Response:
    """A model's operating points in any state, with their evidence, of one version where `model_version` is given."""
    service = parts(request)

    def run() -> Response:
        found = service.registry.model(model)
        wanted = None if model_version is None else found.version(model_version).version
        listed = [point_reply(found, record) for record in found.points if wanted in (None, record.model_version)]
        return answer(listed, list[PointReply])

    return await service.lanes.changes.run(run)


async def show_point(request: Request, model: str, point: str) -> Response:
    """One operating point as `/calibrate` answered it, in any state: by `name@version`, by alias, or by name the
    default version's latest approved one, else its latest.
    """
    service = parts(request)

    def run() -> Response:
        found = service.registry.model(model)
        return answer(point_reply(found, found.find(point)), PointReply)

    return await service.lanes.changes.run(run)


async def show_curve(request: Request, model: str, point: str, prevalence: float | None = None) -> Response:
    """The trade-off curve that an operating point of two classes was chosen on, thinned, with simultaneous bands.

    `prevalence` is the share of positives, above 0 and below 1, for which metrics, bands and the best of these cuts
    are computed; that of the fitting rows, or of the fit, unless given.
    """
    service = parts(request)
    if len(request.query_params.multi_items()) > (prevalence is not None):  # a typing error would answer for another
        raise BadRequest(f"the query takes prevalence, once; got {', '.join(request.query_params)[:100]}")

    def run() -> Response:
        record = service.registry.model(model).find(point)
        stored = orjson.loads(service.registry.curve(record))
        if prevalence is not None:
            stored = stored_at_prevalence(stored, record.point.classes, prevalence)
        return answer(CurveReply(operating_point=record.label, **stored), CurveReply)

    return await service.lanes.changes.run(run)


async def publish(request: Request, model: str) -> PointReply:
    """Publishes a point that was fitted elsewhere; its evidence is marked `submitted`. With four eyes it is a draft."""
    body, who, service = await read_small(request), actor(request), parts(request)
    return await service.lanes.changes.run(lambda: _publish(service.registry, model, body, who))


def _publish(registry: Registry, model: str, body: bytes, who: str) -> PointReply:
    wanted = read_wire(body, PublishRequest)
    point = OperatingPoint.from_dict(wanted.point.model_dump(exclude_none=True))
    _check_extras(wanted.details.model_extra or {})
    _check_evidence(wanted.details, point.classes)
    details = wanted.details.model_dump(mode="json")
    if None not in (wanted.model_digest, details["model_digest"]) and wanted.model_digest != details["model_digest"]:
        raise BadRequest(
            f"model_digest is {wanted.model_digest}, in the details {details['model_digest']}: send one of them"
        )
    details["model_digest"] = wanted.model_digest or details["model_digest"]
    details.pop("curve", None)  # names what is kept here, of a calibration that was made here
    promised = [guarantee["interval"] for guarantee in details["guarantees"]]
    told = [
        each for name in ("evidence", "before", "gain", "procedure", "model_scores") for each in details[name].values()
    ]
    for interval in (*told, *promised):
        if isinstance(interval, dict):
            interval["kind"] = "submitted"
    found = registry.model(model)
    version = found.version(wanted.model_version).version
    draft = PointRecord(model, version, wanted.name, 0, point, details, datetime.now(UTC))
    _point_reply(found, draft)  # what could not be answered must not be kept
    record = registry.publish(
        model,
        name=wanted.name,
        point=point,
        details=details,
        model_version=wanted.model_version,
        actor=who,
        allow_other_model=wanted.allow_other_model,
    )
    return point_reply(registry.model(model), record)


def _check_evidence(details: PointDetails, classes: Sequence[str]) -> None:
    """Raises `BadPoint` for more numbers than are read, which are told with the point each time, and for those that
    none can be: evidence speaks for a point when it is approved.
    """
    if details.positive not in (None, *classes):
        raise BadPoint(f"details.positive must be one of {', '.join(classes[:20])}; got {shown(details.positive)}")
    most = MOST_EVIDENCE + 2 * len(classes)  # a fit measures one number for each class
    for field in ("evidence", "before", "gain", "procedure", "model_scores"):
        if (count := len(getattr(details, field))) > most:
            raise BadPoint(f"details.{field} may have {most} numbers for {len(classes)} classes, got {count}")
    for field, measured in (("evidence", details.evidence), ("before", details.before)):
        for name, each in measured.items():
            at = f"details.{field}.{name[:100]}"
            if each.low is not None and each.high is not None and each.low > each.high:
                raise BadPoint(f"{at}: wanted an interval, got low {each.low:g} above high {each.high:g}")
            told = [number for number in (each.value, each.low, each.high) if number is not None]
            beyond = [number for number in told if not 0 <= number <= 1]
            if beyond and _is_share(name, classes):
                raise BadPoint(f"{at} is a share, wanted numbers from 0 to 1, got {beyond[0]:g}")


def _is_share(name: str, classes: Sequence[str]) -> bool:
    """Whether a metric is known to be a share of rows; evidence may also be of what is not known here."""
    try:
        return parse_metric(name, classes).rate is not None
    except SetpointError:
        return False


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


def point_reply(model: Model, record: PointRecord) -> PointReply:
    """A point as it goes over the wire; where its stored details cannot be read, without them."""
    try:
        return _point_reply(model, record)
    except (ValidationError, BadPoint) as error:
        log.error("the details of %s of model '%s' cannot be read: %s", record.label, record.model, error)
        return _point_reply(model, replace(record, details={"warnings": ["the stored details cannot be read"]}))


def _point_reply(model: Model, record: PointRecord) -> PointReply:
    purpose = Purpose.of(record.details, record.point.classes)
    said_by_us = {
        "model": record.model,
        "model_version": record.model_version,
        "name": record.name,
        "version": record.version,
        "operating_point": record.label,
        "constraints": list(purpose.constraints),
        "positive": purpose.positive,
        "fitted_for": purpose.words,
        "state": record.state,
        "because": record.because,
        "author": record.author,
        "approved_by": record.approved_by,
        "aliases": [alias for alias, label in model.aliases.items() if label == record.label],
        "is_default": model.default == Default(record.model_version, record.name, record.version),
        "point": Point(**record.point.to_dict()),
        "digest": record.point.digest,
        "model_digest": record.model_digest,
        "evidence_digest": record.evidence_digest,
        "threshold": record.threshold,
        "created_at": record.created_at,
    }
    reply = PointReply.model_validate({**record.details, **said_by_us})
    reply.warnings = [*reply.warnings, *model.versions[record.model_version].warnings]
    return reply


def default_reply(model: str, default: Default) -> DefaultReply:
    """A default as it goes over the wire."""
    return DefaultReply(model=model, model_version=default.model_version, operating_point=default.label)
