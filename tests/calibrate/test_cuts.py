"""Rules that place a cut: each against an independent answer, and what holds of all of them."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import gamma

from calibrate import FitResult, feature_cache, fit
from calibrate.errors import Infeasible, MissingCosts, UndefinedMetric
from calibrate.maps import fit_platt
from calibrate.methods.bias_adjustment import FEW_OF_A_CLASS
from calibrate.methods.cuts import RULES
from calibrate.methods.cuts.bagged import bagged_cut
from calibrate.methods.cuts.committee import committee_cut, gap_around, inside
from calibrate.methods.cuts.expected import expected_cut, platt_expected_cut
from calibrate.methods.cuts.nonempty import decides_none, keep_nonempty
from calibrate.methods.cuts.smoothed import smoothed_cut
from calibrate.objective import parse_objective
from calibrate.sweep import Cut, Rows, sweep_cut
from tests.problems import BINARY, Problem
from tests.reference import binary_metric, cells

CLASSES = ["no", "yes"]
SEARCHES = ("committee", "nonempty", *RULES)


def two_normals(positives: int, negatives: int, seed: int, shift: float = 2.0) -> Rows:
    """Margins around 0 and around the shift."""
    labels = np.repeat([1, 0], [positives, negatives])
    return Rows(np.random.default_rng(seed).normal(labels * shift), labels == 1)


def value(rows: Rows, metric: str, cut: float, positive: int = 1) -> float:
    """The metric of the rows decided at a cut, from the four cells."""
    labels = np.where(rows.is_positive, positive, 1 - positive)
    decided = np.where(rows.margins > np.float64(cut), positive, 1 - positive)
    tp, fp, fn, tn = cells(labels, decided, positive)
    if metric == "alert_rate":
        return (tp + fp) / (tp + fp + fn + tn)
    return fp / (fp + tn) if metric == "fpr" else binary_metric(metric, tp, fp, fn, tn)


def run(problem: Problem, search: str | None, metric: str = "f1", **options: object) -> FitResult:
    """A fit without evidence."""
    arrays = {"logits": problem.logits, "labels": problem.labels, "classes": problem.classes}
    return fit(metric=metric, search=search, evidence=False, **{**arrays, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["g_mean", "youden", "balanced_accuracy"])
@pytest.mark.parametrize("negatives", [800, 5000], ids=["every row", "rows in bins"])
def test_the_smoothed_cut_of_two_normals_is_midway_between_them(metric: str, negatives: int) -> None:
    """The closed form for recalls of equal normals; the exact cut is further off in the mean."""
    objective = parse_objective(metric, None, CLASSES)
    ours, exact = [], []
    for seed in range(6):
        rows = two_normals(800, negatives, seed)
        ours.append(smoothed_cut(rows, objective))
        exact.append(sweep_cut(rows, objective).at())
    assert np.abs(np.array(ours) - 1).max() < 0.15
    assert np.abs(np.array(ours) - 1).mean() < np.abs(np.array(exact) - 1).mean()


def test_smoothing_by_bins_of_rows_is_smoothing_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows between two places stand at their mean, with weights too."""
    rows = two_normals(40, 3000, 1)
    rows = replace(rows, weights=np.random.default_rng(0).uniform(0.5, 2, 3040))
    objective = parse_objective("f1", None, CLASSES)
    by_bins = smoothed_cut(rows, objective)
    monkeypatch.setattr("calibrate.methods.cuts.smoothed._PLACES", 1600)
    assert by_bins == pytest.approx(smoothed_cut(rows, objective), abs=0.05)


@pytest.mark.parametrize("metric", ["f1", "g_mean", "mcc", "cost(fp=1, fn=8)", "fbeta(2)"])
@pytest.mark.parametrize(("weighted", "candidates"), [(False, 10_000), (True, 10_000), (True, 40)])
def test_the_expected_cut_is_the_best_of_all_by_brute_force(
    metric: str, weighted: bool, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Expected cells at every cut, one after the other, ties in the margins included; no label is read."""
    rng = np.random.default_rng(2)
    margins = np.round(rng.normal(-1, 2, 60), 1)
    weights = rng.uniform(0.5, 2, 60) if weighted else None
    p, w = expit(margins), np.ones(60) if weights is None else weights
    objective = parse_objective(metric, None, CLASSES)

    def expected(cut: float) -> float:
        above = margins > cut
        tp, fp, fn, tn = (
            float((w * part)[side].sum()) for part, side in ((p, above), (1 - p, above), (p, ~above), (1 - p, ~above))
        )
        if metric.startswith("cost"):
            return float(-(fp + 8 * fn) / w.sum())
        recall, specificity = tp / (tp + fn), tn / (tn + fp)
        spread = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        values = {
            "f1": 2 * tp / (2 * tp + fp + fn),
            "fbeta(2)": 5 * tp / (5 * tp + 4 * fn + fp),
            "g_mean": float(np.sqrt(recall * specificity)),
            "mcc": float((tp * tn - fp * fn) / spread) if spread else np.nan,
        }
        return values[metric]

    best = np.nanmax([expected(cut) for cut in [margins.min() - 1, *margins]])
    monkeypatch.setattr("calibrate.methods.cuts.expected._CANDIDATES", candidates)
    for labels in (rng.random(60) < 0.5, rng.random(60) < 0.1):
        assert expected(expected_cut(Rows(margins, labels, weights), objective)) == pytest.approx(
            best, rel=1e-12 if candidates > 60 else 0.02
        )


def test_the_best_threshold_for_f1_is_half_the_best_f1() -> None:
    """Lipton et al. (2014): above the expected cut are the rows with a probability above half of the F1 reached."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        margins = rng.normal(-2, 2, 300)
        cut = expected_cut(Rows(margins, rng.random(300) < 0.1), parse_objective("f1", None, CLASSES))
        p, above = expit(margins), margins > cut
        half = p[above].sum() / (above.sum() + p.sum())
        assert p[~above].max() <= half <= p[above].min()


@pytest.mark.parametrize("metric", ["f1", "g_mean", "alert_rate"])
def test_the_bagged_cut_is_the_mean_over_resampled_rows(metric: str) -> None:
    """A plain loop that draws rows of each class with replacement and sweeps; to within four standard errors."""
    rows = two_normals(12, 90, 3)
    objective = parse_objective(metric, ["recall >= 0.5"], CLASSES)
    rng = np.random.default_rng(7)
    groups = [np.flatnonzero(rows.is_positive), np.flatnonzero(~rows.is_positive)]
    cuts = []
    for _ in range(150):
        drawn = np.concatenate([rng.choice(group, group.size) for group in groups])
        best = sweep_cut(Rows(rows.margins[drawn], rows.is_positive[drawn]), objective)
        upper = best.upper if np.isfinite(best.upper) else rows.margins.max() + 1
        lower = rows.margins[rows.margins < upper].max(
            initial=upper - 2
        )  # neighbours among all the rows, not the drawn
        cuts.append((lower + upper) / 2)
    error = np.std(cuts) * np.sqrt(1 / 40 + 1 / 150)
    assert bagged_cut(rows, objective) == pytest.approx(np.mean(cuts), abs=4 * error)


def test_bagging_takes_weights_of_one_as_none_and_the_draws_of_a_generator() -> None:
    """And thinned candidates, with thousands of positives, give the cut of all of them."""
    rows = two_normals(15, 100, 4)
    objective = parse_objective("f1", None, CLASSES)
    weighted = replace(rows, weights=np.ones(115))
    assert bagged_cut(weighted, objective) == bagged_cut(rows, objective)
    assert bagged_cut(rows, objective, np.random.default_rng(5)) != bagged_cut(rows, objective)
    many = two_normals(3000, 3000, 5)
    assert bagged_cut(many, objective) == pytest.approx(sweep_cut(many, objective).at(), abs=0.15)


def test_a_committee_is_the_median_of_its_members() -> None:
    """As `parameters` show them; the default up to a thousand rows of a class, and what `auto` names."""
    result = run(BINARY[0], None)
    members = [result.parameters[f"cut[{name}]"] for name in RULES]
    assert result.parameters["cut"] == pytest.approx(np.median(members))
    for name, at in zip(RULES, members, strict=True):
        assert run(BINARY[0], name).parameters["cut"] == pytest.approx(at, abs=1e-3)
    assert result.options == {"search": "committee"}
    assert result.notes == ("committee: the median cut of bagged, smoothed, expected",)
    auto = run(BINARY[0], "auto")
    assert (auto.options, auto.point) == ({"search": "committee"}, result.point)
    for rows, search in ((FEW_OF_A_CLASS, "committee"), (FEW_OF_A_CLASS + 1, "exact")):
        many = Problem("many", np.repeat([0.5, -0.5], rows), np.repeat([1, 0], rows), (0.5, 0.5))
        assert run(many, "auto").options == run(many, None).options == {"search": search}


@pytest.mark.parametrize(
    ("metric", "positives", "joins"), [("g_mean", 20, True), ("g_mean", 21, False), ("f1", 20, False)]
)
def test_platts_map_joins_the_committee_for_the_g_mean_of_few_positives(
    metric: str, positives: int, joins: bool
) -> None:
    """And the committee is then the mean of the middle two of four."""
    rows = two_normals(positives, 300, 2)
    result = fit(logits=rows.margins, labels=rows.is_positive.astype(np.int64), metric=metric, evidence=False)
    members = [at for name, at in result.parameters.items() if name.startswith("cut[")]
    assert ("cut[platt]" in result.parameters) == joins
    assert len(members) == 3 + joins
    assert result.parameters["cut"] == pytest.approx(np.median(members), abs=0.1)


def test_the_cut_behind_platts_map_does_not_depend_on_the_scale_of_the_margins() -> None:
    """An overconfident and shifted model has the same cut, scaled and shifted; the plain expectation does not."""
    rows = two_normals(15, 300, 3)
    other = replace(rows, margins=3 * rows.margins - 5)
    objective = parse_objective("g_mean", None, CLASSES)
    cut = platt_expected_cut(rows, objective)
    assert platt_expected_cut(other, objective) == pytest.approx(3 * cut - 5, abs=1e-3)
    a, b = fit_platt(rows.margins, rows.is_positive)
    assert a * cut + b == pytest.approx(expected_cut(replace(rows, margins=a * rows.margins + b), objective))


@pytest.mark.parametrize("above", [0, 1, 3, 8])
@pytest.mark.parametrize("weight", [None, 2.5])
def test_the_probability_to_decide_nobody_is_that_of_jeffreys_posterior(above: int, weight: float | None) -> None:
    """Far from the cut smoothing changes no count: Poisson's zero, integrated over Gamma(above + 1/2, 1)."""
    margins = np.concatenate([np.linspace(9, 10, above), np.linspace(-10, -9, 40 - above)])
    is_positive = np.arange(40) % 10 == 0
    weights = None if weight is None else np.full(40, weight)
    rates = np.linspace(1e-9, 60, 2_000_001)
    density = gamma.pdf(rates, above + 0.5) if above else rates**-0.5 * np.exp(-rates) / np.sqrt(np.pi)
    wanted = 2.0 ** -(above + 0.5)
    if above:
        assert np.trapezoid(density * np.exp(-rates), rates) == pytest.approx(wanted, rel=1e-3)
    assert decides_none(Rows(margins, is_positive, weights), 0.0) == pytest.approx(wanted, rel=1e-6)
    assert decides_none(Rows(-margins, ~is_positive, weights), -0.0) == pytest.approx(wanted, rel=1e-6)


def test_nonempty_is_the_committee_kept_from_deciding_nobody() -> None:
    """Equal to the committee where that is rare, else the highest lower cut with a probability of at most 1 %."""
    lowered = 0
    for seed in range(12):
        rows = two_normals(5, 200, seed)
        labels = rows.is_positive.astype(np.int64)
        committee, kept = (
            fit(logits=rows.margins - 3, labels=labels, classes=CLASSES, metric="f1", search=search, evidence=False)
            for search in ("committee", "nonempty")
        )
        warned = [
            text for text in committee.warnings if "new samples of this size the point decides no row 'yes'" in text
        ]
        assert not any("new samples of this size" in text for text in kept.warnings)
        assert kept.parameters["decides_none"] <= 0.01
        assert "cut[bagged]" in kept.parameters
        assert kept.options == {"search": "nonempty"}
        if committee.parameters["decides_none"] > 0.01:
            lowered += 1
            assert len(warned) == 1
            assert kept.parameters["cut"] < committee.parameters["cut"]
            assert any("nonempty: moved" in note for note in kept.notes)
            shifted = replace(rows, margins=rows.margins - 3)
            top = gap_around(shifted, kept.parameters["cut"]).upper
            assert decides_none(shifted, inside(gap_around(shifted, top), top)) > 0.01
        else:
            assert not warned
            assert kept.point == committee.point
    assert 0 < lowered < 12


def test_nonempty_gives_way_to_constraints_and_says_where_rows_are_too_few() -> None:
    """A constraint on new alerts moves the cut back; four rows cannot rule out a sample without an alert."""
    rows = two_normals(4, 200, 1)
    objective = parse_objective("f1", ["alert_rate <= 0.005"], CLASSES)
    placed = committee_cut(rows, objective, RULES, keep_nonempty)
    assert value(rows, "alert_rate", placed.at) <= 0.005
    assert decides_none(rows, placed.at) > 0.01
    few = Rows(np.array([-2.0, -1.0, 0.5, 1.0]), np.array([False, False, True, True]))
    placed = committee_cut(few, parse_objective("f1", None, CLASSES), RULES, keep_nonempty)
    assert "nonempty: the rows are too few for any cut to decide nobody in at most 1 % of samples" in placed.notes
    assert placed.at < -2


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("metric", ["f1", "mcc", "precision", "recall", "2*tp - 3*fp"])
def test_degenerate_rows_give_a_finite_cut_or_what_the_exact_search_says(search: str, metric: str) -> None:
    """One positive, ties, one margin, separation, huge and tiny margins, either positive class."""
    for problem in BINARY[2:]:
        positive = problem.classes[len(metric) % 2]
        try:
            run(problem, "exact", metric, positive=positive)
        except UndefinedMetric:
            with pytest.raises(UndefinedMetric):
                run(problem, search, metric, positive=positive)
            continue
        try:
            result = run(problem, search, metric, positive=positive)
        except UndefinedMetric:
            assert search == "expected"
            continue
        rows = Rows((problem.logits @ [-1, 1] if problem.logits.ndim == 2 else problem.logits), problem.labels == 1)
        assert np.isfinite(result.parameters["cut"])
        if metric != "2*tp - 3*fp":
            labels, decided = problem.labels, (rows.margins > np.float64(result.parameters["cut"])).astype(int)
            assert not np.isnan(binary_metric(metric, *cells(labels, decided, len(metric) % 2)))


@pytest.mark.parametrize("search", SEARCHES)
def test_mirrored_rows_have_the_mirrored_cut(search: str) -> None:
    """Classes and margins exchanged: the same search, seen from the other side."""
    rows = two_normals(14, 120, 6)
    labels = rows.is_positive.astype(np.int64)
    plain = fit(logits=rows.margins, labels=labels, metric="f1", positive="1", search=search, evidence=False)
    turned = fit(logits=-rows.margins, labels=1 - labels, metric="f1", positive="0", search=search, evidence=False)
    assert turned.parameters["cut"] == -plain.parameters["cut"]
    assert turned.parameters["gap"] == plain.parameters["gap"]


@pytest.mark.parametrize("search", ["committee", *RULES])
@pytest.mark.parametrize(
    "constraints", [["recall >= 0.95"], ["precision >= 0.8", "recall >= 0.3"], ["alert_rate >= 0.5"], ["fpr >= 0.9"]]
)
def test_constraints_hold_on_the_fitting_rows(search: str, constraints: list[str]) -> None:
    """Moved to the nearest cut of all there are that meets them, by brute force; `Infeasible` where none does."""
    for seed in range(2):
        rows = two_normals(10, 60, seed)
        objective = parse_objective("g_mean", constraints, CLASSES)
        rules = RULES if search == "committee" else {search: RULES[search]}
        placed = committee_cut(rows, objective, rules)
        wanted = float(np.median([rule(rows, objective) for rule in rules.values()]))
        ends = np.concatenate([[-np.inf], np.sort(rows.margins), [np.inf]])
        gaps = [Cut(low, high) for low, high in pairwise(ends.tolist())]

        def meets(cut: Cut, texts: list[str] = constraints, rows: Rows = rows) -> bool:
            bounds = [text.split() for text in texts]
            return all(value(rows, name, cut.at()) >= float(bound) for name, _, bound in bounds)

        distances = [max(0.0, gap.lower - wanted, wanted - gap.upper) for gap in gaps if meets(gap)]
        assert meets(placed.gap)
        assert placed.gap.lower <= placed.at < placed.gap.upper
        assert max(0.0, placed.gap.lower - wanted, wanted - placed.gap.upper) == min(distances)
        assert any("moved from" in note for note in placed.notes) == (min(distances) > 0)
    with pytest.raises(Infeasible, match="comes to"):
        committee_cut(rows, parse_objective("f1", ["accuracy >= 1", "recall >= 1"], CLASSES), rules)


def test_costs_per_row_leave_the_expectation_out_and_say_so() -> None:
    """A row has the cost of its own class only; the others search with the amounts."""
    rows = two_normals(20, 80, 8)
    rng = np.random.default_rng(8)
    cache = feature_cache(
        logits=rows.margins,
        labels=rows.is_positive.astype(np.int64),
        classes=CLASSES,
        cost_fn=rng.uniform(5, 20, 100),
        cost_fp=np.ones(100),
    )
    result = fit(cache, metric="row_cost", evidence=False)
    assert set(result.parameters) == {"cut", "gap", "cut[bagged]", "cut[smoothed]", "decides_none"}
    assert any("expected was left out: search 'expected' needs the costs of both errors" in n for n in result.notes)
    exact = fit(cache, metric="row_cost", search="exact", evidence=False).parameters["cut"]
    assert abs(result.parameters["cut"] - exact) < 1
    with pytest.raises(MissingCosts, match="search 'expected' needs"):
        fit(cache, metric="row_cost", search="expected", evidence=False)


def test_a_place_is_kept_off_the_ends_of_its_gap() -> None:
    """A tenth of the gap; beyond the outermost rows a tenth of where a swept cut is; never on a margin."""
    assert inside(Cut(0.0, 1.0), 0.02) == 0.1
    assert inside(Cut(0.0, 1.0), 7.0) == 0.9
    assert inside(Cut(0.0, 1.0), 0.3) == 0.3
    assert inside(Cut(2.0, np.inf), 2.0) == pytest.approx(2.2)
    assert inside(Cut(2.0, np.inf), 50.0) == 50.0
    assert inside(Cut(-np.inf, np.inf), 3.0) == 3.0
    tiny = Cut(1.0, float(np.nextafter(1.0, 2)))
    assert tiny.lower <= inside(tiny, 1.0) < tiny.upper
