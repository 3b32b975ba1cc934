from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from workbench.audit import layout
from workbench.cli.main import app


def test_help_is_complete_and_loads_no_heavy_module() -> None:
    result = CliRunner().invoke(app, ["report", "--help"])
    assert result.exit_code == 0
    for words in ("RUN", "--compare", "workbench report runs/eyepacs256/audit"):
        assert words in result.output
    code = (
        "import sys, workbench.cli.report; sys.exit(bool({'altair', 'pandas', 'jinja2', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_writes_both_files_and_names_the_next_command(run_copy: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(run_copy)])
    assert result.exit_code == 0, result.output
    assert (run_copy / "report.html").stat().st_size > 10_000
    assert (run_copy / "report.json").exists()
    assert f"workbench review {run_copy}" in result.output


def test_an_unfinished_run_and_a_folder_that_is_none_are_one_line(run_copy: Path, tmp_path: Path) -> None:
    layout.part_path(run_copy, layout.CLEAN, 0).unlink()
    for folder, words in ((run_copy, "is not finished"), (tmp_path / "nothing", "no run at")):
        command = [sys.executable, "-m", "workbench.cli.main", "report", str(folder)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode == 2
        assert words in found.stderr
        assert "Traceback" not in found.stderr
        assert len(found.stderr.strip().splitlines()) == 1


def test_the_report_room_needs_no_torch() -> None:
    code = "import sys, workbench.report.write; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
