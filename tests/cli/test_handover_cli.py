"""`workbench handover`: from a table to a rule to a page; what is wrong is one line with its lines."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from workbench.audit.handover_table import read_handover_table
from workbench.audit.results import open_run
from workbench.cli.handover import app
from workbench.schema.errors import WorkbenchError


def table(path, seed, n=1200, **columns):
    generator = np.random.default_rng(seed)
    score = generator.random(n)
    inside = (score >= 0.4) & (score < 0.6)
    y = np.where(inside, generator.random(n) < 0.5, score >= 0.6)
    reader = np.where(generator.random(n) < np.where(inside, 1.0, 0.85), y, ~y)
    frame = {
        "patient_id": np.arange(n) // 2,
        "y_true": y.astype(int),
        "y_model": score,
        "reader_score": reader.astype(int),
    }
    pd.DataFrame({**frame, **columns}).to_csv(path, index=False)
    return path


def run(*arguments):
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=True)
    if isinstance(result.exception, WorkbenchError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_from_a_table_to_a_page(tmp_path):
    rule, out = tmp_path / "rule.json", tmp_path / "out"
    run("fit", table(tmp_path / "a.csv", 0), "--out", rule)
    assert json.loads(rule.read_text())["patients"] == 600
    run("report", rule, table(tmp_path / "b.csv", 1), "--out", out, "--resamples", 200, "--grade-cost", 3)
    told = json.loads((out / "handover.json").read_text())
    figures = {(row["worker"], row["minus"], row["figure"]): row for row in told["figures"]}
    assert figures["team", "", "sensitivity"]["value"] > 0.97
    assert figures["team", "reader alone", "sensitivity"]["low"] > 0
    assert figures["reader alone", "", "read_share"]["value"] == 1
    assert figures["team", "", "cost_per_case_found"]["value"] > 0
    assert len(pd.read_csv(out / "handover.csv")) == len(told["figures"]) == 21
    page, words = (out / "handover.html").read_text(), (out / "handover.md").read_text()
    assert "http" not in page.replace("http-equiv", "")
    for text in (page, words):
        assert "go to the reader" in text
        assert "over resamples of patients" in text
    rows = [line for line in words.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows[:5]} == {7}


def test_a_split_column_says_what_teaches_and_no_patient_column_is_said(tmp_path):
    source = table(tmp_path / "a.csv", 0, split=["tune"] * 700 + ["validation"] * 500, patient_id=[None] * 1200)
    frame = pd.read_csv(source).drop(columns="patient_id")
    frame.to_csv(source, index=False)
    run("fit", source, "--out", tmp_path / "rule.json", "--objective", "sensitivity")
    frame.sample(frac=1, random_state=0).to_csv(tmp_path / "b.csv", index=False)
    run("report", tmp_path / "rule.json", tmp_path / "b.csv", "--out", tmp_path / "out", "--resamples", 100)
    assert "the table names no patients" in (tmp_path / "out" / "handover.md").read_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y_true": "2"}, r"y_true is not 0 or 1 in 1 row \(line 4\)"),
        ({"reader_score": ""}, r"reader_score is not 0 or 1 in 1 row \(line 4\)"),
        ({"y_model": "1.2"}, r"y_model is no number from 0 to 1 in 1 row \(line 4\)"),
        ({"y_model": "high"}, r"y_model is no number from 0 to 1 in 1 row \(line 4\)"),
        ({"patient_id": ""}, r"patient_id is empty in 1 row \(line 4\)"),
    ],
)
def test_a_wrong_value_is_told_with_its_line(tmp_path, change, words):
    source = table(tmp_path / "a.csv", 0)
    frame = pd.read_csv(source, dtype=str)
    for name, value in change.items():
        frame.loc[2, name] = value
    frame.to_csv(source, index=False)
    with pytest.raises(WorkbenchError, match=words):
        run("fit", source, "--out", tmp_path / "rule.json")


def test_what_else_is_wrong_is_told(tmp_path):
    source, rule = table(tmp_path / "a.csv", 0), tmp_path / "rule.json"
    with pytest.raises(WorkbenchError, match="no table at"):
        run("fit", tmp_path / "none.csv", "--out", rule)
    pd.read_csv(source).drop(columns="y_model").to_csv(tmp_path / "short.csv", index=False)
    with pytest.raises(WorkbenchError, match=r"short\.csv lacks the column 'y_model'"):
        run("fit", tmp_path / "short.csv", "--out", rule)
    with pytest.raises(WorkbenchError, match="no column 'uncertainty'"):
        run("fit", source, "--out", rule, "--by", "uncertainty")
    with pytest.raises(WorkbenchError, match="no rule at"):
        run("report", rule, source, "--out", tmp_path / "out")
    run("fit", source, "--out", rule)
    with pytest.raises(WorkbenchError, match="is the table that the rule was learnt from"):
        run("report", rule, source, "--out", tmp_path / "out")
    rule.write_text("{}")
    with pytest.raises(WorkbenchError, match="is no rule"):
        run("report", rule, source, "--out", tmp_path / "out")


def test_a_run_and_a_reader_make_a_table(tmp_path, finished_run):
    decided = open_run(finished_run).decisions()
    decided = decided[decided["measurement"] == "clean"]
    readers = tmp_path / "reader.csv"
    pd.DataFrame({"exam_id": [*decided["exam_id"], "nobody"], "reader_score": 1}).to_csv(readers, index=False)
    run("table", finished_run, readers, "--out", tmp_path / "cases.csv")
    read = read_handover_table(tmp_path / "cases.csv")
    known = decided[decided["referable"].notna() & decided["p_referable"].notna()]
    assert read.cases.score == pytest.approx(known["p_referable"].to_numpy(dtype=float))
    assert read.cases.y_true.tolist() == known["referable"].tolist()
    assert read.patients_known
    pd.DataFrame({"exam_id": ["nobody"], "reader_score": 1}).to_csv(readers, index=False)
    with pytest.raises(WorkbenchError, match=r"no exam of reader\.csv is in the run"):
        run("table", finished_run, readers, "--out", tmp_path / "cases.csv")
