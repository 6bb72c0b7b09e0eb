"""What a cache is as a Parquet or Arrow file, and how such a file is opened: for what reads it and what writes it.

Decided here: a row of data is a row of the file, so that any data tool can make one; what is not per row (`classes`,
`weight`, `bias`, `prior`) is JSON under the metadata key `setpoint`. Nothing is unpacked by opening a file.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from calibrate.errors import BadCache, InputError

KEY = "setpoint"
PER_ROW = ("sample_weight", "cost_fp", "cost_fn")
NAMED = ("labels", "group")
COLUMNS = ("features", "logits", "labels", *PER_ROW, "group")
IN_METADATA = ("classes", "weight", "bias", "prior")
_MAGIC = b"ARROW1"
# Compressed pages are read through a buffer of this size, not a row group at a time.
_BUFFER_BYTES = 2**20
# What pyarrow and the few lines here that read bytes raise on damaged content.
_UNREADABLE = (
    pa.ArrowException,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    NotImplementedError,
    RecursionError,
    struct.error,
)


@contextmanager
def readable(file_format: str, source: Path | bytes) -> Iterator[None]:
    """What is raised on damaged content is `BadCache`."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise BadCache(f"there is no file {source!s}") from None
    except _UNREADABLE as error:
        said = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise BadCache(f"the cache is not a whole {file_format} file: {said}") from None


def opened(source: Path | bytes) -> pa.NativeFile:
    """A file or its bytes, for pyarrow to read from."""
    return pa.BufferReader(source) if isinstance(source, bytes) else pa.OSFile(str(source))


def parquet_file(stream: pa.NativeFile, names: Sequence[str] = ()) -> pq.ParquetFile:
    """The file, opened to be read page by page; texts in the columns `names` are kept once for each different one."""
    return pq.ParquetFile(
        stream,
        read_dictionary=list(names),
        buffer_size=_BUFFER_BYTES,
        pre_buffer=False,
        page_checksum_verification=True,
        # A head of many numbers is long, and the footer is no longer than the file.
        thrift_string_size_limit=2**31 - 1,
    )


def arrow_stream(source: Path | bytes) -> pa.Buffer:
    """The stream within an Arrow file; a file on disk is mapped, so what is not looked at is not read."""
    data = pa.py_buffer(source) if isinstance(source, bytes) else pa.memory_map(str(source)).read_buffer()
    if data.size < 24 or data[:6] != _MAGIC or data[data.size - 6 :] != _MAGIC:
        raise BadCache("the cache is not a whole Arrow file: it does not begin and end as one")
    return data.slice(8)
