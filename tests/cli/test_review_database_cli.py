from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.reader_words import submission
from workbench.audit.results import open_run
from workbench.cli.main import app
from workbench.review.pseudonyms import KEY_VARIABLE
from workbench.review.store import ReviewStore


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "key"))
    (tmp_path / "run").mkdir()
    store = ReviewStore(tmp_path / "run" / "reviews.sqlite")
    store.save(submission())
    store.save(submission("key-00000002", patient_id="p2", exam_id="e2"))
    store.close()
    return tmp_path / "run"


def review(*words: object, typed: str = "") -> Result:
    return CliRunner().invoke(app, ["review", *map(str, words)], input=typed)


@pytest.mark.parametrize("command", ["verify", "backup", "restore", "export", "erase", "open"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = review(command, "--help")
    assert result.exit_code == 0
    assert "Example: workbench review" in result.output
    assert command in review("--help").output


def test_verify_says_whole_and_names_the_first_bad_row(reviews: Path) -> None:
    whole = review("verify", reviews)
    assert (whole.exit_code, "whole: 3 rows" in whole.output) == (0, True)
    head = whole.output.split()[-1]
    assert review("verify", reviews / "reviews.sqlite", "--head", head).exit_code == 0
    assert review("verify", reviews, "--head", "0" * 64).exit_code == 1
    database = sqlite3.connect(reviews / "reviews.sqlite")
    database.executescript("DROP TRIGGER reads_refuse_update; UPDATE reads SET icdr_grade = 4 WHERE id = 3")
    database.close()
    assert review("verify", reviews).exit_code == 1


def test_backup_restore_export_and_erase(reviews: Path, tmp_path: Path) -> None:
    assert review("backup", reviews, "--out", tmp_path / "backup.jsonl.gz").exit_code == 0
    restored = review("restore", tmp_path / "backup.jsonl.gz", "--into", tmp_path / "restored.sqlite")
    assert "restored: 3 rows" in restored.output
    exported = review("export", reviews, "--out", tmp_path / "reads.csv")
    assert "4 reads, under pseudonyms" in exported.output
    assert "p2" not in (tmp_path / "reads.csv").read_text()
    assert review("erase", reviews, "p2", typed="n\n").exit_code == 1
    erased = review("erase", reviews, "p2", "--yes", "--by", "Chief", "--cache", tmp_path)
    assert erased.exit_code == 0
    assert "1 exports cleaned" in erased.output
    assert "Not touched: backups" in erased.output
    assert len((tmp_path / "reads.csv").read_text().splitlines()) == 3
    assert "1 of them erased" in review("verify", reviews).output


def test_a_patient_whom_nobody_has_read_is_erased_from_a_run(run_copy: Path) -> None:
    patient = str(open_run(run_copy).eyes()["patient_id"].iloc[0])
    erased = review("erase", run_copy, patient, "--yes", "--by", "Chief")
    assert (erased.exit_code, "erased: 0 rows" in erased.output) == (0, True)
    assert "nor in an app that is open on it" in erased.output
    assert "whole: 2 rows" in review("verify", run_copy).output  # the eraser's name, and the erasure
    assert patient not in (run_copy / "erased.json").read_text()
    again = review("erase", run_copy, patient, "--yes")
    assert "nothing of the patient" in str(again.exception)


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for words in (("verify", tmp_path), ("backup", tmp_path / "no.sqlite", "--out", tmp_path / "b.jsonl")):
        result = review(*words)
        assert "no reviews at" in str(result.exception)
    assert list(tmp_path.iterdir()) == []
