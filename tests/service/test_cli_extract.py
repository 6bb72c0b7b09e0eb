"""`setpoint extract`: an ONNX file, or code of one's own, and rows in files become a cache."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from calibrate import open_cache, read_cache
from calibrate.io.origin import read_origin
from tests import models
from tests.service.test_cli import setpoint

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, models.WIDTH)).astype(np.float32)
NAMES = np.array(["clear", "fraud"])[np.arange(12) % 2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of two described columns among four, and rows for it in each kind of file."""
    columns = [{"name": f"c{i}", "kind": "number", "missing": "", "codes": {}} for i in range(models.WIDTH)]
    columns[2] = {"name": "c2", "kind": "category", "missing": "", "codes": {"low": 0.0, "high": 1.0}}
    about = {"classes": ["clear", "fraud"], "prior": [0.9, 0.1], "columns": columns}
    (tmp_path / "model.onnx").write_bytes(models.network(2, metadata={"setpoint": json.dumps(about)}))
    X[:, 2] = np.arange(12) % 2
    np.savez(tmp_path / "rows.npz", inputs=X, labels=NAMES, cost_fn=np.arange(12.0))
    table = pa.table(
        {
            "fraudulent": NAMES,
            **{f"c{i}": X[:, i] for i in (3, 1, 0)},
            "c2": np.array(["low", "high"])[X[:, 2].astype(int)],
        }
    )
    csv.write_csv(table, tmp_path / "rows.csv")
    parquet.write_table(table, tmp_path / "rows.parquet")
    return tmp_path


def test_a_model_and_rows_become_a_cache(folder: Path) -> None:
    """From .npz, CSV and Parquet, to .npz and Parquet; columns by the model's own names and codes."""
    said = setpoint("extract", folder / "model.onnx", folder / "rows.npz", "--out", folder / "val.npz").stdout
    assert said.startswith("12 rows of clear, fraud: 6 features (head logits), saved to ")
    expected = read_cache(folder / "val.npz")
    features, logits = models.forward(models.weights(2), X)
    assert np.allclose(expected.features, features, atol=1e-6)  # type: ignore[arg-type]
    assert np.allclose(expected.logits, logits, atol=1e-5)
    assert (expected.cost_fn.tolist(), expected.prior.tolist()) == (list(range(12)), [0.9, 0.1])  # type: ignore[union-attr]
    for rows in ("rows.csv", "rows.parquet"):
        out = folder / "again.parquet"
        arguments = ("extract", folder / "model.onnx", folder / rows, "--label", "fraudulent", "--out", out, "--json")
        found = json.loads(setpoint(*arguments, "--prior", "0.8,0.2").stdout)
        assert (found["rows"], found["classes"], found["prior"]) == (12, ["clear", "fraud"], [0.8, 0.2])
        assert np.allclose(read_cache(out).logits, expected.logits, atol=1e-5)
        assert next(open_cache(out).batches()).labels.tolist() == expected.labels.tolist()
        origin = read_origin(out)
        assert origin is not None
        assert found["origin"]["model_digest"] == origin.model_digest == read_origin(folder / "val.npz").model_digest  # type: ignore[union-attr]


def test_code_of_ones_own(folder: Path) -> None:
    """A module beside the data is imported only when told to."""
    (folder / "mine.py").write_text(
        "import torch\n\ndef make():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))\n"
    )
    out = folder / "mine.npz"
    end = (folder / "rows.npz", "--out", out)
    done = setpoint("extract", "mine:make", *end, code=1)
    assert "there is no file mine:make; wanted an ONNX file, or for code of your own --torch" in done.stderr
    done = setpoint("extract", "mine:make", *end, "--torch", code=1, PYTHONPATH=str(folder))
    assert "labels are named ('clear'), and the model does not name its classes: pass classes=" in done.stderr
    done = setpoint("extract", "mine:make", *end, "--torch", "--classes", "clear,fraud", PYTHONPATH=str(folder))
    assert "12 rows of clear, fraud: 3 features (head 2)" in done.stdout
    assert "the training prior is not known" in done.stdout
    done = setpoint("extract", "mine:none", *end, "--torch", PYTHONPATH=str(folder), code=1)
    assert "mine:none: module 'mine' has no attribute 'none'" in done.stderr


def test_what_does_not_fit_is_one_line(folder: Path) -> None:
    """A missing file, labels that are not there, a code that is not known."""
    cases = [
        (("model.onnx", "none.npz"), "there is no file"),
        (("model.onnx", "rows.csv"), "wanted labels under labels or label or targets or target, got fraudulent, c3"),
        (("rows.npz", "rows.npz"), "not an ONNX"),
    ]
    for (model, rows), said in cases:
        done = setpoint("extract", folder / model, folder / rows, "--out", folder / "x.npz", code=1)
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    table = csv.read_csv(folder / "rows.csv")
    place = table.column_names.index("c2")
    csv.write_csv(table.set_column(place, "c2", pa.array(["low"] * 11 + ["huge"])), folder / "bad.csv")
    done = setpoint("extract", folder / "model.onnx", folder / "bad.csv", "--label", "fraudulent", "--out", "x", code=1)
    assert "column 'c2', row 11: wanted one of low, high, got 'huge'" in done.stderr


def test_columns_of_a_file_are_matched_by_name(folder: Path) -> None:
    """What the model does not know, what is missing and what comes twice is one line; an empty cell is missing."""
    rows = csv.read_csv(folder / "rows.csv")
    twice = (folder / "rows.csv").read_text().splitlines()
    tables = {
        "wanted the columns c0, c1, c2, c3; got 'id'": rows.append_column("id", pa.array(range(12))),
        "column 'c1' is missing from c3, c0, c2": rows.drop_columns("c1"),
    }
    for message, table in tables.items():
        csv.write_csv(table, folder / "other.csv")
        arguments = (folder / "model.onnx", folder / "other.csv", "--label", "fraudulent", "--out", folder / "x.npz")
        done = setpoint("extract", *arguments, code=1)
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    (folder / "twice.csv").write_text("\n".join(f"{line},{line.split(',')[1]}" for line in twice))
    arguments = (folder / "model.onnx", folder / "twice.csv", "--label", "fraudulent", "--out", folder / "x.npz")
    assert "column 'c3' comes more than once" in setpoint("extract", *arguments, code=1).stderr
