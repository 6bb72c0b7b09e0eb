"""Every route in one table: what it answers, who may call it, what it takes and gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel
from starlette.responses import JSONResponse, PlainTextResponse, Response

from service import domain
from service.web import (
    calibrate,
    decisions,
    evaluate,
    evaluate_schemas,
    health,
    jobs,
    life,
    life_schemas,
    points,
    predict,
    registry,
    schemas,
    shadow,
)  # fmt: skip
from service.web.oip import handlers as v2
from service.web.oip import schemas as oip


@dataclass(frozen=True)
class Route:
    """One row: `scope` is what a caller must be allowed to do; "open" asks for no key.

    With `binary` body and answer may also be raw tensors; an `optional` body may be left out.

    A `hot` one is answered ahead of the framework: its handler takes a `service.web.hot.HotCall` and gives a `Reply`.
    """

    verb: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: Callable[..., Any]
    scope: domain.Scope | Literal["open"]
    reply: Any
    status: int = 200
    json: type[BaseModel] | None = None
    form: type[BaseModel] | None = None
    others: Mapping[int, tuple[type[BaseModel] | None, str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    hot: bool = False
    binary: bool = False
    optional: bool = False
    answer: type[Response] = JSONResponse


_MODEL = "/v2/models/{model}"
_VERSION = "/v2/models/{model}/versions/{version}"
ROUTES = (
    Route("POST", "/predict", predict.predict, "predict", schemas.PredictReply, json=schemas.PredictRequest, hot=True),
    Route(
        "POST", "/calibrate", calibrate.calibrate, "calibrate", schemas.PointReply, 201,
        schemas.CalibrateRequest, schemas.CalibrateForm,
        {202: (schemas.JobReply, "It goes on as a job, whose address is in `Location`.")},
        {
            "Prefer": "`respond-async`: answer 202 with the job at once, and do not wait for the fit.",
            "Idempotency-Key": "The same request under the same key is one job, and gets the same answer.",
        },
    ),
    Route("GET", "/jobs", jobs.list_jobs, "calibrate", list[schemas.JobReply]),
    Route("GET", "/jobs/{job}", jobs.show_job, "calibrate", schemas.JobReply),
    Route(
        "GET", "/jobs/{job}/events", jobs.job_events, "calibrate", None, answer=jobs.Events,
        others={204: (None, "It is over, and `Last-Event-ID` was its last event.")},
        headers={"Last-Event-ID": "The last event that was seen: what it said is not said again."},
    ),
    Route("DELETE", "/jobs/{job}", jobs.cancel_job, "calibrate", schemas.JobReply),
    Route(
        "POST", "/models", registry.register, "manage", schemas.VersionReply, 201,
        schemas.RegisterRequest, schemas.RegisterForm,
    ),
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
    Route(
        "POST", "/models/{model}/evaluate", evaluate.evaluate, "calibrate", evaluate_schemas.EvaluateReply,
        json=evaluate_schemas.EvaluateRequest, form=evaluate_schemas.EvaluateForm,
    ),
    Route("GET", "/models/{model}/operating-points", points.list_points, "predict", list[schemas.PointReply]),
    Route(
        "POST", "/models/{model}/operating-points", points.publish, "manage", schemas.PointReply, 201,
        schemas.PublishRequest,
    ),
    Route("GET", "/models/{model}/operating-points/{point}", points.show_point, "predict", schemas.PointReply),
    Route(
        "GET", "/models/{model}/operating-points/{point}/curve", points.show_curve, "predict", schemas.CurveReply,
    ),
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
    Route("GET", "/audit/head", registry.audit_head, "audit", schemas.AuditHeadReply),
    Route("GET", "/decisions", decisions.show_decisions, "audit", list[schemas.DecisionReply]),
    Route("GET", "/health/live", health.live, "open", schemas.HealthReply),
    Route("GET", "/health/ready", health.ready, "open", schemas.HealthReply),
    Route("GET", "/v2", v2.server_metadata_v2, "predict", oip.OipServer),
    Route("GET", "/v2/health/live", v2.server_live, "open", oip.OipLive),
    Route("GET", "/v2/health/ready", v2.server_ready, "open", oip.OipReady),
    Route("GET", "/v2/models", v2.list_models_v2, "predict", oip.OipModels),
    Route("GET", "/v2/models/stats", v2.all_statistics, "predict", oip.OipStatistics),
    Route("GET", f"{_MODEL}", v2.model_metadata, "predict", oip.OipModel),
    Route("GET", f"{_VERSION}", v2.version_metadata, "predict", oip.OipModel),
    Route("GET", f"{_MODEL}/ready", v2.model_ready, "predict", oip.OipReady),
    Route("GET", f"{_VERSION}/ready", v2.version_ready, "predict", oip.OipReady),
    Route("GET", f"{_MODEL}/config", v2.model_config, "predict", oip.OipConfig),
    Route("GET", f"{_VERSION}/config", v2.version_config, "predict", oip.OipConfig),
    Route("GET", f"{_MODEL}/stats", v2.model_statistics, "predict", oip.OipStatistics),
    Route("GET", f"{_VERSION}/stats", v2.version_statistics, "predict", oip.OipStatistics),
    Route(
        "POST", f"{_MODEL}/infer", v2.infer_model, "predict", oip.OipReply,
        json=oip.OipRequest, binary=True, hot=True,
    ),
    Route(
        "POST", f"{_VERSION}/infer", v2.infer_version, "predict", oip.OipReply,
        json=oip.OipRequest, binary=True, hot=True,
    ),
    Route(
        "POST", "/v2/repository/index", v2.repository_index, "predict", list[oip.OipIndexItem],
        json=oip.OipIndexRequest, optional=True,
    ),
    Route(
        "POST", "/v2/repository/models/{model}/load", v2.load_model, "manage", oip.OipLoaded,
        json=oip.OipLoadRequest, optional=True,
    ),
    Route(
        "POST", "/v2/repository/models/{model}/unload", v2.unload_model, "manage", oip.OipLoaded,
        json=oip.OipUnloadRequest, optional=True,
    ),
    Route("GET", "/health/startup", health.startup, "open", schemas.HealthReply),
    Route("GET", "/metrics", health.metrics, "metrics", None, answer=PlainTextResponse),
)  # fmt: skip
