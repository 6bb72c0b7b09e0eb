"""Puts together what calibrations run on: the spool, the processes, the runner and the desk."""

from dataclasses import dataclass

from service.engine.calibrator import ProcessCalibrator
from service.jobs.board import Board
from service.jobs.desk import Desk
from service.jobs.runner import Runner
from service.monitoring.metrics import Metrics
from service.registry import Registry
from service.settings import Settings
from service.storage.database import Database
from service.storage.jobs import SqlJobs
from service.storage.spool import FolderSpool
from service.storage.sql import SqlStore


@dataclass(frozen=True)
class Calibrating:
    """The parts, and their lifetime."""

    desk: Desk
    runner: Runner
    spool: FolderSpool

    def start(self) -> None:
        """Begins to run what is queued; the models are there by now."""
        self.runner.start()

    def stop(self) -> None:
        """Ends what runs; it goes on when a server starts again. Also where nothing was started."""
        self.runner.stop()
        self.spool.close()


def make_calibrating(
    settings: Settings, database: Database, store: SqlStore, registry: Registry, metrics: Metrics
) -> Calibrating:
    """The parts of one server. Raises: `StorageFailed`."""
    jobs, board, spool = SqlJobs(database), Board(), FolderSpool(settings.data / "jobs")
    calibrator = ProcessCalibrator(
        settings.job_bytes, settings.job_s, settings.job_nice, settings.unpacked_bytes, settings.calibrate_rows
    )
    runner = Runner(
        jobs, spool, calibrator, registry, board, at_once=settings.calibrations, kept_days=settings.jobs_kept_days
    )
    runner.ended = metrics.calibration_ended
    metrics.queued_jobs = lambda: runner.waiting
    desk = Desk(jobs, store, spool, calibrator, registry, board, runner, most_waiting=settings.jobs_waiting)
    return Calibrating(desk, runner, spool)
