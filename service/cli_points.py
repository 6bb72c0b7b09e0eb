"""`setpoint points`: the life of operating points on a running server. What only looks needs no reason; what changes
something does, and the audit trail keeps it.
"""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibrate.cli import Json
from calibrate.errors import InputError
from service.terminal import plain, say

if TYPE_CHECKING:
    from service.client import Client

points = typer.Typer(
    name="points", no_args_is_help=True, help="Show, approve, retire and promote points on a running server."
)

Model = Annotated[str, typer.Argument(help="The model's name.")]
Point = Annotated[str, typer.Argument(help="The point, as name@version.")]
Reason = Annotated[str, typer.Option(help="Why; the audit trail keeps it.")]
MaybeReason = Annotated[str | None, typer.Option(help="Why; without one nothing is changed, only shown.")]
Override = Annotated[bool, typer.Option("--override", help="Also where the point's own evidence speaks against it.")]
Server = Annotated[str, typer.Option(envvar="SETPOINT_SERVER", help="The server's address.")]
HERE = "http://127.0.0.1:8000"
_METRICS = ("recall", "precision", "f1")


@points.command("list")
def list_points(
    model: Model,
    model_version: Annotated[int | None, typer.Option(help="Of this version alone.")] = None,
    server: Server = HERE,
    as_json: Json = False,
) -> None:
    """List a model's points with their state and evidence."""
    with _at(server) as client:
        found = client.all("models", model, "operating-points", model_version=model_version)
    if as_json:
        _print_json(found)
        return
    rows = [["point", "state", "version", "fitted for", "positive", *_METRICS, "author", "approved by", "also"]]
    for point in found:
        also = [*(["default"] if point["is_default"] else []), *point["aliases"]]
        evidence = [_value(point["evidence"].get(name)) for name in _METRICS]
        about = [point["operating_point"], point["state"], str(point["model_version"])]
        purpose = [point["fitted_for"] or "-", point["positive"] or "-"]
        rows.append([*about, *purpose, *evidence, point["author"] or "-", point["approved_by"] or "-", ", ".join(also)])
    print_table(rows)


@points.command()
def show(model: Model, point: Point, server: Server = HERE, as_json: Json = False) -> None:
    """Show a point: its state and why, what it was fitted for, and its evidence."""
    with _at(server) as client:
        found = client.get("models", model, "operating-points", point)
    if as_json:
        _print_json(found)
        return
    because = f": {found['because']}" if found["because"] else ""
    approved = f", approved by {found['approved_by']}" if found["approved_by"] else ""
    say(f"{found['operating_point']} of version {found['model_version']}: {found['state']}{because}")
    say(f"published {found['created_at']} by {found['author'] or 'nobody who is known'}{approved}")
    positive = f"; positive class '{found['positive']}'" if found["positive"] else ""
    say(f"{found['method']} for {found['fitted_for'] or 'no metric'}{positive}")
    if found["threshold"] is not None:
        say(f"threshold {found['threshold']:.4g} on the probability of {found['point']['classes'][1]}")
    print_table([["metric", "value", "low", "high", "rows", "kind"], *map(_told, found["evidence"].items())])
    for warning in found["warnings"]:
        say(f"warning: {warning}")
    say(f"evidence {found['evidence_digest']}")


@points.command()
def approve(
    model: Model, point: Point, reason: Reason, override: Override = False, server: Server = HERE, as_json: Json = False
) -> None:
    """Let a draft or a shadow answer."""
    _change(server, as_json, "approved", ("models", model, "operating-points", point, "approve"), reason, override)


@points.command()
def retire(model: Model, point: Point, reason: Reason, server: Server = HERE, as_json: Json = False) -> None:
    """Take a point out of use; whoever names it is told the reason."""
    _change(server, as_json, "retired", ("models", model, "operating-points", point, "retire"), reason)


@points.command()
def shadow(
    model: Model, point: Point, reason: MaybeReason = None, server: Server = HERE, as_json: Json = False
) -> None:
    """Compute a point beside every answer without answering with it; without a reason, show what was counted."""
    address = ("models", model, "operating-points", point, "shadow")
    if reason is not None:
        _change(server, as_json, "in the shadow", address, reason)
        return
    with _at(server) as client:
        found = client.get(*address)
    if as_json:
        _print_json(found)
        return
    share = f", {100 * found['differ'] / found['rows']:.3g} % differ" if found["rows"] else ""
    apart = f", {found['without_inputs']} of them came without inputs" if found.get("without_inputs") else ""
    skipped = f"{found['skipped']} not counted{apart}"
    say(f"{found['operating_point']} ({found['state']}): {found['rows']} rows{share}, {skipped}")
    if found.get("not_run"):
        say(f"warning: what the default version answers is not counted: {found['not_run']}")
    pairs = [[each["answered_by"], each["answered"], each["shadow"], str(each["rows"])] for each in found["pairs"]]
    print_table([["answered by", "answered", "shadow", "rows"], *pairs])


@points.command()
def default(
    model: Model,
    point: Annotated[str | None, typer.Argument(help="The new default; without one the default is shown.")] = None,
    reason: MaybeReason = None,
    expected: Annotated[str | None, typer.Option(help="Only while the default is still this one.")] = None,
    override: Override = False,
    server: Server = HERE,
    as_json: Json = False,
) -> None:
    """Show what answers when a request names nothing, or make a point the default."""
    with _at(server) as client:
        if point is None:
            found = client.get("models", model, "default")
        elif reason is None:
            raise InputError("a new default needs --reason, which is kept")
        else:
            said = {"operating_point": point, "reason": reason, "expected": expected, "override": override or None}
            found = client.do("PUT", "models", model, "default", **said)
    _print_default(found, as_json)


@points.command()
def rollback(model: Model, reason: MaybeReason = None, server: Server = HERE, as_json: Json = False) -> None:
    """Go back to what the default was before; without a reason, say what that would be."""
    with _at(server) as client:
        found = client.get("models", model, "default")
        if reason is not None:
            now = found["operating_point"]
            found = client.do("POST", "models", model, "default", "rollback", reason=reason, expected=now)
    _print_default(found, as_json)


@points.command()
def alias(
    model: Model,
    name: Annotated[str | None, typer.Argument(help="The alias; without one all are listed.")] = None,
    point: Annotated[str | None, typer.Argument(help="Where it is to lead.")] = None,
    reason: MaybeReason = None,
    drop: Annotated[bool, typer.Option("--drop", help="Take the alias away.")] = False,
    override: Override = False,
    server: Server = HERE,
    as_json: Json = False,
) -> None:
    """List aliases, lead one to a point, or take one away."""
    with _at(server) as client:
        if name is None:
            found = client.all("models", model, "aliases")
        elif drop == (point is not None) or reason is None:
            raise InputError("an alias needs a point to lead to, or --drop, and --reason, which is kept")
        elif drop:
            found = client.drop("models", model, "aliases", name, reason=reason)
        else:
            said = {"operating_point": point, "reason": reason, "override": override or None}
            found = [client.do("PUT", "models", model, "aliases", name, **said)]
    if as_json:
        _print_json(found)
        return
    rows = [[each["alias"], each["operating_point"], str(each["model_version"])] for each in found]
    print_table([["alias", "point", "version"], *rows])


def published(point: dict[str, Any]) -> str:
    """Which point was published."""
    return f"published {point['operating_point']} for version {point['model_version']} of model '{point['model']}'"


def what_next(point: dict[str, Any]) -> str:
    """What a point that was published does now, and what comes next."""
    model, label, state = point["model"], point["operating_point"], point["state"]
    if point["is_default"]:
        return ", the default"
    if state == "approved":
        return f"; it answers requests that name it. {to_default(model, label)} makes it the default"
    if state == "draft":
        approve = f"'setpoint points approve {model} {label} --reason ...'"
        return f", a draft that answers nobody until somebody else than {point['author']} approves it: {approve}"
    return f", which is {state} by now"


def to_default(model: str, label: str) -> str:
    """The command that makes a point the default."""
    return f"'setpoint points default {model} {label} --reason ...'"


def _at(server: str) -> "Client":
    from service.client import Client  # takes long to import, and `setpoint serve` is the same command

    return Client(server)


def _change(
    server: str, as_json: bool, done: str, address: tuple[str, ...], reason: str, override: bool = False
) -> None:
    with _at(server) as client:
        found = client.do("POST", *address, reason=reason, override=override or None)
    if as_json:
        _print_json(found)
    else:
        say(f"{found['operating_point']} of model '{found['model']}' is {done}")


def _print_default(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(found)
        return
    before = found["previous"]
    back = "nothing was before it" if before is None else f"a rollback goes back to {_named(before)}"
    say(f"default of model '{found['model']}': {_named(found)}; {back}")
    for warning in found["warnings"]:
        say(f"warning: {warning}")


def _named(default: dict[str, Any]) -> str:
    return f"{default['operating_point']} of version {default['model_version']}"


def _told(named: tuple[str, dict[str, Any]]) -> list[str]:
    name, interval = named
    numbers = [_number(interval[key]) for key in ("value", "low", "high")]
    return [name, *numbers, str(interval["rows"]), interval["kind"].replace("_", "-")]


def _value(interval: dict[str, Any] | None) -> str:
    return "-" if interval is None else _number(interval["value"])


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def print_table(rows: list[list[str]]) -> None:
    """Columns as wide as what stands in them; nothing is cut."""
    rows = [list(map(plain, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_json(found: Any) -> None:
    say(json.dumps(found, ensure_ascii=False))
