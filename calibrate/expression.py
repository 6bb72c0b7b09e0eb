"""A user's own metric as text, `2*tp/(2*tp + fp + 3*fn)`: parsed against a white list, never evaluated as Python.

Decided here: its own tokens, ASCII only, and a parser by precedence, so there is no attribute, no call but four
functions, no name but those given, and nothing to look alike. Length, operations, nesting, numbers and powers are
bounded before anything is computed. What has no finite value is undefined, NaN: division by zero, overflow, a root of a
negative number.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from calibrate.counts import Values
from calibrate.errors import BadExpression

_Node = Callable[[Mapping[str, Values]], Values]

FUNCTIONS = ("abs", "max", "min", "sqrt")
_LONGEST, _MOST_TOKENS, _DEEPEST = 1000, 400, 50
_LARGEST_NUMBER, _LARGEST_POWER = 1e12, 10
_TOKEN = re.compile(
    r"[ \t]*(?:(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|(?P<name>[A-Za-z][A-Za-z0-9_]*)"
    r"|(?P<sign>\*\*|[-+*/^(),]))",
    re.ASCII,
)


@dataclass(frozen=True)
class Expression:
    """A parsed expression: its text, spaced alike however it was written, and the names it reads.

    It pickles as its text, which is parsed again: a node is a function of functions.
    """

    text: str
    names: frozenset[str]
    node: _Node

    def __reduce__(self) -> "tuple[Callable[..., Expression], tuple[str, frozenset[str]]]":
        return _parsed_again, (self.text, self.names)

    def value(self, values: Mapping[str, Values | float]) -> Values:
        """Its value over arrays that broadcast, NaN wherever some step of it is undefined."""
        with np.errstate(all="ignore"):
            result = self.node({name: np.asarray(value, dtype=np.float64) for name, value in values.items()})
        return np.asarray(np.where(np.isfinite(result), result, np.nan))


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    place: int


def parse_expression(
    text: str, names: Collection[str], aliases: Mapping[str, str] = MappingProxyType({})
) -> Expression:
    """The expression in a text over the given names: numbers, `+ - * /`, `**` or `^` with a number of at most 10,
    parentheses, `sqrt`, `abs`, `min`, `max`. `aliases` are other names of some of them, which its text replaces.

    Raises: `BadExpression`, which says what was wanted, what came and where.

    >>> float(parse_expression("2*tp / (2*tp + fp)", ["tp", "fp"]).value({"tp": 3.0, "fp": 2.0}))
    0.75
    """
    if len(text) > _LONGEST:
        raise BadExpression(f"an expression must have at most {_LONGEST} characters, got {len(text)}")
    tokens = [
        replace(token, text=aliases.get(token.text, token.text)) if token.kind == "name" else token
        for token in _tokens(text)
    ]
    if len(tokens) > _MOST_TOKENS:
        raise BadExpression(f"an expression must have at most {_MOST_TOKENS} parts, got {len(tokens)}")
    parser = _Parser(tokens, frozenset(names))
    node = parser.sum(0)
    parser.expect("end")
    used = frozenset(token.text for token in tokens if token.kind == "name" and token.text not in FUNCTIONS)
    if not used:
        raise BadExpression(f"an expression must use some of {', '.join(names)}; got {text.strip()[:100]!r}")
    return Expression(_spaced(tokens), used, node)


def _parsed_again(text: str, names: frozenset[str]) -> Expression:
    """Return a parsed expression from its own text, which may be longer than what was written, for `pickle`."""
    return Expression(text, names, _Parser(_tokens(text), names).sum(0))


def _tokens(text: str) -> list[_Token]:
    tokens, place, end = [], 0, len(text.rstrip(" \t"))
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            at = place + len(text[place:]) - len(text[place:].lstrip(" \t"))
            raise BadExpression(
                f"wanted a number, a name or one of + - * / ** ( ) at character {at + 1}, got {text[at]!r}"
            )
        tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup) + 1))
        place = match.end()
    return [*tokens, _Token("end", "the end", len(text) + 1)]


def _spaced(tokens: list[_Token]) -> str:
    """The tokens with a space around a plus or a minus between two terms, after a comma, and nowhere else."""
    text, before = "", ""
    for token in tokens[:-1]:
        binary = token.text in "+-" and before not in ("", "(", ",", "+", "-", "*", "/", "**", "^")
        text += f" {token.text} " if binary else f"{token.text} " if token.text == "," else token.text
        before = token.text
    return text


class _Parser:
    """One token ahead, one method a level of precedence; every level counts how deep it stands."""

    def __init__(self, tokens: list[_Token], names: frozenset[str]) -> None:
        self._tokens = tokens
        self._names = names
        self._next = 0

    def sum(self, depth: int) -> _Node:
        """Terms with + and - between."""
        if depth > _DEEPEST:
            raise BadExpression(f"an expression must nest at most {_DEEPEST} deep")
        node = self._product(depth)
        while (sign := self._token.text) in ("+", "-") and self._token.kind == "sign":
            self._next += 1
            node = _combined(np.add if sign == "+" else np.subtract, node, self._product(depth))
        return node

    def _product(self, depth: int) -> _Node:
        node = self._signed(depth)
        while (sign := self._token.text) in ("*", "/") and self._token.kind == "sign":
            self._next += 1
            node = _combined(np.multiply if sign == "*" else _divide, node, self._signed(depth))
        return node

    def _signed(self, depth: int) -> _Node:
        negative = False
        while self._token.text in ("+", "-"):
            negative ^= self._token.text == "-"
            self._next += 1
        node = self._power(depth)
        return _combined(np.subtract, _constant(0.0), node) if negative else node

    def _power(self, depth: int) -> _Node:
        node = self._item(depth)
        while self._token.text in ("**", "^"):
            self._next += 1
            node = _combined(np.power, node, _constant(self._exponent()))
        return node

    def _exponent(self) -> float:
        opened = 0
        while self._token.text == "(":
            opened, self._next = opened + 1, self._next + 1
        sign = 1.0
        while self._token.text in ("+", "-"):
            sign *= -1 if self._token.text == "-" else 1
            self._next += 1
        token = self.expect("number")
        power = sign * float(token.text)
        if abs(power) > _LARGEST_POWER:
            raise BadExpression(
                f"a power must be at most {_LARGEST_POWER}, got {token.text[:20]} at character {token.place}"
            )
        for _ in range(opened):
            self._close()
        if self._token.text in ("**", "^"):
            raise BadExpression(f"put parentheses around a power of a power, at character {self._token.place}")
        return power

    def _item(self, depth: int) -> _Node:
        token = self._token
        if token.kind == "number":
            self._next += 1
            number = float(token.text)
            if not number <= _LARGEST_NUMBER:
                raise BadExpression(f"a number must be at most 1e12, got {token.text[:20]} at character {token.place}")
            return _constant(number)
        if token.kind == "name":
            self._next += 1
            return self._function(token, depth) if token.text in FUNCTIONS else self._name(token)
        if token.text == "(":
            self._next += 1
            node = self.sum(depth + 1)
            self._close()
            return node
        raise BadExpression(f"wanted a number, a name or ( at character {token.place}, got {token.text[:30]}")

    def _name(self, token: _Token) -> _Node:
        if token.text not in self._names:
            known = ", ".join(sorted(self._names))
            raise BadExpression(
                f"names in an expression are {known}, {', '.join(FUNCTIONS)}; got {token.text[:30]!r} at character "
                f"{token.place}"
            )
        return lambda values: values[token.text]

    def _function(self, token: _Token, depth: int) -> _Node:
        if self._token.text != "(":
            raise BadExpression(f"wanted {token.text}(...) at character {token.place}")
        self._next += 1
        nodes = [self.sum(depth + 1)]
        while self._token.text == ",":
            self._next += 1
            nodes.append(self.sum(depth + 1))
        self._close()
        if token.text in ("sqrt", "abs"):
            if len(nodes) > 1:
                raise BadExpression(f"{token.text} takes one value, got {len(nodes)} at character {token.place}")
            one, function = nodes[0], np.sqrt if token.text == "sqrt" else np.abs
            return lambda values: _undefined_stays(function(one(values)))
        node = nodes[0]
        for other in nodes[1:]:
            node = _combined(np.minimum if token.text == "min" else np.maximum, node, other)
        return node

    def _close(self) -> None:
        if self._token.text != ")":
            raise BadExpression(f"wanted ) at character {self._token.place}, got {self._token.text[:30]}")
        self._next += 1

    def expect(self, kind: str) -> _Token:
        """The next token, which must be of this kind."""
        token = self._token
        if token.kind != kind:
            wanted = "an operator or the end" if kind == "end" else f"a {kind}"
            raise BadExpression(f"wanted {wanted} at character {token.place}, got {token.text[:30]}")
        self._next += 1
        return token

    @property
    def _token(self) -> _Token:
        return self._tokens[min(self._next, len(self._tokens) - 1)]


def _constant(number: float) -> _Node:
    return lambda _: np.asarray(number)


def _combined(function: Callable[[Values, Values], Values], one: _Node, other: _Node) -> _Node:
    def combined(values: Mapping[str, Values]) -> Values:
        first, second = one(values), other(values)
        # NaN to the power of 0 would be 1.
        return np.where(np.isnan(first), np.nan, _undefined_stays(function(first, second)))

    return combined


def _undefined_stays(values: Values) -> Values:
    """An infinity is undefined at once: `1/(1/0)` is not 0."""
    return np.where(np.isfinite(values), values, np.nan)


def _divide(numerator: Values, denominator: Values) -> Values:
    return np.asarray(np.divide(numerator, denominator))
