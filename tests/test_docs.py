"""Everything that a user can name is in the reference, and nothing else is."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from calibrate import errors as library
from calibrate.aliases import ALIASES
from calibrate.errors import InputError, SetpointError
from calibrate.heads import HEADS
from calibrate.io.files import CACHE_KEYS
from calibrate.methods import METHODS
from calibrate.methods.bias_adjustment import SEARCHES
from calibrate.metrics import METRICS
from service import errors
from service.cli import app
from service.settings import Settings
from service.web.errors import STATUS, Fault, problem_type
from service.web.routes import ROUTES

ROOT = Path(__file__).parents[1]
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


def rows(section: str) -> dict[str, list[str]]:
    """The table of a section: its first column, without back quotes, to the others."""
    text = REFERENCE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    table = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in table}


def test_metrics_and_methods() -> None:
    """By the text that one writes, with the title of the table."""
    assert {name: [title] for name, (title,) in rows("Metrics").items()} == {
        f"{name}({', '.join(row.arguments)})" if row.arguments else name: [row.title] for name, row in METRICS.items()
    }
    methods = rows("Methods")
    assert methods.keys() == METHODS.keys()
    for name, row in METHODS.items():
        for option in row.options:
            assert f"`{option}`" in methods[name][1]
    for search in SEARCHES:
        assert f"`{search}`" in methods["bias_adjustment"][1]


def test_other_names_of_metrics() -> None:
    """Every alias with the metric that it names."""
    assert rows("Other names of metrics") == {alias: [f"`{metric}`"] for alias, metric in ALIASES.items()}


def test_heads() -> None:
    """Every retrained head."""
    assert rows("Retrained heads").keys() == HEADS.keys()


def test_cache_keys() -> None:
    """All that are read."""
    text = REFERENCE.split("## Feature cache")[1].split("\n## ")[0]
    assert set(re.findall(r"`([a-z_]+)`", text)) == set(CACHE_KEYS)


def commands(group: typer.Typer, name: str) -> Iterator[str]:
    """Every command under a name, those of its groups too."""
    for command in group.registered_commands:
        if command.callback:
            yield f"{name} {command.name or command.callback.__name__}"
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            yield from commands(inner.typer_instance, f"{name} {inner.typer_instance.info.name}")


def test_commands_and_settings() -> None:
    """Every setting with its variable and default."""
    assert set(commands(app, "setpoint")) == set(rows("Commands"))
    settings = rows("Settings")
    assert settings.keys() == {f"SETPOINT_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        shown = "none" if field.default in (None, "") else f"`{field.default}`"
        assert settings[f"SETPOINT_{name.upper()}"][0] == shown


def test_which_commands_take_json() -> None:
    """All but those that the reference names."""
    without = re.search(r"All take `--json` but (.*?)\.\s", REFERENCE, re.DOTALL)
    assert without is not None
    named = set(re.findall(r"`(\w+)`", without[1]))
    for path, command in leaves(get_command(app), ()):
        assert any("--json" in option.opts for option in command.params) == (path[0] not in named), path


def leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its path."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
    else:
        for name, each in inner.items():
            yield from leaves(each, (*path, name))


def test_routes() -> None:
    """Verb and path, in the order of the table or not."""
    assert rows("Routes").keys() == {f"{route.verb} {route.path}" for route in ROUTES}


def test_errors() -> None:
    """Every fact with its status; the title is the class's docstring."""
    kinds: list[type[SetpointError]] = [Fault]
    for module in (library, errors):
        kinds += [
            kind
            for kind in vars(module).values()
            if isinstance(kind, type) and issubclass(kind, SetpointError) and kind.__module__ == module.__name__
        ]
    never_answered = {SetpointError, InputError, errors.Unguarded}
    expected = {}
    for kind in set(kinds) - never_answered:
        status = next((code for base, code in STATUS.items() if issubclass(kind, base)), 500)
        title = (kind.__doc__ or "").splitlines()[0].rstrip(".")
        expected[problem_type(kind).rsplit(":", 1)[1]] = [str(status), title]
    assert rows("Errors") == expected


def test_the_changelog_names_the_version() -> None:
    """What is released is described."""
    from importlib.metadata import version

    assert f"## {version('setpoint')}" in (ROOT / "CHANGELOG.md").read_text()
