"""Feature caches from Parquet and Arrow files: whole, or streamed where they are larger than memory.

What such a file is says `calibrate.io.table_files`, what it claims is read in `calibrate.io.table_claims`, its rows in
`calibrate.io.table_columns`; `calibrate.io.table_writer` writes it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.cache import CacheStream, FeatureCache, feature_cache
from calibrate.errors import BadCache, InputError, NoRows, UnknownLabel, WrongShape
from calibrate.io.files import TABLES, table_format
from calibrate.io.origin import origin_in
from calibrate.io.table_claims import check_size, read_claims
from calibrate.io.table_columns import in_batches, joined, read_columns
from calibrate.io.table_files import COLUMNS, KEY, PER_ROW, readable
from calibrate.labels import are_ambiguous
from calibrate.origin import Origin, doubt_of

# How `feature_cache` says which row it means.
_ROW = re.compile(r"\b((?:features|logits|labels|sample_weight|cost_fp|cost_fn)\[|logits of row )(\d+)")
_BATCH_ROWS = 1_000_000
_READ_ROWS = 2**17
_BATCH_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False)
class _Part:
    """One file of a stream."""

    path: Path
    format: str
    rows: int
    columns: tuple[str, ...]
    metadata: Mapping[str, Any]
    first: FeatureCache
    row_bytes: int
    origin: Origin | None


def read_table(source: str | Path | bytes, file_format: str, *, most_bytes: int) -> dict[str, Any]:
    """The arrays of a cache file by key, not yet checked against each other. Raises: `BadCache`, `NoRows`."""
    if not isinstance(source, bytes):
        source = Path(source)
    if file_format == "Arrow" and isinstance(source, Path):
        # Mapped arrays would change, or end the process, when the file is written over.
        with readable(file_format, source):
            check_size(source.stat().st_size, most_bytes)
            source = source.read_bytes()
    claims = read_claims(source, file_format, most_bytes)
    columns = [name for name in COLUMNS if name in claims.schema.names]
    # A record batch is there already, in one piece; a row group is unpacked bit by bit.
    rows = _READ_ROWS if file_format == "Parquet" else max(1, claims.rows)
    parts = list(read_columns(source, file_format, columns, rows))
    if not parts:
        raise NoRows("the cache has no rows")
    if (held := sum(len(part["labels"]) for part in parts)) != claims.rows:
        raise BadCache(f"the cache claims {claims.rows} rows, but holds {held}")
    return {**claims.metadata, **joined(parts)}


def open_cache(paths: str | Path | Sequence[str | Path], *, batch_rows: int = _BATCH_ROWS) -> CacheStream:
    """The rows of one or more Parquet or Arrow files, read a batch at a time; they may be larger than memory.

    `paths` are files, and patterns such as "val/*.parquet" (the files that fit, sorted). A batch is at most
    `batch_rows` rows of one file, fewer where they are wide; it holds logits, or features where there are none, and
    weights and costs. Every file names the same `classes` in its metadata, or none of them does and labels are indices.
    An Arrow file is mapped into memory and must not change meanwhile; a compressed one is unpacked a record batch at a
    time, however large its writer made them.

    Raises: `BadCache` for what is no such file or does not fit the others, `NoRows`, and whatever `feature_cache`
    raises; each iteration raises the same, with the file's name and the row as counted in that file.
    """
    if batch_rows < 1:
        raise WrongShape(f"batch_rows: wanted at least 1, got {batch_rows}")
    files = _files([paths] if isinstance(paths, str | Path) else paths)
    parts = [part for part in map(_part, files) if part is not None]
    if not parts:
        raise NoRows(f"{', '.join(map(str, files[:20]))}: wanted at least one row, got none")
    _check_alike(parts)
    classes = parts[0].first.classes
    with_prior = next((part for part in parts if part.first.prior is not None), None)
    shared = {"classes": classes, "prior": None if with_prior is None else with_prior.metadata["prior"]}

    def batches() -> Iterator[FeatureCache]:
        for part in parts:
            yield from _checked(part, shared, batch_rows)

    prior = None if with_prior is None else with_prior.first.prior
    return CacheStream(classes, prior, sum(part.rows for part in parts), batches, _origin_of(parts))


def _origin_of(parts: Sequence[_Part]) -> Origin | None:
    """Return the model that made the rows of all files, None where one does not say it. Raises: `OtherModel`."""
    first = parts[0]
    known = [doubt_of(part.origin, first.origin, (str(part.path), str(first.path))) is None for part in parts]
    return first.origin if all(known) else None


def _files(paths: Sequence[str | Path]) -> list[Path]:
    """The files that paths and patterns name, each once."""
    files: list[Path] = []
    for path in paths:
        found = [Path(path)]
        if isinstance(path, str) and re.search(r"[*?[]", path) and not found[0].exists():
            anchor = Path(found[0].anchor)
            found = sorted(anchor.glob(str(found[0].relative_to(anchor))))
            if not found:
                raise BadCache(f"no file fits {path}")
        files += found
    if not files:
        raise BadCache("wanted at least one file, got none")
    for file in files:
        if file.is_dir():
            raise BadCache(f"{file} is a folder; name its files, as in '{file}/*.parquet'")
    if repeated := [file for file, following in pairwise(sorted(files)) if file == following]:
        raise BadCache(f"{repeated[0]} is named more than once")
    return files


def _part(path: Path) -> _Part | None:
    """What one file of a stream holds, with its first row; None where it has no rows."""
    with _named(path):
        file_format = table_format(path)
        if file_format is None:
            raise BadCache(f"wanted a Parquet or Arrow file ({', '.join(TABLES)})")
        claims = read_claims(path, file_format)
        names = claims.schema.names
        if "logits" not in names and "features" not in names:
            raise BadCache("a cache must have features or logits, it has neither")
        needed = ("logits" if "logits" in names else "features", "labels", *PER_ROW)
        columns = tuple(name for name in needed if name in names)
        if "group" in names:
            raise BadCache("a stream cannot keep groups together: read_cache it whole, or leave column 'group' out")
        if claims.rows == 0:
            return None
        row = next(read_columns(path, file_format, columns, 1), None)
        if row is None:
            raise BadCache(f"the cache claims {claims.rows} rows, but holds none")
        if "classes" not in claims.metadata and row["labels"].dtype.kind == "O":
            raise UnknownLabel(
                f"labels are names, which no batch has all of: write classes into the metadata entry '{KEY}'"
            )
        if row["labels"].dtype.kind != "O" and are_ambiguous(claims.metadata.get("classes", ())):
            raise UnknownLabel(
                f"classes are {', '.join(claims.metadata['classes'][:20])}, so a whole number may be a name or an "
                "index: write labels as texts"
            )
        first = feature_cache(**{**claims.metadata, **row})
        row_bytes = first.logits.nbytes + sum(values.nbytes for values in row.values())
        origin = origin_in(claims.schema.metadata)
        return _Part(path, file_format, claims.rows, columns, claims.metadata, first, row_bytes, origin)


def _check_alike(parts: Sequence[_Part]) -> None:
    """Raises `BadCache` or `OtherModel` where rows of two files cannot stand in one cache."""
    one = parts[0]
    _origin_of(parts)
    for part in parts[1:]:
        if part.first.classes != one.first.classes:
            shown = [", ".join(classes[:20]) for classes in (part.first.classes, one.first.classes)]
            raise BadCache(f"{part.path}: classes are {shown[0]}, in {one.path} {shown[1]}")
        for name in PER_ROW:
            if (name in part.columns) != (name in one.columns):
                has, lacks = (part, one) if name in part.columns else (one, part)
                raise BadCache(f"{lacks.path}: there is no column '{name}', but {has.path} has one")
    for name in ("prior", "weight", "bias"):
        given = [(part.path, values) for part in parts if (values := getattr(part.first, name)) is not None]
        for path, values in given[1:]:
            if values.shape != given[0][1].shape or not np.allclose(values, given[0][1]):
                raise BadCache(f"{path}: {name} in the metadata is not as in {given[0][0]}")


def _checked(part: _Part, shared: Mapping[str, Any], batch_rows: int) -> Iterator[FeatureCache]:
    """The batches of one file, each checked as `feature_cache` does."""
    rows = max(1, min(batch_rows, _BATCH_BYTES // part.row_bytes))
    done = 0
    with _named(part.path):
        for arrays in in_batches(read_columns(part.path, part.format, part.columns, rows), rows):
            try:
                cache = feature_cache(**{**part.metadata, **shared, **arrays})
            except InputError as error:
                raise _moved(error, done) from None
            yield cache
            done += cache.rows
        if done != part.rows:
            raise BadCache(f"the cache claims {part.rows} rows, but holds {done}")


def _moved(error: InputError, rows: int) -> InputError:
    """The error with its row counted from the start of the file."""
    return type(error)(_ROW.sub(lambda found: f"{found[1]}{int(found[2]) + rows}", str(error), count=1))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Input errors begin with the file's name."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None
