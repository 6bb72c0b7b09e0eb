"""How often each model version was asked, and how long each step took: what the protocol calls statistics.

Decided here: counted from the start of this process, in nanoseconds; a version's counts are those of `/v2` alone; batch
sizes are told one by one for the first hundred that come, so that odd sizes cannot fill the memory.
"""

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

MOST_BATCH_SIZES = 100
_STEPS = ("queue", "compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True)
class Times:
    """Nanoseconds that a request took: waiting, reading its tensors, running the model, deciding and writing."""

    queue: int
    compute_input: int
    compute_infer: int
    compute_output: int


class _Counts:
    """One model version's counts."""

    def __init__(self) -> None:
        self.last_ms = 0
        self.rows = 0
        self.runs = 0
        self.steps: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
        self.batches: dict[int, dict[str, tuple[int, int]]] = {}

    def add(self, name: str, ns: int) -> None:
        _add(self.steps, name, ns)


@dataclass(frozen=True, eq=False)
class Statistics:
    """The counts of every model version; may be told from several threads at once."""

    _counts: dict[tuple[str, int], _Counts] = field(default_factory=lambda: defaultdict(_Counts))
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def succeeded(self, model: str, version: int, rows: int, times: Times) -> None:
        """Counts an answered request, which ran the model once where it had rows."""
        with self._counting:
            counts = self._counts[model, version]
            counts.last_ms = time.time_ns() // 1_000_000
            counts.rows += rows
            counts.runs += rows > 0
            counts.add("success", sum(vars(times).values()))
            for step in _STEPS:
                counts.add(step, getattr(times, step))
            if rows in counts.batches or (rows and len(counts.batches) < MOST_BATCH_SIZES):
                batch = counts.batches.setdefault(rows, {})
                for step in _STEPS[1:]:
                    _add(batch, step, getattr(times, step))

    def failed(self, model: str, version: int, ns: int) -> None:
        """Counts a request that was refused or broke."""
        with self._counting:
            self._counts[model, version].add("fail", ns)

    def told(self, model: str, version: int) -> dict[str, Any]:
        """A version's counts as the protocol shows them."""
        with self._counting:
            counts = self._counts.get((model, version)) or _Counts()
            names = ("success", "fail", *_STEPS, "cache_hit", "cache_miss")
            return {
                "name": model,
                "version": str(version),
                "last_inference": counts.last_ms,
                "inference_count": counts.rows,
                "execution_count": counts.runs,
                "inference_stats": {name: _shown(counts.steps[name]) for name in names},
                "batch_stats": [
                    {"batch_size": size, **{step: _shown(batch[step]) for step in _STEPS[1:]}}
                    for size, batch in sorted(counts.batches.items())
                ],
                "memory_usage": [],
            }


def _add(held: dict[str, tuple[int, int]], name: str, ns: int) -> None:
    count, total = held.get(name, (0, 0))
    held[name] = (count + 1, total + ns)


def _shown(pair: tuple[int, int]) -> dict[str, int]:
    return {"count": pair[0], "ns": pair[1]}
