"""Where a cache file's rows came from: the digests of the model and of the rows that went into it, in that order.

Decided here: it is no key of the cache, since no fit depends on it; it is the comment of an `.npz` archive, and the
entry `setpoint.origin` in the metadata of a Parquet or Arrow file.
"""

import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from calibrate.errors import BadCache
from calibrate.io.files import table_format

ENTRY = "setpoint.origin"


@dataclass(frozen=True)
class Origin:
    """`model` says what made it ("torch", "onnx", ...), `head` which layer its features go into, if any.

    `model_digest` is the SHA-256 of the model's weights, `data_digest` that of `rows` inputs and labels in their order.
    """

    model: str
    model_digest: str
    data_digest: str
    rows: int
    head: str | None = None

    def to_text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


def read_origin(path: str | Path) -> Origin | None:
    """Where the rows of a cache file came from, None where it does not say. Raises: `BadCache`."""
    file_format = table_format(path)
    try:
        if file_format is None:
            with zipfile.ZipFile(path) as archive:
                text = archive.comment
        else:
            from calibrate.io.table_claims import read_claims

            text = (read_claims(Path(path), file_format).schema.metadata or {}).get(ENTRY.encode(), b"")
        return Origin(**json.loads(text)) if text else None
    except (ValueError, TypeError, zipfile.BadZipFile, OSError, RecursionError) as error:
        if isinstance(error, BadCache):
            raise
        raise BadCache(f"{path} does not say where its rows came from: {error}") from None
