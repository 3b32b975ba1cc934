from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.review.simulated_readers import InventedRun, Trust, simulate
from workbench.audit.results import Run, open_run
from workbench.metrics.multi_reader import Readings
from workbench.review.reader_comparison import crossed, readings
from workbench.review.reader_exports import CODOC_COLUMNS, codoc_tables, imrmc_text, write_study
from workbench.review.reader_study import study_of
from workbench.review.readers import ReadTables, read_tables
from workbench.schema.errors import WorkbenchError

NAMES = ("=HYPERLINK(1)", "Dr Rossi", "@sum")


@pytest.fixture(scope="module")
def run(finished_run: Path) -> Run:
    return InventedRun(open_run(finished_run), exams=40, seed=5)


@pytest.fixture(scope="module")
def tables(run: Run) -> ReadTables:
    return read_tables(run, simulate(run, [Trust(name) for name in NAMES], seed=2))


def parse_imrmc(text: str) -> tuple[dict[str, int], dict[tuple[str, str, str], float]]:
    """Read a file as iMRMC does: front matter up to BEGIN DATA, the truth under reader -1, one value per cell."""
    lines = iter(text.splitlines())
    assert any(line.strip().upper().startswith("BEGIN DATA") for line in lines)
    truth: dict[str, int] = {}
    scores: dict[tuple[str, str, str], float] = {}
    for line in lines:
        reader, case, modality, value = line.split(",")
        if reader == "-1":
            assert case not in truth
            assert modality == "0"
            truth[case] = int(value)
        else:
            assert (reader, case, modality) not in scores
            scores[reader, case, modality] = float(value)
    assert {case for _, case, _ in scores} <= set(truth)
    return truth, scores


@pytest.mark.parametrize("calls", [False, True])
def test_imrmc_holds_the_same_study(tables: ReadTables, calls: bool) -> None:
    truth, scores = parse_imrmc(imrmc_text(tables, calls=calls))
    pairs, readers = crossed(tables.pairs)
    assert len(scores) == 2 * len(pairs)
    cases = sorted(truth, key=int)
    numbers = [str(number) for number in range(1, len(readers) + 1)]
    table = np.array([[[scores[reader, case, way] for case in cases] for reader in numbers] for way in ("2", "1")])
    labels = np.array([bool(truth[case]) for case in cases])
    again = Readings(table, labels, np.arange(len(cases)), "sensitivity" if calls else "roc_auc")
    ours = readings(pairs, len(readers), "sensitivity" if calls else "roc_auc")
    assert again.figures() == pytest.approx(ours.figures())


def test_imrmc_takes_exams_that_not_everybody_read(run: Run) -> None:
    reads = [
        read
        for read in simulate(run, [Trust("A"), Trust("B")], seed=3)
        if (read.reader, read.exam_id) != ("A", "exam-010")
    ]
    truth, scores = parse_imrmc(imrmc_text(read_tables(run, reads)))
    assert len(scores) == 2 * (2 * len(truth) - 1)


def test_codoc_has_three_files_of_three_columns_and_no_patient_in_two(run: Run, tables: ReadTables) -> None:
    found = codoc_tables(tables)
    assert list(found) == ["tune", "val", "test"]
    frames = {name: pd.read_csv(io.StringIO(text)) for name, text in found.items()}
    for frame in frames.values():
        assert tuple(frame.columns) == CODOC_COLUMNS
        assert set(frame["y_true"]) | set(frame["reader_score"]) <= {0, 1}
        assert frame["y_model"].between(0, 1).all()
    known = tables.exams[tables.exams["stage"] == "first"].dropna(subset=["called", "truth", "p_referable"])
    assert sum(map(len, frames.values())) == len(known)
    patient = dict(zip(known["p_referable"].astype(float), known["patient_id"], strict=True))
    owners = [{patient[p] for p in frame["y_model"]} for frame in frames.values()]
    assert not owners[0] & owners[1]
    assert not (owners[0] | owners[1]) & owners[2]
    assert codoc_tables(tables) == found


def test_nothing_to_export_is_one_line(run: Run) -> None:
    nothing = read_tables(run, [])
    with pytest.raises(WorkbenchError, match="second reads"):
        imrmc_text(nothing)
    with pytest.raises(WorkbenchError, match="blinded"):
        codoc_tables(nothing)


def test_what_is_written_names_nobody_and_runs_no_formula(run: Run, tables: ReadTables, tmp_path: Path) -> None:
    hostile = read_tables(run, simulate(run, [Trust("a"), Trust("b")], seed=4), names={"a": "=1+1", "b": "@b"})
    write_study(study_of("=run", hostile, resamples=100), hostile, tmp_path / "hostile")
    for file in (tmp_path / "hostile").glob("*.csv"):
        for row in csv.reader(io.StringIO(file.read_text(encoding="utf-8-sig"))):
            for cell in row:
                assert not cell.startswith(("=", "@")), file.name
    written = write_study(study_of("run", tables, resamples=100), tables, tmp_path / "out")
    assert {path.name for path in written} >= {"readers.json", "figures.csv", "reads.imrmc", "calls.imrmc", "tune.csv"}
    for path in written:
        text = path.read_text(encoding="utf-8-sig")
        assert not any(name in text for name in NAMES)
        assert not any(exam in text for exam in run.exam_ids)
        assert "patient-0" not in text
    assert json.loads((tmp_path / "out" / "readers.json").read_text())["readers"] == [
        "Reader 1",
        "Reader 2",
        "Reader 3",
    ]


def test_a_study_of_nothing_is_still_written(run: Run, tmp_path: Path) -> None:
    nothing = read_tables(run, [])
    written = write_study(study_of("run", nothing, resamples=100), nothing, tmp_path)
    assert [path.name for path in written] == ["readers.json"]
