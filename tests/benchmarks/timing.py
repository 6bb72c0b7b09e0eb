"""How a benchmark is taken: ours and its peers in turn, in one run, each answer kept beside its time."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Row:
    """One contender: its time in seconds and what it answered."""

    name: str
    seconds: float
    answer: str


@dataclass(frozen=True)
class Result:
    """A benchmark: what was done, ours first, then the peers."""

    title: str
    rows: list[Row] = field(default_factory=list)

    def to_markdown(self) -> str:
        """A table; each peer's time is also given as a multiple of ours."""
        ours = self.rows[0].seconds
        lines = [f"### {self.title}", "", "| | seconds | beside ours | answer |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {row.name} | {row.seconds:.4g} | {row.seconds / ours:.3g} x | {row.answer} |" for row in self.rows
        ]
        return "\n".join(lines) + "\n"


def in_turn(
    title: str,
    contenders: Mapping[str, Callable[[], str]],
    rounds: int = 3,
    summarize: Callable[[list[float]], float] = median,
) -> Result:
    """Time each contender once a round, all of them in every round, and report the `summarize`d seconds of each."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    answers: dict[str, str] = {}
    for _ in range(rounds):
        for name, run in contenders.items():
            started = time.perf_counter()
            answers[name] = run()
            times[name].append(time.perf_counter() - started)
    return Result(title, [Row(name, summarize(seconds), answers[name]) for name, seconds in times.items()])
