"""Settings: one frozen class, filled from the command line, from `SETPOINT_...` variables, or from these defaults."""

import ipaddress
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LEAST_TOKEN = 16


class Settings(BaseSettings):
    """How a server runs. Each field is also an environment variable: `port` is `SETPOINT_PORT`."""

    model_config = SettingsConfigDict(env_prefix="SETPOINT_", frozen=True, extra="forbid", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="The address to listen on; any but loopback needs a token.")
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on.")
    data: Path = Field(Path("setpoint-data"), description="The folder that holds all state; made where it is missing.")
    token: SecretStr | None = Field(None, description="The bearer token that every call but health must carry.")
    threads: int = Field(1, ge=1, description="Threads that ONNX Runtime uses for one run of a model.")
    run_s: float = Field(30, gt=0, le=3600, description="The most seconds that one run of a model may take.")
    trial_bytes: int = Field(
        2 * 2**30, ge=2**28, description="The most memory a model may take while it is tried out at registration."
    )
    body_bytes: int = Field(64 * 2**20, ge=1024, description="The largest request body in bytes; more is refused.")
    predict_rows: int = Field(100_000, ge=1, description="The most rows of one call of predict; more is refused.")
    unpacked_bytes: int = Field(
        512 * 2**20, ge=1024, description="The most bytes that an uploaded .npz file may unpack to."
    )
    calibrations: int = Field(2, ge=1, description="Calibrations that may run at once; one more waits for its turn.")
    jobs_waiting: int = Field(8, ge=0, description="Calibrations that may wait for their turn; one more is refused.")
    job_bytes: int = Field(4 * 2**30, ge=2**28, description="The most memory that one calibration may take.")
    job_s: float = Field(3600, gt=0, le=7 * 86400, description="The most seconds that one calibration may take.")
    async_rows: int = Field(
        200_000, ge=1, description="The most rows of a calibration that is answered when it is through, not at once."
    )
    jobs_kept_days: float = Field(30, gt=0, description="How long a job that is over can be looked up.")

    @field_validator("token")
    @classmethod
    def _long_enough(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < LEAST_TOKEN:
            raise ValueError(f"SETPOINT_TOKEN must have at least {LEAST_TOKEN} characters")
        return token

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
