"""Tables as spreadsheets write them: CSV in its dialects, and Excel where openpyxl is installed.

Decided here: what a file says of itself is read (its byte order mark, Excel's line `sep=;`, the separator that its
header is split by); every cell is a text first, so nothing is lost before it is known what a column is. A decimal comma
is read where it cannot be anything else; where it could be a thousands separator it is refused, as are percentages. No
message quotes a cell, which may be about a person.
"""

import codecs
import csv
import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.errors import BadCache, NoRows, shown

_START_BYTES = 2**22  # the line of names must lie within it
_LOOKED_AT_BYTES = 2**16  # to tell what a file is
_SEPARATORS = (",", ";", "\t")
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_GZIP = b"\x1f\x8b"
_NO_TEXT = (_GZIP, b"PK\x03\x04", b"PK\x05\x06", b"PAR1", b"ARROW1", b"\x93NUMPY")  # how other formats begin
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
_SEP_LINE = re.compile(r"\"?sep=(.)\"?\r?\n")
_WIDTH = re.compile(r"(Row #\d+: )?Expected \d+ columns, got \d+")
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_MAX_CELLS = 20_000_000  # of an Excel sheet


class TextTable:
    """The columns of a table as texts, by name; an empty cell is an empty text."""

    def __init__(self, columns: dict[str, Any], names: Sequence[str] | None = None) -> None:
        self._columns = columns  # pyarrow arrays of texts
        self.names = tuple(columns if names is None else names)  # also of those that were not read
        self.rows = len(next(iter(columns.values()))) if columns else 0

    def texts(self, name: str) -> list[str]:
        """Return a column as texts. Raises: `BadCache` where it is missing, or a cell of it is empty."""
        import pyarrow.compute as pc

        column = self._column(name)
        empty = pc.equal(column, "")
        if pc.any(empty).as_py():
            row = int(np.flatnonzero(empty.to_numpy(zero_copy_only=False))[0])
            raise BadCache(f"column {shown(name)}, row {row} is empty")
        texts: list[str] = column.to_pylist()
        return texts

    def numbers(self, names: Sequence[str], decimal: str | None = None) -> list[np.ndarray]:
        """Return columns of numbers, (n,) each; `decimal` is their decimal mark, None to tell it from the columns.

        Raises: `BadCache`, naming the column and the row.
        """
        if decimal not in (None, ".", ","):
            raise BadCache(f"the decimal mark must be . or , and not {shown(decimal)}")
        columns = {name: self._column(name) for name in names}
        mark = decimal or _decimal_mark(columns)
        return [_numbers(column, name, mark) for name, column in columns.items()]

    def _column(self, name: str) -> Any:
        if name not in self._columns:
            listed = ", ".join(map(shown, self.names[:20])) + (", ..." if len(self.names) > 20 else "")
            raise BadCache(f"there is no column {shown(name)}; the columns are {listed or 'none'}")
        return self._columns[name]


def is_text(source: Path | bytes) -> bool:
    """Return whether a file can be CSV by its first bytes: text, in UTF-8 or UTF-16. One that cannot be read is not."""
    try:
        start = _start_of(source, _LOOKED_AT_BYTES)
    except BadCache:
        return False
    return len(start) > 0 and _is_text(start)


def _is_text(start: bytes) -> bool:
    return start.startswith(tuple(_MARKS)) or (b"\0" not in start and not start.startswith(_NO_TEXT))


def is_excel(source: Path | bytes) -> bool:
    """Return whether a file is an Excel workbook."""
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def read_text_table(source: Path | bytes, *, most_bytes: int) -> TextTable:
    """Return the table in a CSV file or its bytes. Raises: `BadCache`, `NoRows`."""
    import pyarrow as pa
    from pyarrow import csv as pa_csv

    start = _start_of(source, _START_BYTES)
    if not _is_text(start):
        packed = "a gzip file: unpack it first" if start.startswith(_GZIP) else "no text"
        raise BadCache(f"wanted a table as CSV, Excel or Parquet; the file is {packed}")
    encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")
    text = start.decode("utf-8-sig" if encoding == "utf-8" else encoding, errors="replace")
    line = _SEP_LINE.match(text)
    header = text[line.end() :] if line else text
    separator = line[1] if line else _separator(header)
    if len(start) == _START_BYTES and "\n" not in header:
        raise BadCache(f"the line of column names is longer than {_START_BYTES} bytes")
    names = next(csv.reader(io.StringIO(header, newline=""), delimiter=separator), [])
    check_names(names)
    convert = pa_csv.ConvertOptions(
        column_types={name: pa.string() for name in names}, strings_can_be_null=False, check_utf8=True
    )
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(source) if isinstance(source, bytes) else source,
            convert_options=convert,
            parse_options=pa_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            read_options=pa_csv.ReadOptions(use_threads=False, encoding=encoding, skip_rows=1 if line else 0),
        )
        stripped = [name.strip() for name in table.column_names]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadCache(f"the cache is not a whole CSV file: {_reason(error)}") from None
    if table.nbytes > most_bytes:
        raise BadCache(f"the cache unpacks to {table.nbytes} bytes, wanted at most {most_bytes}")
    check_names(stripped)
    return _table(dict(zip(stripped, table.columns, strict=True)))


def read_excel_table(source: Path | bytes) -> TextTable:
    """Return the first sheet of an Excel workbook. Raises: `BadCache`, `NoRows`; `BadCache` without openpyxl."""
    import pyarrow as pa

    try:
        from openpyxl import load_workbook
    except ImportError:
        raise BadCache("an Excel file needs openpyxl (pip install 'setpoint[excel]'); or save it as CSV") from None
    try:
        book = load_workbook(
            io.BytesIO(source) if isinstance(source, bytes) else source, read_only=True, data_only=True
        )
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # what a file says of its size may be stale
        lines = sheet.iter_rows(values_only=True)
        names = [_cell(value).strip() for value in next(lines, ())]
        rows = []
        for values in lines:
            rows.append([_cell(value) for value in values])
            if len(rows) * len(names) > _MAX_CELLS:
                raise BadCache(f"an Excel sheet may have {_MAX_CELLS} cells here: save it as CSV")
    except BadCache:
        raise
    except Exception as error:  # openpyxl raises what its XML and ZIP readers do, and what it stumbles over
        raise BadCache(f"the file is not a whole Excel workbook ({type(error).__name__})") from None
    while names and not names[-1]:
        names.pop()
    check_names(names)
    rows = [row + [""] * (len(names) - len(row)) for row in rows if any(row)]
    return _table({name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(names)})


def _reason(error: Exception) -> str:
    """What is wrong with a CSV file, without the text of its rows, which the parser quotes."""
    text = str(error)
    if isinstance(error, UnicodeError) or "UTF8" in text.upper():
        return "it is not UTF-8: save it as CSV UTF-8"
    row = _WIDTH.search(text)
    return row[0] if row is not None else f"it cannot be parsed ({type(error).__name__})"


def _start_of(source: Path | bytes, size: int) -> bytes:
    if isinstance(source, bytes):
        return source[:size]
    try:
        with source.open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        raise BadCache(f"there is no file {source}") from None
    except (OSError, ValueError) as error:
        raise BadCache(f"{source} cannot be read: {error}") from None


def _separator(header: str) -> str:
    """The separator that splits the header into most columns; a comma where none does."""
    widths = {mark: len(next(csv.reader(io.StringIO(header, newline=""), delimiter=mark), [])) for mark in _SEPARATORS}
    most = max(widths.values())
    best = [mark for mark in _SEPARATORS if widths[mark] == most]
    if most > 1 and len(best) > 1:
        line = (header.splitlines() or [""])[0]
        raise BadCache(f"the columns may be separated by {' or '.join(map(repr, best))} in the header {shown(line)}")
    return best[0]


def check_names(names: Sequence[str]) -> None:
    """Raise `BadCache` where a column has no name, or two have the same."""
    if not names:
        raise BadCache("the cache has no line of column names")
    seen = set[str]()
    for place, name in enumerate(names):
        if not name:
            raise BadCache(f"column {place} (from 0) has no name")
        if name in seen:
            raise BadCache(f"the cache holds a column more than once: {shown(name)}")
        seen.add(name)


def _table(columns: dict[str, Any]) -> TextTable:
    import pyarrow.compute as pc

    table = TextTable({name: pc.utf8_trim_whitespace(column) for name, column in columns.items()})
    if table.rows == 0:
        raise NoRows("the cache has no rows")
    return table


def _decimal_mark(columns: dict[str, Any]) -> str:
    """The decimal mark of columns of numbers; a point where there is neither."""
    import pyarrow.compute as pc

    marks: dict[str, tuple[str, int]] = {}
    is_only_thousands = True
    for name, column in columns.items():
        for mark in (".", ","):
            has = pc.match_substring(column, mark)
            if pc.any(has).as_py():
                row = int(np.flatnonzero(has.to_numpy(zero_copy_only=False))[0])
                marks.setdefault(mark, (name, row))
                if mark == "," and is_only_thousands:
                    values: Iterable[str] = pc.filter(column, has).to_pylist()
                    is_only_thousands = all(_THOUSANDS.fullmatch(value) for value in values)
    if "," not in marks:
        return "."
    name, row = marks[","]
    if "." in marks:
        other, place = marks["."]
        raise BadCache(
            f"the decimal mark is a comma in column {shown(name)}, row {row}, and a point in column {shown(other)}, "
            f"row {place}: write one of them throughout"
        )
    if is_only_thousands:
        raise BadCache(
            f"column {shown(name)}, row {row} has a comma that may be a decimal mark or separate thousands: say which "
            "is the decimal mark (decimal=',' or '.'; --decimal)"
        )
    return ","


def _numbers(column: Any, name: str, decimal: str) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if decimal == ",":
        has_point = pc.match_substring(column, ".")
        if pc.any(has_point).as_py():
            row = int(np.flatnonzero(has_point.to_numpy(zero_copy_only=False))[0])
            raise BadCache(f"column {shown(name)}, row {row} has a point, and the decimal mark is a comma")
    plain = pc.replace_substring(column, ",", ".") if decimal == "," else column
    try:
        return np.asarray(pc.cast(plain, pa.float64()).to_numpy())
    except pa.ArrowInvalid:
        bad = pc.invert(pc.match_substring_regex(plain, _NUMBER)).to_numpy(zero_copy_only=False)
        row = int(np.flatnonzero(bad)[0]) if bad.any() else 0
        if not plain[row].as_py():
            raise BadCache(f"column {shown(name)}, row {row} is empty") from None
        raise BadCache(f"column {shown(name)} must hold numbers; row {row} is none") from None


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)
