"""What the command line says to a running server."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2

from calibrate.errors import InputError, SetpointError


class Refused(SetpointError):
    """A server did not do what it was asked, or did not answer."""


class Client:
    """A server by its address; the token in SETPOINT_TOKEN goes along where it is set. Every call raises `Refused`."""

    def __init__(self, server: str) -> None:
        token = os.environ.get("SETPOINT_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        address = server if "://" in server else f"http://{server}"
        self._http = httpx2.Client(base_url=address, headers=headers, timeout=120)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def register(self, file: Path, model: str, **fields: str | None) -> dict[str, Any]:
        """Registers an ONNX file; `fields` are those of the form."""
        given = {"name": model, **{key: value for key, value in fields.items() if value is not None}}
        return dict(self._ask("POST", "/models", data=given, files={"file": (file.name, _read(file))}))

    def publish(self, file: Path, model: str, *, name: str, model_version: int | None) -> dict[str, Any]:
        """Publishes the point in a file that `OperatingPoint.save` or `FitResult.save` wrote."""
        try:
            saved = json.loads(_read(file))
        except ValueError as error:
            raise InputError(f"{file} is not JSON: {error}") from None
        if not isinstance(saved, dict):
            raise InputError(f"{file} holds no operating point")
        point, details = saved, {}
        if "point" in saved:
            point = saved["point"]
            details = {key: value for key, value in saved.items() if key not in ("point", "threshold")}
        body = {"name": name, "point": point, "details": details, "model_version": model_version}
        return dict(self._ask("POST", f"/models/{model}/operating-points", json=body))

    def set_default(self, model: str, *, model_version: int, point: str, reason: str) -> dict[str, Any]:
        """Moves the default of a model."""
        body = {"model_version": model_version, "operating_point": point, "reason": reason}
        return dict(self._ask("PUT", f"/models/{model}/default", json=body))

    def calibrate(self, file: Path, spec: dict[str, Any], key: str) -> dict[str, Any]:
        """A calibration on the rows of a file, as a job that goes on by itself; a call that breaks is made again."""
        headers = {"Prefer": "respond-async", "Idempotency-Key": key}
        body = {"data": {"spec": json.dumps(spec)}, "files": {"data": (file.name, _read(file))}, "headers": headers}
        said = dict(self._ask("POST", "/calibrate", **body))
        if "progress" in said:
            return said
        # It was over already: asked for before, under the same key.
        point = said["model"], said["operating_point"]
        return self.job(next(job["id"] for job in self.jobs(1000) if (job["model"], job["operating_point"]) == point))

    def job(self, job_id: str) -> dict[str, Any]:
        """A job as it is now."""
        return dict(self._ask("GET", f"/jobs/{job_id}"))

    def jobs(self, limit: int) -> list[dict[str, Any]]:
        """The newest jobs first."""
        return list(self._ask("GET", f"/jobs?limit={limit}"))

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancels a job."""
        return dict(self._ask("DELETE", f"/jobs/{job_id}"))

    def get(self, *path: str, **query: Any) -> Any:
        """What is at an address, given by its parts."""
        asked = {name: value for name, value in query.items() if value is not None}
        return self._ask("GET", _address(path), params=asked)

    def do(self, verb: str, *path: str, **body: Any) -> Any:
        """Asks for a change at an address; of the body what is not None."""
        given = {name: value for name, value in body.items() if value is not None}
        return self._ask(verb, _address(path), **{"params" if verb == "DELETE" else "json": given})

    def _ask(self, verb: str, path: str, **what: Any) -> Any:
        try:
            response = self._http.request(verb, path, **what)
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise Refused(
                f"no answer from {self._http.base_url}: {error}; start a server with 'setpoint serve', or name another "
                "with --server"
            ) from None
        try:
            body = response.json()
        except ValueError:
            raise Refused(f"{self._http.base_url} answered {response.status_code} without JSON") from None
        if response.is_error:
            raise Refused(f"the server refused it ({response.status_code}): {body.get('detail', body)}")
        return body


def _address(path: Sequence[str]) -> str:
    return "".join(f"/{quote(part, safe='@')}" for part in path)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
