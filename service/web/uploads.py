"""Bodies that go to a file as they come, not to memory.

A part of a form is given to the spool in pieces, in a thread: neither the disk nor the digest holds up the event loop.
"""

from starlette.datastructures import UploadFile
from starlette.requests import Request

from service.errors import BadRequest
from service.jobs.arriving import Arriving
from service.web.bodies import open_form
from service.web.lanes import Lane

_PIECE_BYTES = 2**20


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
