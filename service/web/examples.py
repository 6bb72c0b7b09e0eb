"""Examples of request bodies and the groups of operations, for the OpenAPI document and the page that shows it."""

from typing import Any

_POINT = {"classes": ["clear", "sick"], "scale": [1.0, 1.0], "bias": [0.0, 1.5]}
_REASON = "recall held on the rows of October"

# By request type, each with its name on the page.
EXAMPLES: dict[str, dict[str, Any]] = {
    "PredictRequest": {
        "rows": {"model": "thyroid", "inputs": [[72.0, 30.0], [31.0, 1.2]], "operating_point": "sensitive"},
        "logits": {"model": "thyroid", "logits": [[0.3, -1.2]], "compare": ["argmax"]},
    },
    "CalibrateRequest": {
        "with a promise": {
            "model": "thyroid",
            "name": "sensitive",
            "metric": "precision",
            "constraints": ["recall >= 0.9"],
            "data": {"logits": [[0.2, -1.0], [0.1, 0.9], [1.5, -0.3]], "labels": ["clear", "sick", "clear"]},
        },
    },
    "RegisterRequest": {"scores alone": {"name": "risk", "classes": ["alive", "died"]}},
    "PublishRequest": {"a point": {"name": "sensitive", "point": _POINT}},
    "DefaultRequest": {"a point": {"operating_point": "sensitive@1", "reason": _REASON}},
    "RollbackRequest": {"back": {"reason": "too many alerts"}},
    "AliasRequest": {"a point": {"operating_point": "sensitive@1", "reason": _REASON}},
    "ApproveRequest": {"approve": {"reason": _REASON}},
    "StateRequest": {"a reason": {"reason": "replaced by sensitive@2"}},
    "OipRequest": {
        "rows": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [72.0, 30.0]}]},
    },
}

# By the beginning of the path; the first that fits counts.
_GROUPS = (
    ("/v2", "open inference protocol"),
    ("/health", "health"),
    ("/predict", "predictions"),
    ("/calibrate", "calibrations"),
    ("/jobs", "calibrations"),
    ("/audit", "records"),
    ("/decisions", "records"),
    ("/models/{model}/operating-points", "operating points"),
    ("/models/{model}/default", "defaults and aliases"),
    ("/models/{model}/aliases", "defaults and aliases"),
    ("/models/{model}/evaluate", "operating points"),
    ("/models", "models"),
)
TAGS = {
    "predictions": "Decide rows.",
    "calibrations": "Fit operating points on labelled rows, at once or as jobs.",
    "operating points": "Publish, look at, approve, shadow and retire operating points.",
    "defaults and aliases": "What answers a request that names nothing, and other names of points.",
    "models": "Register and look at models.",
    "records": "Who changed what, and what was decided.",
    "health": "Whether the server lives and is ready.",
    "open inference protocol": "The same models for clients of KServe, Triton and MLServer.",
}


def tag_of(path: str) -> str:
    """Return the group of an operation."""
    return next((tag for beginning, tag in _GROUPS if path.startswith(beginning)), "models")
