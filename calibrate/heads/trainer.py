"""One trainer for every loss and sampler: a linear layer on features that are held in memory.

Decided here: the objective is the mean loss over the sampler's draws plus `l2 / 2 |weight|^2` (weight decay; the bias
is free), in float64. Up to `full_batch` numbers it is minimised whole, by L-BFGS, which takes the sampler's mean
exactly and has no learning rate to choose; beyond that by Adam on drawn batches, its steps halved whenever a pass gains
nothing. Features are centred and brought to one spread first and the answer is brought back: the same minimum, in far
fewer steps. It runs on the GPU where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float64, Int

from calibrate.errors import NotConverged
from calibrate.heads.losses import LOSSES, Loss
from calibrate.heads.samplers import SAMPLERS

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK_ROWS = 65_536
_SLOPE, _SLOPE_OF_BATCHES = 1e-6, 3e-3
_MOST_STEPS, _MOST_PASSES = 2000, 200
_MEMORY = 20
_LEAST_RATE = 1e-6
_LEAST_BATCHES = 100  # of a pass, so that its mean is worth comparing


@dataclass(frozen=True)
class Training:
    """What to train on: a loss, a sampler and their options.

    `l2` is the weight decay. At most `full_batch` numbers (rows times columns) are trained on as a whole; more, in
    batches of `batch_rows`, Adam's steps starting at `rate`.
    """

    loss: str
    sampler: str
    l2: float = 5e-4
    full_batch: int = 2**28
    batch_rows: int = 1024
    rate: float = 1e-2


@dataclass(frozen=True, eq=False)
class _Problem:
    """The rows on the device, centred and of one spread, and what each weighs; `spread` (d,) of the plain features."""

    x: Tensor
    y: Tensor
    share: Tensor
    counts: Tensor
    spread: Tensor
    loss: Loss
    l2: float

    def value(self, weight: Tensor, bias: Tensor, rows: Tensor | slice, share: Tensor) -> Tensor:
        """The loss of these rows, each by its share, without the penalty."""
        return (self.loss(self.x[rows] @ weight.T + bias, self.y[rows], self.counts) * share).sum()

    def penalty(self, weight: Tensor) -> Tensor:
        """The weight decay, of the weights as they are on plain features."""
        return self.l2 / 2 * ((weight / self.spread) ** 2).sum()

    def whole(self, weight: Tensor, bias: Tensor) -> float:
        """The objective over all rows by chunks, its gradient added to that of the two tensors."""
        import torch

        penalty = self.penalty(weight)
        torch.autograd.backward(penalty)
        total = float(penalty.detach())
        for start in range(0, self.y.numel(), _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            value = self.value(weight, bias, rows, self.share[rows])
            torch.autograd.backward(value)
            total += float(value.detach())
        return total


def train_head(
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, "n"],
    weights: Float64[np.ndarray, "n"] | None,
    k: int,
    training: Training,
    rng: np.random.Generator,
) -> tuple[Float64[np.ndarray, "k d"], Float64[np.ndarray, "k"]]:
    """Weight (k, d) and bias (k,) of least objective; `rng` draws the batches. Raises: `NotConverged`."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    own = np.ones(labels.size) if weights is None else weights
    counts = np.bincount(labels, own, k).astype(np.float64)
    share = own * (SAMPLERS[training.sampler](counts) / counts)[labels]
    x = torch.tensor(features, dtype=torch.float64, device=device)
    middle = x.mean(dim=0)
    spread = torch.sqrt(x.var(dim=0, correction=0) + 4 * training.l2)  # so that the objective curves alike everywhere
    spread = torch.where(spread > 1e-12 * x.abs().amax(dim=0), spread, 1.0)
    problem = _Problem(
        (x - middle) / spread,
        torch.tensor(labels, dtype=torch.int64, device=device),
        torch.tensor(share, device=device),
        torch.tensor(counts, device=device),
        spread,
        LOSSES[training.loss],
        training.l2,
    )
    weight = torch.zeros(k, features.shape[1], dtype=torch.float64, device=device, requires_grad=True)
    bias = torch.zeros(k, dtype=torch.float64, device=device, requires_grad=True)
    if features.size <= training.full_batch:
        _descend(problem, weight, bias)
    else:
        _descend_by_batches(problem, weight, bias, training, rng)
    with torch.no_grad():
        plain = weight / spread
        found = plain.cpu().numpy(), (bias - plain @ middle).cpu().numpy()
    return found[0], found[1] - found[1].mean()


def _descend(problem: _Problem, weight: Tensor, bias: Tensor) -> None:
    import torch
    from scipy.optimize import minimize

    def put(flat: Float64[np.ndarray, "p"]) -> None:
        values = torch.from_numpy(flat).to(weight.device)
        with torch.no_grad():
            weight.copy_(values[: weight.numel()].reshape(weight.shape))
            bias.copy_(values[weight.numel() :])
        weight.grad = bias.grad = None

    def objective(flat: Float64[np.ndarray, "p"]) -> tuple[float, Float64[np.ndarray, "p"]]:
        put(flat)
        value = problem.whole(weight, bias)
        slopes = [each.grad.cpu().numpy().ravel() for each in (weight, bias) if each.grad is not None]
        return value, np.concatenate(slopes)

    options = {"maxiter": _MOST_STEPS, "maxfun": 5 * _MOST_STEPS, "maxcor": _MEMORY, "ftol": 0.0, "gtol": _SLOPE}
    start = np.zeros(weight.numel() + bias.numel())
    put(minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x)
    slope = _slope(problem, weight, bias)
    if not slope <= 10 * _SLOPE:
        raise NotConverged(
            f"the head stopped at a slope of {slope:.3g} after at most {_MOST_STEPS} steps, wanted {_SLOPE:g}: a "
            f"larger l2 than {problem.l2:g} makes it converge, above all where the classes are separable"
        )


def _descend_by_batches(
    problem: _Problem, weight: Tensor, bias: Tensor, training: Training, rng: np.random.Generator
) -> None:
    """Adam on batches drawn by the sampler; each pass ends in the mean of its iterates, which is what is kept."""
    import torch

    n = problem.y.numel()
    ends = np.cumsum(problem.share.cpu().numpy())
    rate, best = training.rate, np.inf
    optimizer = torch.optim.Adam([weight, bias], lr=rate)
    for _ in range(_MOST_PASSES):
        sums = torch.zeros_like(weight), torch.zeros_like(bias)
        steps = max(_LEAST_BATCHES, -(-n // training.batch_rows))
        for _ in range(steps):
            drawn = np.minimum(np.searchsorted(ends, rng.random(training.batch_rows) * ends[-1], side="right"), n - 1)
            rows = torch.from_numpy(drawn).to(problem.y.device)
            optimizer.zero_grad()
            even = torch.full_like(problem.share[rows], float(ends[-1]) / training.batch_rows)
            torch.autograd.backward(problem.value(weight, bias, rows, even) + problem.penalty(weight))
            optimizer.step()
            with torch.no_grad():
                sums[0].add_(weight)
                sums[1].add_(bias)
        with torch.no_grad():
            weight.copy_(sums[0] / steps)
            bias.copy_(sums[1] / steps)
        optimizer.zero_grad()
        value = problem.whole(weight, bias)
        if _largest(weight, bias) <= _SLOPE_OF_BATCHES or rate < _LEAST_RATE:
            break
        if value > best * (1 - 1e-3):
            rate /= 2
            for group in optimizer.param_groups:
                group["lr"] = rate
        best = min(best, value)
    slope = _slope(problem, weight, bias)
    if not slope <= _SLOPE_OF_BATCHES:
        raise NotConverged(
            f"the head stopped at a slope of {slope:.3g} in batches, wanted {_SLOPE_OF_BATCHES:g}: a larger l2 than "
            f"{problem.l2:g}, larger batches than {training.batch_rows} rows, or full_batch={problem.x.numel()} help"
        )


def _slope(problem: _Problem, weight: Tensor, bias: Tensor) -> float:
    """The largest slope of the objective over all rows."""
    weight.grad = bias.grad = None
    problem.whole(weight, bias)
    return _largest(weight, bias)


def _largest(weight: Tensor, bias: Tensor) -> float:
    if weight.grad is None or bias.grad is None:
        return float("nan")
    return max(float(weight.grad.abs().max()), float(bias.grad.abs().max()))
