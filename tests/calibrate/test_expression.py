"""A user's expression means what it would on paper, and nothing else is an expression."""

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrate.errors import BadExpression
from calibrate.expression import parse_expression

NAMES = ("tp", "fp", "fn", "tn", "n", "recall")
Node = tuple[str, Callable[[dict[str, float]], float]]


def _quotient(a: float, b: float) -> float:
    return a / b if b else math.nan


def _guarded(function: Callable[..., float], *values: float) -> float:
    """A float, NaN for what has no finite value."""
    try:
        value = function(*values) if not any(map(math.isnan, values)) else math.nan
    except (ValueError, OverflowError, ZeroDivisionError):
        return math.nan
    return value if isinstance(value, float) and math.isfinite(value) else math.nan


@st.composite
def trees(draw: st.DrawFn, depth: int = 4) -> Node:
    """A text with every operation in parentheses, and what it means, built side by side."""
    kind = draw(st.sampled_from(["name", "number"] if depth == 0 else ["name", "number", "+", "-", "*", "/", "^", "f"]))
    if kind == "name":
        name = draw(st.sampled_from(NAMES))
        return name, lambda values: values[name]
    if kind == "number":
        number = draw(st.integers(0, 9))
        return str(number), lambda _: float(number)
    text, value = draw(trees(depth - 1))
    if kind == "^":
        power = draw(st.integers(-3, 3))
        return f"(({text})**({power}))", lambda v: _guarded(lambda a: a**power, value(v))
    if kind == "f":
        function = draw(st.sampled_from(["sqrt", "abs"]))
        python = math.sqrt if function == "sqrt" else abs
        return f"{function}({text})", lambda v: _guarded(python, value(v))
    other, second = draw(trees(depth - 1))
    python2 = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": _quotient}[kind]
    return f"({text}{kind}{other})", lambda v: _guarded(python2, value(v), second(v))


@settings(max_examples=300, deadline=None)
@given(trees(), st.lists(st.integers(0, 5), min_size=len(NAMES), max_size=len(NAMES)))
def test_an_expression_means_what_it_says(node: Node, numbers: list[int]) -> None:
    """Random trees against Python's floats; what has no finite value on the way is undefined."""
    text, meaning = node
    values = {name: float(number) for name, number in zip(NAMES, numbers, strict=True)}
    expression = parse_expression(f"{text} + 0*tp", NAMES)
    expected, ours = meaning(values), float(expression.value(values))
    assert (math.isnan(expected) and math.isnan(ours)) or math.isclose(expected, ours, rel_tol=1e-9, abs_tol=1e-9)
    again = parse_expression(expression.text, NAMES)
    assert again.text == expression.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("tp - fp - fn", -2), ("tp - (fp - fn)", 4), ("tp / fp / fn", 0.5), ("-tp**2", -9), ("2*tp^2", 18),
     ("tp + fp * fn", 9), ("-tp + 5", 2), ("max(tp, fp, 7)", 7), ("min(tp, fp)", 2), (".5*tp", 1.5), ("1e1*tp", 30),
     ("tp - -fp", 5), ("tp/(fp - 2)", math.nan), ("1/(1/(fp - 2) + tp)", math.nan), ("sqrt(fp - tp)", math.nan)],
)  # fmt: skip
def test_precedence_is_that_of_paper(text: str, expected: float) -> None:
    """Left to right, powers before signs, and nothing divided by zero comes back."""
    value = float(parse_expression(text, NAMES).value({"tp": 3.0, "fp": 2.0, "fn": 3.0, "tn": 0.0}))
    assert value == expected or (math.isnan(value) and math.isnan(expected))


def test_an_expression_is_evaluated_over_all_cuts_at_once() -> None:
    """Arrays in, an array out, NaN only where it is undefined."""
    value = parse_expression("tp/(tp + fp)", NAMES).value({"tp": np.array([0.0, 1, 2]), "fp": np.array([0.0, 1, 0])})
    assert np.array_equal(value, [np.nan, 0.5, 1], equal_nan=True)


ATTACKS = [
    "tp.__class__", "tp[0]", "__import__('os')", "open('x')", "lambda: tp", "tp if fp else fn", "tp == fp", "'tp'",
    "tp; fp", "tp**11", "tp**tp", "tp**(2*2)", "2**3**2 + tp", "9" * 400 + "*tp", "1e13*tp", "(" * 1000,
    "-" * 999 + "tp*", "(" * 60 + "tp" + ")" * 60, "tp+" * 333, "ｔｐ", "tｐ", "tp\u200b", "tp\x00", "tp\ntn", "१*tp",
    "tp²", "", " ", "1", "tp fp", "tp +", "*tp", "()", "sqrt", "sqrt()", "sqrt(tp, fp)", "max()", "tp)", "recal",
    "__tp", "tp__", "e5", "0x10*tp", "1_000*tp", "tp//fp", "tp%fp", "tp@fp", "tp&fp", "~tp", "!tp", "a" * 2000,
    "abs(" * 60 + "tp" + ")" * 60,
]  # fmt: skip


@pytest.mark.parametrize("text", ATTACKS)
def test_an_attack_gets_an_error_fast(text: str) -> None:
    """One clear short sentence, in milliseconds."""
    started = time.monotonic()
    with pytest.raises(BadExpression) as caught:
        parse_expression(text, NAMES)
    assert time.monotonic() - started < 5  # of a busy machine; one that is taken in takes minutes or all memory
    assert len(str(caught.value)) < 300


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="tpfn0123456789.eE+-*/^(), sqrtmax", max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    """Nothing else can happen, and what parses has a value."""
    try:
        expression = parse_expression(text, NAMES)
    except BadExpression:
        return
    assert np.ndim(expression.value(dict.fromkeys(NAMES, 2.0))) == 0
