"""Runs every soak in full and writes what was seen to `docs/soak.md`; `python -m tests.soak NAME ...` runs only those,
and writes only their rows.

What fell short is written down as it was, and ends the command with 1.
"""

import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from service.storage.database import sqlite_address
from tests.databases import KINDS, new_database
from tests.servers import running
from tests.soak import coverage, crash, faults, fuzz, memory, moving

PAGE = Path(__file__).parents[2] / "docs" / "soak.md"
KILLS, MOVING_S, EXAMPLES, REQUESTS = 200, 600, 60, 1_000_000
DRAWS = int(os.environ.get("DRAWS", "500"))  # of the coverage
Told = tuple[str, list[str]]


def _crash(kind: str) -> Callable[[Path], Told]:
    def run(folder: Path) -> Told:
        address = sqlite_address(folder / "data" / "setpoint.db") if kind == "sqlite" else new_database(kind, folder)
        found = crash.run(folder, address, KILLS)
        return (
            f"{found.servers_killed} servers and {found.workers_killed} workers killed in {found.seconds / 60:.0f} "
            f"min; {found.answers:,} answers, {found.changes:,} changes, {found.calibrations:,} calibrations done, "
            f"{found.cut_off} cut off, {found.resumed} calibrations asked for again under their key",
            found.faults,
        )

    return run


def _moving(folder: Path) -> Told:
    with running(folder) as server:
        found = asyncio.run(moving.run(server.address, MOVING_S))
    return (
        f"{found.answers:,} predictions in {found.seconds / 60:.0f} min while {found.published} points were published "
        f"and the default moved {found.moved} times; {found.late} answers later than an acknowledged move",
        [*found.failed, *found.wrong, *(["answers were late"] if found.late else [])],
    )


def _fuzz(folder: Path) -> Told:
    found = fuzz.run(folder, EXAMPLES)
    text = f"{found.calls:,} calls of {found.operations} operations"
    return text, [*found.failures, *([] if found.alive else ["the server was gone"])]


def _fault(run: Callable[[Path], faults.Fault]) -> Callable[[Path], Told]:
    def told(folder: Path) -> Told:
        found = run(folder)
        said = f"{found.answers} predictions answered, {found.refused} changes refused"
        return f"{said}; ready again after {found.recovered_s:.1f} s; ready said: {found.reasons or 'ok'}", found.faults

    return told


def _memory(folder: Path) -> Told:
    found = memory.run(folder, REQUESTS)
    steps = ", ".join(f"{size / 2**20:.0f}" for size in found.bytes)
    text = f"{found.requests:,} requests of mixed shapes at {found.requests / found.seconds:,.0f}/s; MiB: {steps}"
    return text, found.faults


def _coverage(folder: Path) -> Told:  # noqa: ARG001
    measured, failures = coverage.run(DRAWS, os.cpu_count() or 1)
    text = f"{sum(map(len, (each.tried for _, each in measured))):,} intervals, {DRAWS} draws each: docs/coverage.md"
    return text, [f"lower than nominal: {each}" for each in failures]


SOAKS: dict[str, tuple[str, Callable[[Path], Told]]] = {
    **{f"crash-{kind}": (f"kill -9 on {kind}", _crash(kind)) for kind in KINDS},
    **{run.__name__: (run.__name__.replace("_", " "), _fault(run)) for run in faults.ALL},
    "moving": ("points moved under load", _moving),
    "fuzz": ("calls made from the OpenAPI document", _fuzz),
    "memory": ("memory", _memory),
    "coverage": ("how often intervals hold", _coverage),
}


def main(names: list[str]) -> int:
    """Runs them and writes the page."""
    fell_short = 0
    for name in names or SOAKS:
        what, run = SOAKS[name]
        with tempfile.TemporaryDirectory(prefix="setpoint-soak-") as folder:
            text, found = run(Path(folder))
        fell_short += bool(found)
        seen = f"{datetime.now(UTC):%d %B %Y}, {version('setpoint')}"
        row = f"| {name} | {what} | {text} | {'; '.join(found[:5])[:1000] if found else 'none'} | {seen} |"
        print(row, flush=True)
        _write(name, row)
    return 1 if fell_short else 0


def _write(name: str, row: str) -> None:
    """Puts the row of a soak in the place of its last one."""
    lines = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else []
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in lines if line.startswith("| ")}
    rows[name] = row
    PAGE.write_text(_page([rows[each] for each in SOAKS if each in rows]), encoding="utf-8")


def _page(rows: list[str]) -> str:
    """The page with one row a soak."""
    return "\n".join(
        [
            "# Long runs",
            "",
            "What was broken on purpose, and what came of it: written by `make soak`, which takes about an hour;",
            "`make test` does the same for seconds. *Faults* are answers that were wrong or missing, changes that were",
            f"lost or half done, and what readiness did not tell. {os.cpu_count()} cores of {platform.machine()}, "
            f"Python {platform.python_version()}.",
            "",
            "| soak | does | figures | faults | seen |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
