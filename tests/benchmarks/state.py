"""The bias for a target model imbalance state, beside the paper's gradient descent to the same divergence."""

import numpy as np
from numpy.typing import NDArray

from calibrate.state import bias_for_state, model_imbalance_state
from tests.benchmarks.timing import Result, in_turn


def newton_and_descent(rows: int = 100_000, classes: int = 2, most_steps: int = 3000) -> Result:
    """Logits as a trained model has them; the target is the balanced state. Descent stops after `most_steps` and tells
    what divergence it had reached by then.
    """
    rng = np.random.default_rng(0)
    prior = 0.5 ** np.arange(classes) if classes > 2 else np.array([0.98, 0.02])
    prior = np.maximum(prior / prior.sum(), 1e-3)
    logits = rng.normal(size=(rows, classes)) * 2 + np.log(prior)
    target = np.full(classes, 1 / classes)

    def divergence(bias: NDArray[np.float64]) -> float:
        return float((target * np.log(target / model_imbalance_state(logits + bias))).sum())

    goal = 1e-10

    def newton() -> str:
        return f"divergence {divergence(bias_for_state(logits, target)):.2g}"

    def descent(rate: float) -> str:
        bias, taken = np.zeros(classes), 0
        for taken in range(most_steps):  # noqa: B007 (told below)
            exps = np.exp(logits + bias - (logits + bias).max(axis=1, keepdims=True))
            p = exps / exps.sum(axis=1, keepdims=True)
            state = p.mean(axis=0)
            if (target * np.log(target / state)).sum() <= goal:
                break
            bias = bias + rate * (np.diag(state) - p.T @ p / rows) @ (target / state)
        return f"divergence {divergence(bias):.2g} after {taken} steps"

    contenders = {
        "Newton": newton,
        "gradient descent, rate 1": lambda: descent(1.0),
        "gradient descent, rate 10": lambda: descent(10.0),
    }
    return in_turn(f"Bias for the balanced state, {rows:,} rows, {classes} classes", contenders, rounds=1)
