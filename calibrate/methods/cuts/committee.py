"""A committee: the median of what several rules say, kept to what the rows themselves allow.

The place is not moved midway between its neighbours, as a swept cut is: where in a wide gap it lies is most of what the
rules know (midway lost up to a third of the gain on held-out rows). It is only kept a tenth of the gap off either end,
so that rounding does not flip a fitted row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int

from calibrate.counts import Counts
from calibrate.errors import MissingCosts, NotConverged, UndefinedMetric
from calibrate.methods.cuts import Rule
from calibrate.methods.cuts.profile import counts_at
from calibrate.objective import Objective, Score
from calibrate.sweep import Cut, Rows, sweep_cut, tabulate

_OFF_THE_ENDS = 0.1
Bound = Callable[[Rows, float], tuple[float, str | None]]


@dataclass(frozen=True)
class Placed:
    """A cut at `at`, inside `gap`; where each member would have it; and what is to be said."""

    at: float
    gap: Cut
    members: Mapping[str, float]
    notes: tuple[str, ...] = ()


def committee_cut(rows: Rows, objective: Objective, rules: Mapping[str, Rule], bound: Bound | None = None) -> Placed:
    """The median place of the rules, moved to the nearest cut at which the metric is defined and every constraint met.

    A rule whose metric is undefined everywhere, or that lacks the costs it needs, is left out and said so; the exact
    cut stands in where none is left. `bound` moves the median before the constraints do, and returns a note if it does.

    Raises: `UndefinedMetric`, `Infeasible` where no cut will do; of a single rule what it raises.
    """
    rows = rows.counted
    members: dict[str, float] = {}
    notes = []
    for name, rule in rules.items():
        try:
            place = rule(rows, objective)
        except (UndefinedMetric, MissingCosts, NotConverged) as error:
            if len(rules) == 1:
                raise
            notes.append(f"{name} was left out: {error}")
            continue
        if np.isfinite(place):
            members[name] = place
        else:
            notes.append(f"{name} was left out: its cut came to {place}")
    if not members:
        cut = sweep_cut(rows, objective)
        return Placed(cut.at(), cut, members, (*notes, "no member was left: the exact cut"))
    if len(rules) > 1:
        notes.insert(0, f"committee: the median cut of {', '.join(members)}")
    wanted = float(np.median(list(members.values())))
    if bound is not None:
        wanted, note = bound(rows, wanted)
        notes += [note] if note else []
    gap = gap_around(rows, wanted)
    if not _score(rows, objective, wanted).feasible:
        gap = _nearest_gap(rows, objective, wanted)
        held = ", ".join(f"'{each.text}'" for each in objective.constraints)
        notes.append(f"moved from {wanted:.6g} to the nearest cut that meets {held or 'a defined metric'}")
    return Placed(inside(gap, wanted), gap, members, tuple(notes))


def inside(gap: Cut, wanted: float) -> float:
    """The place in the gap that is nearest to the wanted one, a tenth of the gap off its ends (of the distance to
    where a swept cut would be, where one is open).
    """
    middle = gap.at()
    off = _OFF_THE_ENDS * min(gap.gap, 2 * abs(middle - gap.lower), 2 * abs(gap.upper - middle))
    place = min(max(wanted, gap.lower + off), gap.upper - off)
    return place if gap.lower <= place < gap.upper else middle


def gap_around(rows: Rows, place: float) -> Cut:
    """Return the gap between neighbouring margins that holds the place."""
    above = rows.margins > np.float64(place)  # a float32 margin is compared in float64, as it is decided
    return Cut(
        float(rows.margins[~above].max(initial=-np.inf)),
        float(rows.margins[above].min(initial=np.inf)),
    )


def _score(rows: Rows, objective: Objective, place: float) -> Score:
    """The score of the measured rows at one place."""
    cells = 2 * (~rows.is_positive) + (rows.margins > np.float64(place))
    counts = _measured(cells, rows.weights, objective.positive)
    if rows.amounts is not None:
        counts = replace(counts, amounts=_measured(cells, rows.amounts, objective.positive))
    score = objective.score(counts)
    return replace(score, gain=np.asarray(score.gain[0, 0]), shortfall=np.asarray(score.shortfall[0, 0]))


def _measured(cells: Int[np.ndarray, "n"], values: Float64[np.ndarray, "n"] | None, positive: int) -> Counts:
    """Counts (1, 1) from the cell of each row: positives below the cut, positives above, negatives below, above."""
    table = np.bincount(cells, values, 4).astype(np.float64).reshape(1, 2, 2)
    return counts_at(table[..., 0][np.newaxis], table.sum(axis=-1)[np.newaxis], positive)


def _nearest_gap(rows: Rows, objective: Objective, place: float) -> Cut:
    """The cut nearest to the place, of all there are, that meets everything.

    Raises: `UndefinedMetric`, `Infeasible`.
    """
    tally = tabulate(rows, every_cut=True)
    score = objective.score(tally.counts(objective.positive))
    meets = (score.shortfall == 0) & np.isfinite(score.gain)
    if not meets.any():
        return sweep_cut(rows, objective)
    lower, upper = tally.highest[::-1], np.append(tally.edges, np.inf)[::-1].astype(np.float64)
    distance = np.where(meets, np.maximum(0.0, np.maximum(lower - place, place - upper)), np.inf)
    nearest = np.flatnonzero(distance == distance.min())
    return tally.cut(int(nearest[score.gain[nearest].argmax()]))
