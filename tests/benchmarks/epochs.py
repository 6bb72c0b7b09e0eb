"""What the epoch selector finds and what it costs, in the training of a small network.

Without an argument on the bundled hypothyroid data; `python -m tests.benchmarks.epochs FILE.npz` takes features (n, d)
and labels (n,) of any data, sentence embeddings say. Half of the rows train, a quarter chooses epoch and point, a
quarter is seen once, at the end. The network has two hidden layers of 128 and is trained by Adam without regard to the
imbalance.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrate.training import EpochSelector, Selection
from tests.benchmarks.timing import Result, Row
from tests.reference import binary_metric, cells

EPOCHS = 30
SEEDS = 5
WIDTH = 128
METRICS = ("f1", "g_mean")


def bundled() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The hypothyroid rows, missing numbers at the median and marked, numbers scaled."""
    from service.demo.patients import NUMBERS, read_patients

    patients = read_patients()
    numbers = np.log1p(patients.rows[:, : len(NUMBERS)])
    missing = np.isnan(numbers)
    numbers = np.where(missing, np.nanmedian(numbers, axis=0), numbers)
    codes = np.nan_to_num(patients.rows[:, len(NUMBERS) :], nan=0.5)
    scaled = (numbers - numbers.mean(axis=0)) / numbers.std(axis=0)
    return np.concatenate([scaled, missing, codes], axis=1).astype(np.float32), patients.labels


def run(
    features: NDArray[np.float32], labels: NDArray[np.int64], metric: str, scoring: str, seed: int
) -> tuple[Selection, dict[str, float]]:
    """One training run: the selection, and what each way of choosing reaches on the rows that were kept away."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    parts: list[list[Any]] = [[], [], []]
    for label in (0, 1):
        same = rng.permutation(np.flatnonzero(labels == label))
        for part, some in zip(parts, np.split(same, [same.size // 2, same.size * 3 // 4]), strict=True):
            part.append(some)
    train, valid, test = (np.concatenate(part) for part in parts)
    x, y = torch.tensor(features), torch.tensor(labels)
    network = nn.Sequential(
        nn.Linear(features.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2)
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    selector = EpochSelector(metric, classes=["no", "yes"], scoring=scoring)
    held: list[NDArray[np.float32]] = []
    for epoch in range(EPOCHS):
        network.train()
        for batch in torch.split(torch.tensor(train)[torch.randperm(train.size)], 32):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(network(x[batch]), y[batch]))
            optimizer.step()
        network.eval()
        with torch.no_grad():
            logits = network(x[valid])
            held.append(network(x[test]).numpy())
        selector.after_epoch(epoch, logits, labels[valid])
    found = selector.result()
    best, plain = found.best, found.plain

    def reached(decided: NDArray[np.int64]) -> float:
        return binary_metric(metric, *cells(labels[test], decided))

    return found, {
        "adjusted": reached(best.point.decide(held[int(best.epoch)])),
        "plain": reached(plain.point.decide(held[int(plain.epoch)])),
        "last epoch, plain": reached(held[-1].argmax(axis=1)),
    }


def epochs(path: str | None = None, scoring: str = "cross_fitted") -> Result:
    """Each metric over five seeds: held-out value of each way, the honest estimate, what the epochs cost."""
    if path is None:
        features, labels = bundled()
        name = "hypothyroid"
    else:
        with np.load(path) as file:
            features, labels = file["features"].astype(np.float32), file["labels"].astype(np.int64)
        name = Path(path).stem
    rows = []
    for metric in METRICS:
        begun = time.perf_counter()
        runs = [run(features, labels, metric, scoring, seed) for seed in range(SEEDS)]
        seconds = (time.perf_counter() - begun) / SEEDS
        values = {way: np.array([each[1][way] for each in runs]) for way in runs[0][1]}
        gain = values["adjusted"] - values["plain"]
        own = np.mean([found.best.value for found, _ in runs])
        told = [found.evidence["adjusted"].value for found, _ in runs if found.evidence]
        same = sum(found.best.epoch == found.plain.epoch for found, _ in runs)
        answer = (
            f"new rows: adjusted pair {values['adjusted'].mean():.3f}, plain choice {values['plain'].mean():.3f} "
            f"(gain {gain.mean():+.3f} +- {gain.std(ddof=1) / SEEDS**0.5:.3f}), last epoch "
            f"{values['last epoch, plain'].mean():.3f}; the choice's own number {own:.3f}, "
            f"{scoring} {np.mean(told) if told else float('nan'):.3f}; same epoch in {same} of {SEEDS}; selector "
            f"{np.mean([found.share for found, _ in runs]):.1%} of the run, "
            f"{1000 * np.mean([found.seconds for found, _ in runs]) / EPOCHS:.1f} ms an epoch"
        )
        rows.append(Row(f"{metric}, {scoring}", seconds, answer))
    size, positives = labels.size, labels.mean()
    return Result(f"Best epoch of {EPOCHS}, {name}, {size:,} rows, {positives:.1%} positive, {SEEDS} seeds", rows)


if __name__ == "__main__":
    for way in ("cross_fitted", "half_split"):
        print(epochs(sys.argv[1] if len(sys.argv) > 1 else None, way).to_markdown(), flush=True)
