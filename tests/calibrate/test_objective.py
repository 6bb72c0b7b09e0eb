"""Constraints are read as they are written."""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrate.counts import Counts
from calibrate.errors import BadConstraint, UnknownClass, UnknownMetric
from calibrate.objective import Constraint, parse_constraint, parse_objective
from tests.reference import RATIONAL, exact_gain

CLASSES = ["no", "yes"]
COUNTS = Counts.of_confusion(np.array([[88, 2], [1, 9]]))


@pytest.mark.parametrize(
    ("text", "name", "shortfall"),
    [
        ("recall >= 0.9", "recall >= 0.9", 0),
        ("recall>=90%", "recall >= 0.9", 0),
        (" recall[yes]  >=  .95 ", "recall[yes] >= 0.95", 0.05),
        ("alert_rate <= 0.002", "alert_rate <= 0.002", 0.108),
        ("alerts <= 200 per 100000", "alert_rate <= 0.002", 0.108),
        ("alerts[no] <= 50 per 1e2", "alert_rate[no] <= 0.5", 0.39),
        ("cost(fp=1, fn=50) <= 1", "cost(fp=1, fn=50) <= 1", 0),
        ("tp/(tp + fp) >= 0.5", "tp/(tp + fp) >= 0.5", 0),
        ("net_benefit(0.1) >= 0", "net_benefit(0.1) >= 0", 0),
    ],
)
def test_a_constraint_is_read_as_written(text: str, name: str, shortfall: float) -> None:
    """With its canonical text and how far the counts are from it; exactly at the bound it is met."""
    constraint = parse_constraint(text, CLASSES)
    assert constraint.text == name
    assert math.isclose(float(constraint.shortfall(COUNTS)), shortfall, abs_tol=1e-12)


@pytest.mark.parametrize(
    "text",
    ["", "recall", "recall > 0.9", "recall = 0.9", "recall >= ", "recall >= x", "recall >= 1e999", "recall >= nan",
     "alerts <= 200", "recall <= 2 per 100", "alerts <= 5 per 0", "recall >= 0.9 @", "recall >= 0.9 @ 100%",
     "recall >= 0.9 @ 0.4", "f1 >= 0.9 @ 95%",
     "recall >= 1 @ 95%", "fpr <= 0 @ average", "recall >= 0.9 @ mean", ">= 0.9",
     "recall >= 0.9 recall >= 0.8", "recall >= 0.9" + " " * 2000, "recall >= 0.9; precision >= 0.5"],
)  # fmt: skip
def test_what_is_no_constraint_is_refused(text: str) -> None:
    """With what was wanted and what came, in a short sentence."""
    with pytest.raises((BadConstraint, UnknownMetric)) as caught:
        parse_constraint(text, CLASSES)
    assert len(str(caught.value)) < 700


UGLY = st.one_of(
    st.sampled_from(
        [">50K", "<=50K", "a]b", "x @ 95%", "a >= 0.9", "a] >= 0.9 @ 95%", "f(1, 2)", "[", "]", "][", " ", "a ", "\n",
         "1", "0.5", "recall[b]", "alerts", "no, yes", "ﬁ", "𝟙", "%", "per 100"]
    ),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=30),
    st.text("[]<>=@% .0a", min_size=1, max_size=12),
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(
    st.lists(UGLY, min_size=2, max_size=4, unique=True),
    st.data(),
    st.sampled_from(["recall", "sensitivity", "precision", "fpr", "alert_rate", "alerts", "cost(fp=1, fn=5)"]),
)
def test_a_class_is_read_whatever_it_is_made_of(classes: list[str], data: st.DataObject, name: str) -> None:
    """The constraint is of the class that stands in brackets, and its canonical text is read as the same constraint."""
    of = data.draw(st.integers(0, len(classes) - 1))
    ends = [" <= 1 per 3", "<= 200 per 1000"] if name == "alerts" else [" >= 0.8", "<=55.1%", " >= 0.1234567890123456"]
    promised = [" @ 95%", "@average", ""] if not name.startswith("cost") else [""]
    end = data.draw(st.sampled_from(ends)) + data.draw(st.sampled_from(promised))
    read = parse_constraint(f"{name}[{classes[of]}]{end}", classes)
    again = parse_constraint(read.text, classes)
    for constraint in (read, again):
        assert constraint.metric.positive == of
        assert constraint.metric.name.endswith(f"[{classes[of]}]")
    fields = [(each.text, each.at_least, each.bound, each.kind, each.confidence) for each in (read, again)]
    assert fields[0] == fields[1]
    bounds = {"1 per 3": 1 / 3, "200 per 1000": 0.2, "55.1%": 0.551, "0.1234567890123456": 0.1234567890123456}
    assert read.bound == next((bound for text, bound in bounds.items() if text in end), 0.8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recall[>40K] >= 0.8", "class must be one of <=50K, >50K; got '>40K'"),
        ("recall[>50K >= 0.8", "a constraint is written as"),
        ("recall[>50K] >= 0.8 @ 95%]", "a constraint is written as"),
        ("recall >50K >= 0.8", "a constraint is written as"),
    ],
)
def test_brackets_that_hold_no_class_are_refused(text: str, message: str) -> None:
    """With what came, whether they close or not."""
    with pytest.raises((BadConstraint, UnknownClass)) as caught:
        parse_constraint(text, ["<=50K", ">50K"])
    assert message in str(caught.value)


def test_a_long_class_has_room_in_a_constraint() -> None:
    """The limit on a text is of what is not the class."""
    classes = ["no", "y" * 5000]
    assert parse_constraint(f"recall[{classes[1]}] >= 0.9 @ 95%", classes).metric.positive == 1


def test_an_objective_knows_when_the_short_list_of_cuts_holds_its_optimum() -> None:
    """Bounds that a false alarm less may break need every cut."""
    for constraints, monotone in [
        (["recall >= 0.5"], True), (["recall <= 0.5"], True), (["precision >= 0.5"], True), (["fpr <= 0.1"], True),
        (["precision <= 0.5"], False), (["alert_rate >= 0.1"], False), (["fpr >= 0.1"], False), (["mcc >= 0"], True),
        (["recall[no] >= 0.5"], False), (["accuracy >= 0.5", "npv >= 0.9"], True),
    ]:  # fmt: skip
        assert parse_objective("f1", constraints, CLASSES).monotone == monotone, constraints
    assert not parse_objective("tp - fp", None, CLASSES).monotone
    assert parse_objective("f1", "recall >= 0.5", CLASSES).constraints[0].bound == 0.5


def test_a_promise_carries_its_confidence() -> None:
    """As a share or a percentage; on average none; the rest of the objective is without it."""
    objective = parse_objective(
        "f1", ["recall>=95%@95%", "fpr <= 0.01 @ 0.9", "npv >= 0.5 @ average", "mcc >= 0"], CLASSES
    )
    kinds = [(each.text, each.kind, each.confidence) for each in objective.constraints]
    assert kinds == [
        ("recall >= 0.95 @ 95%", "confidence", 0.95),
        ("fpr <= 0.01 @ 90%", "confidence", 0.9),
        ("npv >= 0.5 @ average", "average", None),
        ("mcc >= 0", "measured", None),
    ]
    assert objective.certified == objective.constraints[:3]
    assert [each.text for each in objective.measured.constraints] == ["mcc >= 0"]


def test_a_constraint_holds_at_its_bound_whatever_rounds() -> None:
    """Every table of up to 7 rows a cell where the value is a decimal of two digits, found in fractions: `>=` and `<=`
    hold at it, and not a hundred-thousandth beyond.
    """
    for name in RATIONAL:
        if name.startswith("cost"):
            continue
        metric = parse_objective(name, None, CLASSES).metric
        seen = set()
        for tp, fp, fn, tn in product(range(8), repeat=4):
            if tp + fn == 0 or tn + fp == 0:
                continue
            exact = exact_gain(name, *map(Fraction, (tp, fp, fn, tn)))
            if exact is None:
                continue
            if name in ("g_mean", "mcc"):
                root = Fraction(math.isqrt(abs(exact.numerator)), math.isqrt(exact.denominator))
                if root * root != abs(exact):
                    continue
                exact = root if exact >= 0 else -root
            if (exact * 100).denominator != 1 or (exact, tp + fp) in seen:
                continue
            seen.add((exact, tp + fp))
            counts = Counts.of_binary(np.asarray(float(tp)), np.asarray(float(fp)), float(tp + fn), float(tn + fp), 1)
            for sign, way in ((">=", 1), ("<=", -1)):
                at = Constraint("", metric, sign == ">=", float(f"{float(exact):.2f}"))
                beyond = replace(at, bound=at.bound + way * 1e-5)
                assert at.shortfall(counts) == 0, (name, sign, exact, tp, fp, fn, tn)
                assert beyond.shortfall(counts) > 0
        assert len(seen) > 10, name


def test_mcc_is_met_at_exactly_its_bound() -> None:
    """2/10 is computed as 0.19999999999999998 here; recall 0.9 holds at 9 of 10 and not at 8."""
    counts = Counts.of_binary(np.asarray(6.0), np.asarray(4.0), 10.0, 10.0, 1)
    constraint = parse_objective("f1", ["mcc >= 0.2"], CLASSES).constraints[0]
    assert constraint.shortfall(counts) == 0
    nine, eight = (Counts.of_binary(np.asarray(tp), np.asarray(4.0), 10.0, 10.0, 1) for tp in (9.0, 8.0))
    recall = parse_objective("f1", ["recall >= 0.9"], CLASSES).constraints[0]
    assert (float(recall.shortfall(nine)), round(float(recall.shortfall(eight)), 9)) == (0, 0.1)
