"""`make bench`: every number beside its peer, in one run, as Markdown; `make bench ONLY=ten_times_more` runs some."""

import sys
from collections.abc import Callable
from functools import partial

from tests.benchmarks.classes import beside_a_loop, beside_the_peer, many_classes
from tests.benchmarks.epochs import epochs
from tests.benchmarks.search import beside_the_tuner, best_f1, everything_on, ten_times_more
from tests.benchmarks.start import start_to_ready
from tests.benchmarks.state import newton_and_descent
from tests.benchmarks.streams import from_parquet
from tests.benchmarks.timing import Result
from tests.benchmarks.whole_fit import whole_fit, whole_fit_of_many_classes

BENCHMARKS: dict[str, Callable[[], Result]] = {
    "best_f1": best_f1,
    "beside_the_tuner": beside_the_tuner,
    "everything_on": everything_on,
    "ten_times_more": ten_times_more,
    "state_of_2": newton_and_descent,
    "state_of_10": partial(newton_and_descent, 20_000, 10),
    "state_of_100": partial(newton_and_descent, 100_000, 100, 400),
    "beside_the_peer": beside_the_peer,
    "beside_a_loop": beside_a_loop,
    "classes_100": many_classes,
    "classes_1000": partial(many_classes, 50_000, 1000),
    "from_parquet": from_parquet,
    "epochs": epochs,
    "epochs_half_split": partial(epochs, None, "half_split"),
    "start_to_ready": start_to_ready,
    "whole_fit": whole_fit,
    "whole_fit_100": whole_fit_of_many_classes,
}

for name in sys.argv[1:] or BENCHMARKS:
    print(BENCHMARKS[name]().to_markdown(), flush=True)
