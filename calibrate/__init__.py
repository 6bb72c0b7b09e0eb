"""Fits operating points on cached last-layer features or logits, for a metric that the user names.

>>> import calibrate
>>> cache = calibrate.feature_cache(
...     logits=[-2.0, -1.5, 0.1, -1.0], labels=["clear", "clear", "fraud", "fraud"], classes=["clear", "fraud"]
... )
>>> calibrate.fit(cache, metric="f1", positive="fraud").point.bias.tolist()
[0.0, 1.25]
"""

from typing import TYPE_CHECKING, Any

from calibrate.cache import CacheStream, FeatureCache, feature_cache
from calibrate.curve import Curve, curve
from calibrate.errors import Infeasible, InputError, NotConverged, SetpointError
from calibrate.extraction.extract import extract
from calibrate.fit import FitResult, fit
from calibrate.io.files import read_cache, write_cache
from calibrate.logits import logits_from_probabilities
from calibrate.operating_point import OperatingPoint
from calibrate.state import bias_for_state, model_imbalance_state
from calibrate.streaming import fit_stream
from calibrate.uncertainty import Interval

if TYPE_CHECKING:
    from calibrate.io.parquet import open_cache
else:

    def __getattr__(name: str) -> Any:
        """`open_cache`, when it is first asked for: it imports pyarrow, which takes a while."""
        if name != "open_cache":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from calibrate.io.parquet import open_cache

        return open_cache


__all__ = [
    "CacheStream",
    "Curve",
    "FeatureCache",
    "FitResult",
    "Infeasible",
    "InputError",
    "Interval",
    "NotConverged",
    "OperatingPoint",
    "SetpointError",
    "bias_for_state",
    "curve",
    "extract",
    "feature_cache",
    "fit",
    "fit_stream",
    "logits_from_probabilities",
    "model_imbalance_state",
    "open_cache",
    "read_cache",
    "write_cache",
]
