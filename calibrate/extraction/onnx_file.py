"""ONNX files: the graph cut at its head, run by ONNX Runtime over batches, on the GPU where there is one."""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from calibrate.errors import BadModel
from calibrate.extraction.batches import to_numpy
from calibrate.extraction.columns import numbered
from calibrate.extraction.digest import digest_of
from calibrate.extraction.model import Batch, Extractor, LinearHead
from calibrate.extraction.named import columns_of, is_columns, to_inputs
from calibrate.extraction.stable import EVALUATION, FIRST_ROWS, check_steady, compare_runs, rounding_of
from calibrate.io.description import read_description
from calibrate.io.model import ModelGraph
from calibrate.io.refusal import refused
from calibrate.logits import logits_from_probabilities


def onnx_extractor(
    model: str | Path | bytes, first: Batch, *, output: str | None, output_kind: str | None, device: str | None
) -> Extractor:
    """A model in a file or its bytes, for batches like `first`; run row by row, with a warning, where a row's numbers
    depend on the others of its batch.

    Raises: `NoHead`, `BadModel`, also where it answers at random.
    """
    from calibrate.io.graph import read_model

    data = model if isinstance(model, bytes) else Path(model).read_bytes()
    graph = read_model(data, output=output, output_kind=output_kind)
    described = read_description(graph.metadata)
    head = None if graph.head is None else LinearHead(graph.head.weight, graph.head.bias, graph.head.logits)
    names, labels = described.classes or graph.labels, graph.labels or ()
    # A graph from scikit-learn holds the very labels that it was trained with, such as 3 and 7.
    values = np.array([int(label) for label in labels]) if labels and all(map(_is_whole, labels)) else None
    file_digest = hashlib.sha256(data).hexdigest()
    with numbered(first.number):
        run = _stable(_runner(graph, device), graph, first)
    return Extractor(run, "onnx", digest_of([data]), head, names, described.prior, values, file_digest)


def _is_whole(label: str) -> bool:
    return label.removeprefix("-").isdecimal()


Run = Callable[[dict[str, np.ndarray]], Float[np.ndarray, "..."]]


def _stable(compute: Run, graph: ModelGraph, first: Batch) -> Callable[[Batch], Float[np.ndarray, "..."]]:
    """The run of a batch: all rows together, or one by one where they depend on each other.

    Raises: `BadModel` for a model that answers at random.
    """
    from calibrate.io.unstable import shown_operators, unstable_operators

    operators = unstable_operators(graph.data)
    if operators.random:
        cause = shown_operators(operators.random)
        raise BadModel(f"the model's answers depend on chance or on earlier runs: {cause}; {EVALUATION}")
    given = _inputs(graph, first)

    def some(rows: Sequence[int]) -> Float[np.ndarray, "..."]:
        return compute({name: values[list(rows)] for name, values in given.items()})

    rounding = rounding_of(operators.is_half)
    differences = compare_runs(some, min(first.rows, FIRST_ROWS))
    check_steady(differences, rounding, EVALUATION)
    if not operators.batch and differences.together <= rounding:
        return lambda batch: compute(_inputs(graph, batch))
    cause = shown_operators(operators.batch) or f"together and alone they differ by {differences.together:.2g}"
    warnings.warn(
        f"a row's answer depends on the other rows of its batch ({cause}), so each row is run by itself, which takes "
        "longer; serve it row by row too, as setpoint serve does",
        stacklevel=2,
    )

    def one_by_one(batch: Batch) -> Float[np.ndarray, "..."]:
        rows = _inputs(graph, batch)
        parts = ({name: values[i : i + 1] for name, values in rows.items()} for i in range(batch.rows))
        return np.concatenate([compute(part) for part in parts])

    return one_by_one


def _runner(graph: ModelGraph, device: str | None) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    has_gpu = any(Path("/dev").glob("nvidia[0-9]*")) and "CUDAExecutionProvider" in ort.get_available_providers()
    if has_gpu and device != "cpu":
        ort.preload_dlls(directory="")
    providers = ["CUDAExecutionProvider"] * (has_gpu and device != "cpu") + ["CPUExecutionProvider"]
    try:
        session = ort.InferenceSession(graph.data, options, providers=providers, enable_fallback=0)
    except Exception as error:  # the runtime's errors share no base of their own
        raise refused(error) from None
    inputs = {port.name for port in graph.inputs}
    wanted = graph.output if graph.head is None else graph.head.features

    def run(given: dict[str, np.ndarray]) -> Float[np.ndarray, "..."]:
        if wanted in inputs:  # a linear model: its features are its inputs
            return given[wanted]
        try:
            (made,) = session.run([wanted], given)
        except Exception as error:  # the same
            shapes = ", ".join(f"{name}: {values.dtype} {values.shape}" for name, values in given.items())
            raise BadModel(f"the model could not be run on {shapes}: {str(error)[:300]}") from None
        made = np.asarray(made)
        if made.dtype == np.float16:
            made = made.astype(np.float32)
        return logits_from_probabilities(made) if graph.kind == "probabilities" else made

    return run


def _inputs(graph: ModelGraph, batch: Batch) -> dict[str, np.ndarray]:
    """The model's inputs by name and in its types: of a table or a dict by name, of arrays in order."""
    names = [port.name for port in graph.inputs]
    described = read_description(graph.metadata).columns
    table = columns_of(batch.args[0]) if len(batch.args) == 1 and not batch.named else None
    if table is None and batch.named and is_columns(batch.named, graph.inputs, described):
        table = {name: to_numpy(values) for name, values in batch.named.items()}
    given: Mapping[str, Any] = batch.named or dict(zip(names, batch.args, strict=False))
    if table is not None:
        given = to_inputs(table, graph.inputs, described)
    elif (missing := [name for name in names if name not in given]) or len(batch.args) > len(names):
        raise BadModel(
            f"the model takes {', '.join(names)}; got {', '.join(given) or 'nothing'}"
            + (f", without {missing[0]}" if missing else f" and {len(batch.args) - len(names)} more")
        )
    return {port.name: _typed(given[port.name], port.dtype) for port in graph.inputs}


def _typed(values: Any, dtype: str) -> np.ndarray:
    array = to_numpy(values.to_numpy() if hasattr(values, "to_numpy") else values)
    return array.astype(object if dtype == "str" else dtype)
