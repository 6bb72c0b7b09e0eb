"""A small HTTP/1.1 client on asyncio streams: thousands of calls a second, and nothing hidden between the lines."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import orjson


@dataclass(frozen=True)
class Said:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)


class Connection:
    """One kept-alive connection to a server; a broken one is made anew at the next call."""

    def __init__(self, address: str, headers: dict[str, str] | None = None) -> None:
        parts = urlsplit(address)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        common = {"Host": f"{self._host}:{self._port}", **(headers or {})}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in common.items())
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, verb: str, path: str, body: object = b"", headers: dict[str, str] | None = None) -> Said:
        """The answer to a call; a body that is not bytes is sent as JSON. Raises: `OSError` where there is none."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = f"{verb} {path} HTTP/1.1\r\n{self._head}{more}Content-Length: {len(data)}\r\n\r\n"
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(self._host, self._port)
            reader, writer = self._streams
            writer.write(head.encode() + data)
            return await self._read(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            await self.close()
            raise ConnectionError(str(error)) from error
        except BaseException:
            await self.close()
            raise

    async def _read(self, reader: asyncio.StreamReader) -> Said:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        said = Said(int(first.split()[1]), headers, await reader.readexactly(int(headers.get("content-length", 0))))
        if headers.get("connection") == "close":
            await self.close()
        return said

    async def close(self) -> None:
        """Ends the connection."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            with contextlib.suppress(OSError):
                await streams[1].wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
