"""`POST /calibrate`: labelled rows in, a published operating point out.

Decided here: what came in becomes a job before anything is answered, and the caller waits for it unless it has many
rows or asked not to wait. A caller that goes away while it waits has its job cancelled, as it would expect of any call,
unless it named an idempotency key: then it will come back for the answer, and the job goes on.
"""

from anyio import create_task_group
from starlette.requests import Request
from starlette.responses import Response

from calibrate.errors import SetpointError
from service.errors import BadRequest, JobCancelled
from service.job import Job
from service.jobs.desk import Wanted
from service.web.bodies import answer, check_wire
from service.web.jobs import error_of, job_reply, watched
from service.web.points import point_reply
from service.web.schemas import CalibrateSpec, JobReply, PointReply
from service.web.state import Parts, call, parts, principal, request_id
from service.web.uploads import spool_call


async def calibrate(request: Request) -> Response:
    """Fits an operating point for a metric on labelled rows and publishes it under the next version of its name.

    The data is JSON, or a multipart body with the parts `spec` (JSON) and `data` (a feature cache as .npz, Parquet,
    Arrow or CSV, or a table of scores and labels, CSV or Parquet, whose columns the spec's `columns` name). The
    evidence is about the published point, corrected for the optimism of having chosen it on these rows. With many rows,
    or under `Prefer: respond-async`, the answer is 202 with the job, whose address is in `Location`.
    """
    service = parts(request)
    call(request).step("calibrate")
    key = request.headers.get("idempotency-key")
    at_once = "respond-async" in request.headers.get("prefer", "").lower()
    if key is None:  # else there may be a job already, which is not refused
        await service.lanes.changes.run(service.desk.check_room)
    job = await _submit(request, service, key)
    call(request).of(job.model, job.spec["model_version"])
    if not at_once:
        job = await _wait(request, service, job, cancels=key is None)
    if job.is_over:
        return await service.lanes.changes.run(lambda: _answer(service, job))
    headers = {"Location": f"/jobs/{job.id}", **({"Preference-Applied": "respond-async"} if at_once else {})}
    reply = await service.lanes.changes.run(lambda: answer(job_reply(service, job), JobReply, 202))
    reply.headers.update(headers)
    return reply


async def _submit(request: Request, service: Parts, key: str | None) -> Job:
    """The job that a request asks for; its data is kept first."""
    desk, lane, who = service.desk, service.lanes.changes, principal(request)
    with desk.arriving() as arriving, desk.keeping(arriving.name) as keep:
        form, digest, asked = await spool_call(request, arriving, service)
        spec = check_wire(asked, CalibrateSpec).model_dump(mode="json")
        wanted = Wanted(spec, arriving.name, form, digest, request_id(request), key)
        return await lane.run(lambda: desk.submit(wanted, who, keep))


async def _wait(request: Request, service: Parts, job: Job, *, cancels: bool) -> Job:
    """The job once it is over, or known to have too many rows to wait for."""
    last, error = job, None

    async with create_task_group() as group:

        async def look_out() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            if cancels:
                await service.lanes.changes.run(lambda: service.desk.cancel(job.id, principal(request)))
            group.cancel_scope.cancel()

        group.start_soon(look_out)
        try:
            async for last in watched(service, job.id):
                rows = (last.progress or {}).get("rows", 0)
                if last.is_over or rows > service.settings.async_rows:
                    break
        except SetpointError as failed:  # a group would wrap it
            error = failed
        group.cancel_scope.cancel()
    if error is not None:
        raise error
    return last


def _answer(service: Parts, job: Job) -> Response:
    """What came of a job. Raises: what stood in its way."""
    if job.state == "cancelled":
        raise JobCancelled(f"job {job.id} was cancelled")
    if job.state == "failed":
        raise error_of(job)
    record = service.desk.point(job)
    if record is None:
        raise BadRequest(f"job {job.id} has no point")
    return answer(point_reply(service.registry.model(job.model), record), PointReply, 201)
