"""Counters and histograms that cost little to feed.

Decided here: Prometheus' own library takes a lock for the sum and one for the bucket, and finds the bucket in Python;
on the way of every prediction that is most of what metrics cost. A tally only notes each value, and counts many of them
at once, now and then and when somebody reads, in the library's own families. A count that one thread alone feeds, as
the event loop does, is an addition.
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class Tally:
    """Values of one kind by bucket: `counts[i]` of those up to `bounds[i]`, the last of those beyond all.

    `observe(value)` takes one more, from any thread; it is the `append` of a list, which is emptied by `fold`.
    """

    __slots__ = ("_lock", "_new", "bounds", "counts", "observe", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds, self.counts, self.total = tuple(bounds), [0] * (len(bounds) + 1), 0.0
        self._lock = threading.Lock()
        self._new: list[float] = []
        self.observe: Callable[[float], None] = self._new.append

    def fold(self) -> None:
        """Counts what came since the last time."""
        with self._lock:
            new = self._new[:]
            del self._new[: len(new)]  # what comes meanwhile stands behind these
            for value in new:
                self.counts[bisect_left(self.bounds, value)] += 1
                self.total += value

    def read(self) -> tuple[list[int], float]:
        """The counts up to each bound and of all, and the sum, of one moment."""
        self.fold()
        with self._lock:
            return list(accumulate(self.counts)), self.total


class Count:
    """What one thread alone adds to."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0


class Counts(Collector):
    """A counter with labels."""

    def __init__(self, name: str, about: str, labels: Sequence[str]) -> None:
        self._name, self._about, self._labels = name, about, tuple(labels)
        self._counts: dict[tuple[str, ...], Count] = {}

    def of(self, *labels: str) -> Count:
        """The count of these labels, the same each time."""
        return self._counts.setdefault(labels, Count())

    def collect(self) -> Iterator[Metric]:
        """The counter as it stands."""
        counter = CounterMetricFamily(self._name, self._about, labels=self._labels)
        for labels, count in list(self._counts.items()):
            counter.add_metric(labels, count.total)
        yield counter

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked while the collector is taken in."""
        return []


class Tallies(Collector):
    """A histogram with labels; with `counted` the number of values is also a counter of that name."""

    def __init__(
        self,
        name: str,
        about: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        counted: tuple[str, str] | None = None,
    ) -> None:
        self._name, self._about, self._labels, self._bounds = name, about, tuple(labels), tuple(bounds)
        self._counted = counted
        self._tallies: dict[tuple[str, ...], Tally] = {}

    def of(self, *labels: str) -> Tally:
        """The tally of these labels, the same each time."""
        return self._tallies.setdefault(labels, Tally(self._bounds))

    def fold(self) -> None:
        """Counts what came since the last time."""
        for tally in list(self._tallies.values()):
            tally.fold()

    def collect(self) -> Iterator[Metric]:
        """The histogram as it stands, and its counter."""
        histogram = HistogramMetricFamily(self._name, self._about, labels=self._labels)
        counter = None if self._counted is None else CounterMetricFamily(*self._counted, labels=self._labels)
        names = [*(f"{float(bound)}" for bound in self._bounds), "+Inf"]
        for labels, tally in list(self._tallies.items()):
            counts, total = tally.read()
            histogram.add_metric(labels, list(zip(names, counts, strict=True)), total)
            if counter is not None:
                counter.add_metric(labels, counts[-1])
        yield histogram
        if counter is not None:
            yield counter

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked while the collector is taken in."""
        return []
