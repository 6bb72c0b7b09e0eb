"""Whether two caches can be of one model: by their classes, their origins, their heads and the width of their features.

Decided here: what differs is refused. Equal heads are taken for one model. Where neither cache says which model made
its rows there is nothing to compare and no warning; where one of them does, the doubt is a warning.
"""

import numpy as np

from calibrate.cache import FeatureCache
from calibrate.errors import BadCache, OtherModel
from calibrate.origin import doubt_of


def model_doubt(one: FeatureCache, other: FeatureCache, names: tuple[str, str]) -> str | None:
    """Return a warning where it is unknown whether one model made both caches, called `names`; None where it did.

    `replace(cache, origin=None)` takes away what a cache says of its origin. Raises: `BadCache` for other classes,
    `OtherModel`.
    """
    if one.classes != other.classes:
        raise BadCache(
            f"{names[0]} has classes {', '.join(one.classes[:20])}, wanted {', '.join(other.classes[:20])} as in "
            f"{names[1]}"
        )
    doubt = doubt_of(one.origin, other.origin, names)
    if doubt is None:
        return None
    if one.features is not None and other.features is not None:
        widths = one.features.shape[1], other.features.shape[1]
        if widths[0] != widths[1]:
            raise OtherModel(
                f"{names[0]} and {names[1]} are of different models: their features have {widths[0]} and {widths[1]} "
                "columns"
            )
    if one.weight is not None and other.weight is not None:
        if not _same_head(one, other):
            raise OtherModel(f"{names[0]} and {names[1]} are of different models: their heads, weight and bias, differ")
        return None
    return None if one.origin is None and other.origin is None else doubt


def _same_head(one: FeatureCache, other: FeatureCache) -> bool:
    pairs = ((one.weight, other.weight), (one.bias, other.bias))
    return all(
        ours is not None and theirs is not None and ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=1e-3)
        for ours, theirs in pairs
    )
