"""Every route in one table: what it answers, who may call it, what it takes and gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from starlette.responses import JSONResponse, PlainTextResponse, Response

from service import domain
from service.web import calibrate, decisions, health, life, life_schemas, points, predict, registry, schemas, shadow


@dataclass(frozen=True)
class Route:
    """One row: `scope` is what a caller must be allowed to do; "open" asks for no key."""

    verb: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: Callable[..., Any]
    scope: domain.Scope | Literal["open"]
    reply: Any
    status: int = 200
    json: type[BaseModel] | None = None
    form: type[BaseModel] | None = None
    answer: type[Response] = JSONResponse


ROUTES = (
    Route("POST", "/predict", predict.predict, "predict", schemas.PredictReply, json=schemas.PredictRequest),
    Route(
        "POST", "/calibrate", calibrate.calibrate, "calibrate", schemas.PointReply, 201,
        schemas.CalibrateRequest, schemas.CalibrateForm,
    ),
    Route("POST", "/models", registry.register, "manage", schemas.VersionReply, 201, form=schemas.RegisterForm),
    Route("GET", "/models", registry.list_models, "predict", list[schemas.ModelReply]),
    Route("GET", "/models/{model}", registry.show_model, "predict", schemas.ModelReply),
    Route("GET", "/models/{model}/default", life.show_default, "predict", life_schemas.MovedReply),
    Route(
        "PUT", "/models/{model}/default", life.set_default, "approve", life_schemas.MovedReply,
        json=life_schemas.DefaultRequest,
    ),
    Route(
        "POST", "/models/{model}/default/rollback", life.roll_back, "approve", life_schemas.MovedReply,
        json=life_schemas.RollbackRequest,
    ),
    Route("GET", "/models/{model}/aliases", life.list_aliases, "predict", list[life_schemas.AliasReply]),
    Route(
        "PUT", "/models/{model}/aliases/{alias}", life.set_alias, "approve", life_schemas.AliasReply,
        json=life_schemas.AliasRequest,
    ),
    Route("DELETE", "/models/{model}/aliases/{alias}", life.drop_alias, "approve", list[life_schemas.AliasReply]),
    Route("GET", "/models/{model}/operating-points", points.list_points, "predict", list[schemas.PointReply]),
    Route(
        "POST", "/models/{model}/operating-points", points.publish, "manage", schemas.PointReply, 201,
        schemas.PublishRequest,
    ),
    Route("GET", "/models/{model}/operating-points/{point}", points.show_point, "predict", schemas.PointReply),
    Route(
        "POST", "/models/{model}/operating-points/{point}/approve", life.approve, "approve", schemas.PointReply,
        json=life_schemas.ApproveRequest,
    ),
    Route(
        "GET", "/models/{model}/operating-points/{point}/shadow", shadow.show_shadow, "predict",
        life_schemas.ShadowReply,
    ),
    Route(
        "POST", "/models/{model}/operating-points/{point}/shadow", life.shadow, "manage", schemas.PointReply,
        json=life_schemas.StateRequest,
    ),
    Route(
        "POST", "/models/{model}/operating-points/{point}/retire", life.retire, "manage", schemas.PointReply,
        json=life_schemas.StateRequest,
    ),
    Route("GET", "/audit", registry.audit, "audit", list[schemas.AuditReply]),
    Route("GET", "/decisions", decisions.show_decisions, "audit", list[schemas.DecisionReply]),
    Route("GET", "/health/live", health.live, "open", schemas.HealthReply),
    Route("GET", "/health/ready", health.ready, "open", schemas.HealthReply),
    Route("GET", "/health/startup", health.startup, "open", schemas.HealthReply),
    Route("GET", "/metrics", health.metrics, "metrics", None, answer=PlainTextResponse),
)  # fmt: skip
