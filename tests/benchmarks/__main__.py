"""`make bench`: every number beside its peer, in one run, as Markdown."""

from functools import partial

from tests.benchmarks.search import best_f1
from tests.benchmarks.start import start_to_ready
from tests.benchmarks.state import newton_and_descent

for run in (best_f1, newton_and_descent, partial(newton_and_descent, 20_000, 10), start_to_ready):
    print(run().to_markdown(), flush=True)
