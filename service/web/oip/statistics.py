"""How often each model version was asked, and how long each step took: what the protocol calls statistics.

Decided here: counted from the start of this process, in nanoseconds. A version's counts are those of calls of `/v2`
alone; a run is counted once however many of them shared it, with all its rows, also those of others, as its size. Rows
that come as features or logits are inferences without a run. Sizes are told one by one for the first hundred that come,
so that odd ones cannot fill the memory.
"""

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from service.ports import Ran

MOST_BATCH_SIZES = 100


class Times(NamedTuple):
    """Nanoseconds that a request took: arriving and waiting for its run, reading its tensors, the run, deciding and
    writing.
    """

    queue: int
    compute_input: int
    compute_infer: int
    compute_output: int


class _Counts:
    """One model version's counts."""

    __slots__ = ("answered", "batches", "fail_ns", "failed", "last_ms", "rows", "runs", "steps_ns")

    def __init__(self) -> None:
        self.last_ms = self.rows = self.runs = self.answered = self.failed = self.fail_ns = 0
        self.steps_ns = [0, 0, 0, 0]
        self.batches: dict[int, _Batch] = {}


class _Batch(NamedTuple):
    """The runs of one number of rows, and what the requests that shared them took."""

    runs: int
    input_ns: int
    infer_ns: int
    output_ns: int


@dataclass(frozen=True, eq=False)
class Statistics:
    """The counts of every model version; may be told from several threads at once."""

    _counts: dict[tuple[str, int], _Counts] = field(default_factory=lambda: defaultdict(_Counts))
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def succeeded(self, model: str, version: int, rows: int, times: Times, run: Ran | None) -> None:
        """Counts an answered request, and the run that it was part of, if there was one."""
        queue_ns, input_ns, infer_ns, output_ns = times
        with self._counting:
            counts = self._counts[model, version]
            counts.last_ms = time.time_ns() // 1_000_000
            counts.answered += 1
            counts.rows += rows
            steps_ns = counts.steps_ns
            steps_ns[0] += queue_ns
            steps_ns[1] += input_ns
            steps_ns[2] += infer_ns
            steps_ns[3] += output_ns
            if run is None:
                return
            counts.runs += run.is_first
            size, batches = run.rows, counts.batches
            if size not in batches and len(batches) >= MOST_BATCH_SIZES:
                return
            runs, inputs_ns, infers_ns, outputs_ns = batches.get(size, _NO_RUNS)
            first = int(run.is_first)
            batches[size] = _Batch(
                runs + first, inputs_ns + input_ns, infers_ns + first * infer_ns, outputs_ns + output_ns
            )

    def failed(self, model: str, version: int, ns: int) -> None:
        """Counts a request that was refused or broke."""
        with self._counting:
            counts = self._counts[model, version]
            counts.failed += 1
            counts.fail_ns += ns

    def told(self, model: str, version: int) -> dict[str, Any]:
        """A version's counts as the protocol shows them."""
        with self._counting:
            counts = self._counts.get((model, version)) or _Counts()
            answered = counts.answered
            return {
                "name": model,
                "version": str(version),
                "last_inference": counts.last_ms,
                "inference_count": counts.rows,
                "execution_count": counts.runs,
                "inference_stats": {
                    "success": _shown(answered, sum(counts.steps_ns)),
                    "fail": _shown(counts.failed, counts.fail_ns),
                    **{step: _shown(answered, ns) for step, ns in zip(Times._fields, counts.steps_ns, strict=True)},
                    "cache_hit": _shown(0, 0),
                    "cache_miss": _shown(0, 0),
                },
                "batch_stats": [
                    {
                        "batch_size": size,
                        "compute_input": _shown(batch.runs, batch.input_ns),
                        "compute_infer": _shown(batch.runs, batch.infer_ns),
                        "compute_output": _shown(batch.runs, batch.output_ns),
                    }
                    for size, batch in sorted(counts.batches.items())
                ],
                "memory_usage": [],
            }


_NO_RUNS = _Batch(0, 0, 0, 0)


def _shown(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}
