from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from workbench.audit import layout
from workbench.audit.layout import CLEAN
from workbench.audit.results import Run, open_run
from workbench.review.reads import SavedRead
from workbench.review.worklist import (
    AT_RISK,
    REFERRED,
    ROUTINE,
    WorklistFilter,
    make_worklist,
    neighbours,
    next_undecided,
    with_reads,
)


@pytest.fixture(scope="module")
def run(finished_run: Path) -> Run:
    return open_run(finished_run)


def read_of(exam_id: str, eye: str, reader: str = "Dr A") -> SavedRead:
    return SavedRead.model_validate(
        {
            "id": 1,
            "submission_key": "a-key-of-some-length",
            "saved_at": "2026-01-02T03:04:05.000+00:00",
            "reader": reader,
            "protocol": "assisted",
            "stage": "single",
            "run_id": "r",
            "patient_id": "p",
            "exam_id": exam_id,
            "eye": eye,
            "gradable": False,
        }
    )


def test_referred_come_first_then_risk_then_routine_each_by_its_measure(run: Run) -> None:
    worklist = make_worklist(run)
    assert sorted(worklist["exam_id"]) == sorted(run.exam_ids)
    assert list(worklist["tier"]) == sorted(worklist["tier"])
    assert set(worklist["tier"]) == {REFERRED, AT_RISK, ROUTINE}
    for tier in (REFERRED, ROUTINE):
        scores = worklist.loc[worklist["tier"] == tier, "score"]
        assert scores.is_monotonic_decreasing
    risk = worklist[worklist["tier"] == AT_RISK]
    assert (risk["silent_flips"] + 0.5 * risk["eyes_disagree"]).is_monotonic_decreasing
    assert not risk["referred"].any()


def test_silent_flips_are_those_of_the_decisions_counted_slowly(run: Run) -> None:
    decisions = run.decisions()
    for row in make_worklist(run).itertuples():
        mine = decisions[decisions["exam_id"] == row.exam_id]
        clean = mine[mine["measurement"] == CLEAN].iloc[0]
        count = 0
        for other in mine[mine["measurement"] != CLEAN].itertuples():
            if pd.isna(other.called_referable) or pd.isna(clean["called_referable"]):
                continue
            if other.called_referable != clean["called_referable"] and not other.referred:
                count += 1
        assert row.silent_flips == count


def test_missing_and_ungradable_eyes_are_named_and_truth_is_not_in_the_table(run: Run) -> None:
    worklist = make_worklist(run).set_index("exam_id")
    assert worklist.loc["exam-001", "why"].startswith("left eye missing")
    assert worklist.loc["exam-002", "why"].startswith("right eye ungradable")
    assert worklist.loc[["exam-001", "exam-002"], "incomplete"].all()
    assert worklist["incomplete"].sum() == 2
    assert not {"icdr_grade", "referable", "wrong", "silent_failure"} & set(worklist.columns)


def test_an_exam_without_any_answer_stands_first_and_never_ranks(run_copy: Path) -> None:
    run = open_run(run_copy)
    decisions = run.decisions()
    lost = decisions["exam_id"] == "exam-008"
    decisions.loc[lost, ["p_referable", "score"]] = float("nan")
    decisions.loc[lost, "called_referable"] = pd.NA
    decisions.loc[lost, "referred"] = True
    layout.write_table(layout.analysis_path(run_copy, "decisions"), decisions, layout.DECISIONS_SCHEMA)
    worklist = make_worklist(run)
    assert worklist["exam_id"].iloc[0] == "exam-008"
    assert pd.isna(worklist["rank"].iloc[0])
    assert worklist["rank"].iloc[1:].notna().all()


def test_decided_needs_every_photographed_eye_by_this_reader(run: Run) -> None:
    worklist = make_worklist(run)
    reads = [read_of("exam-001", "OD"), read_of("exam-004", "OD"), read_of("exam-005", "OD", "Dr B")]
    table = with_reads(worklist, reads, "Dr A").set_index("exam_id")
    assert table.loc["exam-001", "decided"]  # its left eye was never photographed
    assert not table.loc["exam-004", "decided"]
    assert not table.loc["exam-005", "decided"]
    assert table.loc["exam-005", "read_by"] == "Dr B"
    both = with_reads(worklist, [*reads, read_of("exam-004", "OS")], "Dr A").set_index("exam_id")
    assert both.loc["exam-004", "decided"]


def test_filters_narrow_and_keep_the_order(run: Run) -> None:
    worklist = with_reads(make_worklist(run), [read_of("exam-001", "OD")], "Dr A")
    assert WorklistFilter().apply(worklist).equals(worklist)
    assert not WorklistFilter().active
    assert WorklistFilter(referred=True).apply(worklist)["referred"].all()
    assert "exam-001" not in set(WorklistFilter(undecided=True).apply(worklist)["exam_id"])
    assert set(WorklistFilter(incomplete=True).apply(worklist)["exam_id"]) == {"exam-001", "exam-002"}
    assert WorklistFilter(eyes_disagree=True).apply(worklist)["eyes_disagree"].all()
    graded = WorklistFilter(grades=(3,)).apply(worklist)
    assert ((graded["grade_OD"] == 3) | (graded["grade_OS"] == 3)).all()
    assert 0 < len(graded) < len(worklist)
    assert list(WorklistFilter(search="AM-00").apply(worklist)["exam_id"]) == [
        name for name in worklist["exam_id"] if "am-00" in name
    ]
    assert WorklistFilter(search=".*").apply(worklist).empty


def test_next_undecided_goes_down_the_list_and_round(run: Run) -> None:
    worklist = with_reads(make_worklist(run), [], "Dr A")
    order = list(worklist["exam_id"])
    assert next_undecided(worklist) == order[0]
    assert next_undecided(worklist, after=order[0]) == order[1]
    assert next_undecided(worklist, after=order[-1]) == order[0]
    done = worklist.assign(decided=[name != order[3] for name in order])
    assert next_undecided(done) == order[3]
    assert next_undecided(done, after=order[3]) is None
    assert next_undecided(worklist.assign(decided=True)) is None
    assert neighbours(worklist, order[0]) == (None, order[1])
    assert neighbours(worklist, order[-1]) == (order[-2], None)
    assert neighbours(worklist, "nobody") == (None, None)
