"""Request bodies that are small enough to be checked by a type, and uploads.

Decided here: the content type is not asked whether a body is JSON, because many clients send none or the wrong one;
only a multipart body is told by it.
"""

from collections.abc import AsyncGenerator, Set
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response

from service.errors import BadRequest, TooLarge
from service.web.schemas import Wire
from service.web.tensors import read_json

W = TypeVar("W", bound=Wire)
MOST_SMALL_BYTES = 2**20
MOST_DEPTH = 32
_TAIL_BYTES = 4096


def is_multipart(request: Request) -> bool:
    """Whether the body is a form with files."""
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


async def read_small(request: Request) -> bytes:
    """A body that has no business to be large. Raises: `TooLarge`."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_SMALL_BYTES:
            raise TooLarge(f"the body of this call may have at most {MOST_SMALL_BYTES} bytes, got more")
    return bytes(body)


def read_wire(body: bytes, kind: type[W]) -> W:
    """A body as JSON of that type. Raises: `BadRequest`."""
    return check_wire(read_json(body), kind)


def answer(value: Any, kind: Any, status: int = 200) -> Response:
    """A value of a type as a JSON response, written where it is called: a long one would hold up the event loop."""
    return Response(TypeAdapter(kind).dump_json(value), status, media_type="application/json")


def check_wire(value: Any, kind: type[W]) -> W:
    """A JSON value as that type. Raises: `BadRequest`, naming the fields that do not fit, not what is in them."""
    check_depth(value)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise BadRequest("; ".join(_said(item) for item in error.errors(include_url=False)[:5])) from None


def check_depth(value: Any) -> None:
    """Raises `BadRequest` for a value that is nested deeper than anything a call needs.

    Rows are not asked: their depth is their shape, which they are checked against.
    """
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        if depth > MOST_DEPTH:
            raise BadRequest(f"the body may be nested {MOST_DEPTH} deep, got more")
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]


def from_json(text: str | None, kind: Any, field: str) -> Any:
    """A form field that holds JSON, None where it is left out. Raises: `BadRequest`."""
    if text is None or text == "":
        return None
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise BadRequest(f"{field} must be JSON: {'; '.join(_said(item) for item in error.errors()[:5])}") from None


async def read_form(
    request: Request, files: set[str], texts: set[str], *, optional: Set[str] = frozenset()
) -> tuple[dict[str, bytes], dict[str, str]]:
    """A multipart body: its files, of which the `optional` ones may be missing, and its texts by field.

    Raises: `BadRequest`.
    """
    async with open_form(request, files, texts, optional=optional) as (found, told):
        return {field: await upload.read() for field, upload in found.items()}, told


@asynccontextmanager
async def open_form(
    request: Request, files: set[str], texts: set[str], *, optional: Set[str] = frozenset()
) -> AsyncGenerator[tuple[dict[str, UploadFile], dict[str, str]], None]:
    """A multipart body: its files, to be read, of which the `optional` ones may be missing, and its texts by field.

    Raises: `BadRequest`.
    """
    needed, files = files, files | optional
    if not is_multipart(request):
        raise BadRequest(f"wanted a multipart/form-data body with {', '.join(sorted(files | texts))}")
    found_files: dict[str, UploadFile] = {}
    found_texts: dict[str, str] = {}
    form = await _parse(request)
    try:
        for field, value in form.multi_items():
            if field in found_files or field in found_texts:
                raise BadRequest(f"the form holds {field!r} more than once")
            if field not in files | texts:
                wanted = f"the files {', '.join(sorted(files))} and the texts {', '.join(sorted(texts))}"
                raise BadRequest(f"the form takes {wanted}; got {field[:100]!r}")
            if isinstance(value, UploadFile):
                if field in texts:
                    raise BadRequest(f"{field!r} must be sent as a text, it came as a file: leave out its filename")
                found_files[field] = value
            else:
                if field in files:
                    raise BadRequest(f"{field!r} must be sent as a file, it came as a text: give it a filename")
                found_texts[field] = value
        if missing := sorted(needed - found_files.keys()):
            raise BadRequest(f"the form has no file {missing[0]!r}")
        yield found_files, found_texts
    finally:
        await form.close()


async def _parse(request: Request) -> FormData:
    """The form in a body. Raises: `BadRequest`, also where its end is missing, which the parser takes for an end."""
    _, options = parse_options_header(request.headers["content-type"])
    boundary, tail = options.get(b"boundary", b""), b""

    async def pieces() -> AsyncGenerator[bytes, None]:
        nonlocal tail
        async for piece in request.stream():
            tail = (tail + piece)[-_TAIL_BYTES:]
            yield piece
        if b"--" + boundary + b"--" not in tail:
            raise MultiPartException("it is truncated, its closing boundary is missing")

    try:
        return await MultiPartParser(request.headers, pieces(), max_files=10, max_fields=20).parse()
    except MultiPartException as error:
        raise BadRequest(f"the form cannot be read: {error.message}") from None


def _said(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])
    return f"{where or 'body'}: {item['msg']}"[:300]
