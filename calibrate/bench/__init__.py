"""Comparing rules: any set of data sets, methods, metrics and seeds, on rows that fitted nothing.

A *rule* makes an operating point of labelled rows and a metric; a *trial* is one split of one data set. Every rule is
fitted on the trial's one part and scored on the other. What describes the rules (rank, wins) counts trials; what tests
them goes by data sets, because the trials of one data set share rows and are not independent.
"""

from calibrate.bench.result import Benchmark
from calibrate.bench.rules import Rule, named_rules
from calibrate.bench.run import bench
from calibrate.bench.summary import Comparison, RuleSummary, Score, summarize
from calibrate.bench.trials import Trial, paired_trial, trials_of

__all__ = [
    "Benchmark",
    "Comparison",
    "Rule",
    "RuleSummary",
    "Score",
    "Trial",
    "bench",
    "named_rules",
    "paired_trial",
    "summarize",
    "trials_of",
]
