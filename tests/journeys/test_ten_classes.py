"""Ten classes and a network in torch: from arrays in a file to a served point, with independent numbers."""

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import f1_score

import calibrate
from tests.servers import running
from tests.service.test_cli import setpoint

NAMES = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"]
SHARES = np.geomspace(1, 0.02, 10)
SHARES /= SHARES.sum()


class Network(torch.nn.Module):
    """One hidden layer over eight numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = torch.nn.Linear(8, 24)
        self.head = torch.nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (n, 10)."""
        logits: torch.Tensor = self.head(torch.relu(self.hidden(x)))
        return logits


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten overlapping clouds of unequal size."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(10, 8)) * 1.1
    labels = rng.choice(10, n, p=SHARES)
    return (centres[labels] + rng.normal(size=(n, 8))).astype(np.float32), labels


def test_from_arrays_to_decisions(tmp_path: Path) -> None:
    """The macro F1 gains on rows that fitted nothing, and the server decides as the arithmetic by hand does."""
    torch.manual_seed(0)
    x, y = rows(4000, 1)
    model = Network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    x_val, y_val = rows(3000, 2)
    x_test, y_test = rows(6000, 3)

    cache = calibrate.extract(
        model, (x_val, np.array(NAMES)[y_val]), classes=NAMES, train_labels=y, out=tmp_path / "val.npz", progress=False
    )
    assert cache.features is not None
    assert cache.labels.tolist() == y_val.tolist()
    result = calibrate.fit(cache, metric="macro_f1")
    assert result.metric == "f1_macro"
    result.save(tmp_path / "macro.json")
    with torch.no_grad():
        logits = model(torch.from_numpy(x_test)).double().numpy()
    decided = (logits * result.point.scale + result.point.bias).argmax(axis=1)
    assert f1_score(y_test, decided, average="macro") > f1_score(y_test, logits.argmax(axis=1), average="macro")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        program = torch.onnx.export(
            model.eval(), (torch.zeros(2, 8),), dynamo=True, input_names=["x"], output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("rows")},), verbose=False,
        )  # fmt: skip
    assert program is not None
    (tmp_path / "model.onnx").write_bytes(program.model_proto.SerializeToString())
    with running(tmp_path) as server:
        to = ["--model", "animals", "--server", server.address]
        setpoint("publish", tmp_path / "model.onnx", "--classes", ",".join(NAMES), *to)
        setpoint("publish", tmp_path / "macro.json", *to)
        body = {"model": "animals", "operating_point": "macro", "inputs": x_test[:500].tolist()}
        reply = server.post("/predict", body)
        clear = np.sort(logits * result.point.scale + result.point.bias, axis=1)
        clear = (clear[:, -1] - clear[:, -2])[:500] > 1e-4  # float32 in another order may turn what is nearer
        labels = np.array([NAMES.index(row["label"]) for row in reply["predictions"]])
        assert np.array_equal(labels[clear], decided[:500][clear])
        listed = json.loads(setpoint("points", "list", "animals", "--server", server.address, "--json").stdout)
        assert {point["operating_point"]: point["metric"] for point in listed}["macro@1"] == "f1_macro"
