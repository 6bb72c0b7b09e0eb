"""The heads that can be retrained, one row each: a way to a new last layer, its source, and what had to change here.

A trained head is a row of loss, sampler and options; a head that is written down is a function of the class means.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from calibrate.errors import UnknownMethod
from calibrate.heads.class_means import nearest_mean, nearest_mean_by_cosine
from calibrate.heads.trainer import Training

Means = Callable[
    [Float64[np.ndarray, "k d"]],
    tuple[Float64[np.ndarray, "k d"], Float64[np.ndarray, "k"]],
]


@dataclass(frozen=True)
class HeadMethod:
    """What a head is, whose it is, what differs from the paper, and how it is made: by training or from means."""

    title: str
    source: str
    changed: str
    training: Training | None = None
    from_means: Means | None = None


_KANG = "Kang et al., Decoupling representation and classifier for long-tailed recognition (2020), section 4"

HEADS: dict[str, HeadMethod] = {
    "crt": HeadMethod(
        "classifier retraining: a new head on the same features, every class drawn alike",
        _KANG,
        "features are cached, so no augmentation is redrawn; the mean over class-balanced draws is minimised whole, by "
        "L-BFGS to its minimum, where the paper runs SGD for ten epochs; the bias has no weight decay",
        Training("cross_entropy", "class_balanced"),
    ),
    "weighted_cross_entropy": HeadMethod(
        "a new head by cross-entropy that weighs each class by n / (k n_c)",
        "King & Zeng, Logistic regression in rare events data (2001); scikit-learn's class_weight='balanced'",
        "the head alone is trained; whole, its minimum is that of crt, in batches they differ by how rows are drawn",
        Training("weighted_cross_entropy", "instance"),
    ),
    "nearest_class_mean": HeadMethod(
        "the class whose mean feature is nearest",
        "Mensink et al., Distance-based image classification (2013), with the plain distance; " + _KANG,
        "distances to means of the cached features as linear logits 2 m.x - |m|^2; no metric is learned",
        from_means=nearest_mean,
    ),
    "nearest_class_mean_cosine": HeadMethod(
        "the class whose mean feature has the largest cosine",
        _KANG,
        "linear logits m.x / |m|: the cosine times |x|, which is the same for all classes of a row",
        from_means=nearest_mean_by_cosine,
    ),
}


def find_head(name: str) -> HeadMethod:
    """The row of that name. Raises: `UnknownMethod`."""
    if not isinstance(name, str) or name not in HEADS:
        raise UnknownMethod(f"head must be one of {', '.join(HEADS)}; got {str(name)[:100]!r}")
    return HEADS[name]


def training_of(name: str, options: Mapping[str, float | None]) -> Training | None:
    """How the head of that name is trained, with these options where they are given; None where it is not.

    Raises: `UnknownMethod` for an option that it has not, or a value that is none.
    """
    from dataclasses import replace

    given = {option: value for option, value in options.items() if value is not None}
    training = find_head(name).training
    if training is None:
        if given:
            raise UnknownMethod(f"head '{name}' is not trained, so it has no option '{next(iter(given))}'")
        return None
    for option, value in given.items():
        least = 0 if option in ("l2", "full_batch") else 1
        if (
            isinstance(value, bool)
            or not np.isfinite(value)
            or value < least
            or (option != "l2" and value != int(value))
        ):
            raise UnknownMethod(f"{option} must be a number of at least {least}, got {value}")
    return replace(training, **given)  # type: ignore[arg-type]
