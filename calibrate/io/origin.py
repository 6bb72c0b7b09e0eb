"""Where a cache file's rows came from, as the file says it.

Decided here: it is no key of the cache, since no fit depends on it; it is the comment of an `.npz` archive, and the
entry `setpoint.origin` in the metadata of a Parquet or Arrow file. A comment by another program is ignored.
"""

import io
import json
import zipfile
from pathlib import Path

from calibrate.errors import BadCache
from calibrate.origin import Origin, origin_of

ENTRY = "setpoint.origin"


def read_origin(path: str | Path) -> Origin | None:
    """Return where the rows of a cache file came from, None where it does not say. Raises: `BadCache`."""
    from calibrate.io.files import table_format  # not before: it reads origins too

    try:
        text = _text(path, table_format(path))
        found = origin_of(json.loads(text)) if text else None
    except (ValueError, zipfile.BadZipFile, OSError, RecursionError) as error:
        if isinstance(error, BadCache):
            raise
        raise BadCache(f"{path} does not say where its rows came from: {error}") from None
    if text and found is None:
        raise BadCache(f"{path} does not say where its rows came from: {text[:100]!r} is no origin")
    return found


def find_origin(source: str | Path | bytes, file_format: str | None) -> Origin | None:
    """Return the same of a file or its bytes that a cache was read from; None for what another program wrote there."""
    try:
        text = _text(source, file_format)
        return origin_of(json.loads(text)) if text else None
    except (ValueError, zipfile.BadZipFile, OSError, RecursionError):
        return None


def origin_in(metadata: dict[bytes, bytes] | None) -> Origin | None:
    """Return the same from the metadata of a Parquet or Arrow schema."""
    try:
        return origin_of(json.loads((metadata or {}).get(ENTRY.encode(), b"null")))
    except (ValueError, RecursionError):
        return None


def _text(source: str | Path | bytes, file_format: str | None) -> bytes:
    if file_format is None:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            return archive.comment
    from calibrate.io.table_claims import read_claims

    source = source if isinstance(source, bytes) else Path(source)
    text: bytes = (read_claims(source, file_format).schema.metadata or {}).get(ENTRY.encode(), b"")
    return text
