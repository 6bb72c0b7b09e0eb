"""Feature caches as files, read as what they are: something that a stranger may have written.

`.npz` files are read here, Parquet and Arrow files in `calibrate.io.parquet`, which is imported when there is one: it
takes pyarrow, and the service needs none to start. What a file is, its first bytes say, and its suffix where they do
not.

`numpy.load` believes a header that claims ten billion rows and allocates them first. So each member is read by hand:
known keys only, no pickles, and the size that its header claims must be the size that is there, within a limit.
"""

import io
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from calibrate.cache import FeatureCache, feature_cache
from calibrate.errors import BadCache
from calibrate.io.origin import find_origin
from calibrate.io.text_table import is_excel, is_text
from calibrate.labels import written_labels

CACHE_KEYS = (
    "features", "logits", "labels", "classes", "weight", "bias", "prior", "sample_weight", "cost_fp", "cost_fn",
    "group",
)  # fmt: skip
TABLES = {".parquet": "Parquet", ".arrow": "Arrow", ".feather": "Arrow"}
_MAGIC = {b"PAR1": "Parquet", b"ARROW1": "Arrow"}
_MOST_BYTES = 64 * 2**30
# What zipfile and its decompressors raise on damaged, encrypted or unknown content.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)
# What numpy raises on a header, which it reads as Python.
_NO_HEADER = (ValueError, KeyError, TypeError, SyntaxError, tokenize.TokenError, MemoryError, RecursionError)
_LAST_CODE = 0x10FFFF


def read_cache(source: str | Path | bytes, *, most_bytes: int = _MOST_BYTES) -> FeatureCache:
    """Return the feature cache in a file or its bytes; `most_bytes` bounds what it may unpack to.

    An `.npz`, Parquet or Arrow file has the keys `labels`, and `features` (with `weight`, `bias`) or `logits` or both;
    optional `classes`, `prior`, `sample_weight`, `cost_fp`, `cost_fn`, `group`. In Parquet and Arrow what is per row is
    a column, and the rest is JSON under the metadata key `setpoint`. Which model made the rows is in the cache's
    `origin` where the file says it. A CSV or Excel file has columns `labels`, `logits_<class>` (or one column `logits`,
    or `probabilities_<class>`) and `features_<number>`; `read_scores` reads columns of other names.

    Raises: `BadCache` for what is no such file, and whatever `feature_cache` raises for what does not fit in it.
    """
    file_format = table_format(source)
    if file_format is not None:
        from calibrate.io.parquet import read_table

        cache = feature_cache(**read_table(source, file_format, most_bytes=most_bytes))
        return replace(cache, origin=find_origin(source, file_format))
    file = source if isinstance(source, bytes) else Path(source)
    if is_text(file):
        from calibrate.io.csv_cache import read_csv

        return feature_cache(**read_csv(file, most_bytes=most_bytes))
    if is_excel(file):
        from calibrate.io.csv_cache import read_excel

        return feature_cache(**read_excel(file))
    return replace(feature_cache(**read_arrays(source, most_bytes=most_bytes)), origin=find_origin(source, None))


def read_arrays(source: str | Path | bytes, *, most_bytes: int = _MOST_BYTES) -> dict[str, Any]:
    """The arrays of an `.npz` file by key, not yet checked against each other. Raises: `BadCache`."""
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            return _members(archive, most_bytes)
    except BadCache:
        raise
    except FileNotFoundError:
        raise BadCache(f"there is no file {source!s}") from None
    except _UNREADABLE as error:
        raise BadCache(f"the cache is not a whole .npz file: {error}") from None


def table_format(source: str | Path | bytes) -> str | None:
    """`Parquet` or `Arrow`, or None for anything else. Raises: `BadCache` for a file that is not there."""
    suffix = None
    if isinstance(source, bytes):
        start = source[:6]
    else:
        suffix = TABLES.get(Path(source).suffix.lower())
        try:
            with Path(source).open("rb") as file:
                start = file.read(6)
        except FileNotFoundError:
            raise BadCache(f"there is no file {source!s}") from None
        except (OSError, ValueError):  # a folder, or no path at all: what reads it says so
            return suffix
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), suffix)


def write_cache(path: str | Path, cache: FeatureCache) -> None:
    """Writes a cache for `read_cache`: as Parquet (`.parquet`), as Arrow (`.arrow`, `.feather`), otherwise as `.npz`.

    The `.npz` file is one that `numpy.load` reads too.
    """
    file_format = TABLES.get(Path(path).suffix.lower())
    if file_format is not None:
        from calibrate.io.table_writer import write_table

        write_table(path, cache, file_format)
        return
    arrays: Mapping[str, Any] = {
        "features": cache.features,
        "logits": cache.logits,
        "labels": written_labels(cache.labels, cache.classes),
        "classes": np.array(cache.classes),
        "weight": cache.weight,
        "bias": cache.bias,
        "prior": cache.prior,
        "sample_weight": cache.sample_weight,
        "cost_fp": cache.cost_fp,
        "cost_fn": cache.cost_fn,
        "group": cache.group,
    }
    with Path(path).open("wb") as file:
        np.savez(file, **{key: value for key, value in arrays.items() if value is not None})
    if cache.origin is not None:
        with zipfile.ZipFile(path, "a") as archive:
            archive.comment = cache.origin.to_text().encode()


def _members(archive: zipfile.ZipFile, most_bytes: int) -> dict[str, Any]:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if len(members) != len(archive.infolist()):
        raise BadCache("the cache holds a key more than once")
    for key in members:
        if key not in CACHE_KEYS:
            raise BadCache(f"a cache has the keys {', '.join(CACHE_KEYS)}; got {key[:100]!r}")
    if "labels" not in members:
        raise BadCache(f"the cache has no labels, only {', '.join(members) or 'nothing'}")
    unpacked = sum(info.file_size for info in members.values())
    if unpacked > most_bytes:
        raise BadCache(f"the cache unpacks to {unpacked} bytes, wanted at most {most_bytes}")
    arrays: dict[str, Any] = {key: _array(archive, info, key) for key, info in members.items()}
    if "classes" in arrays:
        if arrays["classes"].ndim != 1:
            raise BadCache(f"classes: wanted 1 axis, got shape {arrays['classes'].shape}")
        arrays["classes"] = arrays["classes"].tolist()
    return arrays


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str) -> np.ndarray:
    with archive.open(info) as member:
        data = member.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise BadCache(f"key '{key}' holds {len(data)} bytes, its entry says {info.file_size}")
    stream = io.BytesIO(data)
    try:
        version = npy.read_magic(stream)
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, column_major, dtype = read_header(stream)
    except _NO_HEADER as error:
        raise BadCache(f"key '{key}' is not an array: {str(error)[:200]}") from None
    if dtype.hasobject:
        raise BadCache(f"key '{key}' is pickled; write numbers, and names as fixed-width strings")
    if dtype.kind not in "biufU" or dtype.itemsize == 0:
        raise BadCache(f"key '{key}' must hold numbers or names, got type {dtype}")
    held = len(data) - stream.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != held:
        raise BadCache(f"key '{key}' claims shape {shape} of {dtype}, but holds {held} bytes")
    if held == 0:
        return np.empty(shape, dtype)
    flat = np.frombuffer(data, dtype=dtype, offset=stream.tell())
    if dtype.kind == "U":
        _check_text(flat, key)
    return flat.reshape(shape, order="F" if column_major else "C")


def _check_text(names: np.ndarray, key: str) -> None:
    """Each character must be one: numpy fails where a number is no code point, and half a surrogate pair is no text."""
    codes = names.view(np.dtype(np.uint32).newbyteorder(names.dtype.byteorder))
    if ((codes > _LAST_CODE) | ((codes >= 0xD800) & (codes <= 0xDFFF))).any():
        raise BadCache(f"key '{key}' holds what is not text")
