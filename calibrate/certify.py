"""What so many rows can promise: the exact numbers behind a guarantee, and the value that records one.

A share of rows is certified at a bound when errors as few as those seen would have been unlikely (at most 1 less the
confidence) had the true share been at the bound. That is a binomial test, exact for any model and any distribution. The
promise "on average" is another, looser one: the share missed by the next row, averaged over fitting sets as well, is
within the bound. How many fitting sets break it is known: with k of n rows missed, the share missed of all rows is
Beta(k + 1, n - k), so at most P(Beta(n - k, k + 1) < rate) of them, `Guarantee.risk`: 0.9 on average is broken by up to
39 % of fits with 9 rows, 15 % with 18 (none missed either), 45 % with 100 and nearly half with more. Every function
here takes a confidence, or None for that.

Bounds and confidences are decimals that somebody wrote: they are subtracted from 1 as such, since 1 - 0.9 in binary is
less than 0.1, which would refuse the nine rows that are enough for 0.9 on average.

Sources: Scheffe & Tukey (1944) on order statistics; Tong, Feng & Li, "Neyman-Pearson classification algorithms and NP
receiver operating characteristics" (2018), proposition 1; Angelopoulos et al., "Conformal risk control" (2024).
"""

import math
from bisect import bisect_right
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from calibrate.counts import Values
from calibrate.uncertainty import Interval

Rule = Literal["order statistic", "learn then test"]
Unit = Literal["rows", "groups"]


@dataclass(frozen=True)
class Guarantee:
    """A promise about new rows of the same distribution, and what it rests on.

    `kind` says which promise: `confidence` (it holds for the fitted point, in all but 1 - `confidence` of fitting
    sets) or `average` (it holds on average over fitting sets, and `confidence` is None). `rule` made it, on `rows`
    trials of a kind `unit`, of which `errors_seen` went wrong at the point and `errors_allowed` may. `value` is the
    share measured on those. All guarantees of a point hold together with the confidence `held_together`.
    """

    constraint: str
    metric: str
    at_least: bool
    bound: float
    kind: Literal["confidence", "average"]
    confidence: float | None
    rule: Rule
    unit: Unit
    rows: int
    errors_allowed: int
    errors_seen: int
    value: float
    held_together: float | None

    @property
    def interval(self) -> Interval:
        """From the bound to the end of the scale, `certified`; its confidence is NaN where it holds on average."""
        low, high = (self.bound, 1.0) if self.at_least else (0.0, self.bound)
        confidence = math.nan if self.confidence is None else self.confidence
        return Interval(self.value, low, high, confidence, self.rows, "certified")

    @property
    def risk(self) -> float:
        """The share of fits that break the bound, at most: within 1 - `confidence` where it has one."""
        return p_value(self.errors_allowed, self.rows, self.bound if self.at_least else complement(self.bound))

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, with the certified interval; None for NaN."""
        interval = self.interval.to_dict()
        return {
            **asdict(self),
            "value": interval["value"],
            "interval": {**interval, "confidence": self.confidence},
        }


def complement(share: float) -> float:
    """1 less a share that was written as a decimal: 0.1 for 0.9."""
    return float(1 - Fraction(repr(float(share))))


def tail(errors: Values, trials: Values, rate: float) -> Values:
    """P(Binomial(trials, 1 - rate) <= errors): the exact p-value of "the true rate is below `rate`", where so few
    errors came; 1 where there are no trials. Expected numbers need not be whole.
    """
    from scipy.special import betainc  # see `uncertainty.clopper_pearson`

    right = np.maximum(trials - errors, 0.0)
    return np.where(right > 0, betainc(np.where(right > 0, right, 1.0), errors + 1.0, rate), 1.0)


def p_value(errors: int, trials: int, rate: float) -> float:
    """`tail` of one number of errors.

    >>> p_value(0, 59, 0.95) <= 0.05 < p_value(0, 58, 0.95)
    True
    """
    return float(tail(np.asarray(float(errors)), np.asarray(float(trials)), rate))


def allowed_misses(n: int, rate: float, confidence: float | None = 0.95) -> int:
    """How many of n rows may be missed where a rate of at least `rate` is to be promised; -1 where n is too small.

    The largest k with P(Binomial(n, 1 - rate) <= k) <= 1 - confidence; on average with (k + 1) / (n + 1) <= 1 - rate.

    >>> [allowed_misses(n, 0.9) for n in (28, 29, 50, 100)], allowed_misses(9, 0.9, None)
    ([-1, 0, 1, 4], 0)
    """
    if confidence is None:
        return min(math.floor((n + 1) * (1 - Fraction(repr(float(rate))))), n) - 1
    return bisect_right(range(n), complement(confidence), key=lambda k: p_value(k, n, rate)) - 1


def rows_needed(rate: float, confidence: float | None = 0.95) -> int | None:
    """The fewest rows that can promise `rate`, none of them missed; None for a rate of 1, which none can.

    >>> [rows_needed(rate) for rate in (0.8, 0.9, 0.95, 0.99)]
    [14, 29, 59, 299]
    """
    if rate >= 1:
        return None
    if rate <= 0:
        return 1
    if confidence is None:
        return max(1, math.ceil(1 / (1 - Fraction(repr(float(rate))))) - 1)
    n = max(1, math.ceil(math.log(complement(confidence)) / math.log(rate)))
    while n > 1 and allowed_misses(n - 1, rate, confidence) >= 0:
        n -= 1
    while allowed_misses(n, rate, confidence) < 0:
        n += 1
    return n


def certifiable_rate(n: int, confidence: float | None = 0.95, errors: int = 0) -> float:
    """The best rate that n rows can promise with so many of them missed; 0 where all are.

    >>> round(certifiable_rate(31), 3), certifiable_rate(9, None)
    (0.908, 0.9)
    """
    from scipy.special import betaincinv

    if errors >= n:
        return 0.0
    if confidence is None:
        return (n - errors) / (n + 1)
    return float(betaincinv(n - errors, errors + 1, complement(confidence)))


def units_of(values: NDArray[Any], groups: Int[np.ndarray, "n"] | None, worst: np.ufunc) -> NDArray[Any]:
    """One value for each row, or for each group the worst of its rows; `worst` is a ufunc such as np.minimum."""
    if groups is None or not values.size:
        return values
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order[0]] - 1))
    reduced: NDArray[Any] = worst.reduceat(values[order], starts)
    return reduced
