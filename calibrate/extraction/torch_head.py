"""Finds the linear head of a PyTorch module by watching it run, and says how the module's output comes from it.

Decided here: no name and no place decides; the head is the last linear layer (or 1x1 convolution) whose output is, up
to a softmax, log-softmax or sigmoid, what the module returns, checked on numbers. A layer that is used at every
position of a row (the tokens of a text, the places of a picture) is a head too where the module returns what it makes
of one position, or their mean: that position's input, or the mean input, are the features.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from calibrate.errors import BadModel, NoHead

if TYPE_CHECKING:
    from torch import Tensor, nn

# What may stand between a head and what a module returns.
FORMS: dict[str, Callable[["Tensor"], "Tensor"]] = {
    "logits": lambda logits: logits,
    "softmax": lambda logits: logits.softmax(-1),
    "log_softmax": lambda logits: logits.log_softmax(-1),
    "sigmoid": lambda logits: logits.sigmoid(),
}
_SHOWN = 6


@dataclass(frozen=True, eq=False)
class Call:
    """One use of a linear layer: what went in, (n, p, d) for p positions a row, and what came out, (n, p, k)."""

    name: str
    layer: Any
    entered: "Tensor"
    made: "Tensor"


@dataclass(frozen=True)
class Tie:
    """How a module's output comes from a layer: `output` names it, `form` is of `FORMS`, `pool` none, mean or pick."""

    layer: str
    output: str
    form: str
    pool: str


@contextmanager
def watched(layers: Mapping[str, "nn.Module"]) -> Iterator[list[Call]]:
    """The uses of some linear layers meanwhile, in order; their hooks are gone afterwards, whatever happens."""
    calls: list[Call] = []

    def hook(name: str) -> Callable[..., None]:
        def note(layer: "nn.Module", args: Any, options: Any, made: "Tensor") -> None:
            entered = args[0] if args else next(iter(options.values()))
            if entered.ndim > 1 and entered.is_floating_point():
                calls.append(Call(name, layer, _positions(layer, entered), _positions(layer, made)))

        return note

    handles = [layer.register_forward_hook(hook(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def linear_layers(module: "nn.Module") -> dict[str, "nn.Module"]:
    """The linear layers and 1x1 convolutions of a module by name."""
    return {name: layer for name, layer in module.named_modules() if is_linear(layer)}


def is_linear(layer: "nn.Module") -> bool:
    """Whether a layer is `features @ weight.T + bias` at each position."""
    from torch import nn

    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        ones = {*layer.kernel_size, *layer.stride, layer.groups}
        return ones == {1} and not isinstance(layer.padding, str) and set(layer.padding) == {0}
    return isinstance(layer, nn.Linear)


def outputs(returned: Any) -> dict[str, "Tensor"]:
    """What a module returned, by name: logits first where something is called that."""
    import torch

    if isinstance(returned, torch.Tensor):
        return {"output": returned}
    if isinstance(returned, Mapping):
        found = {str(name): value for name, value in returned.items()}
    elif isinstance(returned, list | tuple):
        found = {str(place): value for place, value in enumerate(returned)}
    else:
        found = {"logits": getattr(returned, "logits", None)}
    tensors = {name: v for name, v in found.items() if isinstance(v, torch.Tensor) and v.is_floating_point()}
    return {name: tensors[name] for name in sorted(tensors, key=lambda name: name != "logits")}


def find_tie(calls: list[Call], found: Mapping[str, "Tensor"], rows: int) -> Tie:
    """How what a module returned comes from one of its layers.

    Raises: `NoHead` with the last layers where none fits, `BadModel` where classes do not exclude each other.
    """
    for output, tensor in found.items():
        for call in reversed(calls):
            for form in FORMS:
                for pool in ("none", "mean", "pick"):
                    tie = Tie(call.name, output, form, pool)
                    if features_of(call, tie, tensor, rows) is None:
                        continue
                    if form == "sigmoid" and call.made.shape[2] > 1:
                        raise BadModel(
                            f"the model puts a sigmoid over {call.made.shape[2]} logits: classes must exclude "
                            "each other"
                        )
                    return tie
    last = dict.fromkeys(f"{call.name} ({call.entered.shape[2]} to {call.made.shape[2]})" for call in reversed(calls))
    shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in found.items())
    raise NoHead(
        f"what the model returns ({shapes or 'no tensor of floats'}) comes from none of its linear layers; name one as "
        "head=, or say output_kind, logits or probabilities, for what it returns without features. Its last linear "
        f"layers, backwards: {', '.join(list(last)[:_SHOWN]) or 'none'}"
    )


def features_of(call: Call, tie: Tie, returned: "Tensor", rows: int) -> "Tensor | None":
    """The features (n, d) of the rows, None where what came out of the layer is not what the module returned."""
    import torch

    flat = returned.reshape(rows, -1).double() if returned.ndim and returned.shape[0] == rows else None
    positions, k = call.made.shape[1:]
    if flat is None or call.made.shape[0] != rows or flat.shape[1] != k or (tie.pool == "none") != (positions == 1):
        return None
    if tie.form in ("softmax", "log_softmax") and k == 1:
        return None
    # Of one float32 operation or two, or, in half precision, of one rounding.
    narrow = max(torch.finfo(returned.dtype).eps, torch.finfo(call.made.dtype).eps)
    tolerance = (64 if narrow < 1e-4 else 4) * narrow * max(1.0, float(flat.abs().max()))
    made = call.made.double()
    if tie.pool == "mean":
        off = (FORMS[tie.form](made.mean(1)) - flat).abs().amax(1)
        return call.entered.float().mean(1) if bool((off <= tolerance).all()) else None
    off, place = (FORMS[tie.form](made) - flat[:, None]).abs().amax(2).min(1)
    if not bool((off <= tolerance).all()):
        return None
    return call.entered[torch.arange(rows, device=place.device), place]


def is_what_it_computes(call: Call) -> bool:
    """Whether the layer's weight and bias give what came out of it, which a layer of a kind of its own need not do."""
    weight, bias = call.layer.weight.double().flatten(1), call.layer.bias
    made = call.entered.double() @ weight.T + (0 if bias is None else bias.double())
    tolerance = (1e-3 if call.made.dtype.itemsize >= 4 else 0.03) * max(1.0, float(made.abs().max()))
    return bool(((made - call.made.double()).abs() <= tolerance).all())


def _positions(layer: "nn.Module", values: "Tensor") -> "Tensor":
    """(n, d), (n, ..., d), or of a convolution (n, d, ...), as (n, positions, d)."""
    from torch import nn

    values = values.detach()
    if isinstance(layer, nn.Linear):
        return values.reshape(values.shape[0], -1, values.shape[-1])
    return values.flatten(2).transpose(1, 2)
