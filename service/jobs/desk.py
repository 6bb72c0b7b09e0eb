"""Where jobs are asked for, looked up and cancelled.

Decided here: the data is on disk before the job is in the store, and the job is in the store before anything is
answered; so what was acknowledged is there, and what was not leaves a file at most, which is swept. A job belongs to
who asked for it; to others it is not there, but for those who manage.
"""

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter

from service.domain import ModelVersion, PointRecord, Principal, check_point_name
from service.errors import BadRequest, Busy, StorageFailed, UnknownJob
from service.job import Job
from service.jobs.arriving import Arriving
from service.jobs.board import Board
from service.jobs.runner import Runner, Served
from service.points import check_make_default
from service.ports import Calibrator, JobStore, Spool, Store
from service.registry import Registry

KIND = "calibrate"
_VERSION = TypeAdapter(ModelVersion)


@dataclass(frozen=True)
class Wanted:
    """A calibration that is asked for: `spec` as checked, its data in a file, in the form `json` or `file`."""

    spec: dict[str, Any]
    file: str
    form: str
    digest: str
    request_id: str
    key: str | None


@dataclass(frozen=True)
class Evaluating:
    """An evaluation that is asked for: which points, all that are not retired where none are named, on which rows."""

    model: str
    path: Path
    form: str
    most_rows: int
    model_version: int | None = None
    points: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    positive: str | None = None
    allow_other_model: bool = False
    page: bool = False
    columns: Mapping[str, Any] | None = None


class Desk:
    """Takes jobs in, shows and cancels them."""

    def __init__(
        self,
        store: JobStore,
        points: Store,
        spool: Spool,
        calibrator: Calibrator,
        registry: Registry,
        board: Board,
        runner: Runner,
        *,
        most_waiting: int,
    ) -> None:
        self._store, self._points, self._spool, self._calibrator = store, points, spool, calibrator
        self._registry, self._board, self._runner = registry, board, runner
        self._most_waiting = most_waiting

    def check_room(self) -> None:
        """Raises `Busy` where a job could not be taken in now, before its data has come in."""
        waiting = sum(job.state == "queued" for job in self._store.unended())
        if waiting >= self._most_waiting + self._runner.free:
            raise Busy(f"{waiting} calibrations wait for their turn, which is all that may; try again later")

    def arriving(self) -> Arriving:
        """A new file for data."""
        return Arriving(self._spool)

    @contextmanager
    def keeping(self, name: str) -> Iterator[Callable[[], None]]:
        """Takes the file away at the end, unless the function that it gives was called."""
        kept = False

        def keep() -> None:
            nonlocal kept
            kept = True

        try:
            yield keep
        finally:
            if not kept:
                self._spool.drop(name)

    def read_spec(self, path: Path) -> dict[str, Any]:
        """The call in a large body of JSON, without its data. Raises: `BadRequest`."""
        return self._calibrator.read_spec(path)

    def evaluate(self, wanted: Evaluating, who: Principal) -> tuple[dict[str, Any], bytes]:
        """What points of a model achieve on rows in a file: the reply, and the page where one is wanted.

        Raises: `UnknownModel`, `UnknownVersion`, `UnknownPoint`, `Forbidden`, what `service.evaluation` raises.
        """
        who.check_model(wanted.model)
        model = self._registry.model(wanted.model)
        if wanted.points:
            records = [model.find(reference, wanted.model_version) for reference in dict.fromkeys(wanted.points)]
            number = wanted.model_version or records[0].model_version
            version = model.version(number)
        else:
            version = model.version(wanted.model_version)
            records = [each for each in model.points if each.model_version == version.version]
            records = [each for each in records if each.state != "retired"]
        for record in records:
            if record.model_version != version.version:
                raise BadRequest(
                    f"{record.label} is of version {record.model_version} of model '{wanted.model}', wanted points of "
                    f"version {version.version}: evaluate each version by itself"
                )
        order = {
            "version": _VERSION.dump_python(version, mode="json"),
            "file": str(wanted.path.resolve()),
            "format": wanted.form,
            "most_rows": wanted.most_rows,
            "points": [_ordered(record) for record in records],
            "metrics": list(wanted.metrics),
            "positive": wanted.positive,
            "allow_other_model": wanted.allow_other_model,
            "page": wanted.page,
            "columns": wanted.columns,
        }
        reply, page = self._calibrator.evaluate(order, Served(self._registry, version))
        default = model.default
        for each, record in zip(reply["points"], records, strict=True):
            each["is_default"] = (default.model_version, default.label) == (record.model_version, record.label)
        return {"model": wanted.model, "model_version": version.version, **reply}, page

    def submit(self, wanted: Wanted, who: Principal, keep: Callable[[], None]) -> Job:
        """The job: under the same key the same request is one, however often it is made. `keep` is called where the
        data is the job's.

        Raises: `UnknownModel`, `UnknownVersion`, `BadName`, `BadRequest`, `Forbidden`, `KeyReused`, `Busy`,
        `StorageFailed`.
        """
        spec = wanted.spec
        who.check_model(spec["model"])
        check_point_name(spec["name"])
        if spec["make_default"]:
            who.check("approve")
            check_make_default(self._registry.approval)  # before the work, not after it
        version = self._registry.model(spec["model"]).version(spec["model_version"])
        asked = orjson.dumps([spec, wanted.form, wanted.digest], option=orjson.OPT_SORT_KEYS)
        job = Job(
            id=uuid.uuid4().hex,
            kind=KIND,
            state="queued",
            model=version.model,
            principal=who.name,
            idempotency_key=_checked(wanted.key),
            request_digest=hashlib.sha256(asked).hexdigest(),
            spec={
                "spec": spec,
                "model_version": version.version,
                "request_id": wanted.request_id,
                "key": who.key,
                "data": {"spool": self._spool.id, "file": wanted.file, "format": wanted.form},
            },
            data_digest=wanted.digest,
            created_at=datetime.now(UTC),
        )
        try:
            kept = self._store.add(job, self._most_waiting + self._runner.free)
        except StorageFailed:  # it may be there nevertheless
            keep()
            raise
        if kept.id == job.id:
            keep()
            self._runner.wake()
        return kept

    def job(self, job_id: str, who: Principal | None = None) -> Job:
        """A job as it is now, for one who may see it. Raises: `UnknownJob`."""
        found = self._store.job(job_id)
        if who is not None:
            _check_sees(found, who)
        progress = self._board.read(job_id)
        return found if progress is None or found.state != "running" else replace(found, progress=progress)

    def jobs(self, who: Principal, limit: int) -> list[Job]:
        """The newest jobs first: the caller's own, or all where the caller manages."""
        found = self._store.jobs(None if "manage" in who.scopes else who.name, limit)
        return [job for job in found if who.models is None or job.model in who.models]

    def cancel(self, job_id: str, who: Principal) -> Job:
        """Cancels a job; its process is ended now, where it runs here. Raises: `UnknownJob`."""
        _check_sees(self._store.job(job_id), who)
        found = self._store.cancel(job_id, who.name)
        if found.state == "running":
            self._runner.kill(job_id)
        if found.state == "cancelled" and found.spec["data"]["spool"] == self._spool.id:
            self._spool.drop(found.spec["data"]["file"])
        self._board.tell(job_id)
        return found

    def point(self, job: Job) -> PointRecord | None:
        """The point that a job published, None where it has not."""
        if job.result is None:
            return None
        model, label = self._registry.model(job.model), job.result["operating_point"]
        found = next((each for each in model.points if each.label == label), None)
        if found is None:  # published by another server, and not yet seen by this one
            found = self._points.model(job.model).exact(label)
        return found

    def listening(self, job_id: str, listener: Callable[[], None]) -> Any:
        """A context in which the listener is called on every change of a job that this process knows of."""
        return self._board.listening(job_id, listener)


def _ordered(record: PointRecord) -> dict[str, Any]:
    """What an evaluation needs of a point, as plain values."""
    known = ("metric", "constraints", "positive", "prevalence", "data_digest", "evidence")
    details = {name: record.details[name] for name in known if name in record.details}
    return {"label": record.label, "state": record.state, "point": record.point.to_dict(), "details": details}


def _check_sees(job: Job, who: Principal) -> None:
    may = who.models is None or job.model in who.models
    if not may or (job.principal != who.name and "manage" not in who.scopes):
        raise UnknownJob(f"there is no job {job.id!r}")


def _checked(key: str | None) -> str | None:
    if key is not None and not (1 <= len(key) <= 200 and key.isascii() and key.isprintable()):
        raise BadRequest("Idempotency-Key must be 1 to 200 printable characters of ASCII")
    return key
