"""Runs what is queued, here or left behind by a server that ended.

Decided here: a job is run from its start by each attempt, and ends in one step of the store, in which its point is
published too: whatever ends a server or a worker, and when, there is either all of it or nothing. Who runs a job renews
its lease every few seconds; who sees a lease that was not renewed for long, by a clock that only goes forward, or whose
owner is known to have ended, takes the job over. After three attempts it has failed: what ends every process that tries
it would end the fourth.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import TypeAdapter

from calibrate.errors import Infeasible, SetpointError
from calibrate.io.model import Head
from calibrate.operating_point import OperatingPoint
from service.domain import ModelVersion
from service.errors import JobLost, OverLimit, StorageFailed
from service.facts import to_plain
from service.job import MOST_ATTEMPTS, Job, NotOurs, WorkerGone
from service.jobs.board import Board
from service.ports import Calibration, Calibrator, Fitted, JobStore, Spool
from service.registry import Registry

log = logging.getLogger(__name__)

BEAT_S = 2.0
STALE_S = 20.0
_SWEEP_S = 3600.0
_TRIES, _PAUSE_S = 30, 1.0
_ROWS_APART = 64  # of a model whose rows run one by one, in one call
_VERSION = TypeAdapter(ModelVersion)
FAULT = {"kind": "Fault", "message": "the calibration failed in the server; its log says why under the job's id"}


@dataclass(frozen=True)
class Served:
    """What a calibration or an evaluation may ask of its model: the one that is served."""

    registry: Registry
    version: ModelVersion

    def logits(self, inputs: Mapping[str, np.ndarray]) -> Float[np.ndarray, "n k"]:
        """The model's logits, of rows run apart where a batch changes them."""
        session = self.registry.session(self.version)
        if not self.version.depends_on_batch:
            return session.run(inputs)
        n = len(next(iter(inputs.values())))  # each row runs by itself, and the time limit is that of a run
        starts = range(0, n, _ROWS_APART)
        parts = ({name: array[i : i + _ROWS_APART] for name, array in inputs.items()} for i in starts)
        return np.concatenate([session.run(part) for part in parts])

    def head(self) -> Head | None:
        """The model's head."""
        return self.registry.head(self.version)


class Runner:
    """Runs at most `at_once` jobs, each in a thread that waits for its process."""

    def __init__(
        self,
        store: JobStore,
        spool: Spool,
        calibrator: Calibrator,
        registry: Registry,
        board: Board,
        *,
        at_once: int,
        kept_days: float,
        beat_s: float = BEAT_S,
        stale_s: float = STALE_S,
    ) -> None:
        self._store, self._spool, self._calibrator, self._registry = store, spool, calibrator, registry
        self._board, self._at_once, self._kept = board, at_once, timedelta(days=kept_days)
        self._beat_s, self._stale_s = beat_s, stale_s
        self.ended: Callable[[str, float], None] = lambda *_: None
        self.waiting = 0  # as of the last look
        self._running: dict[str, Calibration] = {}
        self._threads: list[threading.Thread] = []
        self._seen: dict[str, tuple[tuple[Any, ...], float]] = {}
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="jobs", daemon=True)

    @property
    def free(self) -> int:
        """How many more jobs could run now."""
        return max(0, self._at_once - len(self._running))

    def start(self) -> None:
        """Begins to run jobs."""
        self._keeper.start()

    def wake(self) -> None:
        """There may be something to run."""
        self._wake.set()

    def kill(self, job_id: str) -> None:
        """Ends the process of a job that runs here; what becomes of the job, the store says."""
        found = self._running.get(job_id)
        if found is not None:
            found.kill()

    def stop(self) -> None:
        """Ends every process; their jobs go back into the queue, for whoever starts next."""
        self._stopping.set()
        self._wake.set()
        for job_id in list(self._running):
            self.kill(job_id)
        for thread in [*self._threads, self._keeper]:
            if thread.is_alive():
                thread.join(10)

    def _keep(self) -> None:
        swept = -_SWEEP_S
        while not self._stopping.is_set():
            try:
                self._beat()
                self._take()
                if time.monotonic() - swept >= _SWEEP_S:
                    swept = time.monotonic()
                    self._sweep()
            except StorageFailed as error:
                log.warning("jobs wait for the store: %s", error)
            except Exception:  # the outermost edge of this thread: it must not end
                log.exception("the jobs could not be looked after")
            self._wake.wait(self._beat_s)
            self._wake.clear()

    def _beat(self) -> None:
        """Renews what runs here, and ends what was cancelled or taken over."""
        running = list(self._running)
        if not running:
            return
        ours = self._store.beat(self._spool.owner, {job_id: self._board.read(job_id) or {} for job_id in running})
        for job_id in running:
            if ours.get(job_id, True):
                self.kill(job_id)

    def _take(self) -> None:
        found = self._store.unended()
        self.waiting = sum(job.state == "queued" for job in found)
        self._seen = {job.id: seen for job in found if (seen := self._seen.get(job.id))}
        for job in found:
            if self._stopping.is_set() or not self._is_to_be_had(job):
                continue
            if job.cancel_asked:
                over = self._store.end(job.claim, "cancelled")
            elif job.spec["data"]["spool"] != self._spool.id:
                continue  # its data is where another server is
            elif job.attempts >= MOST_ATTEMPTS:
                lost = JobLost(f"its process ended {job.attempts} times before it was through: see the server's log")
                over = self._store.end(job.claim, "failed", to_plain(lost))
                self.ended("failed", 0.0)
            else:
                over = False
                if self.free and (taken := self._store.claim(job, self._spool.owner)) is not None:
                    self._begin(taken)
            if over:
                self._clear(job)
                self._board.tell(job.id)

    def _is_to_be_had(self, job: Job) -> bool:
        """Whether nobody runs it: it waits, or its owner is gone, or was not heard of for long."""
        if job.id in self._running:  # or its last attempt here is not quite through
            return False
        if job.state == "queued":
            return True
        if job.owner == self._spool.owner or (job.owner is not None and self._spool.is_gone(job.owner)):
            return True
        told = (job.owner, job.attempts, job.lease_until)
        seen, since = self._seen.setdefault(job.id, (told, time.monotonic()))
        if seen != told:
            self._seen[job.id] = (told, time.monotonic())
            return False
        return time.monotonic() - since >= self._stale_s

    def _begin(self, job: Job) -> None:
        calibration = self._calibrator.calibration()
        self._running[job.id] = calibration
        thread = threading.Thread(target=self._run, args=(job, calibration), name=f"job-{job.id}", daemon=True)
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()

    def _run(self, job: Job, calibration: Calibration) -> None:
        """One attempt at a job, to its end."""
        self._board.write(job.id, {"stage": "starting"})
        over = False
        try:
            over = self._attempt(job, calibration)
        except NotOurs:
            log.info("job %s is no longer ours", job.id)
        except StorageFailed as error:
            log.error("job %s could not be ended, and will be tried again: %s", job.id, error)
        except Exception:  # the outermost edge of this thread
            log.exception("job %s could not be ended", job.id)
        finally:
            del self._running[job.id]
            if over:
                self._clear(job)
            self._board.wipe(job.id)
            self._wake.set()

    def _attempt(self, job: Job, calibration: Calibration) -> bool:
        """Whether it came to the job's end."""
        began = time.monotonic()
        try:
            self._publish(job, self._fit(job, calibration))
        except (NotOurs, StorageFailed):
            raise
        except WorkerGone as error:
            is_over, outcome = self._gone(job, error), "cancelled"
        except SetpointError as error:
            told, outcome = to_plain(error), _outcome(error)
            is_over = bool(self._try(lambda: self._store.end(job.claim, "failed", told)))
        except Exception:  # a fault of ours ends the job too
            log.exception("job %s failed", job.id)
            is_over, outcome = bool(self._try(lambda: self._store.end(job.claim, "failed", FAULT))), "failed"
        else:
            is_over, outcome = True, "done"
        if is_over:
            self.ended(outcome, time.monotonic() - began)
        return is_over

    def _fit(self, job: Job, calibration: Calibration) -> Fitted:
        data = job.spec["data"]
        path = self._spool.path(data["file"])
        if not path.exists():
            raise JobLost("the data that it was to be fitted on is no longer there")
        version = self._registry.model(job.model).version(job.spec["model_version"])
        order = {
            "spec": job.spec["spec"],
            "version": _VERSION.dump_python(version, mode="json"),
            "file": str(path.resolve()),
            "format": data["format"],
        }
        return calibration.run(order, Served(self._registry, version), lambda said: self._board.write(job.id, said))

    def _publish(self, job: Job, fitted: Fitted) -> None:
        """The point, its curve, the audit entry, the default where it was asked for, and the end of the job; where the
        key that asked has ended meanwhile, nothing but that fact.
        """
        spec, details = job.spec["spec"], dict(fitted.details)
        self._board.write(job.id, {**(self._board.read(job.id) or {}), "stage": "publishing"})
        if fitted.curve is not None:
            curve = fitted.curve
            details["curve"] = self._try(lambda: self._registry.keep(curve))
        self._try(
            lambda: self._registry.publish(
                job.model,
                name=spec["name"],
                point=OperatingPoint.from_dict(fitted.point),
                details=details,
                model_version=job.spec["model_version"],
                actor=job.principal,
                make_default=spec["make_default"],
                reason=spec["reason"] or f"calibrated for {details['metric']}",
                override=spec["override"],
                allow_other_model=spec.get("allow_other_model", False),
                job=job.claim,
            )
        )

    def _gone(self, job: Job, error: WorkerGone) -> bool:
        """What becomes of a job whose process ended, and whether the job is over."""
        with contextlib.suppress(StorageFailed):
            found = self._store.job(job.id)
            if found.cancel_asked:
                return self._store.end(job.claim, "cancelled")
            if self._stopping.is_set():
                self._store.release(job.claim, counted=False)
                return False
            log.warning("job %s, attempt %d: %s", job.id, job.attempts, error)
            self._store.release(job.claim, counted=True)
        return False

    def _try(self, work: Callable[[], Any]) -> Any:
        """Does it, and again where the store does not answer, for as long as the job is surely ours."""
        for _ in range(_TRIES):
            try:
                return work()
            except StorageFailed as error:
                log.warning("a job cannot be ended yet: %s", error)
                if self._stopping.wait(_PAUSE_S):
                    break
        return work()

    def _clear(self, job: Job) -> None:
        if job.spec["data"]["spool"] == self._spool.id:
            self._spool.drop(job.spec["data"]["file"])

    def _sweep(self) -> None:
        self._store.forget(datetime.now(UTC) - self._kept)
        self._spool.sweep(frozenset(job.spec["data"]["file"] for job in self._store.unended()))


def _outcome(error: SetpointError) -> str:
    """How a calibration ended, for whoever counts."""
    if isinstance(error, Infeasible):
        return "infeasible"
    return "failed" if isinstance(error, OverLimit | JobLost) else "refused"
