"""The value: what it decides, how it is written, what it refuses."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibrate import OperatingPoint
from calibrate.errors import BadPoint, InputError, NotFinite, WrongShape
from calibrate.logits import softmax
from calibrate.operating_point import PointSet

LOGITS = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6), elements=st.floats(-50, 50)
)


def point(*bias: float, scale: float = 1.0) -> OperatingPoint:
    """A point with these biases."""
    return OperatingPoint(tuple(f"c{i}" for i in range(len(bias))), np.full(len(bias), scale), np.array(bias))


def outcome(made: Callable[[], Any]) -> Any:
    """What it gives, or what it raises; its `repr` compares to the last bit."""
    try:
        return [np.asarray(field).tolist() for field in made()]
    except InputError as error:
        return type(error), str(error)


@given(LOGITS, st.data())
def test_decides_the_largest_adjusted_probability(logits: np.ndarray, data: st.DataObject) -> None:
    """`decide` is the argmax of `adjusted`, wherever that has a single largest entry."""
    k = logits.shape[1]
    bias = data.draw(hnp.arrays(np.float64, k, elements=st.floats(-20, 20)))
    chosen = OperatingPoint(tuple(str(i) for i in range(k)), np.ones(k), bias)
    adjusted = chosen.adjusted(logits)
    top = np.sort(adjusted, axis=1)
    clear = top[:, -1] - top[:, -2] > 1e-9
    assert np.array_equal(chosen.decide(logits)[clear], adjusted.argmax(axis=1)[clear])
    assert np.allclose(adjusted.sum(axis=1), 1)


@given(LOGITS)
def test_margin_is_the_adjusted_log_odds_between_the_best_two(logits: np.ndarray) -> None:
    """Winner minus runner-up, and in two classes signed towards the second."""
    chosen = OperatingPoint.argmax([str(i) for i in range(logits.shape[1])])
    ordered = np.sort(logits, axis=1)
    expected = ordered[:, -1] - ordered[:, -2] if logits.shape[1] > 2 else logits[:, 1] - logits[:, 0]
    assert np.array_equal(chosen.margin(logits), expected)


@given(
    hnp.arrays(np.float32, 50, elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    st.floats(-(2.0**100), 2.0**100),
)
def test_a_cut_in_the_bias_splits_exactly_at_the_cut(margins: np.ndarray, cut: float) -> None:
    """A row is positive when its margin is above the cut, with no rounding in between."""
    assert np.array_equal(point(0.0, -cut).decide(margins), (margins.astype(np.float64) > cut).astype(int))


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(2, 4)), elements=st.floats(-700, 700)),
    st.booleans(),
    st.data(),
)
def test_judged_at_once_is_judged_as_each_by_itself(logits: np.ndarray, narrow: bool, data: st.DataObject) -> None:
    """To the last bit, for few rows as for many, whatever the rule."""
    k = logits.shape[1]
    logits = logits.astype(np.float32) if narrow else logits
    draw = [data.draw(hnp.arrays(np.float64, k, elements=st.floats(0.1, 20))) for _ in range(3)]
    names = tuple(str(i) for i in range(k))
    for chosen in (
        OperatingPoint(names, draw[0], draw[1] - 10),
        OperatingPoint(names, draw[0], draw[1], weight=draw[2], offset=draw[0]),
        OperatingPoint(names, draw[0], draw[1], cost=np.outer(draw[1], draw[2])),
    ):
        decided, probabilities, adjusted, margin = chosen.judge(logits)
        assert np.array_equal(probabilities, softmax(logits))
        assert np.array_equal(chosen.judge(logits, logits * 0.5 + 1).probabilities, softmax(logits * 0.5 + 1))
        assert np.array_equal(decided, chosen.decide(logits))
        assert np.array_equal(adjusted, chosen.adjusted(logits))
        assert np.array_equal(margin, chosen.margin(logits))


def pairs(most: int) -> st.SearchStrategy[np.ndarray]:
    """Rows of two numbers of either width: ties, denormals, huge ones, and now and then NaN or an infinity."""
    plain = st.floats(-50, 50, width=32) | st.sampled_from([0.0, -0.0, 0.5, 1.0])
    wild = plain | st.floats(width=32) | st.sampled_from([1e-45, -1e-45, 3.4e38, -3.4e38])
    wilder = wild | st.floats() | st.sampled_from([5e-324, -5e-324, 1.7e308, -1.7e308])
    drawn = [(np.float32, plain), (np.float32, wild), (np.float64, plain), (np.float64, wilder)]
    shapes = st.tuples(st.integers(1, most), st.just(2))
    return st.one_of([hnp.arrays(dtype, shapes, elements=each.map(dtype), fill=plain) for dtype, each in drawn])


_SCALES = st.just(1.0) | st.floats(0.1, 20) | st.sampled_from([5e-324, 1e-300, 1e300])
_BIASES = st.just(0.0) | st.floats(-20, 20) | st.sampled_from([-1.7e308, 1.7e308, 5e-324])
RULES = st.tuples(st.tuples(_SCALES, _SCALES), st.tuples(_BIASES, _BIASES))
Rule = tuple[tuple[float, float], tuple[float, float]]


def binary(rule: Rule) -> OperatingPoint:
    """A point of two classes with this scale and bias."""
    return OperatingPoint(("a", "b"), np.array(rule[0]), np.array(rule[1]))


@given(pairs(20), RULES, st.none() | pairs(20))
def test_two_classes_are_judged_as_by_the_single_functions(
    logits: np.ndarray, rule: Rule, mapped: np.ndarray | None
) -> None:
    """To the last bit and the last word, whatever the numbers are."""
    chosen = binary(rule)
    if mapped is not None:
        mapped = np.resize(mapped, logits.shape)

    def alone() -> list[np.ndarray]:
        margin, adjusted = chosen.margin(logits), chosen.adjusted(logits)
        with np.errstate(over="ignore", invalid="ignore"):
            probabilities = softmax(logits if mapped is None else mapped)
        if not np.isfinite(probabilities).all():
            row = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))[0]
            raise NotFinite(f"the probability of row {row} overflows under this operating point")
        return [chosen.decide(logits), probabilities, adjusted, margin]

    assert repr(outcome(lambda: chosen.judge(logits, mapped))) == repr(outcome(alone))


@given(pairs(20), st.lists(RULES, min_size=1, max_size=4), st.data())
def test_several_points_of_two_classes_are_each_by_itself(
    logits: np.ndarray, rules: list[Rule], data: st.DataObject
) -> None:
    """To the last bit and the last word, for few rows as for many; what overflows is named by its row."""
    points = [binary(rule) for rule in rules]
    single = outcome(lambda: [point.decide(logits) for point in points])
    assert outcome(lambda: PointSet(points).decide(logits)) == single
    few = PointSet(points).decide_few(logits)
    assert few == single or (few is None and (len(logits) > 8 or single[0] is NotFinite))
    which = [data.draw(st.integers(0, len(points) - 1)) for _ in logits]
    found = outcome(lambda: PointSet(points).judge_rows(which, logits))
    alone = [outcome(partial(points[at].judge, logits[i : i + 1])) for i, at in enumerate(which)]
    few_judged = PointSet(points).judge_few_rows(which, logits)
    assert repr(few_judged and list(few_judged)) in (repr(found), "None")
    assert few_judged or len(logits) > 8 or found[0] is NotFinite
    broken = [i for i, each in enumerate(alone) if each[0] is NotFinite]
    if broken:
        assert found[0] is NotFinite
        assert any(f"row {i} " in found[1] or f"[{i}, " in found[1] for i in broken)
    else:
        assert repr(found) == repr([[row[field][0] for row in alone] for field in range(4)])


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(2, 3)), elements=st.floats(-50, 50)), st.data())
def test_several_points_at_once_are_each_by_itself(logits: np.ndarray, data: st.DataObject) -> None:
    """To the last bit: a point for each row, and all points for every row; also where one is not affine."""
    k = logits.shape[1]
    names, vectors = tuple(str(i) for i in range(k)), hnp.arrays(np.float64, k, elements=st.floats(0.1, 20))

    def drawn() -> np.ndarray:
        return np.asarray(data.draw(vectors))

    points = [OperatingPoint(names, drawn(), drawn()) for _ in range(3)]
    points.append(OperatingPoint.argmax(names))
    if data.draw(st.booleans()):
        points.append(OperatingPoint(names, drawn(), drawn(), weight=drawn(), offset=drawn()))
    for point, decided in zip(points, PointSet(points).decide(logits), strict=True):
        assert np.array_equal(decided, point.decide(logits))
    which = data.draw(st.lists(st.integers(0, len(points) - 1), min_size=len(logits), max_size=len(logits)))
    for i, whole in enumerate(zip(*PointSet(points).judge_rows(which, logits), strict=True)):
        for field, alone in zip(whole, points[which[i]].judge(logits[i : i + 1]), strict=True):
            assert np.array_equal(field, alone[0])


@pytest.mark.parametrize("rows", [1, 20])
def test_a_row_that_overflows_is_named_by_judge_too(rows: int) -> None:
    """However many rows there are."""
    logits = np.zeros((rows, 2))
    logits[-1] = -1e308, 1e308
    with pytest.raises(NotFinite, match=f"margin of row {rows - 1} overflows"):
        point(0.0, 0.0).judge(logits)


def test_equal_scores_go_to_the_earlier_class() -> None:
    """Ties at the cut are decided the same way for two classes and for more."""
    assert point(0.0, 0.0).decide(np.zeros((1, 2))).tolist() == [0]
    assert point(0.0, 0.0, 0.0).decide(np.zeros((1, 3))).tolist() == [0]


def test_scale_weighs_classes() -> None:
    """A per-class scale multiplies the logits before the bias is added."""
    scaled = OperatingPoint(("a", "b"), np.array([1.0, 0.5]), np.array([0.0, 0.25]))
    logits = np.array([[1.0, 1.0], [1.0, 2.0]])
    assert scaled.margin(logits).tolist() == [-0.25, 0.25]
    assert scaled.threshold is None


def test_threshold_is_on_the_models_own_probability() -> None:
    """A row whose probability is above the threshold is decided positive."""
    chosen = point(0.0, 1.5, scale=0.5)
    threshold = chosen.threshold
    assert threshold is not None
    logits = np.linspace(-6, 2, 101)
    assert np.array_equal(chosen.decide(logits), (1 / (1 + np.exp(-logits)) > threshold).astype(int))
    assert point(0.0, 0.0).threshold == 0.5
    assert point(0.0, 0.0, 0.0).threshold is None


def test_saved_and_loaded_is_equal(tmp_path: Path) -> None:
    """The file is the canonical JSON, the same for equal points, and -0.0 is 0.0."""
    chosen = OperatingPoint(("klar", "Betrug ü"), np.array([1.0, 0.1]), np.array([-0.0, 1 / 3]))
    chosen.save(tmp_path / "p.json")
    loaded = OperatingPoint.load(tmp_path / "p.json")
    assert loaded == chosen
    assert hash(loaded) == hash(chosen)
    assert loaded.digest == chosen.digest
    assert chosen.to_json() == '{"bias":[0.0,0.3333333333333333],"classes":["klar","Betrug ü"],"scale":[1.0,0.1]}'
    assert chosen != point(0.0, 1 / 3)


def test_is_read_only_and_a_copy() -> None:
    """Nothing that happens to the arrays it was made from, or to those it hands out, changes a point."""
    bias = np.array([0.0, 1.0])
    chosen = OperatingPoint(("a", "b"), np.ones(2), bias)
    bias[1] = 9
    assert chosen.bias.tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="read-only"):
        chosen.bias[0] = 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "must be an object"),
        ({"classes": ["a", "b"], "scale": [1, 1]}, "bias is missing"),
        (
            {"classes": ["a", "b"], "scale": [1, 1], "bias": [0, 0], "weight": [1, 1]},
            "weight and offset belong together",
        ),
        ({"classes": ["a", "b"], "scale": [1, 1], "bias": [0, 0], "weights": [1, 1]}, "no key weights"),
        (
            {"classes": ["a", "b"], "scale": [1, 1], "bias": [0, 0], "weight": [1, -1], "offset": [0, 0]},
            "'b' must be >=",
        ),
        ({"classes": ["a", "b"], "scale": [1, 1], "bias": [0, 0], "cost": [[0, 1]]}, "cost must be a list of 2 rows"),
        ({"classes": ["a", "b"], "scale": [1, 1], "bias": [0, 0], "cost": [[0, 1], [1]]}, "cost of deciding 'b'"),
        ({"classes": ["a"], "scale": [1], "bias": [0]}, "at least 2 classes, got 1"),
        ({"classes": ["a", "a"], "scale": [1, 1], "bias": [0, 0]}, "'a' comes more than once"),
        ({"classes": ["a", ""], "scale": [1, 1], "bias": [0, 0]}, "list of names"),
        ({"classes": "ab", "scale": [1, 1], "bias": [0, 0]}, "list of names"),
        ({"classes": ["a", "b"], "scale": [1, 0], "bias": [0, 0]}, "scale of class 'b' must be > 0, got 0.0"),
        ({"classes": ["a", "b"], "scale": [1, 1], "bias": [0, float("nan")]}, "bias of class 'b' must be finite"),
        ({"classes": ["a", "b"], "scale": [1, 1], "bias": [0, 10**400]}, "finite numbers"),
        ({"classes": ["a", "b"], "scale": [1, 1], "bias": [0]}, "wanted 2 entries"),
        ({"classes": ["a", "b"], "scale": [1, 1], "bias": ["0", "1"]}, "list of numbers"),
        ({"classes": ["a", "b"], "scale": [1, 1], "bias": [[0, 1]]}, "list of numbers"),
        ({"classes": ["a", "b"], "scale": [True, True], "bias": [0, 1]}, "list of numbers"),
    ],
)
def test_a_malformed_point_is_refused(value: object, message: str) -> None:
    """Each fault is named with its item."""
    with pytest.raises(BadPoint, match=message):
        OperatingPoint.from_dict(value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00", '"point"', "null"])
def test_a_file_that_is_no_point_is_refused(text: str, tmp_path: Path) -> None:
    """Whatever the file holds, the error is ours."""
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(BadPoint):
        OperatingPoint.load(tmp_path / "p.json")


@pytest.mark.parametrize(
    ("logits", "error", "message"),
    [
        ([[0.0, np.nan]], NotFinite, r"logits\[0, 1\] must be finite, got nan"),
        ([[0.0, 1.0, 2.0]], WrongShape, "wanted 2 columns, got 3"),
        (np.zeros((0, 2)), InputError, "at least one row"),
        (["a"], WrongShape, "wanted numbers"),
        ([[1.0], [1.0, 2.0]], WrongShape, "rows of equal length"),
        (np.array(1.0), WrongShape, "1 or 2 axes"),
        (np.zeros((2, 0)), WrongShape, "a column per class"),
    ],
)
def test_logits_that_do_not_fit_are_refused(logits: object, error: type[InputError], message: str) -> None:
    """With what was wanted and what came."""
    with pytest.raises(error, match=message):
        point(0.0, 1.0).decide(logits)  # type: ignore[arg-type]


def test_loads_the_point_inside_a_saved_result(tmp_path: Path) -> None:
    """A result file serves where a point file does."""
    (tmp_path / "r.json").write_text(json.dumps({"point": point(0.0, 2.0).to_dict(), "metric": "f1"}))
    assert OperatingPoint.load(tmp_path / "r.json") == point(0.0, 2.0)
