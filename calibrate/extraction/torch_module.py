"""PyTorch modules: last-layer features of rows, with the module left as it was found.

Decided here: the module runs in evaluation mode without gradients, on the GPU where there is one, and afterwards every
submodule has its own mode, device and hooks again. With mixed precision (`autocast`) features are what went into the
head in half precision, kept as float32; logits are made of them in float64 all the same. A batch that is a dict becomes
the arguments of `forward`, a tuple its arguments in order.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from calibrate.errors import BadModel, NoHead, NotFinite
from calibrate.extraction.batches import to_numpy
from calibrate.extraction.digest import digest_of
from calibrate.extraction.model import Batch, Extractor, LinearHead
from calibrate.extraction.stable import check_steady, compare_runs, rounding_of
from calibrate.extraction.torch_head import (
    Tie,
    features_of,
    find_tie,
    is_linear,
    is_what_it_computes,
    linear_layers,
    outputs,
    watched,
)
from calibrate.logits import logits_from_probabilities

if TYPE_CHECKING:
    import torch
    from torch import nn

_FIRST_ROWS = 4
_DTYPES = ("bfloat16", "float16")


@contextmanager
def torch_extractor(
    module: Any,
    first: Batch,
    *,
    head: str | None,
    output: str | None,
    output_kind: str | None,
    device: str | None,
    autocast: str | None,
) -> Iterator[Extractor]:
    """A module made ready for batches like `first`, and set back afterwards.

    `head` names its linear layer, which is found otherwise; `output` the entry of what it returns; `output_kind`
    "logits" or "probabilities" takes that without features. Raises: `NoHead`, `BadModel`.
    """
    import torch

    if autocast not in (None, *_DTYPES):
        raise BadModel(f"autocast must be {' or '.join(_DTYPES)}, got {autocast!r}")
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    module = module.module if isinstance(module, torch.nn.DataParallel) else module
    _check_config(module)
    with _prepared(module, device) as place, torch.no_grad():
        mixed = nullcontext() if autocast is None else torch.autocast(place.type, getattr(torch, autocast))
        with mixed:
            layer, tie = None, None
            if output_kind is None or head is not None:
                layer, tie = _head(module, first, place, head, output)
            digest = _digest(module)

            def run(batch: Batch) -> Float[np.ndarray, "..."]:
                if layer is None:
                    return _scores(_called(module, batch, place), batch, output, output_kind)
                return _features(module, batch, place, layer, tie)

            _check_stable(run, first, is_half=autocast is not None or _is_half(module))
            yield Extractor(run, "torch", digest, layer, _classes(module))


def _check_stable(run: Callable[[Batch], Float[np.ndarray, "..."]], first: Batch, *, is_half: bool) -> None:
    """Warns where a row's numbers depend on its batch. Raises: `BadModel` where they depend on chance."""
    n = min(first.rows, _FIRST_ROWS)
    rounding = rounding_of(is_half)

    def some(rows: Sequence[int]) -> Float[np.ndarray, "..."]:
        return run(_cut(first, rows[-1] + 1, rows[0]))

    try:
        differences = compare_runs(some, n)
    except (ValueError, RuntimeError, BadModel) as error:  # as batch normalisation without statistics of its own
        warnings.warn(
            f"the module could not be run on single rows ({str(error)[:200]}), so nobody knows whether a row's answer "
            "depends on the other rows of its batch",
            stacklevel=2,
        )
        return
    remedy = "what draws numbers in evaluation mode too, as torch.nn.functional.dropout does, needs training=False"
    check_steady(differences, rounding, remedy)
    if differences.together > rounding:
        warnings.warn(
            f"a row's answer depends on the other rows of its batch: together and alone they differ by "
            f"{differences.together:.2g}. The scores are those of rows in batches; pass batch_rows=1 for those of rows "
            "alone",
            stacklevel=2,
        )


def _is_half(module: "nn.Module") -> bool:
    return any(str(tensor.dtype) in ("torch.float16", "torch.bfloat16") for tensor in module.parameters())


def _head(
    module: "nn.Module", first: Batch, place: "torch.device", head: str | None, output: str | None
) -> tuple[LinearHead, Tie | None]:
    """The head, and how what the module returns comes from it: None for a layer that was named and is followed by more.

    Found on the first few rows.
    """
    layers = linear_layers(module)
    if head is not None:
        if head not in dict(module.named_modules()):
            raise NoHead(f"the model has no layer {head!r}; its linear layers are {', '.join(list(layers)[-20:])}")
        if not is_linear(named := module.get_submodule(head)):
            raise NoHead(f"layer {head!r} is a {type(named).__name__}, wanted a Linear or a 1x1 convolution")
        layers = {head: named}
    batch = _cut(first, _FIRST_ROWS)
    with watched(layers) as calls:
        found = _named(outputs(_called(module, batch, place)), output)
    _check_finite(found)
    tie = None
    try:
        tie = find_tie(calls, found, batch.rows)
    except NoHead:
        if head is None:
            raise
    name = head if tie is None else tie.layer
    used = [call for call in calls if call.name == name]
    if not used or name is None:
        raise NoHead(f"layer {head!r} was not used, or not on numbers with a line for each row")
    if not all(map(is_what_it_computes, used)):
        raise NoHead(f"layer {name!r} does not give features @ weight + bias: it is a {type(used[0].layer).__name__}")
    if tie is None and (used[-1].made.shape[0] != batch.rows or used[-1].made.shape[1] != 1):
        raise NoHead(f"layer {name!r} gives {tuple(used[-1].made.shape)}, wanted one line of logits for each row")
    weight = to_numpy(used[0].layer.weight.flatten(1))
    bias = used[0].layer.bias
    return LinearHead(weight, np.zeros(len(weight), weight.dtype) if bias is None else to_numpy(bias), name), tie


def _features(
    module: "nn.Module", batch: Batch, place: "torch.device", head: LinearHead, tie: Tie | None
) -> Float[np.ndarray, "n d"]:
    """What went into the head; what came out must still be what the module returns."""
    with watched({head.name: module.get_submodule(head.name)}) as calls:
        found = outputs(_called(module, batch, place))
    for call in reversed(calls):
        if tie is None:
            return to_numpy(call.entered[:, 0])
        features = features_of(call, tie, found[tie.output], batch.rows) if tie.output in found else None
        if features is not None:
            return to_numpy(features)
    _check_finite(found)
    raise BadModel(f"what the model returns no longer comes from layer {head.name!r}, as it did on the first rows")


def _scores(returned: Any, batch: Batch, output: str | None, kind: str | None) -> Float[np.ndarray, "..."]:
    """Logits of what a module returns, without features."""
    found = _named(outputs(returned), output)
    if not found:
        raise BadModel(f"the model returned no tensor of floats, but a {type(returned).__name__}")
    name, tensor = next(iter(found.items()))
    flat = tensor.squeeze(tuple(range(2, tensor.ndim)))
    if flat.ndim not in (1, 2) or flat.shape[0] != batch.rows:
        raise BadModel(f"output {name!r} has shape {tuple(tensor.shape)}, wanted a line for each of {batch.rows} rows")
    scores = to_numpy(flat)
    return logits_from_probabilities(scores) if kind == "probabilities" else scores


def _called(module: "nn.Module", batch: Batch, place: "torch.device") -> Any:
    """What the module returns for a batch. Raises: `BadModel` with what came, whatever the module raises."""
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
    args = [_moved(value, place, dtype) for value in batch.args]
    named = {name: _moved(value, place, dtype) for name, value in batch.named.items()}
    if named and not _takes(module, named):
        args, named = [named], {}
    try:
        return module(*args, **named)
    except Exception as error:  # whatever code that is not ours raises
        came = ", ".join(_shown(name, value) for name, value in [*enumerate(args), *named.items()])
        said = str(error).splitlines() or [type(error).__name__]
        raise BadModel(f"the model could not be run on {came}: {said[0][:300]}") from error


def _check_finite(found: Mapping[str, "torch.Tensor"]) -> None:
    """What is NaN says nothing of where it comes from. Raises: `NotFinite`."""
    for name, tensor in found.items():
        if not bool(tensor.isfinite().all()):
            where = (~tensor.isfinite()).nonzero()[0].tolist()
            came = tensor[tuple(where)].item()
            raise NotFinite(f"{name}{where} of what the model returns must be finite, got {came}")


def _takes(module: "nn.Module", named: Mapping[str, Any]) -> bool:
    """Whether `forward` has an argument for each entry of a batch; otherwise it takes the batch as one dict."""
    parameters = inspect.signature(module.forward).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return True
    return named.keys() <= {each.name for each in parameters if each.kind is not each.VAR_POSITIONAL}


def _moved(value: Any, place: "torch.device", dtype: "torch.dtype | None") -> Any:
    """A tensor on the device; numpy's floats are taken in the model's type."""
    import torch

    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
        value = value.to(dtype) if value.is_floating_point() and dtype is not None else value
    return value.to(place, non_blocking=True) if hasattr(value, "to") else value


@contextmanager
def _prepared(module: "nn.Module", device: str | None) -> Iterator["torch.device"]:
    """The module in evaluation mode on one device, unless its parts lie on several; then set back part by part."""
    import torch

    held = {tensor.device for tensor in [*module.parameters(), *module.buffers()]}
    home = next(iter(held), torch.device("cpu"))
    place = torch.device(device or ("cuda" if home.type == "cpu" and torch.cuda.is_available() else home))
    if len(held) > 1:
        place = next(module.parameters()).device
    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
        if held == {home} and place != home:
            module.to(place)
        yield place
    finally:
        if held == {home} and place != home:
            module.to(home)
        for part, training in modes.items():
            part.training = training


def _digest(module: "nn.Module") -> str:
    """Of the module's structure, and the name, type and bytes of all that it holds."""
    import torch

    parts: list[bytes] = [repr(module).encode()]
    for name, value in module.state_dict().items():
        if isinstance(value, torch.Tensor):
            plain = value.detach().cpu().contiguous()
            parts.append(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
            parts.append(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    return digest_of(parts)


def _check_config(module: Any) -> None:
    """Refuses what a Hugging Face configuration says is no classifier of classes that exclude each other."""
    problem = getattr(getattr(module, "config", None), "problem_type", None)
    if problem in ("multi_label_classification", "regression"):
        raise BadModel(f"the model's configuration says {problem}: classes must exclude each other")


def _classes(module: Any) -> tuple[str, ...] | None:
    """The names in a Hugging Face configuration, None where nobody gave them."""
    names = getattr(getattr(module, "config", None), "id2label", None)
    if not isinstance(names, Mapping) or all(str(name) == f"LABEL_{i}" for i, name in names.items()):
        return None
    return tuple(str(names[i]) for i in sorted(names, key=int))


def _named(found: dict[str, "torch.Tensor"], output: str | None) -> dict[str, "torch.Tensor"]:
    if output is None:
        return found
    if output not in found:
        raise BadModel(f"the model returns no {output!r}, only {', '.join(found) or 'no tensors of floats'}")
    return {output: found[output]}


def _cut(batch: Batch, rows: int, start: int = 0) -> Batch:
    """The first rows of a batch, from `start` on."""

    def cut(value: Any) -> Any:
        return value[start:rows] if getattr(value, "shape", ())[:1] == (batch.rows,) else value

    args, named = tuple(map(cut, batch.args)), {name: cut(value) for name, value in batch.named.items()}
    return Batch(batch.number, batch.first_row, args, named, batch.labels[start:rows], {})


def _shown(name: object, value: Any) -> str:
    shape = getattr(value, "shape", None)
    kind = type(value).__name__ if shape is None else f"{str(value.dtype).removeprefix('torch.')} {tuple(shape)}"
    return f"{name}: {kind}"
