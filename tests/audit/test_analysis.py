from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.small_audit import stored_bytes
from workbench.audit import layout
from workbench.audit.analysis import analyse
from workbench.audit.figures.subgroups import exam_subgroups
from workbench.audit.results import Run, open_run

HEADLINE = ("error_rate", "referral_rate", "silent_failure_rate")


@pytest.fixture
def run(finished_run: Path) -> Run:
    return open_run(finished_run)


def row_of(run: Run, measurement: str, name: str, subgroup: str = "all") -> pd.Series:
    rows = run.rows()
    chosen = rows[(rows["measurement"] == measurement) & (rows["name"] == name) & (rows["subgroup"] == subgroup)]
    assert len(chosen) == 1, (measurement, name, subgroup)
    return chosen.iloc[0]


def test_the_three_rates_written_slowly(run: Run) -> None:
    for measurement, table in run.decisions().groupby("measurement"):
        errors, silent, known, referred = 0, 0, 0, 0
        for exam in table.itertuples():
            referred += bool(exam.referred)
            if exam.referable is pd.NA or exam.called_referable is pd.NA:
                continue
            known += 1
            wrong = exam.called_referable != exam.referable
            errors += wrong
            silent += wrong and not exam.referred
        for name, value in zip(HEADLINE, (errors / known, referred / len(table), silent / known), strict=True):
            assert row_of(run, str(measurement), name)["value"] == pytest.approx(value), (measurement, name)


def test_every_measurement_has_the_headline_and_its_conditions(run: Run) -> None:
    rows = run.rows()
    for measurement in (m for m in run.manifest.measurements if m.kind == "draws"):
        for name in HEADLINE:
            row = row_of(run, measurement.id, name)
            assert row["model_hash"] == run.manifest.model_hash
            assert row["manifest_hash"] == run.manifest.manifest_hash
            if measurement.stress is not None:
                assert (row["stress"], row["strength"]) == (measurement.stress.name, measurement.stress.strength)
    assert rows.loc[rows["measurement"] == "clean", "stress"].isna().all()


def test_no_value_and_no_interval_without_a_reason(run: Run) -> None:
    rows = run.rows()
    assert rows.loc[rows["value"].isna(), "reason"].notna().all()
    assert rows.loc[rows["low"].isna(), "reason"].notna().all()
    assert rows.loc[rows["low"].notna(), "reason"].isna().all()
    assert rows["value"].isna().any()  # the fixture holds such rows, so the above says something


def test_a_value_lies_in_its_interval_and_rates_between_0_and_1(run: Run) -> None:
    rows = run.rows().dropna(subset=["low"])
    rates = rows[rows["name"].isin(HEADLINE)]
    assert rates["value"].between(0, 1).all()
    assert ((rates["low"] <= rates["value"]) & (rates["value"] <= rates["high"])).all()


def test_the_clean_referral_rate_is_the_budget_as_near_as_whole_exams_allow(run: Run) -> None:
    exams = len(run.exam_ids)
    referred = row_of(run, "clean", "referral_rate")["value"] * exams
    assert abs(referred - run.manifest.policy.referral_budget * exams) <= 0.5


def test_the_cutoff_stays_under_stress(run: Run) -> None:
    cutoff = run.summary.score_cutoff
    assert cutoff is not None
    table = run.decisions()
    assert (table.loc[table["score"] > cutoff, "referred"]).all()
    complete = table["referred_why"].isna() | (table["referred_why"] == "unsure")
    assert not table.loc[complete & (table["score"] <= cutoff), "referred"].any()


def test_an_incomplete_exam_goes_to_a_human_and_says_so(run: Run) -> None:
    table = run.decisions().set_index(["measurement", "exam_id"])
    assert table.loc[("clean", "exam-001"), "referred_why"] == "incomplete"
    assert table.loc[("clean", "exam-002"), "referred"]
    assert table.loc[("pgd@2", "exam-005"), "referred"]  # it failed: no answer at all
    assert table.loc[("pgd@2", "exam-005"), "wrong"] is pd.NA


def test_an_ungraded_exam_is_neither_right_nor_wrong(run: Run) -> None:
    table = run.decisions().set_index(["measurement", "exam_id"])
    assert table.loc[("clean", "exam-003"), "wrong"] is pd.NA
    assert table.loc[("clean", "exam-003"), "silent_failure"] is pd.NA
    answers = run.eye_answers()
    assert answers.loc[answers["exam_id"] == "exam-003", "icdr_grade"].isna().all()


def test_answers_are_those_of_the_draws(run: Run) -> None:
    answers = run.eye_answers().set_index(["measurement", "exam_id", "eye"])
    draws = run.draws("jpeg@5", "exam-006")
    assert draws is not None
    answer = answers.loc[("jpeg@5", "exam-006", "OS")]
    mean = draws[:, 1].astype(float).mean(axis=0)
    assert answer["grade_predicted"] == mean.argmax()
    assert answer["p_referable"] == pytest.approx(mean[2:].sum())
    assert answer["p_referable_sd"] == pytest.approx(draws[:, 1, 2:].sum(axis=-1).std(), rel=1e-4)
    assert answer["predictive_entropy"] == pytest.approx(-(mean * np.log(mean)).sum())


def test_an_eye_without_an_answer_has_no_row(run: Run) -> None:
    answers = run.eye_answers()
    clean = answers[answers["measurement"] == "clean"]
    assert len(clean) == 2 * len(run.exam_ids) - 2
    assert len(answers[answers["measurement"] == "pgd@2"]) == 2 * len(run.exam_ids) - 4


def test_a_change_is_that_of_the_same_exams(run: Run) -> None:
    table = run.decisions().pivot(index="exam_id", columns="measurement", values="wrong").astype("Float64")
    both = table[["clean", "pgd@2"]].dropna()
    expected = (both["pgd@2"] - both["clean"]).mean()
    row = row_of(run, "pgd@2", "error_rate_change")
    assert row["value"] == pytest.approx(float(expected))
    assert row["n"] == len(both)


def test_ungradable_and_missing_are_counted_by_intention(run: Run) -> None:
    eyes = 2 * len(run.exam_ids)
    assert row_of(run, "clean", "missing_rate")["value"] == pytest.approx(1 / eyes)
    assert row_of(run, "clean", "ungradable_rate")["value"] == pytest.approx(1 / (eyes - 1))


def test_subgroups_part_the_exams(run: Run) -> None:
    rows = run.rows()
    referral = rows[(rows["measurement"] == "clean") & (rows["name"] == "referral_rate")]
    for attribute in ("camera", "sex", "age", "quality"):
        counts = referral.loc[referral["subgroup"].str.startswith(f"{attribute}="), "n"]
        assert counts.sum() == len(run.exam_ids), attribute
    assert "grade=4" in set(referral["subgroup"])


def test_the_worse_eye_gives_an_exam_its_quality() -> None:
    table = pd.DataFrame(
        {
            "quality": ["good", "reject", "usable", None, None, None],
            "camera": ["A", None] * 3,
            "site": None,
            "sex": None,
            "age": [39.0, 39.0, 40.0, 40.0, None, None],
        }
    )
    found = dict(exam_subgroups(table, np.array([[0, 2], [-1, -1], [1, 0]])))
    assert found["quality=reject"].tolist() == [True, False, False]
    assert found["quality=usable"].tolist() == [False, True, False]
    assert found["age=under 40"].tolist() == [True, False, False]
    assert found["age=40-49"].tolist() == [False, True, False]
    assert found["grade=2"].tolist() == [True, False, False]
    assert not any(name.startswith(("site", "sex")) for name in found)


def test_the_retained_curve_begins_with_everybody(run: Run) -> None:
    rows = run.rows()
    curve = rows[(rows["measurement"] == "clean") & (rows["name"] == "error_rate_at_retained") & rows["of"].isna()]
    whole = curve.loc[curve["at"] == 1.0, "value"].iloc[0]
    assert whole == pytest.approx(row_of(run, "clean", "error_rate")["value"])
    assert curve["at"].is_monotonic_decreasing


def test_analysing_again_gives_the_same_bytes(run_copy: Path) -> None:
    before = stored_bytes(run_copy)
    for name in ("rows", "decisions", "eyes"):
        layout.analysis_path(run_copy, name).unlink()  # type: ignore[arg-type]
    analyse(run_copy, resamples=40)
    assert stored_bytes(run_copy) == before
