"""Where rows came from, as cache files say it; and `.npz` files written in pieces."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from calibrate import feature_cache, read_cache, write_cache
from calibrate.errors import BadCache
from calibrate.io.npz_writer import write_npz_rows
from calibrate.io.origin import ENTRY, read_origin
from calibrate.io.table_writer import write_rows
from calibrate.origin import Origin

ORIGIN = Origin("torch", "0a" * 32, "ff" * 32, 5, "fc")
COLUMNS = {"logits": np.arange(10, dtype=np.float32).reshape(5, 2), "labels": np.array([0, 1, 0, 1, 1])}
SHARED = {"classes": np.array(["clear", "ill"]), "prior": np.array([0.9, 0.1]), "weight": None}


def batches() -> Iterator[dict[str, np.ndarray]]:
    """Two rows and three."""
    for rows in (slice(0, 2), slice(2, 5)):
        yield {name: values[rows] for name, values in COLUMNS.items()}


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".arrow"])
def test_a_file_says_where_its_rows_came_from(suffix: str, tmp_path: Path) -> None:
    """And is the same cache as one that does not say."""
    out, plain = tmp_path / f"said{suffix}", tmp_path / f"plain{suffix}"
    if suffix == ".npz":
        write_npz_rows(out, batches, SHARED, comment=ORIGIN.to_text())
        with np.load(out) as file:
            assert np.array_equal(file["logits"], COLUMNS["logits"])
    else:
        kind = {".parquet": "Parquet", ".arrow": "Arrow"}[suffix]
        write_rows(out, batches(), SHARED, kind, entries={ENTRY: ORIGIN.to_text()})
    cache = feature_cache(**COLUMNS, classes=["clear", "ill"], prior=[0.9, 0.1])
    write_cache(plain, cache)
    assert read_origin(out) == ORIGIN
    assert read_origin(plain) is None
    assert read_cache(out).digest == read_cache(plain).digest
    assert read_cache(out).logits.dtype == np.float32
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([out.name, plain.name])


def test_what_is_interrupted_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """Nothing half written has its name."""

    def broken() -> Iterator[dict[str, np.ndarray]]:
        yield from batches()
        raise KeyboardInterrupt

    def write(out: Path) -> None:
        if out.suffix == ".npz":
            write_npz_rows(out, broken, SHARED)
        else:
            write_rows(out, broken(), SHARED, {".parquet": "Parquet", ".arrow": "Arrow"}[out.suffix])

    for name in ("a.npz", "a.parquet", "a.arrow"):
        out = tmp_path / name
        out.write_bytes(b"before")
        with pytest.raises(KeyboardInterrupt):
            write(out)
        assert out.read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 3


def test_what_is_no_origin_is_refused(tmp_path: Path) -> None:
    """A comment of another kind, and what is no cache."""
    for text in (b"made by hand", b"[1]", b'{"model": "torch"}'):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.comment = text
        (tmp_path / "cache.npz").write_bytes(stream.getvalue())
        with pytest.raises(BadCache, match="does not say where its rows came from"):
            read_origin(tmp_path / "cache.npz")
    (tmp_path / "cache.npz").write_bytes(b"nonsense")
    with pytest.raises(BadCache):
        read_origin(tmp_path / "cache.npz")
