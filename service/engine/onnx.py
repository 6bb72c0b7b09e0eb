"""Models in ONNX Runtime: on the GPU where there is one, else on the CPU.

Decided here: threads are set explicitly and do not spin, because the runtime would size its pool to the host and burn a
core while it waits; a run that takes too long is told to end, which the runtime does before its next operator; what a
session really runs on is asked of the session, because the list of available providers names CUDA on machines that have
none; the runtime's Python fallback, which loads a failed model once more and prints, is off.
"""

import contextlib
import io
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from jaxtyping import Float

from calibrate.errors import NotFinite
from calibrate.io.model import OutputKind, Port
from calibrate.io.refusal import refused
from calibrate.logits import logits_from_probabilities, to_columns
from service.engine.bound import BoundRuns
from service.engine.deadlines import Deadlines
from service.engine.warmup import Warmth, warm
from service.engine.workshop import shared_workshop
from service.errors import ModelFailed, NoGpu, OutOfMemory
from service.ports import Examined

log = logging.getLogger(__name__)

_SIZES, _WARM_S = tuple(2**i for i in range(9)), 0.5
_LATE_S, _MOST_LATE = 2e-3, 5  # a thread may be put off by others for as long; so often in a row it is the model
_WARM_BOUND_S = 10.0  # a GPU's first run of each size is long
CPU = "CPUExecutionProvider"
NO_MEMORY = "bad_alloc: there was not enough memory"
_OF_MEMORY = ("bad_alloc", "Failed to allocate", "vailable memory")  # as the runtime says it
SILENT = 4  # the runtime would write to stderr by itself what it raises, the rows that failed quoted


class OnnxSession:
    """A loaded model; `run` may be called from several threads at once."""

    def __init__(
        self, open_one: Callable[[], ort.InferenceSession], output: str, kind: OutputKind, deadlines: Deadlines,
        bound: bool = False, clock: Callable[[], float] = time.thread_time, rows_apart: bool | None = None,
    ) -> None:  # fmt: skip
        self._open, self._clock = open_one, clock
        self._rows_apart = rows_apart
        self._deadlines = deadlines
        self._output = [output]
        self._kind = kind
        self._session = open_one()
        self._bound = BoundRuns(self._session, output, _device(self._session)) if bound else None
        self._reopening = threading.Lock()
        self._warmth: Warmth | None = None
        self._late = 0
        self._options: list[ort.RunOptions] = []  # that no run uses; as many as ran at once

    @property
    def provider(self) -> str:
        """What it really runs on."""
        return str(self._session.get_providers()[0])

    @property
    def is_batchable(self) -> bool:
        """Whether rows of several callers may be run together."""
        return self._warmth is not None and self._warmth.is_batchable and not self._rows_apart

    @property
    def quick_rows(self) -> int:
        """The most rows that it runs faster than a thread could be asked to; 0 once it was seen to take long."""
        return self._warmth.quick_rows if self._warmth is not None and self._late < _MOST_LATE else 0

    def warm(self, inputs: Sequence[Port]) -> None:
        """Runs it on made-up rows, and takes the time; of a model of which nobody knows it, finds out whether rows
        have to be run apart.
        """
        self._warmth = warm(self.run, inputs, self._kind, _SIZES, _WARM_S, self._clock)
        if self._rows_apart is None and self._warmth.is_mixing and self.provider == CPU:  # a GPU rounds more
            log.warning(
                "a model whose rows depend on each other is run row by row; register it again, and its points say so"
            )
            self._rows_apart = True
            self._warmth = warm(self.run, inputs, self._kind, _SIZES, _WARM_S, self._clock)
        if self._bound is not None and self.is_batchable:  # from here on rows are filled up: once more
            self._warmth = warm(self.run, inputs, self._kind, _SIZES, _WARM_BOUND_S, self._clock)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Float[np.ndarray, "n k"]:
        """The logits of the rows, (n, k).

        Raises: `ModelFailed`; `OutOfMemory` where a device has not enough, and has let go of all by then; `NotFinite`
        or `WrongShape` where what the model puts out are no logits.
        """
        options = self._options.pop() if self._options else _new_options()
        rows = len(next(iter(inputs.values())))
        is_suspect = self._late > 0  # to ask for the thread's own time costs as much as a small part of a run
        clock = self._clock if is_suspect else time.perf_counter
        started = clock()
        session, bound = self._session, self._bound
        self._deadlines.begin(options)
        try:
            if self._rows_apart and rows > 1:
                parts = ({name: array[i : i + 1] for name, array in inputs.items()} for i in range(rows))
                made = np.concatenate([self._compute(session, bound, part, options) for part in parts])
            else:
                made = self._compute(session, bound, inputs, options)
        except Exception as error:  # the runtime's errors share no base of their own
            if options.terminate:
                way = f"; its {rows} rows are run one by one: send fewer" if self._rows_apart and rows > 1 else ""
                raise ModelFailed(
                    f"the model was stopped after {self._deadlines.run_s:g} s, which is all a run may take{way}"
                ) from None
            log.warning("a model could not be run: %s", words_of_runtime(error))
            if bound is not None and _is_of_memory(error):
                self._reopen(session)
                raise OutOfMemory("the device has not the memory for this run; send fewer rows, or try again") from None
            raise ModelFailed("the model could not be run on these rows; the server's log says why") from None
        finally:
            if self._deadlines.end(options):
                self._options.append(options)
            taken_s = clock() - started
            if is_suspect or taken_s > _LATE_S:
                self._note(rows, taken_s, is_suspect)
        if not isinstance(made, np.ndarray):
            raise ModelFailed(f"the model put out a {type(made).__name__}, wanted a tensor of {self._kind}")
        try:
            logits = to_columns(made) if self._kind == "logits" else logits_from_probabilities(made)
        except NotFinite as error:
            raise NotFinite(f"the model's {error}; it may not take a missing value") from None
        if len(logits) != rows:
            raise ModelFailed(f"the model put out {len(logits)} rows for {rows}")
        return logits

    def _compute(
        self, session: ort.InferenceSession, bound: BoundRuns | None, inputs: Mapping[str, np.ndarray], options: Any
    ) -> Any:
        """What the model puts out for rows that run together."""
        if bound is None or any(array.dtype.kind == "O" for array in inputs.values()):
            (made,) = _plain(session).run(self._output, inputs, options)
            return made
        return bound.run(inputs, options, padded=self.is_batchable)

    def _reopen(self, failed: ort.InferenceSession) -> None:
        """A new session in the place of one whose device is full: its memory comes back with it. Once for all callers
        that saw it; those that still run on the old one hold it until they are through.
        """
        with self._reopening:
            if self._session is failed and self._bound is not None:
                self._bound.clear()
                session = self._open()
                self._session, self._bound = session, BoundRuns(session, self._output[0], _device(session))

    def _note(self, rows: int, taken_s: float, is_suspect: bool) -> None:
        """Keeps count of runs that should have been quick: what takes long on some rows does not run in place.

        By the clock on the wall others may be to blame, so that makes a model suspect alone.
        """
        if self._warmth is not None and rows <= self._warmth.quick_rows:
            if not is_suspect:
                self._late = max(self._late, 1)
            elif taken_s > _LATE_S:
                self._late += _MOST_LATE if taken_s > 50 * _LATE_S else 1
            elif self._late < _MOST_LATE:
                self._late = max(0, self._late - 1)


class OnnxEngine:
    """Makes sessions that all use `threads` threads a run, and `run_s` seconds at most.

    A model that is tried out may take `memory_bytes` beyond what its process has. With `require_gpu` nothing is loaded
    that would run on the CPU. `bound` is for tests: runs as on a GPU, wherever they are. Raises: `NoGpu`.
    """

    def __init__(
        self,
        threads: int = 1,
        run_s: float = 30,
        *,
        memory_bytes: int = 2**31,
        gpu: bool = True,
        require_gpu: bool = False,
        bound: bool = False,
    ) -> None:
        self._threads, self._deadlines = threads, Deadlines(run_s)
        self._memory_bytes = memory_bytes
        self._providers = _providers() if gpu else [CPU]
        self._require_gpu, self._bound = require_gpu, bound
        if require_gpu and len(self._providers) == 1:
            raise NoGpu("a GPU is required, and this machine, or this build of ONNX Runtime, has none")

    def examine(
        self, data: bytes, *, output: str | None = None, output_kind: str | None = None, allow_random: bool = False
    ) -> Examined:
        """What is known of a model file once it has run by itself, in a process with limits.

        Raises: `BadModel`, also where its answers depend on chance, unless `allow_random`; `NoHead`, `ModelFailed`,
        `WrongShape`.
        """
        workshop = shared_workshop()
        if workshop is None:
            from service.engine.trial import try_out  # it imports onnx, which a server seldom needs

            return try_out(self, data, output, output_kind, allow_random=allow_random)
        run_s = self._deadlines.run_s
        memory_bytes = self._memory_bytes + 8 * len(data)
        limits: dict[str, Any] = {"run_s": run_s, "memory_bytes": memory_bytes}
        return workshop.examine(data, output=output, output_kind=output_kind, allow_random=allow_random, **limits)

    def load(self, data: bytes, output: str, kind: OutputKind, *, rows_apart: bool | None = None) -> OnnxSession:
        """A session of a graph, one output of which holds logits or probabilities. With `rows_apart` each row is run by
        itself; for None, where the session's first runs show that rows depend on each other.

        Raises: `BadModel` where the runtime refuses it, `NoGpu` where it would run on the CPU and must not.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = SILENT
        providers = self._providers

        def open_one() -> ort.InferenceSession:
            return ort.InferenceSession(data, options, providers=providers, enable_fallback=0)

        try:
            is_bound = self._bound or len(providers) > 1
            clock = time.perf_counter if is_bound or self._threads > 1 else time.thread_time
            session = OnnxSession(open_one, output, kind, self._deadlines, is_bound, clock, rows_apart)
        except Exception as error:  # the runtime's errors share no base of their own
            raise refused(error) from None
        if self._require_gpu and session.provider == CPU:
            raise NoGpu(
                "a GPU is required, and ONNX Runtime would run this model on the CPU: see that CUDA and cuDNN load "
                "(the server's log names libraries that do not) and that the device has memory left"
            )
        return session


def _plain(session: ort.InferenceSession) -> Any:
    """The session itself, without a wrapper that looks for inputs and devices which are never given here, and takes a
    third of the time of a small model's run; the wrapper where a release keeps what is in it elsewhere.
    """
    return getattr(session, "_sess", session)


def _new_options() -> ort.RunOptions:
    options = ort.RunOptions()
    options.log_severity_level = SILENT
    return options


def _device(session: ort.InferenceSession) -> str:
    return "cpu" if session.get_providers()[0] == CPU else "cuda"


def _is_of_memory(error: Exception) -> bool:
    """Whether the runtime's words are of memory; it has no error of its own for it."""
    words = str(error)
    return any(word in words for word in (*_OF_MEMORY, "out of memory", "CUDA failure 2"))


def words_of_runtime(error: Exception) -> str:
    """What the runtime says of the node that failed; the rest may quote the rows, but for what is said of shapes."""
    text = str(error)
    if "Got invalid dimensions for input" in text or "Invalid rank for input" in text:
        return text[:500]
    of_memory = any(word in text for word in _OF_MEMORY)
    said = text.partition("Status Message:")[0][:500] if "Status Message:" in text else type(error).__name__
    return f"{said} ({NO_MEMORY})" if of_memory else said


def _providers() -> list[Any]:
    """CUDA and the CPU where this build and this machine have a GPU, else the CPU alone."""
    has_gpu = shutil.which("nvidia-smi") or any(Path("/dev").glob("nvidia[0-9]*"))
    if "CUDAExecutionProvider" not in ort.get_available_providers() or not has_gpu:
        return [CPU]
    with contextlib.redirect_stdout(io.StringIO()) as said:  # it prints what it cannot find
        ort.preload_dlls(directory="")
    if said.getvalue():
        log.warning("CUDA libraries: %s", said.getvalue().strip())
    return [("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"}), CPU]
