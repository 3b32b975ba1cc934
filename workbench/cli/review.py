"""`workbench review`: open the review app on a run, or do something with what was read."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from workbench.cli import readers, review_database
from workbench.schema.bundled import bundled
from workbench.schema.errors import WorkbenchError
from workbench.schema.progress import console

ADDRESS = "127.0.0.1"
"""Without a team's login the app answers to this machine alone."""


OPEN = "open"
"""The command that is meant where none is named: `workbench review RUN`."""


class RunOrCommand(TyperGroup):
    """A group whose first word may be a run's folder instead of a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command that is meant before a word that is none."""
        named = bool(args) and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named or not args else [OPEN, *args])

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show how to open a run, then the other commands."""
        meant = self.commands[OPEN]
        meant.format_help(meant.make_context(ctx.info_name, [], parent=ctx.parent, resilient_parsing=True), formatter)
        super().format_help(ctx, formatter)


app = typer.Typer(
    cls=RunOrCommand, no_args_is_help=True, rich_markup_mode="rich", help="Or do something with what was read."
)
app.command("verify", no_args_is_help=True)(review_database.verify)
app.command("backup", no_args_is_help=True)(review_database.backup)
app.command("restore", no_args_is_help=True)(review_database.restore)
app.command("export", no_args_is_help=True)(review_database.export)
app.command("erase", no_args_is_help=True)(review_database.erase)
app.command("readers", no_args_is_help=True)(readers.readers)


@app.command(OPEN, no_args_is_help=True)
def review(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, made by 'workbench audit'.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 8501,
    reader: Annotated[
        str | None, typer.Option(help="Name under which reads are saved; this machine's user if not given.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Manifest of the audited photographs: shows them as taken, not as the model saw them."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where reads are saved: postgresql://user@host/name (the password in ~/.pgpass); "
            "RUN/reviews.sqlite if not given.",
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="How exams are read: assisted (with the model's answer), blinded (first without it, then revealed in "
            "stages, then again), adjudication (where two readers differ), review_only (no model at all)."
        ),
    ] = "assisted",
    team: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Several people, each with a login: file of the OpenID Connect provider's secrets "
            "(docs/team_mode.md), readable by its owner alone.",
        ),
    ] = None,
    first_admin: Annotated[
        str | None,
        typer.Option(
            metavar="SUBJECT",
            help="With --team: who becomes administrator while there is none; the page shows it after a login.",
        ),
    ] = None,
    address: Annotated[
        str, typer.Option(help="Address to listen at; other than this machine's own only with --team.")
    ] = ADDRESS,
    identifiers: Annotated[
        str,
        typer.Option(
            help="True names of patients: on_request (pages show pseudonyms; who may and asks sees the true ones, "
            "which is recorded) or never."
        ),
    ] = "on_request",
) -> None:
    """Read the exams of a run, the most pressing first; every read is saved at once in RUN/reviews.sqlite.

    Example: workbench review runs/demo --reader "Dr Rossi"
    """
    start_app(
        run,
        port=port,
        reader=reader,
        data=data,
        database=database,
        protocol=protocol,
        team=team,
        first_admin=first_admin,
        address=address,
        identifiers=identifiers,
    )


def start_app(
    run: Path,
    *,
    port: int = 8501,
    reader: str | None = None,
    data: Path | None = None,
    database: str | None = None,
    protocol: str = "assisted",
    team: Path | None = None,
    first_admin: str | None = None,
    address: str = ADDRESS,
    identifiers: str = "on_request",
) -> None:
    """Run the app until Ctrl-C.

    Raises:
        WorkbenchError: the run cannot be opened, the port is taken, people could come without a login, or the app
            ended by itself.
    """
    import sys

    from workbench.review.desk import IDENTIFIERS_VARIABLE, PROTOCOL_VARIABLE, Desk

    if identifiers not in ("on_request", "never"):
        raise WorkbenchError(f"--identifiers {identifiers} means nothing", "choose on_request or never")
    host = _refuse_without_login(run, team, first_admin, address, reader)
    Desk(run, data, database, protocol).close()  # whatever is wrong is said here, in one line, not in the browser
    _refuse_a_taken_port(port, address)
    options = _options(port, address, team, host)
    command = [sys.executable, "-m", "workbench.review.serve", "run", str(bundled("apps") / "review.py"), *options]
    at = f"http://localhost:{port}" if team is None else f"{address}:{port}, for browsers that come to {host}"
    console.print(f"[bold]Review app[/] on {at} — Ctrl-C ends it", highlight=False, soft_wrap=True)
    for ending in (signal.SIGINT, signal.SIGTERM):  # a plain kill ends the app too, not only Ctrl-C
        signal.signal(ending, signal.default_int_handler)
    environment = {**_environment(run, reader, data, database, team, first_admin), PROTOCOL_VARIABLE: protocol}
    environment[IDENTIFIERS_VARIABLE] = identifiers
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        code = 0
    finally:
        _end(process)
    kept = "the database that was named" if database else run / "reviews.sqlite"
    console.print(f"The app has ended. What was saved is in {kept}", highlight=False, soft_wrap=True)
    if code not in (0, -2, -15, 130, 143):
        raise WorkbenchError(f"the app ended with code {code}", "see the lines above")


def _refuse_without_login(
    run: Path, team: Path | None, first_admin: str | None, address: str, reader: str | None
) -> str:
    """Refuse to open a way in that has no login; return the host name that browsers use, empty on one's own machine."""
    from workbench.review.team import is_loopback, read_team, refuse_without_login_library

    if team is None:
        if not is_loopback(address):
            raise WorkbenchError(
                f"--address {address} opens the app to other machines, where anybody could read exams without a login",
                "add --team FILE (see docs/team_mode.md), or leave --address out",
            )
        if first_admin is not None:
            raise WorkbenchError("--first-admin goes with --team: one person on one machine needs none", "leave it out")
        return ""
    if reader is not None:
        raise WorkbenchError("--reader does not go with --team: the login says who reads", "leave it out")
    if run.resolve() in team.resolve().parents:
        raise WorkbenchError(f"{team} lies in the run, which may be passed on", "keep the secrets elsewhere")
    refuse_without_login_library()
    return read_team(team).host


def _options(port: int, address: str = ADDRESS, team: Path | None = None, host: str = "") -> list[str]:
    from workbench.review.theme import theme_options

    settings = {
        "server.address": address,
        "server.port": port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.runOnSave": "false",
        "server.enableXsrfProtection": "true",
        "server.enableCORS": "true",  # the protection, not the opening: other origins are refused
        "server.enableStaticServing": "false",
        "server.enableAgentApi": "false",
        "server.scriptHealthCheckEnabled": "false",
        "server.maxUploadSize": 1,
        "runner.magicEnabled": "false",
        "browser.gatherUsageStats": "false",
        "client.showErrorDetails": "none",
        "client.toolbarMode": "viewer",
        **theme_options(),
    }
    secrets = [] if team is None else [f"--secrets.files={team.resolve()}"]
    named = [f"--{name}={value}" for name, value in settings.items()]
    hosts = [host] if host else ["localhost", "127.0.0.1", "::1"]  # another site's name cannot be made to point here
    return [*named, *(f"--server.allowedHosts={one}" for one in hosts), *secrets]


def _environment(
    run: Path,
    reader: str | None,
    data: Path | None,
    database: str | None,
    team: Path | None = None,
    first_admin: str | None = None,
) -> dict[str, str]:
    import getpass
    import os

    from workbench.review.desk import DATA_VARIABLE, DATABASE_VARIABLE, READER_VARIABLE, RUN_VARIABLE
    from workbench.review.team import FIRST_ADMIN_VARIABLE, TEAM_VARIABLE

    if team is not None:
        reader = ""
    elif reader is None:
        try:
            reader = getpass.getuser()
        except (KeyError, OSError):  # a container without a user entry: the app asks
            reader = ""
    named = {RUN_VARIABLE: str(run.resolve()), READER_VARIABLE: reader}
    if data is not None:
        named[DATA_VARIABLE] = str(data.resolve())
    if database is not None:
        named[DATABASE_VARIABLE] = database
    if team is not None:
        named |= {TEAM_VARIABLE: str(team.resolve()), FIRST_ADMIN_VARIABLE: first_admin or ""}
    kept = {name: value for name, value in os.environ.items() if name not in (TEAM_VARIABLE, FIRST_ADMIN_VARIABLE)}
    return {**kept, **named}


def _refuse_a_taken_port(port: int, address: str) -> None:
    import socket

    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            remedy = f"end what uses it, or choose another: --port {port + 1 if port < 65535 else port - 1}"
            raise WorkbenchError(f"port {port} on {address} cannot be had: {error.strerror}", remedy) from None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the app; it may not hear SIGTERM while a browser is connected."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=5)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()
