"""`GET /console`: the page for people who pick an operating point, and its files.

The page holds nothing: it asks the REST interface, as any client does. Its content security policy lets it load and
call only this server.
"""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from service.errors import UnknownRoute

_KINDS = {
    "console.html": "text/html",
    "console.css": "text/css",
    **dict.fromkeys(("console.js", "base.js", "life.js"), "text/javascript"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'"
)


async def console(_: Request) -> Response:
    """The page."""
    return _file("console.html")


async def console_file(request: Request) -> Response:
    """Its style or its script."""
    name = str(request.path_params["name"])
    if name not in _KINDS:
        raise UnknownRoute(f"there is nothing at {request.url.path[:200]}")
    return _file(name)


def _file(name: str) -> Response:
    content = files("service.web").joinpath("static", name).read_bytes()
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return Response(content, media_type=_KINDS[name], headers=headers)
