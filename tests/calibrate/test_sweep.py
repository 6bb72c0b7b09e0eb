"""Exact sweeps equal brute force."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrate.errors import Infeasible, UndefinedMetric
from calibrate.logits import binary_margins
from calibrate.objective import Objective, parse_objective
from calibrate.sweep import Cut, Rows, Tally, best_cut, edges_of, sweep_cut, tabulate
from tests.problems import BINARY, Problem
from tests.reference import BINARY_METRICS, RATIONAL, best_by_brute_force, binary_metric, cells, exact_gain

CLASSES = ["no", "yes"]


@st.composite
def scored_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Margins with many ties at any size, in either float type, and labels of one or both classes."""
    n = draw(st.integers(1, 25))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    few = st.integers(-3, 3).map(float)
    unit = draw(st.sampled_from([1e-38, 1e-3, 1.0, 1e30]))
    fine = st.floats(-1, 1, width=32)
    margins = draw(st.lists(draw(st.sampled_from([few, fine])), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    labels[0], labels[-1] = 0, 1  # the last wins where there is one row: a class may be missing, not both
    return (np.array(margins) * unit).astype(dtype), np.array(labels)


def reached(name: str, margins: np.ndarray, labels: np.ndarray, positive: int) -> float:
    """What the swept cut reaches when it is used as a rule on float64 margins."""
    objective = parse_objective(name, None, CLASSES, CLASSES[positive])
    toward = margins if positive == 1 else -margins
    cut = sweep_cut(Rows(toward, labels == positive), objective).at()
    decided = np.where(toward.astype(np.float64) > cut, positive, 1 - positive)
    return binary_metric(name, *cells(labels, decided, positive))


@settings(max_examples=400, deadline=None)
@given(scored_rows(), st.sampled_from(BINARY_METRICS), st.sampled_from([0, 1]))
def test_the_best_cut_equals_brute_force_over_all_cuts(
    rows: tuple[np.ndarray, np.ndarray], name: str, positive: int
) -> None:
    """With ties, tiny and huge margins, a single class, either class positive; undefined only if every cut is."""
    margins, labels = rows
    if positive not in labels:
        positive = 1 - positive
    expected = best_by_brute_force(name, margins, labels, positive)
    if math.isnan(expected):
        with pytest.raises(UndefinedMetric, match=name.split("(")[0]):
            reached(name, margins, labels, positive)
    else:
        assert math.isclose(reached(name, margins, labels, positive), expected, rel_tol=1e-12, abs_tol=1e-12)


@pytest.mark.parametrize("problem", BINARY, ids=str)
@pytest.mark.parametrize("name", BINARY_METRICS)
def test_the_best_cut_equals_brute_force_on_the_problems(problem: Problem, name: str) -> None:
    """One positive, all scores equal, huge and tiny margins, perfectly wrong scores among them."""
    logits = problem.logits if problem.logits.ndim == 2 else np.stack([problem.logits * 0, problem.logits], axis=1)
    margins = binary_margins(logits)
    expected = best_by_brute_force(name, margins, problem.labels, 1)
    if math.isnan(expected):
        assert (problem.name, name) == ("all scores equal", "mcc")
        return
    assert math.isclose(reached(name, margins, problem.labels, 1), expected, rel_tol=1e-12)


def test_ties_in_the_metric_go_to_fewer_alerts_and_the_cut_lies_midway() -> None:
    """Accuracy is 3/4 with no alert and with two; no alert wins. A cut between 1 and 3 is 2."""
    labels = np.array([1, 0, 0, 0])
    cut = sweep_cut(Rows(np.array([1.0, 2.0, 0.0, -1.0]), labels == 1), parse_objective("accuracy", None, CLASSES))
    assert (cut.lower, cut.upper) == (2.0, np.inf)
    cut = sweep_cut(Rows(np.array([3.0, 1.0, 0.0, -1.0]), labels == 1), parse_objective("f1", None, CLASSES))
    assert cut.at() == 2.0


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.floats(allow_nan=False, allow_infinity=False))
def test_a_cut_always_splits_its_neighbours(a: float, b: float) -> None:
    """lower <= t < upper for any two different numbers, also one step apart and across the whole range."""
    for lower, upper in ((a, b), (a, math.nextafter(a, math.inf)), (-math.inf, a), (a, math.inf)):
        cut = Cut(min(lower, upper), max(lower, upper))
        if cut.lower < cut.upper:
            assert cut.lower <= cut.at() < cut.upper
            assert math.isfinite(cut.at())
            mirrored = cut.mirrored()
            assert mirrored.lower <= mirrored.at() < mirrored.upper


CONSTRAINED = [
    ("precision", ["recall >= 0.5"]),
    ("recall", ["precision >= 0.6"]),
    ("f1", ["alert_rate <= 0.3"]),
    ("f1", ["alert_rate >= 0.5"]),
    ("accuracy", ["recall >= 0.3", "precision <= 0.9"]),
    ("accuracy", ["recall[no] >= 0.8", "recall[yes] >= 0.2"]),
    ("recall[no]", ["npv >= 0.7"]),
    ("maximize fpr", []),
    ("minimize f1", ["recall >= 0.2"]),
    ("youden", ["mcc >= 0.1", "fpr <= 0.4"]),
    ("2*tp/(2*tp + fp + 3*fn)", ["alerts <= 40 per 100"]),
    ("tp - 0.5*fp", []),
    ("0 - abs(tp + fp - 3)", []),
    ("cost(fp=1, fn=5)", []),
    ("cost(fp=-1, fn=5)", ["recall <= 0.7"]),
    ("net_benefit(0.2)", ["specificity >= 0.4"]),
    ("kappa", ["fnr <= 0.5", "error_rate <= 0.45"]),
    ("f1_macro", ["precision_worst >= 0.3"]),
]


def by_hand(
    objective: Objective, margins: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> list[tuple[bool, float, np.ndarray]]:
    """For every cut: what the objective makes of the weighted decisions, one cut at a time."""
    from calibrate.counts import Counts

    toward = margins if objective.positive == 1 else -margins
    cuts = [np.zeros(labels.size, dtype=bool)] + [toward >= value for value in np.unique(toward)]
    found = []
    for above in cuts:
        decided = np.where(above, objective.positive, 1 - objective.positive)
        counts = Counts.of(labels, decided, 2, weights=weights)
        gain = float(objective.metric.gain(counts))
        met = all(float(c.shortfall(counts)) == 0 for c in objective.constraints)
        found.append((met and not math.isnan(gain), gain, decided))
    return found


@settings(max_examples=300, deadline=None)
@given(scored_rows(), st.sampled_from(CONSTRAINED), st.booleans(), st.data())
def test_constrained_optima_equal_exhaustive_search(
    rows: tuple[np.ndarray, np.ndarray], wanted: tuple[str, list[str]], weighted: bool, data: st.DataObject
) -> None:
    """Whatever the metric, its direction, its constraints and the weights; infeasible only if every cut is."""
    margins, labels = rows
    if len(set(labels)) < 2:
        return
    weights = np.ones(labels.size)
    if weighted:
        weights = np.array(data.draw(st.lists(st.sampled_from([1, 2, 5]), min_size=labels.size, max_size=labels.size)))
    weights = weights.astype(np.float64)
    objective = parse_objective(*wanted, CLASSES)
    found = by_hand(objective, margins, labels, weights)
    best = max((gain for met, gain, _ in found if met), default=None)
    toward = margins if objective.positive == 1 else -margins
    table = Rows(toward, labels == objective.positive, weights if weighted else None)
    if best is None:
        with pytest.raises((Infeasible, UndefinedMetric)):
            sweep_cut(table, objective)
        return
    cut = sweep_cut(table, objective).at()
    decided = np.where(toward.astype(np.float64) > cut, objective.positive, 1 - objective.positive)
    reached = [gain for met, gain, rule in found if met and np.array_equal(rule, decided)]
    assert reached, "the cut meets the constraints"
    assert math.isclose(reached[0], best, rel_tol=1e-9, abs_tol=1e-9)


@settings(max_examples=100, deadline=None)
@given(scored_rows(), st.sampled_from(["f1", "accuracy", "alert_rate", "g_mean"]), st.data())
def test_a_weight_of_two_is_the_row_twice(rows: tuple[np.ndarray, np.ndarray], name: str, data: st.DataObject) -> None:
    """And a weight of zero is no row."""
    margins, labels = rows
    if len(set(labels)) < 2:
        return
    times = np.array(data.draw(st.lists(st.integers(0, 3), min_size=labels.size, max_size=labels.size)))
    if any(times[labels == label].sum() == 0 for label in (0, 1)):
        return
    objective = parse_objective(name, None, CLASSES)
    weighted = tabulate(Rows(margins, labels == 1, times.astype(np.float64)), every_cut=True)
    repeated = tabulate(Rows(np.repeat(margins, times), np.repeat(labels, times) == 1), every_cut=True)
    values = [objective.metric.gain(tally.counts(1)) for tally in (weighted, repeated)]
    assert np.array_equal(np.unique(values[0][~np.isnan(values[0])]), np.unique(values[1][~np.isnan(values[1])]))


@settings(max_examples=60, deadline=None)
@given(scored_rows(), st.integers(1, 7), st.randoms(use_true_random=False), st.booleans())
def test_counts_of_parts_add_up_in_any_order(
    rows: tuple[np.ndarray, np.ndarray], parts: int, random: "np.random.Generator", every_cut: bool
) -> None:
    """Chunks, files or machines: the same cuts, counts and neighbours."""
    margins, labels = rows
    whole = Rows(margins, labels == 1)
    edges = edges_of(whole, every_cut)
    order = list(range(parts))
    random.shuffle(order)
    together = Tally.at(edges)
    for part in order:
        tally = Tally.at(edges)
        tally.add(Rows(margins[part::parts], labels[part::parts] == 1))
        together.merge(tally)
    expected = tabulate(whole, every_cut)
    assert np.array_equal(together.below, expected.below)
    assert np.array_equal(together.highest, expected.highest)


def test_infeasible_says_how_near_each_constraint_comes() -> None:
    """On its own where the others leave nothing, with the cut that gives it."""
    labels = np.array([0, 1, 0, 1])
    rows = Rows(np.array([0.0, 1.0, 2.0, 3.0]), labels == 1)
    with pytest.raises(Infeasible, match=r"'precision >= 0.9' comes to 0.666667 at best") as caught:
        sweep_cut(rows, parse_objective("accuracy", ["recall >= 1", "precision >= 0.9"], CLASSES))
    recall, precision = caught.value.nearest
    assert (recall.value, recall.cut, recall.alone) == (0.5, 2.5, False)
    assert (precision.constraint, precision.cut) == ("precision >= 0.9", 0.5)


def test_amounts_at_stake_are_swept_as_the_rows_are() -> None:
    """The cut of least cost, row by row, equals trying every cut."""
    rng = np.random.default_rng(0)
    labels = (rng.random(300) < 0.2).astype(int)
    margins = np.round(rng.normal(size=300) + 1.5 * labels, 1)
    amounts = np.where(labels == 1, rng.gamma(1, 100, 300), 5.0)
    for name in ("row_cost", "savings", "recovered"):
        objective = parse_objective(name, ["alert_rate <= 0.3"], CLASSES)
        cut = sweep_cut(Rows(margins, labels == 1, None, amounts), objective).at()
        cost = {
            t: amounts[(margins > t) & (labels == 0)].sum() + amounts[(margins <= t) & (labels == 1)].sum()
            for t in [*(np.unique(margins) - 0.05), 9.0]
            if (margins > t).mean() <= 0.3
        }
        caught = {t: amounts[(margins > t) & (labels == 1)].sum() for t in cost}
        if name == "recovered":
            assert math.isclose(amounts[(margins > cut) & (labels == 1)].sum(), max(caught.values()))
        else:
            ours = amounts[(margins > cut) & (labels == 0)].sum() + amounts[(margins <= cut) & (labels == 1)].sum()
            assert math.isclose(ours, min(cost.values()))


def test_a_large_table_is_scored_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks only bound the memory."""
    rng = np.random.default_rng(1)
    rows = Rows(rng.normal(size=500), rng.random(500) < 0.3)
    objective = parse_objective("tp - fp", None, CLASSES)
    whole = best_cut(tabulate(rows, every_cut=True), objective)
    monkeypatch.setattr("calibrate.sweep._BLOCK_CUTS", 7)
    monkeypatch.setattr("calibrate.sweep._CHUNK_ROWS", 11)
    assert best_cut(tabulate(rows, every_cut=True), objective) == whole


@pytest.mark.parametrize("name", RATIONAL)
@pytest.mark.parametrize("weights", [None, ["0.1", "0.2", "0.3"], ["0", "0.7", "1.1"]], ids=str)
def test_equal_gains_go_to_fewer_alerts_as_in_fractions(name: str, weights: list[str] | None) -> None:
    """Gains that are equal in fractions and not in floats are tied, with decimal weights too; weight 0 is no row."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(4, 24))
        labels, margins = rng.integers(0, 2, n), rng.permutation(n).astype(float)
        labels[:4] = [0, 1, 0, 1]
        texts = ["1"] * n if weights is None else rng.choice(weights, n).tolist()
        if weights is not None:
            texts[:2] = weights[1:]
        exact = np.array([Fraction(text) for text in texts])
        above = [np.zeros(n, dtype=bool)] + [margins >= value for value in np.sort(margins[exact > 0])[::-1]]
        gains = [
            exact_gain(name, *(sum(exact[labels == of][rule[labels == of] == on], Fraction(0))
                               for on, of in ((True, 1), (True, 0), (False, 1), (False, 0))))
            for rule in above
        ]  # fmt: skip
        best = max(gain for gain in gains if gain is not None)
        given = None if weights is None else np.array([float(text) for text in texts])
        cut = sweep_cut(Rows(margins, labels == 1, given), parse_objective(name, None, CLASSES))
        counted = exact > 0
        assert np.array_equal((margins > cut.at())[counted], above[gains.index(best)][counted]), (seed, gains)


def test_a_row_of_weight_zero_hides_no_cut() -> None:
    """A row that does not count lies above all: the cut just above the topmost negative stays a candidate."""
    margins, labels = np.array([5.0, 3.0, 2.0, 1.0]), np.array([0, 0, 1, 0])
    weighted = Rows(margins, labels == 1, np.array([0.0, 1.0, 1.0, 1.0]))
    for name in ("specificity", "precision", "npv", "f1", "accuracy"):
        for every_cut in (False, True):
            with_row, without = tabulate(weighted, every_cut), tabulate(weighted.some(margins < 5), every_cut)
            assert np.array_equal(with_row.edges, without.edges)
            assert np.array_equal(with_row.below, without.below)
        objective = parse_objective(name, None, CLASSES)
        assert sweep_cut(weighted, objective) == sweep_cut(weighted.some(margins < 5), objective)


def test_a_cut_at_a_certified_bound_lies_next_to_it() -> None:
    """And where it is not the bound that leaves an end open, as far beyond as any cut."""
    assert Cut(3.0, np.inf).at_bound(3.0, np.inf) == pytest.approx(3.0, abs=1e-5)
    assert Cut(3.0, np.inf).at_bound(3.0, np.inf) > 3
    assert Cut(-np.inf, 3.0).at_bound(-np.inf, 3.0) == pytest.approx(3.0, abs=1e-5)
    assert Cut(-np.inf, 3.0).at_bound(-np.inf, 3.0) < 3
    assert Cut(3.0, np.inf).at_bound(2.0, np.inf) == Cut(3.0, np.inf).at() == 4
    assert Cut(3.0, 4.0).at_bound(3.0, np.inf) == 3.5
    assert Cut(1e300, np.inf).at_bound(1e300, np.inf) > 1e300
