"""The program `workbench`: its commands, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer
from rich.markup import escape

from workbench import __version__
from workbench.cli import audit, data, demo, handover, lesions, model, report, review, study, train
from workbench.schema.errors import WorkbenchError
from workbench.schema.progress import console

app = typer.Typer(
    name="workbench",
    help="When a medical-imaging model is wrong, does it know? Train, audit, report, review.",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(data.app, name="data")
app.command("audit", no_args_is_help=True)(audit.audit)
app.command("report", no_args_is_help=True)(report.report)
app.add_typer(review.app, name="review")
app.add_typer(handover.app, name="handover")
app.command("study", no_args_is_help=True)(study.study)
app.add_typer(model.app, name="model")
app.add_typer(lesions.app, name="lesions")
app.command("train", no_args_is_help=True)(train.train_command)
app.command("demo")(demo.demo)


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"workbench {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the program; a mistake of the user's ends in one line and a non-zero exit, never in a traceback."""
    try:
        app()
    except WorkbenchError as error:
        _fail(str(error), code=2)
    except KeyboardInterrupt:
        _fail("stopped; run the same command again to continue where it was", code=130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.ENOENT):
            raise
        _fail(f"{error.filename or 'a file'}: {os.strerror(error.errno)} — check the path and the space left", code=2)


def _fail(line: str, code: int) -> None:
    console.print(f"[bold red]error[/] {escape(line)}", soft_wrap=True, highlight=False)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
