"""`POST /models/{model}/evaluate`: do saved points still hold on new labelled rows?

Decided here: it is answered at once, so the rows are bounded as those of a calibration that is waited for; they are
read and measured in a process of their own, as those of `/calibrate` are.
"""

from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from service.jobs.desk import Evaluating
from service.web.bodies import answer, check_wire, is_multipart
from service.web.calibrate_data import read_call
from service.web.evaluate_schemas import EvaluateReply, EvaluateSpec
from service.web.state import call, parts, principal
from service.web.tensors import read_json
from service.web.uploads import spool_body, spool_form


async def evaluate(request: Request, model: str, format: Literal["json", "html"] | None = None) -> Response:
    """Measures saved points, in any state, on labelled rows that did not fit them, and says whether they still hold.

    The data is as for `/calibrate`: JSON, or a multipart body with `spec` (JSON) and `data`. `?format=html`, or
    `Accept: text/html`, answers a page to keep. Nothing is stored.
    """
    service, who = parts(request), principal(request)
    call(request).step("evaluate")
    page = format == "html" or (format is None and "text/html" in request.headers.get("accept", "").lower())
    desk, lane = service.desk, service.lanes.changes
    await lane.run(lambda: service.registry.model(model))
    with desk.arriving() as arriving, desk.keeping(arriving.name):
        asked: dict[str, Any]
        if is_multipart(request):
            form, text = "file", await spool_form(request, arriving, lane, "data", "spec")
            asked = read_json(text.encode(), "spec")
            await lane.run(arriving.finish)
        else:
            form = "json"
            await spool_body(request, arriving, lane)
            await lane.run(arriving.finish)
            small = arriving.size <= _SMALL_BYTES
            asked = await service.lanes.calibrations.run(
                lambda: read_call(arriving.path.read_bytes())[0] if small else desk.read_spec(arriving.path)
            )
        spec = check_wire(asked, EvaluateSpec)
        wanted = Evaluating(
            model=model,
            path=arriving.path,
            form=form,
            most_rows=service.settings.async_rows,
            model_version=spec.model_version,
            points=tuple(spec.points or ()),
            metrics=tuple(spec.metrics),
            positive=spec.positive,
            allow_other_model=spec.allow_other_model,
            page=page,
            columns=None if spec.columns is None else spec.columns.model_dump(mode="json"),
        )
        reply, html = await service.lanes.calibrations.run(lambda: desk.evaluate(wanted, who))
    call(request).of(model, reply["model_version"])
    if page:
        return Response(html, media_type="text/html")
    return await lane.run(lambda: answer(EvaluateReply.model_validate(reply), EvaluateReply))


_SMALL_BYTES = 256 * 2**10  # of a body that is read faster here than a process could be asked to
