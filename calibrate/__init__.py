"""Fits operating points on cached last-layer features or logits, for a metric that the user names.

>>> import calibrate
>>> cache = calibrate.feature_cache(
...     logits=[-2.0, -1.5, 0.1, -1.0], labels=["clear", "clear", "fraud", "fraud"], classes=["clear", "fraud"]
... )
>>> calibrate.fit(cache, metric="f1", positive="fraud").point.bias.tolist()
[0.0, 1.25]
"""

from typing import TYPE_CHECKING, Any

from calibrate.budget import decide_top
from calibrate.cache import CacheStream, FeatureCache, feature_cache
from calibrate.certify import Guarantee, allowed_misses, certifiable_rate, rows_needed
from calibrate.curve import Curve, curve
from calibrate.errors import Infeasible, InputError, NotConverged, SetpointError
from calibrate.extraction.estimator_cut import point_from_estimator
from calibrate.extraction.extract import extract
from calibrate.fit import fit
from calibrate.heads import RetrainedHead, retrain_head
from calibrate.io.files import read_cache, write_cache
from calibrate.io.score_tables import read_scores
from calibrate.logits import logits_from_probabilities
from calibrate.operating_point import OperatingPoint
from calibrate.reliability import CalibrationQuality, calibration_quality
from calibrate.result import FitResult
from calibrate.state import bias_for_state, model_imbalance_state
from calibrate.streaming import fit_stream
from calibrate.training import EpochSelector
from calibrate.uncertainty import Interval

if TYPE_CHECKING:
    from calibrate.io.export import export
    from calibrate.io.parquet import open_cache
else:
    _LATER = {"export": "calibrate.io.export", "open_cache": "calibrate.io.parquet"}

    def __getattr__(name: str) -> Any:
        """What imports onnx or pyarrow, which takes a while, when it is first asked for."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_LATER[name]), name)


__all__ = [
    "CacheStream",
    "CalibrationQuality",
    "Curve",
    "EpochSelector",
    "FeatureCache",
    "FitResult",
    "Guarantee",
    "Infeasible",
    "InputError",
    "Interval",
    "NotConverged",
    "OperatingPoint",
    "RetrainedHead",
    "SetpointError",
    "allowed_misses",
    "bias_for_state",
    "calibration_quality",
    "certifiable_rate",
    "curve",
    "decide_top",
    "export",
    "extract",
    "feature_cache",
    "fit",
    "fit_stream",
    "logits_from_probabilities",
    "model_imbalance_state",
    "open_cache",
    "point_from_estimator",
    "read_cache",
    "read_scores",
    "retrain_head",
    "rows_needed",
    "write_cache",
]
