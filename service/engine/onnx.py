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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from jaxtyping import Float

from calibrate.errors import BadModel, NotFinite
from calibrate.io.model import OutputKind
from calibrate.logits import logits_from_probabilities, to_columns
from service.domain import ModelFailed
from service.engine.deadlines import Deadlines
from service.engine.workshop import shared_workshop
from service.ports import Examined

log = logging.getLogger(__name__)


class OnnxSession:
    """A loaded model; `run` may be called from several threads at once."""

    def __init__(self, session: ort.InferenceSession, output: str, kind: OutputKind, deadlines: Deadlines) -> None:
        self._session = session
        self._deadlines = deadlines
        self._output = [output]
        self._kind = kind

    @property
    def provider(self) -> str:
        """What it really runs on."""
        return str(self._session.get_providers()[0])

    def run(self, inputs: Mapping[str, np.ndarray]) -> Float[np.ndarray, "n k"]:
        """The logits of the rows, (n, k).

        Raises: `ModelFailed`; `NotFinite` or `WrongShape` where what the model puts out are no logits.
        """
        options = ort.RunOptions()
        try:
            with self._deadlines.over(options):
                (made,) = self._session.run(self._output, dict(inputs), options)
        except Exception as error:  # the runtime's errors share no base of their own
            if options.terminate:
                raise ModelFailed(
                    f"the model was stopped after {self._deadlines.run_s:g} s, which is all a run may take"
                ) from None
            log.warning("a model could not be run: %s", words_of_runtime(error))
            raise ModelFailed("the model could not be run on these rows; the server's log says why") from None
        if not isinstance(made, np.ndarray):
            raise ModelFailed(f"the model put out a {type(made).__name__}, wanted a tensor of {self._kind}")
        rows = len(next(iter(inputs.values())))
        try:
            logits = to_columns(made) if self._kind == "logits" else logits_from_probabilities(made)
        except NotFinite as error:
            raise NotFinite(f"the model's {error}; it may not take a missing value") from None
        if len(logits) != rows:
            raise ModelFailed(f"the model put out {len(logits)} rows for {rows}")
        return logits


class OnnxEngine:
    """Makes sessions that all use `threads` threads a run, and `run_s` seconds at most.

    A model that is tried out may take `memory_bytes` beyond what its process has.
    """

    def __init__(self, threads: int = 1, run_s: float = 30, *, memory_bytes: int = 2**31, gpu: bool = True) -> None:
        self._threads, self._deadlines = threads, Deadlines(run_s)
        self._memory_bytes = memory_bytes
        self._providers = _providers() if gpu else ["CPUExecutionProvider"]

    def examine(self, data: bytes, *, output: str | None = None, output_kind: str | None = None) -> Examined:
        """What is known of a model file once it has run by itself, in a process with limits.

        Raises: `BadModel`, `NoHead`, `ModelFailed`, `WrongShape`.
        """
        workshop = shared_workshop()
        if workshop is None:
            from service.engine.trial import try_out  # it imports onnx, which a server seldom needs

            return try_out(self, data, output, output_kind)
        run_s = self._deadlines.run_s
        memory_bytes = self._memory_bytes + 8 * len(data)
        return workshop.examine(data, output=output, output_kind=output_kind, run_s=run_s, memory_bytes=memory_bytes)

    def load(self, data: bytes, output: str, kind: OutputKind) -> OnnxSession:
        """A session of a graph, one output of which holds logits or probabilities.

        Raises: `BadModel` where the runtime refuses it.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            session = ort.InferenceSession(data, options, providers=self._providers, enable_fallback=0)
        except Exception as error:  # the runtime's errors share no base of their own
            raise BadModel(f"ONNX Runtime refuses the model: {str(error)[:500]}") from None
        return OnnxSession(session, output, kind, self._deadlines)


def words_of_runtime(error: Exception) -> str:
    """What the runtime says of the node that failed; the rest may quote the rows, but for what is said of shapes."""
    text = str(error)
    if "Got invalid dimensions for input" in text or "Invalid rank for input" in text:
        return text[:500]
    return text.partition("Status Message:")[0][:500] if "Status Message:" in text else type(error).__name__


def _providers() -> list[Any]:
    """CUDA and the CPU where this build and this machine have a GPU, else the CPU alone."""
    has_gpu = shutil.which("nvidia-smi") or any(Path("/dev").glob("nvidia[0-9]*"))
    if "CUDAExecutionProvider" not in ort.get_available_providers() or not has_gpu:
        return ["CPUExecutionProvider"]
    with contextlib.redirect_stdout(io.StringIO()) as said:  # it prints what it cannot find
        ort.preload_dlls(directory="")
    if said.getvalue():
        log.warning("CUDA libraries: %s", said.getvalue().strip())
    return [("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"}), "CPUExecutionProvider"]
