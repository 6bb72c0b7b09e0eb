"""Tries models out in processes of their own, with limits on memory and time, before the server takes them in.

Decided here: a child that needs more than its limits is ended by the kernel, and the file refused. Where a system has
no `fork`, the server tries it out itself.
"""

import functools
import logging
import time
from typing import Any

from calibrate.errors import BadModel, SetpointError
from calibrate.io.model import Port
from service.domain import HeadInfo
from service.engine.forkserver import Forkserver
from service.engine.wire import receive, send
from service.facts import from_plain
from service.ports import Examined

log = logging.getLogger(__name__)

_READING_S = 15  # to read and to load a model, beside its run


class Workshop:
    """Where models are tried out."""

    def __init__(self) -> None:
        self.forkserver = Forkserver("service.engine.examiner")

    def examine(
        self,
        data: bytes,
        *,
        output: str | None,
        output_kind: str | None,
        run_s: float,
        memory_bytes: int,
        allow_random: bool = False,
    ) -> Examined:
        """What `service.engine.trial.try_out` finds, in at most `run_s` seconds and those for reading and loading.

        Raises: what that raises; `BadModel` where the model needs more than `memory_bytes` or the time.
        """
        seconds = run_s + _READING_S
        with self.forkserver.connect() as ours:
            started = time.monotonic()
            ours.settimeout(seconds + 5)
            limits = {"run_s": run_s, "seconds": seconds, "memory_bytes": memory_bytes}
            try:
                asked = {"output": output, "output_kind": output_kind, "allow_random": allow_random}
                send(ours, {**asked, **limits}, data)
                reply, graph = receive(ours)
            except (OSError, EOFError):
                late = time.monotonic() - started >= seconds
                what = f"{seconds:g} s" if late else f"{memory_bytes // 2**20} MiB of memory, or crashed"
                raise BadModel(f"the model, read, loaded and run on a few rows, took more than {what}") from None
        for line in reply["log"]:
            log.warning("a model that was tried out: %s", line)
        if "error" in reply:
            raise _error(reply["error"], reply["log"], memory_bytes)
        return _examined(reply["found"], graph)


@functools.cache
def shared_workshop() -> Workshop | None:
    """The workshop of this process, None where the system cannot have one."""
    return Workshop() if Forkserver.is_possible() else None


def _error(told: dict[str, Any], said: list[str], memory_bytes: int) -> SetpointError:
    """The error of a child; one of memory is the model's fault."""
    of_memory = any(
        word in line for line in [told["message"], *said] for word in ("bad_alloc", "lloc", "vailable memory")
    )
    if told["kind"] == "MemoryError" or of_memory:
        return BadModel(f"the model takes more than {memory_bytes // 2**20} MiB of memory to be run on a few rows")
    return from_plain(told, BadModel)


def _examined(found: dict[str, Any], graph: bytes) -> Examined:
    """What came as JSON."""
    head = found["head"]
    return Examined(
        data=graph,
        inputs=tuple(Port(port["name"], port["dtype"], tuple(port["shape"])) for port in found["inputs"]),
        output=found["output"],
        kind=found["kind"],
        head=None if head is None else HeadInfo(head["features"], head["logits"], head["width"]),
        metadata=found["metadata"],
        labels=None if found["labels"] is None else tuple(found["labels"]),
        width=found["width"],
        depends_on_batch=found["depends_on_batch"],
        is_random=found["is_random"],
        warnings=tuple(found["warnings"]),
    )
