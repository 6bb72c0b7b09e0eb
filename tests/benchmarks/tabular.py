"""Real tables for the benchmark of rules: KEEL's imbalanced sets and a folder of medical and fraud data.

Nothing is bundled: the folders are arguments, and a set that is not there is left out and named. Decided here: sets of
fewer than 150 rows or 20 positives are left out; KEEL's are split by rows, as everybody does; of the others rows with
the same inputs stay together, or where patients are known, all rows of one patient.
"""

import csv
import gzip
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_ROWS, MOST_KEEL_ROWS, LEAST_POSITIVES = 150, 5500, 20
_MISSING = {"", "?", "<null>", "nan", "None"}


@dataclass(frozen=True, eq=False)
class RealTable:
    """One data set: numbers (n, d), NaN where missing; categories (n, c) as codes; labels (n,), 1 the positive class;
    groups (n,) of rows that belong on one side of a split.
    """

    name: str
    numbers: NDArray[np.float64]
    categories: NDArray[np.int32]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]


def keel_tables(folder: Path) -> Iterator[RealTable]:
    """KEEL's two-class sets: `.dat` files of values with commas between, the last of them positive or negative."""
    for path in sorted(folder.glob("*.dat")):
        lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        rows = [[value.strip() for value in line] for line in lines if not line[0].startswith("@")]
        labels = np.array([row[-1] == "positive" for row in rows], dtype=np.int64)
        if LEAST_ROWS <= labels.size <= MOST_KEEL_ROWS and labels.sum() >= LEAST_POSITIVES:
            columns = [list(column) for column in zip(*rows, strict=True)][:-1]
            yield table(path.stem, columns, labels, np.arange(labels.size))


def real_tables(folder: Path) -> Iterator[RealTable]:
    """The sets of that folder that are tables of two classes, or of three taken one against the rest."""
    for name, read in READERS.items():
        if (folder / name).exists():
            yield from (each for each in read(folder / name) if _is_enough(each))


def _is_enough(each: RealTable) -> bool:
    return each.labels.size >= LEAST_ROWS and min(np.bincount(each.labels)) >= LEAST_POSITIVES


def table(
    name: str,
    columns: Iterable[Sequence[Any]],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64] | None = None,
    coded: Iterable[Sequence[Any]] = (),
) -> RealTable:
    """A table of columns: numbers where every value there is one; `coded` columns are categories whatever they hold."""
    numbers, categories = [], []
    for column in columns:
        values = [None if value is None or str(value).strip() in _MISSING else value for value in column]
        try:
            numbers.append(np.array([np.nan if value is None else float(value) for value in values]))
        except ValueError:
            categories.append(_codes(values))
    categories += [_codes(list(column)) for column in coded]
    n = labels.size
    stacked_numbers = np.array(numbers, dtype=np.float64).reshape(-1, n).T
    stacked_codes = np.array(categories, dtype=np.int32).reshape(-1, n).T
    if groups is None:
        inputs = np.hstack([np.nan_to_num(stacked_numbers, nan=-1e300), stacked_codes])
        groups = np.unique(inputs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return RealTable(name, stacked_numbers, stacked_codes, labels, groups)


def _codes(values: Sequence[Any]) -> NDArray[np.int32]:
    return np.unique([str(value) for value in values], return_inverse=True)[1].astype(np.int32)


def _hypothyroid(path: Path) -> Iterator[RealTable]:
    lines = list(csv.DictReader(gzip.decompress(path.read_bytes()).decode().splitlines()))
    labels = np.array([line["class"] == "hypothyroid" for line in lines], dtype=np.int64)
    names = [name for name in lines[0] if name != "class"]
    yield table("hypothyroid", ([line[name] for line in lines] for name in names), labels)


def _adbench(path: Path) -> Iterator[RealTable]:
    with np.load(path) as arrays:
        for name in sorted(key.removesuffix("_X") for key in arrays.files if key.endswith("_X")):
            yield table(f"adbench {name}", arrays[f"{name}_X"].T, arrays[f"{name}_y"].astype(np.int64))


def _columns(path: Path) -> Mapping[str, list[Any]]:
    import pyarrow.parquet as pq

    found: Mapping[str, list[Any]] = pq.read_table(path).to_pydict()
    return found


def _ann_thyroid(path: Path) -> Iterator[RealTable]:
    columns = _columns(path)
    inputs = [column for name, column in columns.items() if name not in ("class", "split")]
    for label in (1, 2):
        yield table(f"ann_thyroid {label}", inputs, np.equal(columns["class"], label).astype(np.int64))


def _stroke(path: Path) -> Iterator[RealTable]:
    columns = _columns(path)
    inputs = [column for name, column in columns.items() if name not in ("id", "stroke")]
    yield table("stroke", inputs, np.array(columns["stroke"], dtype=np.int64))


def _fraud(path: Path) -> Iterator[RealTable]:
    columns = _columns(path)
    inputs = [column for name, column in columns.items() if name not in ("PolicyNumber", "RepNumber", "FraudFound_P")]
    yield table("vehicle fraud", inputs, np.array(columns["FraudFound_P"], dtype=np.int64))


def _diabetes(path: Path) -> Iterator[RealTable]:
    """Patients, readmitted within 30 days or not; the codes of admissions and diagnoses are categories."""
    columns = _columns(path)
    left_out = {"encounter_id", "patient_nbr", "readmitted"}
    coded = [name for name in columns if name.endswith("_id") or name.startswith("diag_")]
    yield table(
        "diabetes readmission",
        (column for name, column in columns.items() if name not in {*left_out, *coded}),
        np.array([value == "<30" for value in columns["readmitted"]], dtype=np.int64),
        np.array(columns["patient_nbr"], dtype=np.int64),
        (columns[name] for name in coded if name != "encounter_id"),
    )


READERS: dict[str, Callable[[Path], Iterator[RealTable]]] = {
    "uci_hypothyroid.csv.gz": _hypothyroid,
    "uci_ann_thyroid.parquet": _ann_thyroid,
    "adbench_medical.npz": _adbench,
    "stroke_43400.parquet": _stroke,
    "vehicle_claim_fraud.parquet": _fraud,
    "diabetes130_readmission.parquet": _diabetes,
}
