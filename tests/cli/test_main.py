"""The program as a whole: what it loads, how it fails."""

import errno
import subprocess
import sys

import pytest

from workbench import __version__
from workbench.cli import main as program
from workbench.schema.errors import WorkbenchError

HEAVY = ("torch", "monai", "captum", "cleverhans", "pandas", "numpy", "streamlit", "altair", "sqlalchemy")


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from workbench.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for command in ("data", "train", "audit", "report", "review", "demo"):
        assert command in done.stdout


def test_version():
    done = subprocess.run([sys.executable, "-m", "workbench.cli.main", "--version"], capture_output=True, text=True)
    assert done.stdout.strip() == f"workbench {__version__}"


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (WorkbenchError("epsilon is -1", "give 0 or more"), "epsilon is -1 — give 0 or more", 2),
        (WorkbenchError("[bold]markup[/] of a patient's", "shown literally"), "[bold]markup[/]", 2),
        (OSError(errno.ENOSPC, "full", "/disk/x"), "/disk/x: No space left on device", 2),
        (KeyboardInterrupt(), "run the same command again", 130),
    ],
)
def test_a_mistake_is_one_line_and_a_code(monkeypatch, capsys, error, line, code):
    def fail():
        raise error

    monkeypatch.setattr(program, "app", fail)
    with pytest.raises(SystemExit) as ended:
        program.main()
    said = capsys.readouterr().err
    assert ended.value.code == code
    assert line in said
    assert len(said.strip().splitlines()) == 1


def test_a_fault_of_ours_is_not_hidden(monkeypatch):
    def fail():
        raise ZeroDivisionError

    monkeypatch.setattr(program, "app", fail)
    with pytest.raises(ZeroDivisionError):
        program.main()
