from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from workbench.audit.results import Run, open_run
from workbench.report.write import Report, as_html, as_json, assemble


@dataclass(frozen=True)
class Written:
    """The invented run, and what its report says."""

    run: Run
    report: Report
    page: str
    figures: dict[str, object]


@pytest.fixture(scope="session")
def written(finished_run: Path) -> Written:
    run = open_run(finished_run)
    report = assemble(run)
    return Written(run, report, as_html(report), as_json(report))


@pytest.fixture(scope="session")
def other_runs(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return runs beside the invented one: the same model on another set, and another model on the same exams."""
    from tests.report.hostile import change_manifest
    from tests.run_folder import make_run

    model = open_run(finished_run).manifest.model_hash
    root = tmp_path_factory.mktemp("others")
    make_run(root / "external", exams=16, seed=3)
    change_manifest(root / "external", model_hash=model, dataset="elsewhere")
    shutil.copytree(finished_run, root / "rival")
    change_manifest(root / "rival", model_hash="f" * 64)
    return {name: root / name for name in ("external", "rival")}
