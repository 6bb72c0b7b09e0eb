"""Thousands of calls made from the OpenAPI document, by schemathesis: no 500, and every answer as it is described.

Kinds of call that the document allows and one who holds a token may make, and kinds that it does not allow; with the
token and without. What the document cannot say, which texts are metrics or which rows fit a model, is not held against
a refusal: what a refusal must be is a described problem.
"""

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import running
from tests.soak.client import Connection
from tests.soak.moving import register

TOKEN = "a-token-for-the-fuzzer-0123456789"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)


# 501 is what the Open Inference Protocol says of what a server does not have.
_CONFIG = '[checks]\nnot_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501"]\n'


@dataclass(frozen=True)
class Fuzzed:
    """How many calls there were, what was found, and whether the server still answers."""

    calls: int
    operations: int
    failures: list[str]
    alive: bool


def run(folder: Path, examples: int, *, seed: int = 1, workers: int = 1) -> Fuzzed:
    """Calls every operation of a server: what the document's bounds suggest, and `examples` times more."""
    report = folder / "schemathesis.json"
    with running(folder, SETPOINT_TOKEN=TOKEN) as server:
        asyncio.run(_prepare(server.address))
        (folder / "schemathesis.toml").write_text(_CONFIG)
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.address}/openapi.json"),
            *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing,stateful"),
            *("--max-examples", str(examples), "--seed", str(seed), "--workers", str(workers)),
            *("--continue-on-failure", "--no-shrink", "--request-timeout", "30", "--suppress-health-check", "all"),
            *("--header", f"Authorization: Bearer {TOKEN}", "--report-json-path", str(report)),
        ]
        with (folder / "schemathesis.log").open("wb") as log:
            subprocess.run(command, stdout=log, stderr=log, check=False, cwd=folder)
        alive = asyncio.run(_is_alive(server.address))
    return _summary(json.loads(report.read_text()), alive)


def _summary(told: dict[str, Any], alive: bool) -> Fuzzed:
    failures = [f"{found['title']}: {', '.join(found['operations'])}" for found in told["failures"]]
    failures += [str(error) for error in told["errors"]]
    if not told["complete"] or told["operations"]["tested"] != told["operations"]["selected"]:
        failures.append(f"it did not come to its end: {told['stop_reason']}, {told['operations']}")
    return Fuzzed(told["test_cases"]["generated"], told["operations"]["tested"], failures, alive)


async def _prepare(address: str) -> None:
    async with Connection(address, {"Authorization": f"Bearer {TOKEN}"}) as connection:
        await register(connection)


async def _is_alive(address: str) -> bool:
    async with Connection(address) as connection:
        return (await connection.call("GET", "/health/live")).status == 200
