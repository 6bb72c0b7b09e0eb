"""Choosing the epoch of a training run by what its operating point will reach, not by the plain model's metric."""

from calibrate.training.callbacks import hugging_face_callback, lightning_callback
from calibrate.training.selector import EpochSelector, Selection

__all__ = ["EpochSelector", "Selection", "hugging_face_callback", "lightning_callback"]
