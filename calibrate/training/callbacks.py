"""`EpochSelector` inside Lightning and inside the Hugging Face Trainer: neither runs the model once more than it did.

Decided here: both packages are imported when a callback is asked for, since their classes must be inherited from. The
logits are those that the validation loop makes anyway: what `validation_step` returns in Lightning, what
`compute_metrics` is given in the Trainer.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from calibrate.errors import BadCache
from calibrate.training.selector import Epoch, EpochSelector, kept, to_host

Read = Callable[[Any, Any], tuple[Any, Any]]


def lightning_callback(selector: EpochSelector, read: Read | None = None) -> Any:
    """A Lightning `Callback` that judges every epoch on its validation rows and keeps the best `state_dict`.

    `read(outputs, batch)` gives the logits and labels of one batch from what `validation_step` returned; without it
    `validation_step` must return a mapping with `logits` and `labels`. `adjusted_<metric>` and `plain_<metric>` are
    logged. The sanity check before training is left out. The validation loader must not shuffle, on one device.

    Raises: `ImportError` where neither `lightning` nor `pytorch_lightning` is installed.
    """
    try:
        from lightning.pytorch import Callback
    except ImportError:
        from pytorch_lightning import Callback

    read_batch = _from_mapping if read is None else read

    class EpochSelectorCallback(Callback):  # type: ignore[misc, unused-ignore]
        """After each validation epoch: `selector.after_epoch`."""

        def __init__(self) -> None:
            self.selector = selector
            self._logits: list[Any] = []
            self._labels: list[Any] = []

        def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            if trainer.world_size > 1:
                raise BadCache(f"the epoch selector sees the rows of one device, the trainer has {trainer.world_size}")
            self._logits, self._labels = [], []

        def on_validation_batch_end(
            self,
            trainer: Any,
            pl_module: Any,  # noqa: ARG002
            outputs: Any,
            batch: Any,
            batch_idx: int,  # noqa: ARG002
            dataloader_idx: int = 0,
        ) -> None:
            if trainer.sanity_checking or dataloader_idx:
                return
            logits, labels = read_batch(outputs, batch)
            self._logits.append(np.asarray(to_host(logits)))
            self._labels.append(np.asarray(to_host(labels)))

        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.sanity_checking or trainer.state.fn != "fit" or not self._logits:
                return
            epoch = selector.after_epoch(
                trainer.current_epoch,
                np.concatenate(self._logits),
                np.concatenate(self._labels),
                state=lambda: kept(pl_module.state_dict()),
            )
            pl_module.log_dict(_named(selector, epoch))

    return EpochSelectorCallback()


def hugging_face_callback(selector: EpochSelector) -> Any:
    """A `TrainerCallback` whose method `compute_metrics` must also be given to the Trainer.

    Every evaluation during training counts as an epoch; `eval_adjusted_<metric>` and `eval_plain_<metric>` are
    reported, so `metric_for_best_model="adjusted_<metric>"` keeps the checkpoints that the selector would. An
    evaluation after the training reports the plain metric alone and changes nothing.

    Raises: `ImportError` where `transformers` is not installed.

    Example::

        callback = hugging_face_callback(selector)
        Trainer(..., callbacks=[callback], compute_metrics=callback.compute_metrics)
    """
    from transformers import TrainerCallback

    class EpochSelectorCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
        """Knows the model and the epoch while there is training."""

        def __init__(self) -> None:
            self.selector = selector
            self._model: Any = None
            self._state: Any = None

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
            if getattr(args, "world_size", 1) > 1:
                raise BadCache(f"the epoch selector sees the rows of one process, the trainer has {args.world_size}")
            self._model, self._state = model, state

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
            self._model = self._state = None

        def compute_metrics(self, prediction: Any) -> dict[str, float]:
            """The metric under the epoch's own point and of the plain model."""
            logits = prediction.predictions
            logits = logits[0] if isinstance(logits, tuple) else logits
            if self._model is None:
                return {}
            model, state = self._model, self._state
            epoch = selector.after_epoch(
                state.epoch, logits, prediction.label_ids, state=lambda: kept(model.state_dict())
            )
            return _named(selector, epoch)

    return EpochSelectorCallback()


def _named(selector: EpochSelector, epoch: Epoch) -> dict[str, float]:
    name = selector.metric if isinstance(selector.metric, str) else getattr(selector.metric, "__name__", "metric")
    return {f"adjusted_{name}": epoch.adjusted, f"plain_{name}": epoch.plain}


def _from_mapping(outputs: Any, batch: Any) -> tuple[Any, Any]:  # noqa: ARG001 (a user's own reading may need the batch)
    if not isinstance(outputs, Mapping) or not {"logits", "labels"} <= outputs.keys():
        raise BadCache("validation_step must return a mapping with logits and labels, or pass read=")
    return outputs["logits"], outputs["labels"]
