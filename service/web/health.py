"""Health: alive, and ready for traffic."""

from starlette.requests import Request
from starlette.responses import Response

from service.domain import StorageFailed
from service.web.schemas import HealthReply
from service.web.state import parts


async def live(_: Request) -> HealthReply:
    """The process answers."""
    return HealthReply(status="ok")


async def ready(request: Request) -> Response:
    """The store answers and can be written, and every default version is loaded; 503 with the reasons where not."""
    service = parts(request)
    try:
        reasons = await service.lanes.health.run(service.registry.not_ready)
    except StorageFailed as error:
        reasons = [str(error)]
    reply = HealthReply(status="not ready" if reasons else "ok", reasons=reasons)
    return Response(reply.model_dump_json(), 503 if reasons else 200, media_type="application/json")
