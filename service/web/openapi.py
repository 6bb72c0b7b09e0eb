"""Prints the OpenAPI document: `python -m service.web.openapi`."""

import json

from service.web.app import describe, make_web


def document() -> str:
    """The document as text, the same every time."""
    app, _ = make_web(None)
    return json.dumps(describe(app), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(document(), end="")
