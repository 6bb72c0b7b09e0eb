"""Settings: one frozen class, filled from the command line, from `SETPOINT_...` variables, or from these defaults."""

import ipaddress
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from calibrate.errors import InputError

LEAST_TOKEN = 16
PREFIX = "SETPOINT_"
OTHERS = frozenset({"SETPOINT_SERVER", "SETPOINT_PORT_TWO"})  # of the commands that ask a server, and of compose.yaml
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")


class Settings(BaseSettings):
    """How a server runs. Each field is also an environment variable: `port` is `SETPOINT_PORT`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="The address to listen on; any but loopback needs a token or keys.")
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on.")
    data: Path = Field(Path("setpoint-data"), description="The folder that holds all state; made where it is missing.")
    database: SecretStr | None = Field(
        None, description="The PostgreSQL database to keep state in; the SQLite file in the folder unless told."
    )
    artifacts: str | None = Field(
        None,
        description="Where model files are kept, s3://bucket/prefix or a folder; in the data folder unless told.",
    )
    start_s: float = Field(
        0, ge=0, le=3600, description="Seconds to wait at the start for a PostgreSQL database that does not answer yet."
    )
    token: SecretStr | None = Field(None, description="A token that may do everything, for a server without keys.")
    approval: Literal["off", "four_eyes"] = Field(
        "off", description="With four_eyes a point answers only once another than its author has approved it."
    )
    hosts: str = Field(
        "",
        description="Host names that callers may use, as a.example,b.example; without keys loopback's are taken too.",
    )
    proxies: str = Field("", description="Addresses of proxies whose X-Forwarded-For and -Proto headers are believed.")
    predict_per_s: float | None = Field(
        None, gt=0, description="The most predictions that one caller may ask a second."
    )
    calibrate_per_min: float | None = Field(
        None, gt=0, description="The most calibrations that one caller may ask a minute."
    )
    failures_per_min: float = Field(
        300.0, gt=0, description="Wrong keys that an address may present a minute, before it is made to wait."
    )
    threads: int = Field(1, ge=1, description="Threads that ONNX Runtime uses for one run of a model.")
    require_gpu: bool = Field(False, description="Whether to refuse what would run on the CPU.")
    models_bytes: int | None = Field(
        None, ge=1, description="The most bytes of model files kept loaded; the least recently used is let go."
    )
    runs: int | None = Field(
        None, ge=1, description="Runs of models at once; as many as there are cores for `threads` each if not given."
    )
    batch_rows: int = Field(64, ge=1, description="The most rows of several calls that are run together.")
    queued_rows: int = Field(100_000, ge=1, description="The most rows that may wait for a run; more is refused.")
    queued_bytes: int = Field(2**28, ge=1, description="The most bytes of rows that may wait for a run.")
    run_s: float = Field(30, gt=0, le=3600, description="The most seconds that one run of a model may take.")
    trial_bytes: int = Field(
        2 * 2**30, ge=2**28, description="The most memory a model may take while it is tried out at registration."
    )
    body_bytes: int = Field(64 * 2**20, ge=1024, description="The largest request body in bytes; more is refused.")
    body_s: float = Field(120.0, gt=0, le=3600, description="The most seconds that a request body may take to come.")
    head_bytes: int = Field(
        32 * 2**10, ge=1024, le=2**20, description="The largest head of a request, its address and headers, in bytes."
    )
    head_s: float = Field(20.0, gt=0, le=600, description="The most seconds that the head of a request may take.")
    predict_rows: int = Field(100_000, ge=1, description="The most rows of one call of predict; more is refused.")
    calibrate_rows: int = Field(5_000_000, ge=1, description="The most rows that a point may be fitted on.")
    classes: int = Field(10_000, ge=2, description="The most classes that a model may have.")
    decision_log: Literal["off", "best_effort", "required"] = Field(
        "off",
        description="Whether decisions are logged: not; as far as the store keeps up; or else they are not answered.",
    )
    decision_rows: int = Field(1_000_000, ge=1, description="The most rows of the decision log; the oldest go.")
    decision_key: SecretStr | None = Field(
        None,
        description="A secret that the digests of logged rows are made with, so that nobody else can try rows out.",
    )
    unpacked_bytes: int = Field(
        512 * 2**20, ge=1024, description="The most bytes that an uploaded .npz file may unpack to."
    )
    calibrations: int = Field(2, ge=1, description="Calibrations that may run at once; one more waits for its turn.")
    jobs_waiting: int = Field(8, ge=0, description="Calibrations that may wait for their turn; one more is refused.")
    job_bytes: int = Field(4 * 2**30, ge=2**28, description="The most memory that one calibration may take.")
    job_s: float = Field(3600, gt=0, le=7 * 86400, description="The most seconds that one calibration may take.")
    job_nice: int = Field(
        19,
        ge=0,
        le=19,
        description="How far a calibration gives way to whatever else wants the processors; at 19 it has what is left.",
    )
    async_rows: int = Field(
        200_000, ge=1, description="The most rows of a calibration that is answered when it is through, not at once."
    )
    jobs_kept_days: float = Field(30, gt=0, description="How long a job that is over can be looked up.")

    drain_s: float = Field(
        0, ge=0, le=3600, description="Seconds that the server still answers after SIGTERM, while it is not ready."
    )
    stop_s: int = Field(
        10, ge=1, le=3600, description="The most seconds that requests in flight have to end at a stop."
    )
    keep_alive_s: int = Field(
        75,
        ge=1,
        le=3600,
        description="Seconds that an idle connection is kept; more than a proxy in front keeps its own.",
    )
    tls_cert: Path | None = Field(None, description="The certificate chain (PEM) to serve HTTPS with.")
    tls_key: Path | None = Field(None, description="The certificate's private key (PEM), without a password.")
    docs: bool = Field(True, description="Whether /docs and /openapi.json are there.")
    metrics: bool = Field(True, description="Whether /metrics is there.")
    log_format: Literal["text", "json"] = Field("text", description="How a line of the log is written.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="From which level on is logged."
    )
    log_requests: Literal["all", "most", "errors"] = Field(
        "most",
        description="Which requests have a line in the log: all, all but answered predictions, or those refused.",
    )
    traces: str | None = Field(None, description="The OpenTelemetry collector that traces are sent to, OTLP over HTTP.")

    @field_validator("token")
    @classmethod
    def _long_enough(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < LEAST_TOKEN:
            raise ValueError(f"SETPOINT_TOKEN must have at least {LEAST_TOKEN} characters")
        return token

    @field_validator("hosts")
    @classmethod
    def _names_alone(cls, hosts: str) -> str:
        for host in filter(None, hosts.split(",")):
            if not _HOST.fullmatch(host):
                raise ValueError(f"SETPOINT_HOSTS must be names without scheme and port, got {host[:100]!r}")
        return hosts

    @property
    def named_hosts(self) -> frozenset[str]:
        """`hosts`, each by itself."""
        return frozenset(filter(None, self.hosts.lower().split(",")))

    @field_validator("traces")
    @classmethod
    def _an_address(cls, traces: str | None) -> str | None:
        if traces is not None and not traces.startswith(("http://", "https://")):
            raise ValueError("SETPOINT_TRACES must be the address of a collector, as http://localhost:4318")
        return traces

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("SETPOINT_TLS_CERT and SETPOINT_TLS_KEY go together: give both or none")
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def read_settings(given: dict[str, Any]) -> Settings:
    """The settings that were given, the others from the environment. Raises: `InputError`, without their values."""
    try:
        return Settings(**given)
    except ValidationError as error:
        faults = [_fault(item) for item in error.errors(include_input=False)]
        raise InputError("; ".join(faults)) from None


def unknown_variables(names: Iterable[str]) -> list[str]:
    """Of names of variables those with our prefix that are no setting, each with the setting that is nearest to it."""
    known = [field.upper() for field in Settings.model_fields]
    told = []
    for name in sorted(names):
        rest = name.upper().removeprefix(PREFIX)
        if name.upper().startswith(PREFIX) and rest not in known and name.upper() not in OTHERS:
            near = get_close_matches(rest, known, n=1, cutoff=0.7)
            told.append(f"{name[:100]} (is {PREFIX}{near[0]} meant?)" if near else name[:100])
    return told


def _fault(item: Any) -> str:
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    return f"settings: {'.'.join(map(str, item['loc']))}: {item['msg']}"
