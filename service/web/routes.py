"""Every route in one table: what it answers, who may call it, what it takes and gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from starlette.responses import JSONResponse, PlainTextResponse, Response

from service import domain
from service.web import calibrate, decisions, health, predict, registry, schemas


@dataclass(frozen=True)
class Route:
    """One row: `scope` is what a caller must be allowed to do; "open" asks for no key.

    A `hot` one is answered ahead of the framework: its handler takes a `service.web.hot.HotCall` and gives a `Reply`.
    """

    verb: Literal["GET", "POST", "PUT"]
    path: str
    handler: Callable[..., Any]
    scope: domain.Scope | Literal["open"]
    reply: Any
    status: int = 200
    json: type[BaseModel] | None = None
    form: type[BaseModel] | None = None
    hot: bool = False
    answer: type[Response] = JSONResponse


ROUTES = (
    Route("POST", "/predict", predict.predict, "predict", schemas.PredictReply, json=schemas.PredictRequest, hot=True),
    Route(
        "POST", "/calibrate", calibrate.calibrate, "calibrate", schemas.PointReply, 201,
        schemas.CalibrateRequest, schemas.CalibrateForm,
    ),
    Route("POST", "/models", registry.register, "manage", schemas.VersionReply, 201, form=schemas.RegisterForm),
    Route("GET", "/models", registry.list_models, "predict", list[schemas.ModelReply]),
    Route("GET", "/models/{model}", registry.show_model, "predict", schemas.ModelReply),
    Route(
        "PUT", "/models/{model}/default", registry.set_default, "manage", schemas.DefaultReply,
        json=schemas.DefaultRequest,
    ),
    Route("GET", "/models/{model}/operating-points", registry.list_points, "predict", list[schemas.PointReply]),
    Route(
        "POST", "/models/{model}/operating-points", registry.publish, "manage", schemas.PointReply, 201,
        schemas.PublishRequest,
    ),
    Route("GET", "/models/{model}/operating-points/{point}", registry.show_point, "predict", schemas.PointReply),
    Route("GET", "/audit", registry.audit, "audit", list[schemas.AuditReply]),
    Route("GET", "/audit/head", registry.audit_head, "audit", schemas.AuditHeadReply),
    Route("GET", "/decisions", decisions.show_decisions, "audit", list[schemas.DecisionReply]),
    Route("GET", "/health/live", health.live, "open", schemas.HealthReply),
    Route("GET", "/health/ready", health.ready, "open", schemas.HealthReply),
    Route("GET", "/health/startup", health.startup, "open", schemas.HealthReply),
    Route("GET", "/metrics", health.metrics, "metrics", None, answer=PlainTextResponse),
)  # fmt: skip
