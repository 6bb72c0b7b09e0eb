"""What the command line says to a running server."""

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2

from calibrate.errors import InputError, SetpointError
from calibrate.origin import origin_of_saved

_SENDABLE = re.compile(r"[!-~](?:[ -~]*[!-~])?")


class Refused(SetpointError):
    """A server did not do what it was asked, or did not answer."""


class _Answer(dict[str, Any]):
    """An object out of an answer; what it does not have is the server's fault, told in one line."""

    def __missing__(self, key: str) -> Any:
        raise Refused(f"the server's answer has no {key!r}: is it a Setpoint server, of this release?")


class Client:
    """A server by its address; the key in SETPOINT_TOKEN goes along where it is set. Every call raises `Refused`.

    Raises: `InputError` where that key cannot be sent, without its value, or the address is none.
    """

    def __init__(self, server: str) -> None:
        key = os.environ.get("SETPOINT_TOKEN")
        headers = {"Authorization": f"Bearer {_header(key, 'the key in SETPOINT_TOKEN')}"} if key else {}
        address = server if "://" in server else f"http://{server}"
        try:
            self._http = httpx2.Client(base_url=address, headers=headers, timeout=120)
        except httpx2.InvalidURL as error:
            raise InputError(f"the server's address cannot be read: {error}") from None
        self._named = str(self._http.base_url.copy_with(userinfo=b""))  # a password in it is not shown

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def register(self, file: Path, model: str, **fields: str | None) -> dict[str, Any]:
        """Registers an ONNX file; `fields` are those of the form."""
        given = {"name": model, **{key: value for key, value in fields.items() if value is not None}}
        return self._one("POST", "models", data=given, files={"file": (file.name, _read(file))})

    def publish(
        self, file: Path, model: str, *, name: str, model_version: int | None, allow_other_model: bool = False
    ) -> dict[str, Any]:
        """Publishes the point in a file that `OperatingPoint.save` or `FitResult.save` wrote."""
        text = _read(file)
        try:
            saved = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file} is not JSON: {error}") from None
        if not isinstance(saved, dict):
            raise InputError(f"{file} holds no operating point")
        if (fault := _not_finite(saved)) is not None:
            raise InputError(f"{file}: {fault[0]} must be a finite number, got {fault[1]}")
        point, details = saved, {}
        if "point" in saved:
            point = saved["point"]
            details = {key: value for key, value in saved.items() if key not in ("point", "threshold")}
        body = {"name": name, "point": point, "details": details, "model_version": model_version}
        if (origin := origin_of_saved(details)) is not None:
            body["model_digest"] = details["model_digest"] = origin.file_digest
        if allow_other_model:
            body["allow_other_model"] = True
        return self._one("POST", "models", model, "operating-points", json=body)

    def set_default(self, model: str, *, model_version: int, point: str, reason: str) -> dict[str, Any]:
        """Moves the default of a model."""
        body = {"model_version": model_version, "operating_point": point, "reason": reason}
        return self._one("PUT", "models", model, "default", json=body)

    def calibrate(self, file: Path, spec: dict[str, Any], key: str) -> dict[str, Any]:
        """A calibration on the rows of a file, as a job that goes on by itself; a call that breaks is made again."""
        headers = {"Prefer": "respond-async", "Idempotency-Key": _header(key, "the idempotency key")}
        body = {"data": {"spec": json.dumps(spec)}, "files": {"data": (file.name, _read(file))}, "headers": headers}
        said = self._one("POST", "calibrate", **body)
        if "progress" in said:
            return said
        # It was over already: asked for before, under the same key.
        point = said["model"], said["operating_point"]
        for job in self.jobs(1000):
            if (job["model"], job["operating_point"]) == point:
                return self.job(job["id"])
        raise Refused(f"{point[1]} of model '{point[0]}' was published under this key before; its job is forgotten")

    def evaluate(self, file: Path, model: str, spec: dict[str, Any]) -> dict[str, Any]:
        """What the points of a model achieve on the rows of a file."""
        return self._one("POST", "models", model, "evaluate", **_form(file, spec))

    def evaluation_page(self, file: Path, model: str, spec: dict[str, Any]) -> bytes:
        """The same as a page to keep."""
        body = {**_form(file, spec), "params": {"format": "html"}}
        return self._send("POST", ("models", model, "evaluate"), body).content

    def job(self, job_id: str) -> dict[str, Any]:
        """A job as it is now."""
        return self._one("GET", "jobs", job_id)

    def jobs(self, limit: int) -> list[dict[str, Any]]:
        """The newest jobs first."""
        return self.all("jobs", limit=limit)

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancels a job."""
        return self._one("DELETE", "jobs", job_id)

    def get(self, *path: str) -> dict[str, Any]:
        """What is at an address, given by its parts."""
        return self._one("GET", *path)

    def all(self, *path: str, **query: Any) -> list[dict[str, Any]]:
        """Everything that a list at an address has."""
        return self._many("GET", *path, params=_given(query))

    def do(self, verb: str, *path: str, **body: Any) -> dict[str, Any]:
        """Asks for a change at an address; of the body what is not None."""
        return self._one(verb, *path, json=_given(body))

    def drop(self, *path: str, **query: Any) -> list[dict[str, Any]]:
        """Takes away what is at an address, and gives those that are left."""
        return self._many("DELETE", *path, params=_given(query))

    def _one(self, verb: str, *path: str, **what: Any) -> dict[str, Any]:
        found = self._ask(verb, path, what)
        if not isinstance(found, dict):
            raise Refused(f"{self._named} answered something else than one object: is it a Setpoint server?")
        return found

    def _many(self, verb: str, *path: str, **what: Any) -> list[dict[str, Any]]:
        found = self._ask(verb, path, what)
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise Refused(f"{self._named} answered something else than a list of objects: is it a Setpoint server?")
        return found

    def _ask(self, verb: str, path: Sequence[str], what: dict[str, Any]) -> Any:
        return self._read_json(self._send(verb, path, what))

    def _send(self, verb: str, path: Sequence[str], what: dict[str, Any]) -> httpx2.Response:
        try:
            response = self._http.request(verb, _address(path), **what)
        except UnicodeEncodeError:
            raise InputError("what was given holds half a character, which cannot be sent") from None
        except (httpx2.RequestError, httpx2.InvalidURL) as error:
            raise Refused(
                f"no answer from {self._named}: {error}; start a server with 'setpoint serve', or name another "
                "with --server"
            ) from None
        if response.is_error:
            body = self._read_json(response)
            detail = body.get("detail", body) if isinstance(body, dict) else body
            raise Refused(f"the server refused it ({response.status_code}): {in_options(str(detail))}")
        return response

    def _read_json(self, response: httpx2.Response) -> Any:
        try:
            return response.json(object_hook=_Answer)
        except (ValueError, RecursionError):
            raise Refused(f"{self._named} answered {response.status_code} without JSON") from None


def in_options(detail: str) -> str:
    """What a server says of a field of its own, as the option that it is at the command line."""
    options = {"override": "--override", "allow_random": "--allow-random", "allow_other_model": "--allow-other-model"}
    for field, option in options.items():
        detail = detail.replace(f"'{field}': true", option)
    return detail


def _address(path: Sequence[str]) -> str:
    """The address of its parts. A user's text stays one part of it, whatever it holds. Raises: `InputError`."""
    for part in path:
        if part in ("", ".", ".."):  # which quoting leaves as they are
            raise InputError(f"{part!r} names nothing: wanted the name or the id of something on the server")
    return "".join(f"/{quote(part, safe='')}" for part in path)


def _header(text: str, what: str) -> str:
    """A text that a header can carry. Raises: `InputError`, without the text."""
    if not _SENDABLE.fullmatch(text):
        raise InputError(f"{what} cannot be sent: wanted printable ASCII on one line, without spaces around it")
    return text


def _form(file: Path, spec: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"spec": json.dumps(spec)}, "files": {"data": (file.name, _read(file))}}


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _not_finite(value: Any, name: str = "") -> tuple[str, float] | None:
    """The first number that JSON cannot carry, with where it is, as `point.bias[1]`."""
    if isinstance(value, float) and not math.isfinite(value):
        return name, value
    if isinstance(value, dict):
        inner = ((f"{name}.{key}" if name else key, each) for key, each in value.items())
    elif isinstance(value, list):
        inner = ((f"{name}[{index}]", each) for index, each in enumerate(value))
    else:
        return None
    return next((found for where, each in inner if (found := _not_finite(each, where)) is not None), None)


def _read(file: Path) -> bytes:
    if file.is_dir():
        raise InputError(f"{file} is a folder, wanted a file")
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
