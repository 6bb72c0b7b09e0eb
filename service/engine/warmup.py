"""The first runs of a model: before any caller's, on made-up rows.

Decided here: every number of rows up to a power of two, because a runtime plans its memory, and a GPU picks its
algorithms, anew for each; as long as the time for it lasts. The same runs tell how long a run takes, and whether rows
are answered together as they are alone (`service.engine.alike`): a model that mixes its rows, or takes a fixed number
of them, must never see rows of two callers at once.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from calibrate.errors import SetpointError
from calibrate.io.model import OutputKind, Port
from service.engine.alike import ROUNDING, compare_rows, draw

QUICK_S = 3e-4  # about what it costs to hand work to a thread and get it back
_LENGTH = 64  # of axes that the file leaves free
_MOST_NUMBERS = 2**24

Inputs = Mapping[str, np.ndarray]
Run = Callable[[Inputs], Float[np.ndarray, "n k"]]


@dataclass(frozen=True)
class Warmth:
    """What the first runs told: seconds by number of rows, and whether rows may be run together; `is_mixing` where
    they showed that a row's answer depends on the others, and not on chance.
    """

    seconds: Mapping[int, float]
    is_batchable: bool
    is_fixed: bool
    is_mixing: bool = False

    @cached_property
    def quick_rows(self) -> int:
        """The most rows whose run is shorter than asking a thread for it; 0 where rows have no fixed length."""
        return 0 if not self.is_fixed else max((n for n, taken in self.seconds.items() if taken < QUICK_S), default=0)


def warm(
    run: Run,
    ports: Sequence[Port],
    kind: OutputKind,
    sizes: Sequence[int],
    budget_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Warmth:
    """Runs a model on `sizes` of rows in turn, until `budget_s` is used up; the first is always run.

    `clock` tells what a run takes: where it has one thread, that thread's own time, which others do not lengthen.

    A model that fails on made-up rows, because it knows better what it wants, is served one call at a time.
    """
    is_fixed = all(length is not None for port in ports for length in port.shape[1:])
    rng = np.random.default_rng(0)
    seconds: dict[int, float] = {}
    started = time.perf_counter()
    try:
        for rows in sizes:
            inputs = {port.name: draw(port, rows, rng, _LENGTH) for port in ports}
            if sum(array.size for array in inputs.values()) > _MOST_NUMBERS:
                break
            seconds[rows] = _least_s(run, inputs, clock)
            if time.perf_counter() - started > budget_s:
                break
    except SetpointError:
        return Warmth(seconds, is_batchable=False, is_fixed=is_fixed)
    if any(not port.shape or port.shape[0] is not None for port in ports):
        return Warmth(seconds, is_batchable=False, is_fixed=is_fixed)
    alike = compare_rows(run, ports, kind, _LENGTH)
    if alike is None:
        return Warmth(seconds, is_batchable=False, is_fixed=is_fixed)
    is_steady, is_mixing = alike.twice <= ROUNDING, alike.together > ROUNDING
    return Warmth(seconds, is_steady and not is_mixing, is_fixed, is_steady and is_mixing)


def _least_s(run: Run, inputs: Inputs, clock: Callable[[], float]) -> float:
    """The shortest of a few runs, the first where it is long."""
    taken: list[float] = []
    while not taken or (len(taken) < 6 and sum(taken) < 0.02):
        started = clock()
        run(inputs)
        taken.append(clock() - started)
    return min(taken)
