"""`--out -`: standard output in the place of a file. What is printed beside it, a table or a warning, goes to standard
error then, so that the next program in a pipe reads nothing else.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from calibrate.errors import InputError

STDOUT = Path("-")


@contextmanager
def beside(out: Path | None) -> Iterator[None]:
    """Print on standard error within this block, if `out` is standard output."""
    if out != STDOUT:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def write_out(out: Path, data: bytes) -> None:
    """Write a file, or to standard output. Raises: `InputError` for binary data on a terminal."""
    if out != STDOUT:
        out.write_bytes(data)
        return
    if sys.stdout.isatty() and b"\0" in data:
        raise InputError("--out - would write a binary file to the terminal: pipe it on, or name a file")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def refuse_stdout(out: Path | None, option: str, wanted: str) -> None:
    """Raise `InputError` where an option that needs a file or a folder is `-`."""
    if out == STDOUT:
        raise InputError(f"{option} must be {wanted}, got '-': standard output cannot hold it")
