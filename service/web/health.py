"""Health: alive, started, ready for traffic; and the metrics.

Decided here: live tells of the process alone, so that nothing else gets it restarted; ready tells of all that an
answer needs, and since it needs no token it names models and what they run on, but nothing of their data.
"""

from starlette.requests import Request
from starlette.responses import Response

from service.errors import UnknownRoute
from service.monitoring.metrics import CONTENT_TYPE
from service.web.schemas import HealthReply
from service.web.state import parts


async def live(_: Request) -> HealthReply:
    """The process answers."""
    return HealthReply(status="ok")


async def startup(request: Request) -> Response:
    """The store is read and the models are loaded; 503 until then."""
    started = parts(request).lifecycle.is_started
    return _answer([] if started else ["the server is still starting"], {})


async def ready(request: Request) -> Response:
    """The store answers and can be written, every default version is loaded, and the server is not stopping.

    503 with the reasons where not; `providers` is what the default version of each model really runs on.
    """
    service = parts(request)
    found = await service.lifecycle.ready()
    return _answer(found.reasons, found.providers)


async def metrics(request: Request) -> Response:
    """Every metric of this server, in Prometheus' text format."""
    service = parts(request)
    if not service.settings.metrics:
        raise UnknownRoute("there is nothing at /metrics: it is switched off by SETPOINT_METRICS")
    found = await service.lifecycle.ready()
    service.monitor.metrics.looked(not found.reasons)
    text = await service.lanes.health.run(service.monitor.metrics.text)
    return Response(text, media_type=CONTENT_TYPE)


def _answer(reasons: list[str], providers: dict[str, str]) -> Response:
    reply = HealthReply(status="not ready" if reasons else "ok", reasons=reasons, providers=providers)
    return Response(reply.model_dump_json(), 503 if reasons else 200, media_type="application/json")
