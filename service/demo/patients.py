"""The demo's data: UCI hypothyroid, read as a practitioner would, and split so that no row is on both sides.

Decided here: the six `..._measured` columns are left out, because a missing value says the same; categories are sent
as codes; rows with the same inputs (77 are repeated) stay together in one part.
"""

import csv
import gzip
from collections import defaultdict
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from jaxtyping import Float32, Int64

CLASSES = ("negative", "hypothyroid")
NUMBERS = ("age", "TSH", "T3", "TT4", "T4U", "FTI", "TBG")
FLAGS = (
    "on_thyroxine", "query_on_thyroxine", "on_antithyroid_medication", "thyroid_surgery", "query_hypothyroid",
    "query_hyperthyroid", "pregnant", "sick", "tumor", "lithium", "goitre",
)  # fmt: skip
CODES: dict[str, dict[str, float]] = {"sex": {"F": 0, "M": 1}, **{flag: {"f": 0, "t": 1} for flag in FLAGS}}
COLUMNS = (*NUMBERS, *CODES)


@dataclass(frozen=True, eq=False)
class Patients:
    """Rows as a client sends them, (n, 19), NaN where a value is missing, and their class indices (n,)."""

    rows: Float32[np.ndarray, "n columns"]
    labels: Int64[np.ndarray, "n"]

    def part(self, chosen: Int64[np.ndarray, "m"]) -> "Patients":
        """Some of the rows."""
        return Patients(self.rows[chosen], self.labels[chosen])


def read_patients() -> Patients:
    """All 3,163 of them."""
    packed = files("service.demo").joinpath("data/uci_hypothyroid.csv.gz").read_bytes()
    lines = list(csv.DictReader(gzip.decompress(packed).decode().splitlines()))
    rows = [[_value(column, line[column]) for column in COLUMNS] for line in lines]
    labels = [CLASSES.index(line["class"]) for line in lines]
    return Patients(np.array(rows, dtype=np.float32), np.array(labels, dtype=np.int64))


def split(patients: Patients, shares: tuple[float, ...], rng: np.random.Generator) -> list[Patients]:
    """Parts of about these shares of each class; rows with the same inputs are all in one part."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, row in enumerate(patients.rows):
        groups[row.tobytes()].append(i)
    parts: list[list[int]] = [[] for _ in shares]
    for label in range(len(CLASSES)):
        same = [rows for rows in groups.values() if patients.labels[rows[0]] == label]
        ends = np.cumsum(shares) * sum(map(len, same))
        taken = 0
        for i in rng.permutation(len(same)):
            parts[min(int(np.searchsorted(ends, taken, side="right")), len(shares) - 1)] += same[i]
            taken += len(same[i])
    return [patients.part(np.array(sorted(part), dtype=np.int64)) for part in parts]


def _value(column: str, text: str) -> float:
    if text == "":
        return float("nan")
    return CODES[column][text] if column in CODES else float(text)
