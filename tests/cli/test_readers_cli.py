from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.review.simulated_readers import Trust, simulate
from workbench.audit.results import open_run
from workbench.cli.main import app
from workbench.review.reads import EyeRead, Submission
from workbench.review.store import ReviewStore
from workbench.schema.errors import WorkbenchError


@pytest.fixture
def read_run(run_copy: Path) -> Path:
    """A run that two people read blinded, then with the model, through the store."""
    run = open_run(run_copy)
    store = ReviewStore(run_copy / "reviews.sqlite")
    table = pd.DataFrame([read.model_dump() for read in simulate(run, [Trust("Dr Rossi"), Trust("Dr Verdi")])])
    for (reader, exam, stage), rows in table.groupby(["reader", "exam_id", "stage"], sort=False):
        eyes = tuple(
            EyeRead(
                eye=row["eye"],
                gradable=True,
                icdr_grade=row["icdr_grade"],
                confidence=row["confidence"],
                model_answer=row["model_answer"],
            )
            for row in rows.to_dict("records")
        )
        store.save(
            Submission(
                submission_key=f"key-{exam}-{reader}-{stage}",
                reader=reader,
                run_id=run.manifest.run_id,
                patient_id=rows["patient_id"].iloc[0],
                exam_id=exam,
                protocol="blinded",
                stage=stage,
                seconds_active=float(rows["seconds_active"].iloc[0]),
                eyes=eyes,
            )
        )
    store.close()
    return run_copy


def test_readers_says_what_it_found_and_writes_it(read_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "readers"
    result = CliRunner().invoke(app, ["review", "readers", str(read_run), "--out", str(out), "--resamples", "100"])
    assert result.exit_code == 0, result.output
    study = json.loads((out / "readers.json").read_text())
    assert study["counts"]["exams read both ways"] == 22
    assert study["sentences"]["reveal"][0].startswith("22 reads of exams by 2 readers")
    assert (out / "reads.imrmc").is_file()
    assert (out / "codoc" / "tune.csv").is_file()
    assert "Rossi" not in "".join(path.read_text() for path in out.rglob("*.*") if path.is_file())


def test_the_report_states_items_12_and_28(read_run: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(read_run)])
    assert result.exit_code == 0, result.output
    report = json.loads((read_run / "report.json").read_text())
    graders, human = report["items"][11], report["items"][27]
    assert (graders["status"], human["status"]) == ("reported", "reported")
    assert "Krippendorff's alpha" in graders["words"]
    assert "Over-reliance" in human["words"]
    assert report["readers"]["readers"]
    assert "Rossi" not in (read_run / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ungradable", "maybe"], "left-out"),
        (["--run", "/nowhere/at/all"], "is no folder"),
    ],
)
def test_mistakes_are_one_line(read_run: Path, arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["review", "readers", str(read_run), *arguments])
    assert isinstance(result.exception, WorkbenchError)
    assert words in str(result.exception)


def test_a_run_that_nobody_opened_says_where_the_reads_would_be(finished_run: Path) -> None:
    result = CliRunner().invoke(app, ["review", "readers", str(finished_run)])
    assert isinstance(result.exception, WorkbenchError)
    assert "no reviews at" in str(result.exception)
