"""The result of a benchmark: every score, and what it comes to."""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from calibrate.bench.summary import Comparison, Score
from calibrate.bench.tables import comparison_to_markdown


@dataclass(frozen=True)
class Benchmark:
    """A comparison for each metric, and the scores that they rest on."""

    comparisons: tuple[Comparison, ...]
    scores: tuple[Score, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; undefined numbers are None."""
        return {
            "comparisons": [_plain(asdict(comparison)) for comparison in self.comparisons],
            "scores": [_plain(asdict(score)) for score in self.scores],
        }

    def to_csv(self) -> str:
        """The scores, a line each; an undefined number is empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(field.name for field in fields(Score))
        writer.writerows(["" if value is None else value for value in _plain(asdict(s)).values()] for s in self.scores)
        return text.getvalue()

    def to_markdown(self, level: int = 2) -> str:
        """A table for each metric, under a heading of that level, and what failed."""
        return "\n".join(comparison_to_markdown(comparison, level) for comparison in self.comparisons)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
