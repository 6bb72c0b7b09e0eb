"""PyTorch modules: the head is found whatever lies behind it, and the module is as before afterwards."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from calibrate import FeatureCache, extract
from calibrate.errors import BadCache, BadModel, InputError, NoHead, NoRows, NotFinite, UnknownLabel, WrongShape

N, D, H, K = 23, 5, 8, 3
torch.manual_seed(0)
X, Y = torch.randn(N, D), torch.arange(N) % K
BODY = nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Dropout(0.5))
HEAD, ONE = nn.Linear(H, K), nn.Linear(H, 1)


class Behind(nn.Module):
    """A body, a head, and a function behind it."""

    def __init__(self, head: nn.Module, behind: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.body, self.other, self.head, self.behind = BODY, nn.Linear(H, K), head, behind

    def forward(self, x: torch.Tensor) -> Any:
        """Another layer of the same width is used after the head, and does not count."""
        features = self.body(x)
        made = self.head(features)
        self.other(features)
        return self.behind(made)


def got(model: Any, data: Any, **options: Any) -> FeatureCache:
    """The cache, in memory."""
    cache = extract(model, data, **options)
    assert isinstance(cache, FeatureCache)
    return cache


def features(x: torch.Tensor = X) -> np.ndarray:
    """What goes into the head, computed by the layers themselves."""
    with torch.no_grad():
        made: torch.Tensor = BODY[1](BODY[0](x))
    return made.numpy()


@pytest.mark.parametrize(
    "behind",
    [
        lambda z: z,
        lambda z: z.softmax(1),
        lambda z: z.log_softmax(1),
        lambda z: {"loss": z.mean(), "logits": z},
        lambda z: {"embedding": z[:, :2], "prob": z.softmax(1)},
        lambda z: (z,),
        lambda z: (z.softmax(1), z),
        lambda z: z[:, :, None, None],
    ],
)
def test_the_head_is_found_behind_anything(behind: Callable[[torch.Tensor], Any]) -> None:
    """Softmax, log-softmax, squeezes, dicts and tuples: features and head are exact."""
    cache = got(Behind(HEAD, behind), (X, Y))
    assert np.array_equal(cache.features, features())  # type: ignore[arg-type]
    assert np.array_equal(cache.weight, HEAD.weight.detach().numpy())  # type: ignore[arg-type]
    assert np.allclose(
        cache.logits, features() @ HEAD.weight.detach().numpy().T + HEAD.bias.detach().numpy(), atol=1e-6
    )
    assert cache.labels.tolist() == Y.tolist()


@pytest.mark.parametrize("behind", [lambda z: z, lambda z: z.squeeze(1), lambda z: z.sigmoid().squeeze(1)])
def test_one_logit_is_two_classes(behind: Callable[[torch.Tensor], Any]) -> None:
    """A head (1, d), with a sigmoid or not, squeezed or not; labels of shape (n, 1) as its loss wants them."""
    cache = got(Behind(ONE, behind), (X, (Y > 0).float()[:, None]))
    assert cache.weight is not None
    assert cache.weight.shape == (2, H)
    assert np.allclose(cache.logits[:, 1], ONE(torch.tensor(features())).detach().numpy()[:, 0], atol=1e-6)
    assert cache.labels.tolist() == (Y > 0).int().tolist()


def test_heads_at_every_position() -> None:
    """A 1x1 convolution whose mean over places is returned, and a head on all tokens of which one is returned."""
    picture = torch.randn(N, 4, 3, 3)

    class Places(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(4, K, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.head(x).mean((2, 3)).softmax(1)
            return made

    cache = got(Places(), (picture, Y))
    assert np.allclose(cache.features, picture.mean((2, 3)), atol=1e-6)  # type: ignore[arg-type]

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(D, K, bias=False)

        def forward(self, x: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.head(x)[torch.arange(len(x)), length - 1]
            return made

    tokens, length = torch.randn(N, 6, D), 1 + torch.arange(N) % 6
    cache = got(Tokens(), {"x": tokens, "length": length, "labels": Y})
    assert np.array_equal(cache.features, tokens[torch.arange(N), length - 1])  # type: ignore[arg-type]


def test_the_module_is_as_it_was() -> None:
    """Every mode, no hook, the grad mode; after an error too."""

    def failing(z: torch.Tensor) -> torch.Tensor:
        if z.shape[0] == 3:
            raise RuntimeError("no batch of three")
        return z

    for behind in (failing, lambda z: z):
        model = Behind(HEAD, behind).train()
        model.body[1].eval()
        modes = [part.training for part in model.modules()]
        said = r"^batch 4: the model could not be run on 0: float32 \(3, 5\): no batch of three"
        with pytest.raises(BadModel, match=said) if behind is failing else nullcontext():
            extract(model, (X, Y), batch_rows=5)
        assert [part.training for part in model.modules()] == modes
        assert not any(part._forward_hooks for part in model.modules())
        assert torch.is_grad_enabled()


@pytest.mark.parametrize("loader", ["loader", "dataset", "numpy", "dict", "list", "iterator", "string labels"])
def test_data_in_any_form(loader: str) -> None:
    """The same cache each time."""
    model, pairs = Behind(HEAD, lambda z: z), TensorDataset(X, Y)
    forms: dict[str, Any] = {
        "loader": DataLoader(pairs, batch_size=7),
        "dataset": pairs,
        "numpy": (X.numpy().astype(np.float64), Y.numpy()),
        "dict": {"x": X, "targets": Y},
        "list": [(X[:9], Y[:9]), [X[9:], Y[9:]]],
        "iterator": ({"x": X[i : i + 4], "label": Y[i : i + 4]} for i in range(0, N, 4)),
        "string labels": {"x": X, "label": ["cat" if y == 0 else "dog" if y == 1 else "eel" for y in Y.tolist()]},
    }
    named = {"classes": ["cat", "dog", "eel"]} if loader == "string labels" else {}
    cache = got(model, forms[loader], **named)
    assert np.allclose(cache.features, features(), atol=1e-6)  # type: ignore[arg-type]
    assert cache.labels.tolist() == Y.tolist()
    assert cache.classes == (("cat", "dog", "eel") if loader == "string labels" else ("0", "1", "2"))


def test_a_model_may_take_the_batch_as_one_dict() -> None:
    """Where its arguments are not named as the entries are; a Dataset of dicts; columns go along."""

    class Whole(Behind):
        def forward(self, batch: Any) -> Any:
            """The batch is one argument."""
            return super().forward(batch["x"])

    items = [{"x": X[i], "y": Y[i], "sample_weight": float(i), "cost_fn": 2.0, "group": f"g{i % 2}"} for i in range(N)]
    data: Any = DataLoader(items, batch_size=4)  # type: ignore[arg-type]
    cache = got(Whole(HEAD, lambda z: z), data, label_key="y", classes=["a", "b", "c"], prior=[0.5, 0.3, 0.2])
    assert cache.sample_weight is not None
    assert cache.sample_weight.tolist() == list(range(N))
    assert cache.cost_fn is not None
    assert cache.cost_fn.tolist() == [2.0] * N
    assert cache.group is not None
    assert cache.group.tolist() == [i % 2 for i in range(N)]
    assert (cache.classes, cache.prior.tolist()) == (("a", "b", "c"), [0.5, 0.3, 0.2])  # type: ignore[union-attr]


def test_the_prior_is_counted_in_training_labels() -> None:
    """By index or by name; a class without a training row is an error."""
    model = Behind(HEAD, lambda z: z)
    assert got(model, (X, Y), train_labels=[0, 0, 1, 2]).prior.tolist() == [0.5, 0.25, 0.25]  # type: ignore[union-attr]
    named = got(model, (X, Y), classes=["a", "b", "c"], train_labels=["b", "b", "a", "c"])
    assert named.prior.tolist() == [0.25, 0.5, 0.25]  # type: ignore[union-attr]
    with pytest.raises(InputError, match="prior of class '2' must be > 0"):
        extract(model, (X, Y), train_labels=[0, 1])


def test_a_head_may_be_named() -> None:
    """Then what lies behind it does not matter; what is no head is refused."""
    model = Behind(HEAD, lambda z: 3 * z.abs())
    with pytest.raises(NoHead, match=r"comes from none of its linear layers.*other \(8 to 3\), head \(8 to 3\)"):
        extract(model, (X, Y))
    assert np.array_equal(got(model, (X, Y), head="head").features, features())  # type: ignore[arg-type]
    assert got(model, (X, Y), output_kind="logits").features is None
    for head, said in (("body.1", "is a ReLU"), ("tail", "has no layer 'tail'")):
        with pytest.raises(NoHead, match=said):
            extract(model, (X, Y), head=head)


def test_scores_without_features() -> None:
    """Logits as they are, probabilities as their logarithm; a single one as well."""
    cache = got(Behind(HEAD, lambda z: z.softmax(1)), (X, Y), output_kind="probabilities")
    expected = HEAD(torch.tensor(features())).log_softmax(1).detach().numpy()
    assert cache.features is None
    assert np.allclose(cache.logits, expected, atol=1e-5)
    one = got(Behind(ONE, lambda z: {"p": z.sigmoid()}), (X, Y > 0), output="p", output_kind="probabilities")
    margins = one.logits[:, 1] - one.logits[:, 0]
    assert np.allclose(margins, ONE(torch.tensor(features())).detach().numpy()[:, 0], atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision(dtype: str) -> None:
    """Features are float32 numbers of half precision, near those of full precision; logits are made in float64."""
    cache = got(Behind(HEAD, lambda z: z.softmax(1)), (X, Y), autocast=dtype)
    assert cache.features is not None
    assert cache.features.dtype == np.float32
    assert np.allclose(cache.features, features(), atol=0.03)
    half = torch.tensor(cache.features).to(getattr(torch, dtype)).float()
    assert np.array_equal(half.numpy(), cache.features)
    assert cache.weight is not None
    assert np.array_equal(cache.weight, HEAD.weight.detach().numpy())


def test_what_does_not_fit_is_named_with_its_batch() -> None:
    """The batch, the row, and what came."""
    model = Behind(HEAD, lambda z: z)
    broken, labels = X.clone(), Y.clone()
    broken[13, 0], labels[7] = float("nan"), -100
    cases: list[tuple[Any, dict[str, Any], type[InputError], str]] = [
        ((broken, Y), {}, NotFinite, r"batch 2: output\[3, 0\] of what the model returns must be finite, got nan"),
        ((X, labels), {}, UnknownLabel, r"batch 1: labels\[2\] must be an index from 0 to 2, got -100"),
        ((X, Y), {"classes": ["a", "b"]}, WrongShape, r"batch 0: 2 classes \(a, b\) but the model gives 3 logits"),
        ((X[:, :4], Y), {}, BadModel, r"batch 0: the model could not be run on 0: float32 \(4, 4\): mat1"),
        (X, {}, BadCache, "wanted \\(inputs, labels\\), got Tensor of shape \\(5, 5\\) alone"),
        (X, {"labels": Y[:3]}, WrongShape, r"batch 0: labels: wanted 5 entries, one per row, got shape \(3,\)"),
        ({"x": X, "y": Y}, {}, BadCache, "wanted labels under labels or label or targets or target, got x, y"),
        ((X, nn.functional.one_hot(Y)), {}, WrongShape, r"labels: wanted 5 entries, one per row, got shape \(5, 3\)"),
        ((X[:0], Y[:0]), {}, NoRows, "at least one row"),
        (DataLoader(X, shuffle=True), {"labels": Y}, BadCache, "shuffled"),  # type: ignore[arg-type]
    ]
    for data, options, kind, said in cases:
        with pytest.raises(kind, match=said):
            extract(model, data, batch_rows=5, **options)
    with pytest.raises(BadModel, match="sigmoid over 3 logits"):
        extract(Behind(HEAD, torch.sigmoid), (X, Y))


def test_a_cache_of_the_exported_graph_is_the_same(tmp_path: Path) -> None:
    """Features to float32, the very head, and logits within rounding; exported by torch as the demo does it."""
    model = nn.Sequential(
        nn.Linear(D, H), nn.GELU(), nn.Linear(H, H), nn.Tanh(), nn.Linear(H, K), nn.Softmax(-1)
    ).eval()
    file = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model, (X[:2],), dynamo=True, dynamic_shapes=({0: torch.export.Dim("rows")},), verbose=False
        )
    assert program is not None
    file.write_bytes(program.model_proto.SerializeToString())
    ours, theirs = got(model, (X, Y)), got(file, (X.numpy(), Y.numpy()))
    assert np.allclose(ours.features, theirs.features, rtol=1e-5, atol=1e-6)  # type: ignore[arg-type]
    assert np.array_equal(ours.weight, theirs.weight)  # type: ignore[arg-type]
    assert np.array_equal(ours.bias, theirs.bias)  # type: ignore[arg-type]
    assert np.allclose(ours.logits, theirs.logits, rtol=1e-5, atol=1e-6)
