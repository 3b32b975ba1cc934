"""`workbench audit --predictions`: the options, and what is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.outputs_folder import write_outputs
from workbench.audit.results import open_run
from workbench.cli.main import app
from workbench.schema.errors import WorkbenchError


def test_two_files_are_enough(tmp_path: Path) -> None:
    predictions, labels = write_outputs(tmp_path)
    out = tmp_path / "run"
    command = ["audit", "--predictions", str(predictions), "--labels", str(labels), "--out", str(out)]
    changes = ["policy.referral_budget=0.1", "name=theirs", "--threshold", "0.4"]
    ended = CliRunner().invoke(app, [*command, *changes], catch_exceptions=False)
    assert ended.exit_code == 0
    assert "silent failures" in ended.output
    run = open_run(out).manifest
    assert (run.kind, run.policy.referral_budget, run.referable_threshold, run.model.name) == (
        "predictions",
        0.1,
        0.4,
        "theirs",
    )


def test_columns_of_other_names_and_a_config(tmp_path: Path) -> None:
    predictions, labels = write_outputs(tmp_path)
    labels.write_text(labels.read_text().replace("level", "Retinopathy grade"))
    config = tmp_path / "audit.yaml"
    config.write_text("seed: 3\nname: from the file\n")
    command = ["audit", str(config), "--predictions", str(predictions), "--labels", str(labels)]
    columns = ["--column", "level=Retinopathy grade", "--out", str(tmp_path / "run")]
    assert CliRunner().invoke(app, [*command, *columns], catch_exceptions=False).exit_code == 0
    run = open_run(tmp_path / "run").manifest
    assert (run.seed, run.model.name) == (3, "from the file")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--labels", "labels.csv"], "--labels without --predictions"),
        (["--predictions", "p.csv"], "lacks 'labels'"),
        (["--predictions", "p.csv", "--labels", "l.csv", "--model", "m"], "--predictions stands instead of --model"),
        (["--predictions", "p.csv", "--labels", "l.csv", "--column", "eye"], "is not OURS=THEIRS"),
        (["--predictions", "p.csv", "--labels", "l.csv", "--missing", "ignore"], "missing = 'ignore' is not valid"),
        (["--predictions", "p.csv", "--labels", "l.csv", "draws=3"], "unknown key 'draws'"),
        (["--predictions", "p.csv", "--labels", "l.csv"], "no table at l.csv"),
    ],
)
def test_a_mistake_is_one_line_with_its_remedy(arguments: list[str], said: str) -> None:
    ended = CliRunner().invoke(app, ["audit", *arguments])
    assert isinstance(ended.exception, WorkbenchError)
    assert said in str(ended.exception)
    assert "\n" not in str(ended.exception)


def test_a_report_without_cases(tmp_path: Path) -> None:
    predictions, labels = write_outputs(tmp_path)
    out = str(tmp_path / "run")
    CliRunner().invoke(app, ["audit", "--predictions", str(predictions), "--labels", str(labels), "--out", out])
    ended = CliRunner().invoke(app, ["report", out, "--no-cases"], catch_exceptions=False)
    assert ended.exit_code == 0
    assert "No single exam is shown in this copy." in (tmp_path / "run" / "report.html").read_text()
