"""The network as every peer runs it: its file is in `NETWORK`; one thread and no spinning, as ours, since more only
hinder each other on a network this small."""

import os

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray


def open_session() -> ort.InferenceSession:
    """The session."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(os.environ["NETWORK"], options, providers=["CPUExecutionProvider"])


def run_together(session: ort.InferenceSession, asked: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """One run for the rows of many requests, then to each its own."""
    made = session.run(None, {"x": asked[0] if len(asked) == 1 else np.concatenate(asked)})[0]
    return np.split(made, np.cumsum([len(rows) for rows in asked])[:-1])
