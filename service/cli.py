"""The `setpoint` command: the library's commands, the server, what it keeps, and publishing."""

import errno
import json
import os
import socket
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from calibrate import cli as library
from calibrate import cli_export, cli_retrain
from calibrate.bench.cli import bench
from calibrate.cli_extract import extract
from calibrate.cli_models import AllowOtherModel
from calibrate.errors import InputError, SetpointError
from service import cli_state
from service.cli_decisions import decisions
from service.cli_evaluate import evaluate
from service.cli_jobs import calibrate, jobs
from service.cli_keys import keys
from service.cli_points import points, published, to_default, what_next
from service.settings import Settings, read_settings, unknown_variables
from service.terminal import plain, say

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(version("setpoint"))
        raise typer.Exit


@app.callback()
def setpoint(
    _: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """Operating points for trained classifiers: extract, fit, evaluate, export, publish, serve, and more."""


app.command()(extract)
app.command()(library.fit)
app.command()(evaluate)
app.command()(library.curve)
app.command()(bench)
app.command()(cli_export.export)
app.command()(cli_retrain.retrain)
app.command()(calibrate)
app.command()(cli_state.backup)
app.command()(cli_state.restore)
app.add_typer(cli_state.audit)
app.add_typer(keys)
app.add_typer(jobs)
app.add_typer(decisions)
app.add_typer(points)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help=Settings.model_fields["host"].description)] = None,
    port: Annotated[int | None, typer.Option(help=Settings.model_fields["port"].description)] = None,
    data: Annotated[Path | None, typer.Option(help=Settings.model_fields["data"].description)] = None,
) -> None:
    """Serve the models and operating points in a folder. Every setting is also a variable, as SETPOINT_PORT."""
    from service.main import make_app
    from service.monitoring.logs import Lines
    from service.server import leave
    from service.server import serve as answer

    given = {"host": host, "port": port, "data": data}
    settings = read_settings({name: value for name, value in given.items() if value is not None})
    listening = _listen(settings.host, settings.port)  # before the store is opened: a taken port changes nothing
    lines = Lines(settings.log_format, settings.log_level)
    application = make_app(settings, lines, is_answering_first=True)
    lines.take_over()
    if unknown := unknown_variables(os.environ):
        lines.write("warning", "variables that are no setting are not read", names=", ".join(unknown))
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http{'s' if settings.tls_cert else ''}://{shown}:{listening[0].getsockname()[1]}"
    if settings.log_format == "text":
        typer.echo(f"setpoint on {address} (Ctrl+C stops it)", err=True)
    else:
        lines.write("info", "listening", address=address)
    answer(application, settings, listening)
    leave()


def _listen(host: str, port: int) -> list[socket.socket]:
    """A socket for every address of the host, `localhost` has two. Raises: `InputError`, `OSError`."""
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise InputError(f"host {host} cannot be found: {error.strerror}") from None
    for family, kind, protocol, _, address in found:
        if sockets and port == 0:
            break  # a free port is another one for each address
        listening = socket.socket(family, kind, protocol)
        if os.name != "nt":  # there it would let two servers share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listening.bind(address)
        except OSError as error:
            listening.close()
            if error.errno == errno.EADDRINUSE:
                raise InputError(f"port {port} is in use") from None
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            continue  # a machine may name an address that it does not have
        sockets.append(listening)
    if not sockets:
        raise InputError(f"host {host} is no address of this machine")
    return sockets


@app.command()
def publish(
    model: Annotated[str, typer.Option(help="The model's name.")],
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A saved point or result (.json), or a model (.onnx); left out, --classes register a model by its "
            "classes alone, for scores that are computed elsewhere."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The point's name; the file's unless told.")] = None,
    model_version: Annotated[
        int | None, typer.Option(help="The version a point is for; the default's unless told.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="A model's classes, as clear,fraud.")] = None,
    prior: Annotated[str | None, typer.Option(help="A model's training class frequencies, as 0.95,0.05.")] = None,
    output: Annotated[str | None, typer.Option(help="A model's output, where no linear head can be found.")] = None,
    output_kind: Annotated[str | None, typer.Option(help="What that output holds: logits or probabilities.")] = None,
    allow_random: Annotated[
        bool, typer.Option("--allow-random", help="Also a model that answers at random; the audit trail keeps it.")
    ] = False,
    columns: Annotated[
        str | None,
        typer.Option(
            help="The columns of a model's one input in its order, as age,TSH or as JSON; rows go by name then."
        ),
    ] = None,
    make_default: Annotated[
        str | None, typer.Option(metavar="REASON", help="Also make it the default; the reason is kept.")
    ] = None,
    allow_other_model: AllowOtherModel = False,
    server: Annotated[
        str, typer.Option(envvar="SETPOINT_SERVER", help="The server's address.")
    ] = "http://127.0.0.1:8000",
    as_json: library.Json = False,
) -> None:
    """Publish an operating point, or register a model, on a running server. SETPOINT_TOKEN is sent where it is set."""
    from service.client import Client, Refused

    with Client(server) as client:
        if file is None or file.suffix.lower() == ".onnx":
            names = None if classes is None else classes.split(",")
            frequencies = None if prior is None else library.shares(prior)
            if file is None:
                options = {
                    "output": output,
                    "output_kind": output_kind,
                    "columns": columns,
                    "allow_random": allow_random or None,
                }
                _check_no_file(names, name=name, model_version=model_version, **options)
                said = client.do("POST", "models", name=model, classes=names, prior=frequencies)
            else:
                said = client.register(
                    file,
                    model,
                    classes=None if names is None else json.dumps(names),
                    prior=None if frequencies is None else json.dumps(frequencies),
                    output=output,
                    output_kind=output_kind,
                    allow_random="true" if allow_random else None,
                    columns=None if columns is None else _columns(columns),
                )
            number, point = said["model_version"], f"argmax@{said['model_version']}"
            how = "by its classes alone" if file is None else f"which runs on {said['provider']}"
            done = f"registered version {number} of model '{model}', {how}"
            staged = f"; it is staged, and answers requests that ask for model_version {number}. "
            came = ", the default" if said["is_default"] else f"{staged}{to_default(model, point)} makes it the default"
        else:
            said = client.publish(
                file, model, name=name or file.stem, model_version=model_version, allow_other_model=allow_other_model
            )
            number, point = said["model_version"], said["operating_point"]
            done, came = published(said), what_next(said)
        if make_default is not None:
            try:
                if said.get("state") == "draft":
                    raise Refused(f"it is {came.removeprefix(', ')}")
                said["default"] = client.set_default(model, model_version=number, point=point, reason=make_default)
            except Refused as error:
                then = f"{to_default(model, point)} is what is left to do; publishing it again would add a version"
                raise Refused(f"{done}, but not made the default: {error}. {then}") from None
            came = ", now the default"
    if as_json:
        say(json.dumps(said, ensure_ascii=False))
    else:
        say(done + came)
        for warning in said.get("warnings", []):
            say(f"warning: {warning}")


def _check_no_file(classes: list[str] | None, **options: object) -> None:
    """Raises `InputError` where a model cannot be registered by its classes alone."""
    if not classes:
        raise InputError(
            "wanted a FILE, a saved point or result (.json) or a model (.onnx), or --classes to register a model by "
            "its classes alone, as --classes alive,died"
        )
    if unused := [name for name, value in options.items() if value is not None]:
        raise InputError(f"--{unused[0].replace('_', '-')} needs a FILE; only --classes and --prior go without one")


def _columns(text: str) -> str:
    """The columns as the JSON list that the server takes."""
    return text if text.lstrip().startswith("[") else json.dumps(text.split(","))


def main() -> None:
    """Runs the command; an error of ours is one line, not a traceback."""
    try:
        _check_reason(sys.argv[1:])
        app()
    except SetpointError as error:
        _fail(str(error))
    except BrokenPipeError:  # the next program in the pipe, as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _check_reason(arguments: list[str]) -> None:
    """The next option must not be taken for the reason. Raises: `InputError`."""
    for argument, following in zip(arguments, [*arguments, "--"][1:], strict=True):
        if argument == "--make-default" and (following.startswith("--") or not following.strip()):
            raise InputError("--make-default needs the reason, which is kept: --make-default 'fewer missed cases'")


def _fail(message: str) -> None:
    message = "\n".join(map(plain, message.split("\n")))  # it may quote a server
    typer.secho(f"error: {message}", fg="red", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
