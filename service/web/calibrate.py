"""`POST /calibrate`: labelled rows in, a published operating point out."""

from typing import Any

import numpy as np
from starlette.requests import Request

from calibrate.io.files import read_arrays
from service.calibration import Spec
from service.calibration import calibrate as fit_and_publish
from service.domain import BadRequest, Principal, TooLarge
from service.web.bodies import check_wire, is_multipart, read_form
from service.web.points import point_reply
from service.web.schemas import CalibrateSpec, PointReply
from service.web.state import Parts, parts, principal
from service.web.tensors import read_inputs, read_json, read_labels, read_numbers

_PER_ROW = ("sample_weight", "cost_fp", "cost_fn")
_DATA = {"labels", "features", "logits", "inputs", "classes", "group", *_PER_ROW}


async def calibrate(request: Request) -> PointReply:
    """Fits an operating point for a metric on labelled rows and publishes it under the next version of its name.

    The data is JSON, or a multipart body with the parts `spec` (JSON) and `data` (an .npz feature cache). The evidence
    is cross-fitted: no row is decided by a point that it fitted.
    """
    service, who = parts(request), principal(request)
    lane = service.lanes.calibrations  # what is refused is not even unpacked
    if is_multipart(request):
        files, texts = await read_form(request, {"data"}, {"spec"})
        if "spec" not in texts:
            raise BadRequest("the form has no text 'spec'")
        with service.monitor.calibration():
            return await lane.run(lambda: _from_file(service, texts["spec"], files["data"], who))
    body = await request.body()
    with service.monitor.calibration():
        return await lane.run(lambda: _from_json(service, body, who))


def _from_file(service: Parts, text: str, data: bytes, who: Principal) -> PointReply:
    spec = check_wire(read_json(text.encode(), "spec"), CalibrateSpec)
    who.check_model(spec.model)
    return _fit(service, spec, read_arrays(data, most_bytes=service.settings.unpacked_bytes), who)


def _from_json(service: Parts, body: bytes, who: Principal) -> PointReply:
    call = read_json(body)
    data = call.pop("data", None)
    if not isinstance(data, dict):
        raise BadRequest("calibrate needs data: an object with labels, and features, logits or inputs")
    if unknown := sorted(data.keys() - _DATA):
        raise BadRequest(f"data takes {', '.join(sorted(_DATA))}; got {unknown[0][:100]!r}")
    spec = check_wire(call, CalibrateSpec)
    who.check_model(spec.model)
    version = service.registry.model(spec.model).version(spec.model_version)
    given = {name: value for name, value in data.items() if value is not None}
    if len(forms := [name for name in ("inputs", "features", "logits") if name in given]) > 1:
        raise BadRequest(f"data needs exactly one of inputs, features, logits; got {' and '.join(forms)}")
    if "classes" in given:
        given["classes"] = _names(given["classes"])
    if "labels" in given:
        given["labels"] = read_labels(given["labels"], version.classes)
    if "inputs" in given:
        given["inputs"] = read_inputs(given["inputs"], version.inputs)
    for name in {"features", "logits", *_PER_ROW} & given.keys():
        given[name] = read_numbers(given[name], name)
    return _fit(service, spec, given, who)


def _names(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise BadRequest("classes must be a list of names")
    return value


def check_rows(labels: Any, most: int) -> None:
    """Raises `TooLarge` for more rows than a point may be fitted on."""
    if isinstance(labels, list | np.ndarray) and len(labels) > most:
        raise TooLarge(f"a point may be fitted on at most {most} rows, got {len(labels)}")


def _fit(service: Parts, wanted: CalibrateSpec, arrays: dict[str, Any], who: Principal) -> PointReply:
    check_rows(arrays.get("labels"), service.settings.calibrate_rows)
    if wanted.make_default:
        who.check("approve")
    spec = Spec(
        **wanted.model_dump(exclude={"prior", "constraints", "cost_matrix"}),
        prior=None if wanted.prior is None else tuple(wanted.prior),
        constraints=tuple(wanted.constraints),
        cost_matrix=None if wanted.cost_matrix is None else tuple(map(tuple, wanted.cost_matrix)),
    )
    record = fit_and_publish(spec, arrays, service.registry, who.name)
    return point_reply(service.registry.model(wanted.model), record)
