"""What was extracted so far, in parts: in memory, or in a folder from which an interrupted run goes on.

Decided here: rows are never trusted to be the same again; they are read again, and each batch's digest of all rows up
to it decides whether what the model made of it is taken from a part. So a loader whose order changed, or other data,
costs a new run from the first row that differs, and can never mix. Reading is cheap beside the model. The parts of
another model, or of other settings, are thrown away.
"""

import json
import shutil
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.errors import BadCache

_PART_BYTES = 64 * 2**20
_PART_S = 30.0
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
_KEY = "key.json"
_ABOUT = ("batch_digests", "batch_rows")


@dataclass(frozen=True, eq=False)
class _Part:
    """Some batches: their columns, in memory or in a file, and for each batch its digest and number of rows."""

    digests: tuple[str, ...]
    rows: tuple[int, ...]
    held: Mapping[str, np.ndarray] | Path

    def read(self) -> dict[str, np.ndarray]:
        """The columns by name."""
        if not isinstance(self.held, Path):
            return dict(self.held)
        with np.load(self.held, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if name not in _ABOUT}


class Parts:
    """Batches of rows that a model was run on, in order; `folder` None keeps them in memory."""

    def __init__(self, folder: Path | None, key: str, *, resume: bool) -> None:
        self._folder = folder
        self._parts: list[_Part] = []
        self._pending: list[tuple[str, int, Mapping[str, np.ndarray]]] = []
        self._since = time.monotonic()
        self._at = (0, 0)  # the next batch of an earlier run: its part, and its place there
        self._lock: Any = None
        if folder is not None:
            self._open(folder, key, resume)

    def _open(self, folder: Path, key: str, resume: bool) -> None:
        from filelock import (  # not before: a server, which starts by importing this, has no use for it
            FileLock,
            Timeout,
        )

        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder.with_name(folder.name + ".lock"), timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise BadCache(f"another extraction is writing to {folder}") from None
        about = folder / _KEY
        held = about.read_text(encoding="utf-8") if about.exists() else None
        if held is not None and held != json.dumps(key):
            if resume:
                warnings.warn(
                    f"{folder} holds rows of another model, or made with other settings: begun anew", stacklevel=4
                )
            held = None
        if held is None or not resume:
            for path in folder.glob("*.npz"):
                path.unlink()
        about.write_text(json.dumps(key), encoding="utf-8")
        for path in sorted(folder.glob("*.npz")):
            try:
                with np.load(path, allow_pickle=False) as file:
                    digests, rows = (tuple(file[name].tolist()) for name in _ABOUT)
            except _UNREADABLE:
                break
            self._parts.append(_Part(digests, rows, path))

    def holds(self, digest: str) -> bool:
        """Whether an earlier run has the next batch; where it has another one, what it has from there on is dropped."""
        part, place = self._at
        if part >= len(self._parts):
            return False
        if self._parts[part].digests[place] != digest:
            self.drop_the_rest()
            return False
        self._at = (part, place + 1) if place + 1 < len(self._parts[part].digests) else (part + 1, 0)
        return True

    def drop_the_rest(self) -> None:
        """Forgets what an earlier run has beyond the batches that were asked for."""
        part, place = self._at
        if place:
            kept = self._parts[part]
            columns, start = kept.read(), 0
            for digest, rows in zip(kept.digests[:place], kept.rows[:place], strict=True):
                self._pending.append((digest, rows, {n: v[start : start + rows] for n, v in columns.items()}))
                start += rows
        for dropped in self._parts[part:]:
            if isinstance(dropped.held, Path):
                dropped.held.unlink()
        del self._parts[part:]
        self._at = (part, 0)

    def add(self, digest: str, rows: int, columns: Mapping[str, np.ndarray]) -> None:
        """Keeps a batch, and writes a part when it is large or old enough."""
        self._pending.append((digest, rows, columns))
        size = sum(values.nbytes for _, _, batch in self._pending for values in batch.values())
        if size >= _PART_BYTES or (self._folder is not None and time.monotonic() - self._since > _PART_S):
            self.flush()

    def flush(self) -> None:
        """Writes what is not yet in a part; a part is there whole or not at all."""
        if not self._pending:
            return
        digests = tuple(digest for digest, _, _ in self._pending)
        rows = tuple(number for _, number, _ in self._pending)
        names = list(self._pending[0][2])
        columns = {name: np.concatenate([batch[2][name] for batch in self._pending]) for name in names}
        held: Mapping[str, np.ndarray] | Path = columns
        if self._folder is not None:
            path = self._folder / f"{len(self._parts):06}.npz"
            unfinished = path.with_suffix(".tmp")
            with unfinished.open("wb") as file:
                np.savez(file, batch_digests=np.array(digests), batch_rows=np.array(rows), **columns)  # type: ignore[arg-type]
            unfinished.replace(path)
            held = path
        self._parts.append(_Part(digests, rows, held))
        self._at = (len(self._parts), 0)
        self._pending = []
        self._since = time.monotonic()

    def chunks(self) -> Iterator[dict[str, np.ndarray]]:
        """The columns, a part at a time."""
        for part in self._parts:
            yield part.read()

    def close(self, *, finished: bool) -> None:
        """Lets the folder go; once all is in one file the folder goes too."""
        if self._folder is not None and finished:
            shutil.rmtree(self._folder)
        if self._lock is not None:
            self._lock.release()
            if finished:
                Path(self._lock.lock_file).unlink(missing_ok=True)
