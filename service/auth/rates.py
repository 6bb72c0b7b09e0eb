"""How often a caller may call: a bucket of tokens each, filled at a steady rate, on the clock that never goes back.

A bucket holds what a second brings (a minute, for a rate told by the minute), and at least one, so a burst of that much
passes at once. Only callers that are behind are kept: a full bucket is the same as none.
"""

from collections import OrderedDict
from collections.abc import Hashable
from time import monotonic

MOST_KEPT = 10_000


class Rates:
    """One bucket a caller; `per_s` is what comes in each second, `most` what a bucket holds."""

    def __init__(self, per_s: float, most: float) -> None:
        self._per_s, self._most = per_s, max(1.0, most)
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    @property
    def are_any(self) -> bool:
        """Whether anybody is behind."""
        return bool(self._buckets)

    def take(self, who: Hashable) -> float:
        """Takes one and gives 0, or takes none and gives the seconds until there is one."""
        now = monotonic()
        level = self._level(who, now)
        if level < 1:
            return (1 - level) / self._per_s
        self._buckets[who] = (level - 1, now)
        self._buckets.move_to_end(who)
        if len(self._buckets) > MOST_KEPT:
            self._buckets.popitem(last=False)
        return 0.0

    def wait_s(self, who: Hashable) -> float:
        """Seconds until there is one to take, 0 where there is; takes none."""
        level = self._level(who, monotonic())
        return 0.0 if level >= 1 else (1 - level) / self._per_s

    def _level(self, who: Hashable, now: float) -> float:
        kept = self._buckets.get(who)
        return self._most if kept is None else min(self._most, kept[0] + (now - kept[1]) * self._per_s)
