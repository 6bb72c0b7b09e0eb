"""`POST /models/{model}/evaluate`: do saved points still hold on new labelled rows?

Decided here: it is answered at once, so the rows are bounded as those of a calibration that is waited for; they are
read and measured in a process of their own, as those of `/calibrate` are.
"""

from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from service.jobs.desk import Evaluating
from service.web.bodies import answer, check_wire
from service.web.evaluate_schemas import EvaluateReply, EvaluateSpec
from service.web.state import call, parts, principal
from service.web.uploads import spool_call


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
        form, _, asked = await spool_call(request, arriving, service)
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
