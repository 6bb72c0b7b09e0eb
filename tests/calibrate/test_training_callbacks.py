"""The callbacks inside real trainers: small runs of Lightning and of Hugging Face's, where installed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibrate.errors import BadCache
from calibrate.training import EpochSelector, hugging_face_callback, lightning_callback

EPOCHS = 4
# These packages warn about themselves and their surroundings; what is tested here is the selection.
pytestmark = pytest.mark.filterwarnings("ignore")


def rows(seed: int, n: int) -> tuple[Any, Any]:
    """Features (n, 3) of two normals and rare positives."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 0, 1, 1], (rng.random(n - 4) < 0.15).astype(np.int64)])
    features = rng.normal(size=(n, 3)) + 1.2 * labels[:, np.newaxis]
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)


def check(selector: EpochSelector, model: Any, valid: tuple[Any, Any]) -> None:
    """One judgement per epoch, and the kept weights with the kept point give the kept value."""
    import torch
    from sklearn.metrics import f1_score

    found = selector.result()
    assert len(found.epochs) == EPOCHS
    assert found.best.value == max(epoch.adjusted for epoch in found.epochs)
    model.load_state_dict(found.best.state)
    with torch.no_grad():
        logits = model.head(valid[0].cpu()).numpy()
    assert f1_score(valid[1].numpy(), found.best.point.decide(logits)) == pytest.approx(found.best.value)
    assert 0 < found.share < 1


def test_lightning() -> None:
    """Logits come from `validation_step`; the sanity check does not count; the values are logged."""
    pytest.importorskip("lightning", reason="lightning is not installed: pip install lightning")
    import lightning.pytorch as pl
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    class Module(pl.LightningModule):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(3, 2)

        def training_step(self, batch: Any, _: int) -> Any:
            return torch.nn.functional.cross_entropy(self.head(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> Any:
            return {"logits": self.head(batch[0]), "labels": batch[1]}

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=0.05)

    torch.manual_seed(0)
    train, valid = rows(0, 200), rows(1, 120)
    selector, model = EpochSelector("f1", classes=["no", "yes"]), Module()
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=[lightning_callback(selector)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loaders = [DataLoader(TensorDataset(*part), batch_size=32) for part in (train, valid)]
    trainer.fit(model, *loaders)
    check(selector, model, valid)
    assert float(trainer.callback_metrics["adjusted_f1"]) == pytest.approx(selector.result().epochs[-1].adjusted)
    trainer.validate(model, loaders[1], verbose=False)
    assert len(selector.result().epochs) == EPOCHS


def test_hugging_face(tmp_path: Path) -> None:
    """Logits come from `compute_metrics`; the values are among the metrics, and can name the best checkpoint."""
    pytest.importorskip("transformers", reason="transformers is not installed: pip install transformers accelerate")
    pytest.importorskip("accelerate", reason="accelerate is not installed: pip install transformers accelerate")
    import torch
    from transformers import Trainer, TrainingArguments

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(3, 2)

        def forward(self, features: Any, labels: Any = None) -> Any:
            logits = self.head(features)
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    torch.manual_seed(0)
    train, valid = rows(0, 200), rows(1, 120)
    sets = [[{"features": x, "labels": y} for x, y in zip(*part, strict=True)] for part in (train, valid)]
    model = Model()
    selector = EpochSelector("f1", classes=["no", "yes"])
    callback = hugging_face_callback(selector)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path),
            num_train_epochs=EPOCHS,
            eval_strategy="epoch",
            save_strategy="best",
            metric_for_best_model="adjusted_f1",
            greater_is_better=True,
            learning_rate=0.05,
            per_device_train_batch_size=32,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=sets[0],
        eval_dataset=sets[1],
        callbacks=[callback],
        compute_metrics=callback.compute_metrics,
    )
    trainer.train()
    assert trainer.state.best_metric == pytest.approx(selector.result().best.value)
    check(selector, model, valid)
    assert [epoch.epoch for epoch in selector.result().epochs] == [1, 2, 3, 4]
    assert "eval_adjusted_f1" not in trainer.evaluate()
    assert len(selector.result().epochs) == EPOCHS


def test_what_lightning_cannot_give_is_named() -> None:
    """Outputs without logits."""
    from calibrate.training.callbacks import _from_mapping

    with pytest.raises(BadCache, match="logits and labels, or pass read="):
        _from_mapping(None, None)
