"""Runs on a device with memory of its own: rows padded to a few sizes, in buffers that are kept there.

Decided here: rows are filled up to a power of two, because a GPU plans memory and picks its convolutions anew for every
number of rows it meets; the last row is repeated, which is a row that the model knows. For each size and shape a few
sets of input buffers stay on the device, so that a run copies and allocates nothing there. Nothing in this depends on
the device, so it is tested on the CPU.
"""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort

Key = tuple[tuple[str, str, tuple[int, ...]], ...]
_MOST_KEPT = 64  # sets of buffers, of all sizes and shapes together


def padded_rows(rows: int) -> int:
    """The number of rows that a run of `rows` is filled up to."""
    return 1 << (rows - 1).bit_length()


def pad(array: np.ndarray, rows: int) -> np.ndarray:
    """The rows and copies of the last one, `rows` in all."""
    if len(array) == rows:
        return array
    return np.concatenate([array, np.repeat(array[-1:], rows - len(array), axis=0)])


class BoundRuns:
    """Runs a session by IO binding; from several threads at once, each with buffers of its own."""

    def __init__(self, session: ort.InferenceSession, output: str, device: str) -> None:
        self._session, self._output, self._device = session, output, device
        self._kept: dict[Key, list[dict[str, Any]]] = {}
        self._count = 0
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, np.ndarray], options: ort.RunOptions, *, padded: bool) -> np.ndarray:
        """What the session puts out for the rows, and for no others."""
        rows = len(next(iter(inputs.values())))
        size = padded_rows(rows) if padded else rows
        filled = {name: np.ascontiguousarray(pad(array, size)) for name, array in inputs.items()}
        key = tuple((name, array.dtype.str, array.shape) for name, array in sorted(filled.items()))
        buffers = self._take(key)
        if buffers is None:
            buffers = {name: self._make(array) for name, array in filled.items()}
        for name, array in filled.items():
            buffers[name].update_inplace(array)
        binding = self._session.io_binding()
        for name, value in buffers.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output(self._output)  # brought to the host with the run
        self._session.run_with_iobinding(binding, options)
        (made,) = binding.copy_outputs_to_cpu()
        self._give_back(key, buffers)
        return np.asarray(made)[:rows]

    def clear(self) -> None:
        """Lets go of the buffers."""
        with self._lock:
            self._kept.clear()
            self._count = 0

    def _make(self, array: np.ndarray) -> Any:
        return ort.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type, self._device)

    def _take(self, key: Key) -> dict[str, Any] | None:
        with self._lock:
            kept = self._kept.get(key)
            if not kept:
                return None
            self._count -= 1
            return kept.pop()

    def _give_back(self, key: Key, buffers: dict[str, Any]) -> None:
        with self._lock:
            if self._count >= _MOST_KEPT:
                self._kept.clear()
                self._count = 0
            self._kept.setdefault(key, []).append(buffers)
            self._count += 1
