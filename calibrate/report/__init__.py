"""Reports: one page that a manager can sign, as HTML, PNG or JSON.

`content` gathers the numbers, `figures` draws them, `page` lays them out.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibrate.errors import BadReport
from calibrate.report.content import Content

_FORMS = (".html", ".png", ".json")


@dataclass(frozen=True, eq=False)
class Report:
    """A report, ready to be written. `content` holds every number of it."""

    content: Content

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; undefined numbers are None."""
        return self.content.to_dict()

    def to_html(self) -> str:
        """One self-contained page: no script, nothing loaded from elsewhere."""
        from calibrate.report.page import to_html

        return to_html(self.content)

    def to_png(self) -> bytes:
        """The pictures on one sheet."""
        from calibrate.report.figures import figures, to_png

        return to_png(figures(self.content), self.content.title)

    def write(self, path: str | Path) -> None:
        """Writes what the name ends in: .html, .png or .json. Raises: `BadReport` for another ending."""
        path = Path(path)
        if path.suffix == ".html":
            path.write_text(self.to_html(), encoding="utf-8")
        elif path.suffix == ".png":
            path.write_bytes(self.to_png())
        elif path.suffix == ".json":
            path.write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        else:
            raise BadReport(f"a report is written as {', '.join(_FORMS)}; got '{path}'")

    def _repr_html_(self) -> str:
        """How a notebook shows it: in a frame, so that the page's styles stay inside."""
        from html import escape

        return f'<iframe srcdoc="{escape(self.to_html())}" width="100%" height="900" frameborder="0"></iframe>'


__all__ = ["Report"]
