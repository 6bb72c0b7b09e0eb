"""Other names of the metrics in the table: scikit-learn's, and those of medicine and of signal detection.

Decided here: an alias is read and never written. Results, reports and replies use the name in the table, so that the
same metric has one name wherever two fits are compared. Names are case-sensitive, as in the table.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from calibrate.metrics import FORMS, METRICS

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "accuracy_score": "accuracy",
        "acc": "accuracy",
        "zero_one_loss": "error_rate",
        "balanced_accuracy_score": "balanced_accuracy",
        "balanced_acc": "balanced_accuracy",
        "precision_score": "precision",
        "ppv": "precision",
        "positive_predictive_value": "precision",
        "recall_score": "recall",
        "sensitivity": "recall",
        "tpr": "recall",
        "true_positive_rate": "recall",
        "hit_rate": "recall",
        "tnr": "specificity",
        "true_negative_rate": "specificity",
        "selectivity": "specificity",
        "negative_predictive_value": "npv",
        "false_positive_rate": "fpr",
        "fall_out": "fpr",
        "false_negative_rate": "fnr",
        "miss_rate": "fnr",
        "f1_score": "f1",
        "f2": "fbeta(2)",
        "f2_score": "fbeta(2)",
        "f0.5": "fbeta(0.5)",
        "f05": "fbeta(0.5)",
        "fbeta_score": "fbeta",
        "gmean": "g_mean",
        "geometric_mean_score": "g_mean",
        "matthews_corrcoef": "mcc",
        "cohen_kappa": "kappa",
        "cohen_kappa_score": "kappa",
        "youden_j": "youden",
        "informedness": "youden",
    }
)
SCORES = ("auc", "roc_auc", "roc_auc_score", "average_precision", "pr_auc", "log_loss", "brier", "brier_score")


class CanonicalName(NamedTuple):
    """A metric's name in the table, the form of its mean over the classes, and the arguments of an alias like `f2`."""

    metric: str
    form: str | None
    arguments: str | None = None

    @property
    def text(self) -> str:
        """The name with its form, as `recall_macro`."""
        return self.metric if self.form is None else f"{self.metric}_{self.form}"


def canonical_name(name: str) -> CanonicalName | None:
    """Return what a name is called in the table; None where it is not a metric's name.

    A form stands behind the name or before it: `f1_macro` and `macro_f1` are the same.

    >>> canonical_name("macro_f2")
    CanonicalName(metric='fbeta', form='macro', arguments='2')
    """
    if (whole := _in_table(name, None)) is not None:
        return whole
    stem, _, form = name.rpartition("_")
    if form in FORMS:
        return _in_table(stem, form)
    form, _, stem = name.partition("_")
    return _in_table(stem, form) if form in FORMS else None


def known_names() -> list[str]:
    """Return every name and alias, without forms, for the nearest one to a name that is none."""
    return [*METRICS, *ALIASES]


def _in_table(name: str, form: str | None) -> CanonicalName | None:
    if name in METRICS:
        return CanonicalName(name, form)
    if name not in ALIASES:
        return None
    metric, _, arguments = ALIASES[name].partition("(")
    return CanonicalName(metric, form, arguments.removesuffix(")") or None)
