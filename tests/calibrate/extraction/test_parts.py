"""An interrupted extraction goes on where it stopped, and only there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from calibrate import CacheStream, FeatureCache, extract, read_cache
from calibrate.errors import BadCache
from calibrate.extraction import parts
from calibrate.io.origin import read_origin

RNG = np.random.default_rng(0)
SCORES, LABELS = RNG.normal(size=(20, 3)).astype(np.float32), np.arange(20) % 3


class Model:
    """Stands for a network in counting the rows that it was run on; may stop as a user stops it."""

    def __init__(self, stop_at: int | None = None, name: str = "a") -> None:
        self.rows, self.stop_at, self.name = 0, stop_at, name

    def named_modules(self) -> list[Any]:
        """As a PyTorch module has them."""
        return []


@pytest.fixture(autouse=True)
def _as_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Model` is extracted by a function of ours, with a digest, which a function of the caller's does not have."""
    from contextlib import contextmanager

    from calibrate.extraction import torch_module
    from calibrate.extraction.model import Batch, Extractor

    @contextmanager
    def extractor(model: Model, first: Batch, **_: object) -> Iterator[Extractor]:
        def run(batch: Batch) -> np.ndarray:
            if model.stop_at is not None and batch.first_row >= model.stop_at:
                raise KeyboardInterrupt
            model.rows += batch.rows
            return np.asarray(batch.args[0]) * 2

        assert first.rows
        yield Extractor(run, "torch", model.name)

    monkeypatch.setattr(torch_module, "torch_extractor", extractor)


def interrupted(out: Path, stop_at: int = 12, **options: Any) -> None:
    """A first run that a user stopped."""
    with pytest.raises(KeyboardInterrupt):
        extract(Model(stop_at), (SCORES, LABELS), out=out, batch_rows=4, **options)
    assert not out.exists()


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".arrow"])
@pytest.mark.parametrize("part_bytes", [1, 2**20])
def test_it_goes_on_where_it_stopped(
    suffix: str, part_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model sees only the rows that it had not seen; the file is the same as without an interruption."""
    monkeypatch.setattr(parts, "_PART_BYTES", part_bytes)
    out = tmp_path / f"cache{suffix}"
    interrupted(out)
    model = Model()
    again = extract(model, (SCORES, LABELS), out=out, batch_rows=4)
    assert model.rows == 8
    assert isinstance(again, FeatureCache)
    assert np.array_equal(again.logits, SCORES * 2)
    assert again.logits.dtype == np.float32
    assert again.labels.tolist() == LABELS.tolist()
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    whole = tmp_path / f"whole{suffix}"
    extract(Model(), (SCORES, LABELS), out=whole, batch_rows=7)
    assert read_origin(whole) == read_origin(out)
    assert read_cache(whole).digest == again.digest


def test_rows_that_changed_are_run_again(tmp_path: Path) -> None:
    """From the first that differs on, in inputs, labels or order; those before it are kept."""
    out = tmp_path / "cache.npz"
    interrupted(out)
    changed = SCORES.copy()
    changed[5] += 1
    model = Model()
    cache = extract(model, (changed, LABELS), out=out, batch_rows=4)
    assert model.rows == 16
    assert isinstance(cache, FeatureCache)
    assert np.array_equal(cache.logits, changed * 2)
    out = tmp_path / "shorter.npz"
    interrupted(out)
    shorter = extract(model, (SCORES[:8], LABELS[:8]), out=out, batch_rows=4)
    assert isinstance(shorter, FeatureCache)
    assert np.array_equal(shorter.logits, SCORES[:8] * 2)


def test_another_model_begins_anew(tmp_path: Path) -> None:
    """With a warning; without one where nobody asked to go on; other settings are another model."""
    out = tmp_path / "cache.npz"
    interrupted(out)
    model = Model(name="b")
    with pytest.warns(UserWarning, match="rows of another model"):
        extract(model, (SCORES, LABELS), out=out, batch_rows=4)
    assert model.rows == 20
    out = tmp_path / "again.npz"
    interrupted(out)
    model = Model()
    extract(model, (SCORES, LABELS), out=out, batch_rows=4, resume=False)
    assert model.rows == 20


def test_a_damaged_part_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And all after it."""
    monkeypatch.setattr(parts, "_PART_BYTES", 1)
    out = tmp_path / "cache.npz"
    interrupted(out)
    (tmp_path / "cache.npz.parts" / "000001.npz").write_bytes(b"PK nonsense")
    model = Model()
    cache = extract(model, (SCORES, LABELS), out=out, batch_rows=4)
    assert model.rows == 16
    assert isinstance(cache, FeatureCache)
    assert np.array_equal(cache.logits, SCORES * 2)


def test_two_runs_do_not_write_to_one_file(tmp_path: Path) -> None:
    """The second is told."""
    with FileLock(tmp_path / "cache.npz.parts.lock"), pytest.raises(BadCache, match="another extraction is writing"):
        extract(Model(), (SCORES, LABELS), out=tmp_path / "cache.npz")


def test_rows_may_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a stream of the file, in parts that were never together in memory; names as labels."""
    monkeypatch.setattr(parts, "_PART_BYTES", 1)
    names = np.array(["eel", "cat", "doggo"])[LABELS]
    named: dict[str, Any] = {"out": tmp_path / "cache.parquet", "batch_rows": 4, "classes": ["eel", "cat", "doggo"]}
    stream = extract(Model(), (SCORES, names), **named, in_memory=False)
    assert isinstance(stream, CacheStream)
    assert (stream.rows, stream.classes) == (20, ("eel", "cat", "doggo"))
    logits = np.concatenate([batch.logits for batch in stream.batches()])
    assert np.array_equal(logits, SCORES * 2)
    assert read_cache(tmp_path / "cache.parquet").labels.tolist() == LABELS.tolist()
    with pytest.raises(BadCache, match="need out="):
        extract(Model(), (SCORES, LABELS), out=tmp_path / "cache.npz", in_memory=False)


def test_names_of_any_length_and_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a part holds does not cut what a later one does."""
    monkeypatch.setattr(parts, "_PART_BYTES", 1)
    names = np.array(["a", "bb", "ccc"])[np.sort(LABELS)]
    for out in (tmp_path / "cache.npz", tmp_path / "cache.parquet"):
        classes = ["a", "bb", "ccc"]
        cache = extract(Model(), (SCORES, names), group=names.tolist(), classes=classes, out=out, batch_rows=4)
        assert isinstance(cache, FeatureCache)
        assert cache.classes == ("a", "bb", "ccc")
        assert cache.group is not None
        assert cache.group.tolist() == cache.labels.tolist() == np.sort(LABELS).tolist()
