"""Coordinate ascent over many classes, beside the closest peer and beside a plain loop over one class's cuts."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, f1_score

from calibrate.ascent import Board, Sample, coordinate_ascent, sweep_class
from calibrate.objective import parse_objective
from tests.benchmarks.timing import Result, in_turn


def long_tailed(rows: int, classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]:
    """Logits of a model trained on a long tail, 300 times rarer at its end."""
    rng = np.random.default_rng(0)
    prior = np.logspace(0, -2.5, classes)
    prior /= prior.sum()
    labels = rng.choice(classes, p=prior, size=rows)
    labels[:classes] = np.arange(classes)
    logits = (rng.normal(size=(rows, classes)) + np.log(prior)).astype(np.float32)
    logits[np.arange(rows), labels] += 3
    return logits, labels, prior


def many_classes(rows: int = 100_000, classes: int = 100) -> Result:
    """Macro recall and macro-F1; argmax and tau = 1 beside them for what there was to gain."""
    logits, labels, prior = long_tailed(rows, classes)
    starts = [-np.log(prior), np.zeros(classes)]
    names = [str(i) for i in range(classes)]
    sample = Sample(logits, labels)

    def climb(metric: str) -> str:
        end = coordinate_ascent(sample, parse_objective(metric, None, names), starts, best_start_only=True)
        return f"{metric} {float(end.score.gain):.4f}, {end.rounds} rounds; {end.reason}"

    def plain(tau: float) -> str:
        decided = (logits - tau * np.log(prior)).argmax(axis=1)
        recall, f1 = balanced_accuracy_score(labels, decided), f1_score(labels, decided, average="macro")
        return f"macro recall {recall:.4f}, macro-F1 {f1:.4f}"

    contenders = {
        "coordinate ascent, macro recall": lambda: climb("recall_macro"),
        "coordinate ascent, macro-F1": lambda: climb("f1_macro"),
        "argmax": lambda: plain(0.0),
        "tau = 1": lambda: plain(1.0),
    }
    return in_turn(f"Free biases, {rows:,} rows, {classes} classes", contenders, rounds=1)


def beside_the_peer(rows: int = 2_000, classes: int = 10) -> Result:
    """A size that the peer finishes: macro-F1 from the same softmax."""
    logits, labels, prior = long_tailed(rows, classes)
    exps = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = (exps / exps.sum(axis=1, keepdims=True)).astype(np.float64)
    names = [str(i) for i in range(classes)]

    def ours() -> str:
        starts = [np.zeros(classes), -np.log(prior)]
        end = coordinate_ascent(Sample(logits, labels), parse_objective("f1_macro", None, names), starts)
        return f"macro-F1 {float(end.score.gain):.4f}"

    def peer() -> str:
        try:
            from optimal_cutoffs import get_optimal_multiclass_thresholds
        except ImportError:
            return "not installed: pip install optimal-classification-cutoffs"
        found = get_optimal_multiclass_thresholds(labels, probabilities, metric="f1", method="coord_ascent")
        decided = (probabilities - found.thresholds).argmax(axis=1)
        return f"macro-F1 {f1_score(labels, decided, average='macro'):.4f}"

    contenders = {"coordinate ascent, two starts": ours, "optimal-classification-cutoffs, coord_ascent": peer}
    return in_turn(f"Free biases for macro-F1, {rows:,} rows, {classes} classes", contenders, rounds=1)


def beside_a_loop(rows: int = 20_000, classes: int = 20) -> Result:
    """One class swept once, beside counting anew at each of its cuts (a hundredth of them, times a hundred)."""
    logits, labels, _ = long_tailed(rows, classes)
    objective = parse_objective("f1_macro", None, [str(i) for i in range(classes)])
    sample = Sample(logits, labels)
    board = Board(sample.columns, np.zeros(classes))

    def ours() -> str:
        return f"macro-F1 {float(sweep_class(sample, board, 7, objective)[1].gain):.6f}"

    def loop() -> str:
        scores = logits.astype(np.float64)
        gaps = np.sort(np.delete(scores, 7, axis=1).max(axis=1) - scores[:, 7])
        best = 0.0
        for bias in ((gaps[1:] + gaps[:-1]) / 2)[:: rows // 200]:
            scores[:, 7] = logits[:, 7] + bias
            best = max(best, float(f1_score(labels, scores.argmax(axis=1), average="macro")))
        return f"macro-F1 {best:.6f} at 200 of {rows:,} cuts"

    return in_turn(f"One class swept, {rows:,} rows, {classes} classes", {"sweep_class": ours, "loop": loop}, rounds=1)
