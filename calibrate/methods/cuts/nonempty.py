"""The probability that a cut decides nobody in a new sample, and the committee's cut moved until that is rare.

With a handful of positives the best cut may lie so high that a new sample of the same size has no row above it: no
alert, recall 0, F1 0. The number of new rows above a cut is Poisson around an unknown rate. The rows seen above it,
counted on the kernel-smoothed classes of `smoothed` (the plain count is too high: the cut was chosen on these rows),
are m; with Jeffreys' prior the rate is Gamma(m + 1/2, 1), and no new row is above with probability 2^-(m + 1/2).

Checked on twelve shapes of drawn scores (`tests.benchmarks.shapes`) at 1 to 10 % of positives: with 3, 5, 8 and 12
positives the committee's cuts decide nobody in 6.4, 2.4, 0.45 and 0.06 % of new samples, and this says 7.4, 2.9, 0.64
and 0.14 %; of exact cuts 9.1, 4.5, 1.4 and 0.5 %, and this says 9.7, 4.5, 1.4 and 0.6 %. Rejected: e^-m, which ignores
that m is uncertain (5.0, 1.4, 0.21 and 0.03 %), and the plain count in place of m (9.5, 4.0, 1.0 and 0.3 %).

`nonempty` lowers the committee's cut to the highest one at which that probability is 1 %. Mean population F1 on those
shapes is .406 against the committee's .438 with 3 positives, .449 against .449 with 5 and .464 against .463 with 8; the
true probability comes to 0.7, 0.4 and 0.3 %. Rejected: a cut just below the highest positive or midway between the
first two (6.2 % with 3 positives), below the second (4.6 %, F1 .419), and at the sixth highest row (0.7 %, F1 .396).

Source: Jeffreys' prior of a Poisson rate, Gelman et al., "Bayesian data analysis" (2013), sections 2.6 and 2.8.
"""

import numpy as np
from jaxtyping import Float64

from calibrate.methods.cuts.committee import gap_around, inside
from calibrate.methods.cuts.smoothed import Side, sides_and_widths
from calibrate.sweep import Rows

MAX_DECIDES_NONE = 0.01
_NEVER = 64  # rows above a cut from which on the probability is 0 to every digit that anyone reads
_TOLERANCE = 1e-6  # keeps the root on the side where the probability is at most 1 %
_REACH = 10.0  # widths beyond the outermost rows, where a smoothed class ends


def decides_none(rows: Rows, at: float) -> float:
    """Return the probability that of as many new rows, drawn as these were, none is decided as the rarer class.

    That is none above the cut where positives are rarer, else none below. Weighted rows count as their effective
    number. Rows are taken as independent, those of one group too.
    """
    rows, sign = _towards_rarer(rows)
    at *= sign
    if rows.weights is None and int((rows.margins > np.float64(at)).sum()) >= _NEVER:
        return 0.0
    return _probability(*sides_and_widths(rows), at)


def keep_nonempty(rows: Rows, wanted: float) -> tuple[float, str | None]:
    """Return the cut nearest to the wanted one at which the probability to decide nobody is at most 1 %.

    It is lower where positives are the rarer class, else higher. The second value is a note if the cut was moved.
    """
    from scipy.optimize import brentq

    rows, sign = _towards_rarer(rows)
    wanted *= sign
    sides, widths = sides_and_widths(rows)

    def excess(at: float) -> float:
        return float(np.log(max(_probability(sides, widths, at), 1e-300) / MAX_DECIDES_NONE))

    if excess(inside(gap_around(rows, wanted), wanted)) <= 0:
        return sign * wanted, None
    lowest = float(rows.margins.min()) - _REACH * max(*widths, 1.0)
    if excess(lowest) > 0:
        return sign * lowest, "nonempty: the rows are too few for any cut to decide nobody in at most 1 % of samples"
    at = brentq(lambda at: excess(at) + _TOLERANCE, lowest, wanted) if excess(wanted) > 0 else wanted
    if excess(inside(gap_around(rows, at), at)) > 0:  # there the cut is higher, kept off the lower end of its gap
        at = np.nextafter(gap_around(rows, at).lower, -np.inf)
    return sign * float(at), "nonempty: moved, since the committee's cut decides nobody in over 1 % of new samples"


def _towards_rarer(rows: Rows) -> tuple[Rows, float]:
    """The rows with the rarer class as the positive one, and the sign of their margins."""
    if 2 * int(rows.is_positive.sum()) <= rows.margins.size:
        return rows, 1.0
    return Rows(-rows.margins, ~rows.is_positive, rows.weights), -1.0


def _probability(sides: list[Side], widths: list[float], at: float) -> float:
    weight = sum(float(side.weights @ _above(side, width, at)) for side, width in zip(sides, widths, strict=True))
    squares = sum(float(side.weights**2 @ _above(side, width, at)) for side, width in zip(sides, widths, strict=True))
    if not squares > 0:
        return float(2**-0.5)
    total, rows = sum(float(side.weights.sum()) for side in sides), sum(side.weights.size for side in sides)
    effective, new = weight**2 / squares, rows * weight / total
    return float((effective / (effective + new)) ** (effective + 0.5))


def _above(side: Side, width: float, at: float) -> Float64[np.ndarray, "n"]:
    """The share of each row's kernel that is above the cut."""
    from scipy.special import ndtr  # takes 0.4 s to import, and a server is ready before it needs it

    return np.asarray(ndtr((side.margins - at) / width) if width > 0 else (side.margins > at).astype(np.float64))
