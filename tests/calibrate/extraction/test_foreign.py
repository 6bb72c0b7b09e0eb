"""Models as they come from Hugging Face, timm and Lightning: small configurations with random weights."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from calibrate import FeatureCache, extract

N, K = 6, 3
Y = torch.arange(N) % K
TOKENS = torch.randint(3, 60, (N, 9), generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(9) < torch.tensor([9, 3, 7, 5, 9, 4])[:, None]).long()
PICTURES = torch.randn(N, 3, 32, 32, generator=torch.Generator().manual_seed(0))
TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TEXTS: dict[str, dict[str, Any]] = {
    "Bert": TINY, "Roberta": TINY, "Electra": TINY, "DebertaV2": TINY, "ModernBert": TINY | {"pad_token_id": 0},
    "DistilBert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "pad_token_id": 0},
    "Llama": TINY | {"pad_token_id": 0}, "Qwen2": TINY | {"num_key_value_heads": 2, "pad_token_id": 0},
}  # fmt: skip
IMAGES: dict[str, dict[str, Any]] = {
    "ViT": TINY | {"image_size": 32, "patch_size": 16},
    "Swin": {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2],
             "window_size": 4},
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "ConvNext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "MobileNetV2": {"image_size": 32, "depth_multiplier": 0.35},
}  # fmt: skip
TIMM = [
    "resnet10t", "vit_tiny_patch16_224", "convnext_atto", "mobilenetv3_small_050", "efficientnet_b0",
    "xcit_nano_12_p8_224",
]  # fmt: skip


def checked(model: Any, data: Any, expected: torch.Tensor, **options: Any) -> FeatureCache:
    """The cache, whose logits are what the model gives."""
    cache = extract(model, data, **options)
    assert isinstance(cache, FeatureCache)
    assert cache.features is not None
    assert np.allclose(cache.logits, expected.detach().float().numpy(), atol=1e-4)
    assert cache.labels.tolist() == Y.tolist()
    return cache


def transformers_model(name: str, kind: str, options: dict[str, Any]) -> Any:
    """A model of Hugging Face, in training mode as it is after training."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**options, num_labels=K)
    return getattr(transformers, f"{name}For{kind}Classification")(config).train()


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.filterwarnings("ignore")
def test_sequence_classifiers(name: str) -> None:
    """Rows of dicts with labels, padded; of decoders the last token that is no padding gives the features."""
    model = transformers_model(name, "Sequence", TEXTS[name] | {"vocab_size": 60})
    tokens = TOKENS * MASK
    data: Any = [{"input_ids": i, "attention_mask": m, "labels": y} for i, m, y in zip(tokens, MASK, Y, strict=True)]
    cache = checked(model, DataLoader(data, batch_size=4), model.eval()(input_ids=tokens, attention_mask=MASK).logits)
    assert cache.classes == ("0", "1", "2")
    model.config.id2label = {0: "bad", 1: "fair", 2: "good"}
    half = extract(model, {"input_ids": tokens, "attention_mask": MASK, "labels": Y}, autocast="bfloat16")
    assert isinstance(half, FeatureCache)
    assert half.classes == ("bad", "fair", "good")
    assert np.abs(half.logits - cache.logits).max() < 0.1


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.filterwarnings("ignore")
def test_image_classifiers(name: str) -> None:
    """A Dataset of dicts."""
    model = transformers_model(name, "Image", IMAGES[name])
    data: Any = [{"pixel_values": x, "labels": y} for x, y in zip(PICTURES, Y, strict=True)]
    checked(model, DataLoader(data, batch_size=4), model.eval()(pixel_values=PICTURES).logits)


@pytest.mark.parametrize("name", TIMM)
@pytest.mark.filterwarnings("ignore")
def test_timm_models(name: str) -> None:
    """Arrays, with the head that the library made for the number of classes."""
    timm = pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    size = {"img_size": 32} if name.startswith(("vit", "xcit")) else {}
    model = timm.create_model(name, num_classes=K, **size)
    checked(model, (PICTURES.numpy(), Y.numpy()), model.eval()(PICTURES))


@pytest.mark.filterwarnings("ignore")
def test_lightning_modules() -> None:
    """A module that logs, with its loader."""
    if find_spec("lightning") is None:
        pytest.skip("lightning is not installed")
    import lightning

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 8), torch.nn.ReLU())
            self.head = torch.nn.Linear(8, K)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Log-probabilities."""
            return self.head(self.net(x)).log_softmax(-1)  # type: ignore[no-any-return]

    model = Module()
    loader = DataLoader(torch.utils.data.TensorDataset(PICTURES, Y), batch_size=4)
    checked(model, loader, model.head(model.net(PICTURES)))
