"""Independent answers: plain definitions, brute force, and the paper's gradient descent."""

import math
from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


def ratio(numerator: float, denominator: float) -> float:
    """A quotient, NaN for a zero denominator."""
    return numerator / denominator if denominator else math.nan


def binary_metric(name: str, tp: int, fp: int, fn: int, tn: int) -> float:
    """Textbook definitions from the four cells."""
    recall, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
    spread = math.sqrt(tp + fp) * math.sqrt(tp + fn) * math.sqrt(tn + fp) * math.sqrt(tn + fn)
    return {
        "accuracy": lambda: ratio(tp + tn, tp + fp + fn + tn),
        "balanced_accuracy": lambda: (recall + specificity) / 2,
        "precision": lambda: ratio(tp, tp + fp),
        "recall": lambda: recall,
        "specificity": lambda: specificity,
        "f1": lambda: ratio(2 * tp, 2 * tp + fp + fn),
        "fbeta(2)": lambda: ratio(5 * tp, 5 * tp + 4 * fn + fp),
        "fbeta(0.5)": lambda: ratio(1.25 * tp, 1.25 * tp + 0.25 * fn + fp),
        "g_mean": lambda: math.sqrt(recall * specificity),
        "mcc": lambda: ratio(tp * tn - fp * fn, spread),
    }[name]()


BINARY_METRICS = (
    "accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1", "fbeta(2)", "fbeta(0.5)", "g_mean",
    "mcc",
)  # fmt: skip


def cells(labels: NDArray[np.int64], decided: NDArray[np.int64], positive: int = 1) -> tuple[int, int, int, int]:
    """tp, fp, fn, tn."""
    actual, alert = labels == positive, decided == positive
    return (
        int((actual & alert).sum()),
        int((~actual & alert).sum()),
        int((actual & ~alert).sum()),
        int((~actual & ~alert).sum()),
    )


def best_by_brute_force(name: str, margins: NDArray[np.floating], labels: NDArray[np.int64], positive: int) -> float:
    """The best value of a metric over every way to cut the margins, by trying each."""
    toward = margins if positive == 1 else -margins
    rules = [np.zeros(len(labels), dtype=bool)] + [toward >= value for value in np.unique(toward)]
    values = [binary_metric(name, *cells(labels, np.where(rule, positive, 1 - positive), positive)) for rule in rules]
    values = [value for value in values if not math.isnan(value)]
    return max(values) if values else math.nan


def macro(name: str, labels: NDArray[np.int64], decided: NDArray[np.int64], k: int) -> float:
    """The mean over classes of a per-class metric."""
    return sum(binary_metric(name, *cells(labels, decided, c)) for c in range(k)) / k


def gradient_descent_bias(
    logits: NDArray[np.floating], target: NDArray[np.float64], rate: float = 1.0, steps: int = 20_000
) -> NDArray[np.float64]:
    """The paper's way to a target model imbalance state: descent on KL(r || P(b)), b starting at zero.

    The gradient of KL(r || P) in b is -J r/P with J = diag(P) - mean(p p'), p the rows' probabilities.
    """
    z = logits.astype(np.float64)
    b = np.zeros(z.shape[1])
    for _ in range(steps):
        exps = np.exp(z + b - (z + b).max(axis=1, keepdims=True))
        p = exps / exps.sum(axis=1, keepdims=True)
        state = p.mean(axis=0)
        jacobian = np.diag(state) - p.T @ p / len(p)
        step = jacobian @ (target / state)
        b = b + rate * step
        if np.abs(step).max() < 1e-13:
            break
    return b


def best_one_class(value_of: Callable[[NDArray[np.int64]], float], scores: NDArray[np.float64], index: int) -> float:
    """The best metric over every bias of one class that decides some row differently."""
    others = np.delete(scores, index, axis=1).max(axis=1)
    gaps = np.unique(others - scores[:, index])
    biases: Iterable[float] = [gaps[0] - 1, *((gaps[1:] + gaps[:-1]) / 2), gaps[-1] + 1]
    best = -math.inf
    for bias in biases:
        moved = scores.copy()
        moved[:, index] += bias
        value = value_of(moved.argmax(axis=1))
        best = max(best, value) if not math.isnan(value) else best
    return best


def exact_gain(name: str, tp: Fraction, fp: Fraction, fn: Fraction, tn: Fraction) -> Fraction | None:
    """The gain in fractions, of a root its square with its sign; None for 0/0."""
    recall, specificity = tp / (tp + fn), tn / (tn + fp)
    n, hits = tp + fp + fn + tn, tp + tn
    chance = (tp + fp) * (tp + fn) + (tn + fn) * (tn + fp)
    covariance, spread = tp * tn - fp * fn, (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    parts = {
        "accuracy": (hits, n),
        "balanced_accuracy": (recall + specificity, Fraction(2)),
        "precision": (tp, tp + fp),
        "npv": (tn, tn + fn),
        "f1": (2 * tp, 2 * tp + fp + fn),
        "fbeta(2)": (5 * tp, 5 * tp + 4 * fn + fp),
        "youden": (recall + specificity - 1, Fraction(1)),
        "net_benefit(0.25)": (tp - fp / 3, n),
        "cost(fp=0.1, fn=0.3)": (-(fp + 3 * fn), n),
        "kappa": (n * hits - chance, n * n - chance),
        "g_mean": (recall * specificity, Fraction(1)),
        "mcc": (covariance * abs(covariance), spread),
    }[name]
    return parts[0] / parts[1] if parts[1] else None


RATIONAL = ["accuracy", "balanced_accuracy", "precision", "npv", "f1", "fbeta(2)", "youden", "net_benefit(0.25)",
            "cost(fp=0.1, fn=0.3)", "kappa", "g_mean", "mcc"]  # fmt: skip
