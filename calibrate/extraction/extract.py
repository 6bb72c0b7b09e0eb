"""`calibrate.extract`: a trained model and labelled rows in, a feature cache out.

Decided here: a model is known by what it is, not by a name that the caller gives; whatever it is, its rows go through
one loop, which checks each batch, keeps what was made in parts and goes on where an earlier run stopped; the one file
is written from the parts and takes its name when it is whole.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, overload

from numpy.typing import ArrayLike

from calibrate.cache import CacheStream, FeatureCache
from calibrate.errors import BadCache, BadModel, BadPrior
from calibrate.extraction.batches import COLUMNS, to_rows
from calibrate.extraction.columns import check_alike, numbered, to_columns_of
from calibrate.extraction.digest import RowsDigest, digest_of
from calibrate.extraction.finish import in_memory_cache, shared_of, write_parts
from calibrate.extraction.function import function_extractor
from calibrate.extraction.model import Batch, Extractor
from calibrate.extraction.onnx_file import onnx_extractor
from calibrate.extraction.parts import Parts
from calibrate.extraction.sklearn_model import is_classifier, sklearn_extractor
from calibrate.extraction.trees import is_booster, tree_extractor
from calibrate.io.files import TABLES, read_cache
from calibrate.operating_point import check_classes
from calibrate.origin import Origin

_NETWORK_ROWS, _TABLE_ROWS = 256, 16_384


@overload
def extract(
    model: Any,
    data: Any,
    *,
    labels: Any = None,
    label_key: str | None = None,
    head: str | None = None,
    output: str | None = None,
    output_kind: str | None = None,
    classes: Sequence[str] | None = None,
    prior: ArrayLike | None = None,
    train_labels: Any = None,
    sample_weight: Any = None,
    cost_fp: Any = None,
    cost_fn: Any = None,
    group: Any = None,
    batch_rows: int | None = None,
    device: str | None = None,
    autocast: str | None = None,
    out: str | Path | None = None,
    resume: bool = True,
    in_memory: Literal[True] = True,
    progress: bool = True,
) -> FeatureCache: ...


@overload
def extract(
    model: Any,
    data: Any,
    *,
    labels: Any = None,
    label_key: str | None = None,
    head: str | None = None,
    output: str | None = None,
    output_kind: str | None = None,
    classes: Sequence[str] | None = None,
    prior: ArrayLike | None = None,
    train_labels: Any = None,
    sample_weight: Any = None,
    cost_fp: Any = None,
    cost_fn: Any = None,
    group: Any = None,
    batch_rows: int | None = None,
    device: str | None = None,
    autocast: str | None = None,
    out: str | Path | None = None,
    resume: bool = True,
    in_memory: Literal[False],
    progress: bool = True,
) -> CacheStream: ...


@overload
def extract(
    model: Any,
    data: Any,
    *,
    labels: Any = None,
    label_key: str | None = None,
    head: str | None = None,
    output: str | None = None,
    output_kind: str | None = None,
    classes: Sequence[str] | None = None,
    prior: ArrayLike | None = None,
    train_labels: Any = None,
    sample_weight: Any = None,
    cost_fp: Any = None,
    cost_fn: Any = None,
    group: Any = None,
    batch_rows: int | None = None,
    device: str | None = None,
    autocast: str | None = None,
    out: str | Path | None = None,
    resume: bool = True,
    in_memory: bool,
    progress: bool = True,
) -> FeatureCache | CacheStream: ...


def extract(
    model: Any,
    data: Any,
    *,
    labels: Any = None,
    label_key: str | None = None,
    head: str | None = None,
    output: str | None = None,
    output_kind: str | None = None,
    classes: Sequence[str] | None = None,
    prior: ArrayLike | None = None,
    train_labels: Any = None,
    sample_weight: Any = None,
    cost_fp: Any = None,
    cost_fn: Any = None,
    group: Any = None,
    batch_rows: int | None = None,
    device: str | None = None,
    autocast: str | None = None,
    out: str | Path | None = None,
    resume: bool = True,
    in_memory: bool = True,
    progress: bool = True,
) -> FeatureCache | CacheStream:
    """The last-layer features, or the logits, of labelled rows under a trained model.

    `model` is a PyTorch module (of Hugging Face, Lightning and timm too), an ONNX file or its bytes, a scikit-learn
    classifier or pipeline, an XGBoost or LightGBM model, a function from inputs to scores (with `output_kind`), or None
    where the inputs are the scores. `data` is a DataLoader, or anything that gives batches; a Dataset; or arrays: one,
    a tuple, a dict. A batch is `(inputs, ..., labels)`, or a dict with labels under `label_key`, "labels", "label",
    "targets" or "target"; or inputs alone with `labels` (n,) given apart. `sample_weight`, `cost_fp`, `cost_fn` and
    `group` (n,) are passed along, from here or from the dict.

    The head is found, or named: `head="classifier.3"` of a module, `output` of a graph. `output_kind` "logits" or
    "probabilities" takes what the model gives, without features. `prior` (k,) are the class frequencies of training,
    or they are counted in `train_labels`. `device` and `autocast` ("bfloat16", "float16") are for networks.

    `out` (`.npz`, `.parquet`, `.arrow`) is written from parts in the folder `out` + ".parts", from which the same call
    goes on after an interruption (`resume`); it says in its metadata what it was made from. With `in_memory` False the
    rows of a Parquet or Arrow file come back as a `CacheStream`. A bar shows the progress on a terminal.

    Raises: `NoHead`, `BadModel`, `BadCache`, `WrongShape`, `NotFinite`, `UnknownLabel`, `BadPrior`, naming the batch.

    >>> import numpy as np
    >>> cache = extract(None, np.array([[0.5, 1.5], [2.0, 0.0]]), labels=[1, 0], output_kind="logits")
    >>> cache.logits.tolist(), cache.labels.tolist()
    ([[0.5, 1.5], [2.0, 0.0]], [1, 0])
    """
    if output_kind not in (None, "logits", "probabilities"):
        raise BadModel(f"output_kind must be logits or probabilities, got {output_kind!r}")
    if prior is not None and train_labels is not None:
        raise BadPrior("prior and train_labels both say what the training frequencies were; pass one")
    if not in_memory and (out is None or Path(out).suffix.lower() not in TABLES):
        raise BadCache(f"rows that are not held in memory need out=, a file with one of {', '.join(TABLES)}")
    columns = dict(zip(COLUMNS, (sample_weight, cost_fp, cost_fn, group), strict=True))
    network = hasattr(model, "named_modules") or isinstance(model, str | Path | bytes)
    rows = to_rows(data, labels, label_key, columns, batch_rows or (_NETWORK_ROWS if network else _TABLE_ROWS))
    options = {"head": head, "output": output, "output_kind": output_kind, "device": device, "autocast": autocast}
    batches = rows.batches()
    first = next(batches)
    with _opened(model, first, options) as extractor:
        names = extractor.classes if classes is None else check_classes(classes)
        settings = [{**options, "device": None}, names]
        key = digest_of([extractor.digest.encode(), repr(settings).encode()])
        folder = None if out is None else Path(out).with_name(Path(out).name + ".parts")
        parts = Parts(folder, key, resume=resume and bool(extractor.digest))
        finished = False
        try:
            data_digest, done = _fill(parts, chain([first], batches), rows.rows, extractor, names, progress)
            shared = shared_of(extractor, names, parts.chunks, prior, train_labels)
            name = None if extractor.head is None else extractor.head.name
            origin = Origin(extractor.kind, extractor.digest, data_digest, done, name, extractor.file_digest)
            if out is None:
                return replace(in_memory_cache(parts.chunks, shared), origin=origin)
            write_parts(out, parts.chunks, shared, origin)
            finished = True
        finally:
            parts.close(finished=finished)
    if in_memory:
        return read_cache(out)
    from calibrate.io.parquet import open_cache

    return open_cache(out)


def _fill(
    parts: Parts,
    batches: Iterable[Batch],
    rows: int | None,
    extractor: Extractor,
    names: tuple[str, ...] | None,
    progress: bool,
) -> tuple[str, int]:
    """Runs the model on the batches that no earlier run has; the digest of all rows, and how many there are."""
    order, digest, done = RowsDigest(), "", 0
    before: dict[str, tuple[object, ...]] = {}
    try:
        with _bar(rows, progress) as told:
            for batch in batches:
                digest = order.add(batch)
                if not parts.holds(digest):
                    with numbered(batch.number):
                        columns = to_columns_of(batch, extractor.run(batch), extractor, names)
                        before = check_alike(columns, before)
                    parts.add(digest, batch.rows, columns)
                done += batch.rows
                told(done)
        parts.drop_the_rest()
    finally:
        parts.flush()
    return digest, done


@contextmanager
def _bar(rows: int | None, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar of the rows done, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    told = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*told, console=console, transient=True, disable=not (shown and console.is_terminal)) as bars:
        task = bars.add_task("rows", total=rows)
        yield lambda done: bars.update(task, completed=done)


@contextmanager
def _opened(model: Any, first: Batch, options: Mapping[str, Any]) -> Iterator[Extractor]:
    """The model made ready, whatever it is; what does not go with its kind is refused."""
    if hasattr(model, "named_modules"):
        from calibrate.extraction.torch_module import torch_extractor

        with ExitStack() as stack:
            with numbered(first.number):
                extractor = stack.enter_context(torch_extractor(model, first, **options))
            yield extractor
        return
    is_file = isinstance(model, str | Path | bytes)
    for name in ("head", "autocast", *(() if is_file else ("output", "device"))):
        if options[name] is not None:
            raise BadModel(f"{name}={options[name]!r} is for {'PyTorch modules' if is_file else 'networks'} only")
    output, kind = options["output"], options["output_kind"]
    if is_file:
        yield onnx_extractor(model, first, output=output, output_kind=kind, device=options["device"])
    elif is_booster(model):
        if kind == "probabilities":
            raise BadModel("boosted trees give margins, which are logits")
        yield tree_extractor(model)
    elif is_classifier(model):
        with numbered(first.number):
            extractor = sklearn_extractor(model, first, output_kind=kind)
        yield extractor
    else:
        yield function_extractor(model, kind)
