"""Logit adjustment: the bias `-tau log(prior)`, with tau fitted for the metric on the fitting rows, or given.

In two classes with unequal priors every cut is some tau, so the best tau is read off the exact sweep. In more, tau is
searched on a fine grid from 0 to 4 (which holds argmax and the published tau = 1) and then placed in the middle of the
stretch around it in which no row changes its decision.

Source: Menon et al., "Long-tail learning via logit adjustment" (2021), eq. 9 (the post-hoc form).
"""

import numpy as np
from jaxtyping import Float64

from calibrate.errors import UndefinedMetric, UnknownMethod
from calibrate.methods.task import Fitted, Task, exact_cut
from calibrate.operating_point import OperatingPoint
from calibrate.search import bias_value

_GRID = np.linspace(0.0, 4.0, 401)


def fit_logit_adjustment(task: Task) -> Fitted:
    """The bias `-tau log(prior)`. Raises: `MissingPrior`, `UndefinedMetric`, `UnknownMethod` for a bad tau."""
    log_prior = np.log(task.needed_prior())
    tau = task.tau
    if tau is None:
        tau = _cut_tau(task, log_prior) if len(task.classes) == 2 else _swept_tau(task, log_prior)
    elif not np.isfinite(tau):
        raise UnknownMethod(f"tau must be a finite number, got {tau}")
    point = OperatingPoint(task.classes, np.ones(log_prior.size), -tau * log_prior)
    return Fitted(point, {"tau": float(tau)}, rows_had_a_say=task.tau is None)


def _cut_tau(task: Task, log_prior: Float64[np.ndarray, "2"]) -> float:
    """The tau whose bias is the exact cut; 0 where the two priors are equal, because then no tau moves anything."""
    spread = float(log_prior[1] - log_prior[0])
    cut = exact_cut(task).at()
    return cut / spread if spread else 0.0


def _swept_tau(task: Task, log_prior: Float64[np.ndarray, "k"]) -> float:
    logits = task.logits.astype(np.float64)
    values = np.array([bias_value(logits, task.labels, task.metric, -tau * log_prior) for tau in _GRID])
    if np.isneginf(values).all():
        raise UndefinedMetric(f"metric '{task.metric.name}' is undefined (0/0) at every tau from 0 to 4")
    best = float(_GRID[values.argmax()])
    middle = _middle_of_stretch(logits, log_prior, best)
    reached = bias_value(logits, task.labels, task.metric, -middle * log_prior)
    return middle if reached >= values.max() else best


def _middle_of_stretch(logits: Float64[np.ndarray, "n k"], log_prior: Float64[np.ndarray, "k"], tau: float) -> float:
    """The middle of the taus around this one, kept within 0 to 4, at which every row keeps its decision.

    A row's winner w meets class c where `z_w - z_c = tau (log prior_w - log prior_c)`.
    """
    rows = np.arange(logits.shape[0])
    winners = (logits - tau * log_prior).argmax(axis=1)
    leads = logits[rows, winners][:, np.newaxis] - logits
    slopes = log_prior[winners][:, np.newaxis] - log_prior
    meetings = np.full(leads.shape, np.nan)
    np.divide(leads, slopes, out=meetings, where=slopes != 0)
    lower = np.max(meetings, where=(slopes < 0) & (meetings <= tau), initial=_GRID[0])
    upper = np.min(meetings, where=(slopes > 0) & (meetings >= tau), initial=_GRID[-1])
    return float((lower + upper) / 2)
