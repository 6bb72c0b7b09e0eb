"""A whole `fit`, beside a sort of the same margins: the cost of everything around the search."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from calibrate import FitResult, feature_cache, fit
from calibrate.ascent import Sample
from calibrate.objective import parse_objective
from tests.benchmarks.classes import long_tailed
from tests.benchmarks.timing import Result, in_turn


def whole_fit(rows: int = 10_000_000, positives: float = 0.002) -> Result:
    """F1 over float32 margins, 0.2 % of them positive; every fit gets a cache that has computed nothing yet."""
    rng = np.random.default_rng(0)
    labels = (rng.random(rows) < positives).astype(np.int64)
    margins = rng.normal(labels * 3.0).astype(np.float32)
    cache = feature_cache(logits=margins, labels=labels)

    def sort() -> str:
        return f"sorted, largest {np.sort(margins)[-1]:.3f}"

    def cut(result: FitResult) -> str:
        return f"cut {result.parameters['cut']:.9f}"

    def scores() -> str:
        result = fit(replace(cache), metric="f1", evidence=False)
        return f"{cut(result)}, ROC AUC {result.model_scores['roc_auc'].value:.9f}"

    def everything() -> str:
        result = fit(replace(cache), metric="f1").to_dict()
        f1 = result["evidence"]["f1"]
        auc = result["model_scores"]["roc_auc"]["value"]
        return f"F1 {f1['value']:.6f} [{f1['low']:.6f}, {f1['high']:.6f}], ROC AUC {auc:.9f}"

    contenders: dict[str, Callable[[], str]] = {
        "np.sort of the margins": sort,
        "feature_cache": lambda: f"{feature_cache(logits=margins, labels=labels).rows:,} rows",
        "fit of a cache, no evidence": lambda: cut(fit(replace(cache), metric="f1", evidence=False)),
        "fit of arrays, no evidence": lambda: cut(fit(logits=margins, labels=labels, metric="f1", evidence=False)),
        "fit of a cache, no evidence, then its model scores": scores,
        "fit of a cache, with evidence": lambda: cut(fit(replace(cache), metric="f1")),
        "fit of a cache, with evidence, to_dict": everything,
    }
    title = f"Whole fit for F1, {rows:,} float32 margins, {positives:.1%} positive, beside the sort"
    return in_turn(title, contenders, rounds=5, summarize=min)


def whole_fit_of_many_classes(rows: int = 100_000, classes: int = 100) -> Result:
    """Macro-F1 with free biases: the climb, its cross-fitted comparison with the tau line, and the evidence."""
    logits, labels, _ = long_tailed(rows, classes)
    cache = feature_cache(logits=logits, labels=labels)
    objective = parse_objective("f1_macro", None, cache.classes)

    def whole(evidence: bool) -> str:
        started = time.process_time()
        result = fit(replace(cache), metric="f1_macro", evidence=evidence)
        seconds = time.process_time() - started
        reached = float(Sample(logits, labels).score(result.point.bias, objective).gain)
        crossed = f", cross-fitted {result.evidence['f1_macro'].value:.6f}" if evidence else ""
        return f"macro-F1 {reached:.9f} on the fitting rows{crossed}, {seconds:.1f} s of CPU time"

    contenders = {"fit, no evidence": lambda: whole(False), "fit, with evidence": lambda: whole(True)}
    return in_turn(f"Whole fit for macro-F1, {rows:,} rows, {classes} classes", contenders, rounds=1)
