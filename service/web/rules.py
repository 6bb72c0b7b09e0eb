"""Which rule an address falls under: who may call it, and whose model it is about.

Made of the one table of routes and the few pages that hold nothing. What falls under no rule is not let through, so a
route that the framework would answer but the table does not know is closed, and where the two read an address
differently (a line break at its end, a slash that was escaped) the stricter one holds.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from service.domain import Scope

Access = Scope | Literal["open"]
# Pages that hold nothing of the user's, and need no key.
PAGES = (
    "/", "/console", "/console/{name}", "/docs", "/docs/oauth2-redirect", "/openapi.json",
    "/static-offline-docs/{name}",
)  # fmt: skip
_PART = re.compile(r"\{(\w+)\}")


class Row(Protocol):
    """What a row of the table of routes says of access."""

    @property
    def verb(self) -> str:
        """The HTTP method."""

    @property
    def path(self) -> str:
        """The address, with its parameters in braces."""

    @property
    def scope(self) -> Access:
        """What a caller must be allowed to do."""


@dataclass(frozen=True)
class Rule:
    """One row's rule; `work` is `predict` or `calibrate` for what is counted against a caller's rate."""

    verb: str
    path: str
    access: Access
    work: Literal["predict", "calibrate"] | None = None


class Rules:
    """Rules by verb and address."""

    def __init__(self, table: Iterable[Row]) -> None:
        rules = [Rule(row.verb, row.path, row.scope, _work(row)) for row in table]
        rules += [Rule(verb, page, "open") for page in PAGES for verb in ("GET", "HEAD")]
        self.every = tuple(rules)
        self._exact = {(rule.verb, rule.path): rule for rule in rules if "{" not in rule.path}
        self._shaped: dict[tuple[str, int], list[tuple[re.Pattern[str], Rule]]] = {}
        for rule in rules:
            if "{" in rule.path:
                kept = self._shaped.setdefault((rule.verb, rule.path.count("/")), [])
                kept.append((_pattern(rule.path), rule))

    def find(self, verb: str, path: str) -> tuple[Rule | None, Mapping[str, str]]:
        """The rule of an address and what its parameters are, or None where there is no rule."""
        exact = self._exact.get((verb, path))
        if exact is not None:
            return exact, {}
        for pattern, rule in self._shaped.get((verb, path.count("/")), ()):
            if found := pattern.fullmatch(path):
                return rule, found.groupdict()
        return None, {}

    def verbs(self, path: str) -> list[str]:
        """The methods that an address takes."""
        return sorted({rule.verb for rule in self.every if self.find(rule.verb, path)[0] is rule})


def _pattern(path: str) -> re.Pattern[str]:
    parts = _PART.split(path)
    return re.compile("".join(f"(?P<{part}>[^/]+)" if i % 2 else re.escape(part) for i, part in enumerate(parts)))


def _work(row: Row) -> Literal["predict", "calibrate"] | None:
    return row.scope if row.verb == "POST" and row.scope in ("predict", "calibrate") else None
