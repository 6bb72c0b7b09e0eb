"""Rules that place a cut where positives are few, one a file, and the table that names them.

A rule is a function from the rows of a two-class task, their margins pointing towards the positive class, and an
objective to a place on the margin. The best cut of the very rows (`exact`) is what most follows their chance; these
lean on something else beside:

- `bagged` on what other rows might as well have been drawn: the mean best cut of bootstrap draws;
- `smoothed` on margins that lie smoothly around those seen: the best cut of kernel-smoothed classes;
- `expected` on the model: the best cut in expectation under its own probabilities, as they are, without the labels.

The committee for the G-mean has a fourth member up to 20 rows of the rarer class: `expected` behind Platt's map. On
drawn scores it takes the mean regret from .0240 to .0138 with 3 positives, from .0108 to .0068 with 6, from .0058 to
.0043 with 12 and changes nothing with 25; with 100 it is worse (.0013 against .0004). On 77 KEEL sets x 5 seeds the
G-mean gains .0057 +- .0021 with fewer than 10 validation positives, .0010 +- .0017 with 10 to 20. For F1 it does not
gain (-.0009 +- .0019 on KEEL), so there it is left out.

The default is the median of these, a committee: it forgives a rule that breaks, of which each has a case (smoothing
where most margins are one spike, expectation where a model is far off). Measured as mean held-out F1 and G-mean less
those of the exact cut, logistic regression: 77 KEEL sets x 10 seeds +0.009 and +0.010, 39 medical, fraud and hospital
tasks x 4 to 8 seeds +0.008 and +0.009, both beyond chance over sets (Wilcoxon, p < 1e-5); in the same places the
decimal search lost 0.012 and 0.011, 0.004 and 0.003, and scikit-learn's grid gained -0.001 and +0.003, +0.001 and 0.
With class weights, networks, forests and naive Bayes on the KEEL sets the committee gained 0.005 to 0.013.

Tried and rejected: Platt's map before the expectation for other metrics and more positives, and a map chosen by
cross-fitted log loss or BIC (worse on all groups: few positives do not carry two parameters); the decimal search as a
fourth member (worse by 0.002 to 0.004); smoothing that is bagged too, or on ranks (no gain in the committee); choosing
a rule by cross-fitting (worse than the committee: the choice follows the same few rows). So `auto` is the default by
another name.
"""

from collections.abc import Callable

from calibrate.methods.cuts.bagged import bagged_cut
from calibrate.methods.cuts.expected import expected_cut, platt_expected_cut
from calibrate.methods.cuts.smoothed import smoothed_cut
from calibrate.objective import Objective
from calibrate.sweep import Rows

__all__ = ["MAX_POSITIVES_OF_PLATT", "RULES", "Rule", "committee_rules"]

MAX_POSITIVES_OF_PLATT = 20

Rule = Callable[[Rows, Objective], float]
RULES: dict[str, Rule] = {"bagged": bagged_cut, "smoothed": smoothed_cut, "expected": expected_cut}


def committee_rules(rows: Rows, objective: Objective) -> dict[str, Rule]:
    """Return the members of the committee by name: the rules, for the G-mean with few rows of a class Platt's too."""
    positives = int(rows.is_positive.sum())
    few = min(positives, rows.margins.size - positives) <= MAX_POSITIVES_OF_PLATT
    return {**RULES, "platt": platt_expected_cut} if few and objective.metric.name == "g_mean" else RULES
