"""The demo's model: a small torch network with its preprocessing inside, and its export to one ONNX file.

What a client sends is the plain row of `patients.COLUMNS`; imputing, scaling and one-hot coding are part of the graph,
so they cannot be done differently in training and in service. The loss is plain cross-entropy on 5 % positives: the
bias towards the majority that comes of it is what operating points are there to regulate.
"""

import logging
import warnings
from collections.abc import Callable, Iterable

import numpy as np
import onnx
import torch
from jaxtyping import Float32
from torch import nn

from calibrate.cache import FeatureCache, feature_cache
from calibrate.io.description import Column, Description
from service.demo.patients import CLASSES, CODES, COLUMNS, NUMBERS, Patients

EPOCHS = 30
WIDTH = 16


class Network(nn.Module):
    """Rows (n, 19) with NaN for missing values in, logits (n, 2) out."""

    median: torch.Tensor
    mean: torch.Tensor
    spread: torch.Tensor
    codes: torch.Tensor

    def __init__(self, training: Patients) -> None:
        super().__init__()
        numbers = np.log1p(training.rows[:, : len(NUMBERS)])
        median = np.nanmedian(numbers, axis=0)
        filled = np.where(np.isnan(numbers), median, numbers)
        self.register_buffer("median", torch.tensor(median))
        self.register_buffer("mean", torch.tensor(filled.mean(axis=0)))
        self.register_buffer("spread", torch.tensor(filled.std(axis=0)))
        self.register_buffer("codes", torch.tensor([0.0, 1.0]))
        inputs = 2 * len(NUMBERS) + 2 * len(CODES)
        self.body = nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, WIDTH), nn.ReLU())
        self.head = nn.Linear(WIDTH, len(CLASSES))

    def features(self, rows: torch.Tensor) -> torch.Tensor:
        """What goes into the last layer, (n, 16)."""
        numbers, categories = torch.log1p(rows[:, : len(NUMBERS)]), rows[:, len(NUMBERS) :]
        missing = torch.isnan(numbers)
        scaled = (torch.where(missing, self.median, numbers) - self.mean) / self.spread
        one_hot = torch.eq(categories.unsqueeze(2), self.codes).flatten(1)
        made: torch.Tensor = self.body(torch.cat([scaled, missing.to(rows.dtype), one_hot.to(rows.dtype)], dim=1))
        return made

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Logits, (n, 2)."""
        made: torch.Tensor = self.head(self.features(rows))
        return made


def train(training: Patients, follow: Callable[[range], Iterable[int]], seed: int = 0) -> Network:
    """A trained network; `follow` is put around the epochs, to show how far it is."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # for a network this small more are no faster, and on busy cores several times slower
    network = Network(training)
    rows, labels = torch.tensor(training.rows), torch.tensor(training.labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3, weight_decay=1e-3)
    network.train()
    for _ in follow(range(EPOCHS)):
        for batch in torch.split(torch.randperm(len(rows)), 64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(rows[batch]), labels[batch])
            torch.autograd.backward(loss)
            optimizer.step()
    return network.eval()


def to_cache(network: Network, patients: Patients, prior: Float32[np.ndarray, "k"]) -> FeatureCache:
    """The last-layer features of some rows, with what is needed to make logits of them."""
    with torch.no_grad():
        features = network.features(torch.tensor(patients.rows)).numpy()
    weight, bias = (tensor.detach().numpy() for tensor in (network.head.weight, network.head.bias))
    return feature_cache(
        features=features, labels=patients.labels, classes=CLASSES, weight=weight, bias=bias, prior=prior
    )


def to_onnx(network: Network, prior: Float32[np.ndarray, "k"]) -> bytes:
    """One ONNX file, with classes, prior and columns described in its metadata."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names every torchvision operator that is not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch about itself
        program = torch.onnx.export(
            network,
            (torch.zeros(2, len(COLUMNS)),),
            dynamo=True,
            input_names=["patient"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("rows")},),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch gave no ONNX program")
    model = program.model_proto
    onnx.helper.set_model_props(model, describe(network, prior).to_metadata())
    return bytes(model.SerializeToString())


def describe(network: Network, prior: Float32[np.ndarray, "k"]) -> Description:
    """How to write a row for the network, and what it makes of a missing value."""
    medians = np.expm1(network.median.numpy())
    numbers = [
        Column(name, "number", f"taken as the training median, {median:.4g}, and marked as missing")
        for name, median in zip(NUMBERS, medians.tolist(), strict=True)
    ]
    categories = [Column(name, "category", "taken as none of the codes", codes) for name, codes in CODES.items()]
    return Description(
        classes=CLASSES,
        prior=tuple(prior.tolist()),
        columns=(*numbers, *categories),
        notes=(
            "numbers: log(1 + x), the training median for null, then training mean and standard deviation",
            "the ..._measured columns of the source are left out: null says the same",
        ),
    )
