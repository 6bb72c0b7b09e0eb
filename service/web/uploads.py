"""Bodies that go to a file as they come, not to memory.

A part of a form is given to the spool in pieces, in a thread: neither the disk nor the digest holds up the event loop.
"""

from typing import Any, Literal

from starlette.datastructures import UploadFile
from starlette.requests import Request

from service.errors import BadRequest
from service.jobs.arriving import Arriving
from service.web.bodies import is_multipart, open_form
from service.web.calibrate_data import read_call
from service.web.lanes import Lane
from service.web.state import Parts
from service.web.tensors import read_json

_PIECE_BYTES = 2**20
_SMALL_BYTES = 256 * 2**10  # of a body that is read faster here than a process could be asked to


async def spool_call(
    request: Request, into: Arriving, service: Parts
) -> tuple[Literal["file", "json"], str, dict[str, Any]]:
    """Spool a call with its labelled rows; return the form of the rows, the digest of what was spooled, and the spec.

    The rows are the part `data` of a form, beside the part `spec`, or `data` within a JSON body. Raises: `BadRequest`.
    """
    lane = service.lanes.changes
    if is_multipart(request):
        text = await spool_form(request, into, lane, "data", "spec")
        return "file", await lane.run(into.finish), read_json(text.encode(), "spec")
    await spool_body(request, into, lane)
    digest = await lane.run(into.finish)
    is_small, path = into.size <= _SMALL_BYTES, into.path
    spec: dict[str, Any] = await service.lanes.calibrations.run(
        lambda: read_call(path.read_bytes())[0] if is_small else service.desk.read_spec(path)
    )
    return "json", digest, spec


async def spool_body(request: Request, into: Arriving, lane: Lane) -> None:
    """The body of a request, as it comes."""
    held = bytearray()
    async for piece in request.stream():
        held += piece
        if len(held) >= _PIECE_BYTES:
            whole, held = bytes(held), bytearray()
            await lane.run(lambda data=whole: into.write(data))  # type: ignore[misc]
    await lane.run(lambda: into.write(bytes(held)))


async def spool_form(request: Request, into: Arriving, lane: Lane, file: str, text: str) -> str:
    """A form of one file and one text: the file as it comes, the text as what is given. Raises: `BadRequest`."""
    async with open_form(request, {file}, {text}) as (files, texts):
        if text not in texts:
            raise BadRequest(f"the form has no text '{text}'")
        await _copy(files[file], into, lane)
        return texts[text]


async def _copy(upload: UploadFile, into: Arriving, lane: Lane) -> None:
    while piece := await upload.read(_PIECE_BYTES):
        await lane.run(lambda data=piece: into.write(data))  # type: ignore[misc]
