"""`workbench review`: open the review app on a run."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from workbench.schema.bundled import bundled
from workbench.schema.errors import WorkbenchError
from workbench.schema.progress import console

ADDRESS = "127.0.0.1"
"""The app has no login: it answers to this machine alone."""


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
) -> None:
    """Read the exams of a run, the most pressing first; every read is saved at once in RUN/reviews.sqlite.

    Example: workbench review runs/demo --reader "Dr Rossi"
    """
    start_app(run, port=port, reader=reader, data=data)


def start_app(run: Path, *, port: int = 8501, reader: str | None = None, data: Path | None = None) -> None:
    """Run the app until Ctrl-C.

    Raises:
        WorkbenchError: the run cannot be opened, the port is taken, or the app ended by itself.
    """
    import sys

    from workbench.review.desk import Desk

    Desk(run, data).close()  # whatever is wrong is said here, in one line, not in the browser
    _refuse_a_taken_port(port)
    command = [sys.executable, "-m", "streamlit", "run", str(bundled("apps") / "review.py"), *_options(port)]
    console.print(f"[bold]Review app[/] on http://localhost:{port} — Ctrl-C ends it", highlight=False, soft_wrap=True)
    for ending in (signal.SIGINT, signal.SIGTERM):  # a plain kill ends the app too, not only Ctrl-C
        signal.signal(ending, signal.default_int_handler)
    process = subprocess.Popen(command, env=_environment(run, reader, data), stdin=subprocess.DEVNULL)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        code = 0
    finally:
        _end(process)
    console.print(f"The app has ended. What was saved is in {run / 'reviews.sqlite'}", highlight=False, soft_wrap=True)
    if code not in (0, -2, -15, 130, 143):
        raise WorkbenchError(f"the app ended with code {code}", "see the lines above")


def _options(port: int) -> list[str]:
    settings = {
        "server.address": ADDRESS,
        "server.port": port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.runOnSave": "false",
        "browser.gatherUsageStats": "false",
        "client.showErrorDetails": "none",
        "client.toolbarMode": "viewer",
        "theme.base": "dark",
        "theme.primaryColor": "#4cc2ff",
        "theme.backgroundColor": "#0e1116",
        "theme.secondaryBackgroundColor": "#1a1f27",
        "theme.textColor": "#e8eaed",
    }
    return [f"--{name}={value}" for name, value in settings.items()]


def _environment(run: Path, reader: str | None, data: Path | None) -> dict[str, str]:
    import getpass
    import os

    from workbench.review.desk import DATA_VARIABLE, READER_VARIABLE, RUN_VARIABLE

    if reader is None:
        try:
            reader = getpass.getuser()
        except (KeyError, OSError):  # a container without a user entry: the app asks
            reader = ""
    named = {RUN_VARIABLE: str(run.resolve()), READER_VARIABLE: reader}
    if data is not None:
        named[DATA_VARIABLE] = str(data.resolve())
    return {**os.environ, **named}


def _refuse_a_taken_port(port: int) -> None:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            remedy = f"end what uses it, or choose another: --port {port + 1 if port < 65535 else port - 1}"
            raise WorkbenchError(f"port {port} on {ADDRESS} cannot be had: {error.strerror}", remedy) from None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the app; it may not hear SIGTERM while a browser is connected."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=5)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()
