"""A report as one HTML file that needs nothing else: styles and pictures are inside it, and it runs no script."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from calibrate.report.content import CASES, KINDS, PLAIN, Content
from calibrate.report.figures import figures, to_svg
from calibrate.uncertainty import Interval

_COLUMNS = 5


def to_html(content: Content) -> str:
    """The page. Every text of it is escaped; the pictures are drawn here."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"count": _count, "share": _share, "interval": _interval}
    page = environment.from_string(files("calibrate.report").joinpath("page.html").read_text(encoding="utf-8"))
    kinds = {column.kind for column in content.columns[1:]}
    return page.render(
        content=content,
        cases=CASES,
        kinds=[KINDS[kind] for kind in KINDS if kind in kinds],
        groups=_side_by_side(content.columns),
        states=_side_by_side(list(content.states)),
        sentences=_sentences(content),
        figures={name: _inline(draw) for name, draw in figures(content).items()},
    )


def _side_by_side(columns: Sequence[Any]) -> list[Sequence[Any]]:
    """The columns of each table: as many as fit a page beside each other."""
    return [columns[start : start + _COLUMNS] for start in range(0, len(columns), _COLUMNS)]


def _inline(draw: Any) -> Any:
    from markupsafe import Markup

    return Markup(to_svg(draw))  # noqa: S704 (matplotlib escapes the texts that it is given)


def _sentences(content: Content) -> list[str]:
    """What each point changes, in words, where there is one class of alerts."""
    plain = content.cases[content.columns[0].name]
    if "alerts" not in plain:
        return []
    first, said = content.columns[0].name, []
    other = f"the {first}" if first == PLAIN else first
    for column in content.columns[1:]:
        now = content.cases[column.name]
        ill = now["caught"].value + now["missed"].value
        said.append(
            f"Of {CASES:,} cases such as these about {_count(ill)} are '{content.positive}'. "
            f"Under {column.name} there are {_alerts(now)}. Under {other} there are {_alerts(plain)}."
        )
    return said


def _alerts(of: Mapping[str, Interval]) -> str:
    caught, missed, wrong = (_count(of[what].value) for what in ("caught", "missed", "false alarms"))
    return f"{_count(of['alerts'].value)} alerts: {caught} caught, {missed} missed, {wrong} false alarms"


def _count(value: float) -> str:
    return "undefined" if value != value else f"{value:,.0f}"


def _share(value: float) -> str:
    return "undefined" if value != value else f"{value:.4g}"


def _interval(interval: Interval, kind: str = "share") -> Any:
    """The value and its interval, which may stand below it but are not broken themselves."""
    from markupsafe import Markup

    if interval.value != interval.value:
        return "undefined"
    shown = _count if kind == "count" else _share
    return Markup("<span>{}</span> <span>[{}, {}]</span>").format(
        shown(interval.value), shown(interval.low), shown(interval.high)
    )
