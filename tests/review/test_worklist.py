from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reader_words import submission
from workbench.audit import layout, schemas
from workbench.audit.layout import CLEAN
from workbench.audit.results import Run, open_run
from workbench.review.cases import CaseBook, eyes_disagree
from workbench.review.desk import Desk
from workbench.review.forgotten import forget
from workbench.review.panes import OTHER_VISIT
from workbench.review.worklist import (
    AT_RISK,
    ORDERS,
    REFERRED,
    ROUTINE,
    WorklistFilter,
    make_worklist,
    neighbours,
    next_undecided,
)
from workbench.review.worklist_index import WorklistIndex
from workbench.review.worklist_risk import ENOUGH, risk_curve
from workbench.schema.errors import WorkbenchError

RUN_ID = "b74120fb5867"


@pytest.fixture(scope="module")
def run(finished_run: Path) -> Run:
    return open_run(finished_run)


@pytest.fixture
def desk(run_copy: Path) -> Iterator[Desk]:
    opened = Desk(run_copy)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def read_once(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Return a desk of which Dr A has read one exam; the tests with it only look."""
    opened = Desk(Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("read_once") / "run")))
    read(opened, "exam-001", eyes=("OD",))
    yield opened
    opened.close()


numbers = itertools.count()


def read(desk: Desk, exam_id: str, reader: str = "Dr A", eyes: tuple[str, ...] = ("OD", "OS")) -> None:
    patient_id = desk.case(exam_id).patient_id
    words = [{"eye": eye, "gradable": False} for eye in eyes]
    desk.store.save(
        submission(
            f"worklist-{next(numbers)}",
            run_id=desk.run_id,
            patient_id=patient_id,
            exam_id=exam_id,
            reader=reader,
            eyes=words,
        )
    )


def by_hand(run: Run) -> pd.DataFrame:
    """Return the worklist as pandas makes it, slowly, from the same tables: the order of priority and its columns."""
    eyes, decisions, answers = run.eyes(), run.decisions(), run.eye_answers()
    clean = decisions[decisions["measurement"] == CLEAN].set_index("exam_id")
    answers = answers[answers["measurement"] == CLEAN]
    rows: list[dict[str, Any]] = []
    for exam_id, both in eyes.groupby("exam_id", sort=False):
        row: dict[str, Any] = {"exam_id": exam_id, "patient_id": both["patient_id"].iloc[0]}
        for eye in ("OD", "OS"):
            mine = both[both["eye"] == eye]
            row[f"status_{eye}"] = mine["status"].iloc[0] if len(mine) else "missing"
            answer = answers[(answers["exam_id"] == exam_id) & (answers["eye"] == eye)]
            row[f"grade_{eye}"] = int(answer["grade_predicted"].iloc[0]) if len(answer) else None
            row[f"p_{eye}"] = float(answer["p_referable"].iloc[0]) if len(answer) else np.nan
        row["incomplete"] = row["status_OD"] != "ok" or row["status_OS"] != "ok"
        grades, p = np.array([[row["grade_OD"], row["grade_OS"]]], float), np.array([[row["p_OD"], row["p_OS"]]])
        known = not np.isnan(grades).any()
        called = p >= run.referable_threshold
        row["eyes_disagree"] = known and bool(eyes_disagree(np.nan_to_num(grades).astype(int), called)[0])
        one = clean.loc[exam_id]
        row |= {"score": float(one["score"]), "referred": bool(one["referred"])}
        row["p_referable"] = float(one["p_referable"])
        flips = 0
        for other in decisions[(decisions["exam_id"] == exam_id) & (decisions["measurement"] != CLEAN)].itertuples():
            if pd.isna(other.called_referable) or pd.isna(one["called_referable"]):
                continue
            flips += other.called_referable != one["called_referable"] and not other.referred
        row["silent_flips"] = flips
        rows.append(row)
    table = pd.DataFrame(rows)
    at_risk = (table["silent_flips"] > 0) | table["eyes_disagree"]
    table["tier"] = np.where(table["referred"], REFERRED, np.where(at_risk, AT_RISK, ROUTINE))
    table["rank"] = table["score"].rank(pct=True)
    risk = np.where(table["tier"] == AT_RISK, table["silent_flips"] + 0.5 * table["eyes_disagree"], 0.0)
    keys = table.assign(_none=table["score"].isna(), _risk=risk)
    ascending = [True, False, False, False, True]
    return keys.sort_values(["tier", "_none", "_risk", "score", "exam_id"], ascending=ascending, ignore_index=True)


def test_the_index_is_what_pandas_makes_of_the_same_tables(run: Run) -> None:
    ours, slow = make_worklist(run), by_hand(run)
    assert list(ours["exam_id"]) == list(slow["exam_id"])
    assert set(ours["tier"]) == {REFERRED, AT_RISK, ROUTINE}
    for column in ("patient_id", "tier", "incomplete", "eyes_disagree", "silent_flips", "referred", "status_OS"):
        assert ours[column].tolist() == slow[column].tolist(), column
    for column in ("grade_OD", "grade_OS", "score", "p_referable", "rank"):
        np.testing.assert_allclose(ours[column].astype(float), slow[column].astype(float), rtol=1e-6)


def test_each_order_is_by_its_measure(desk: Desk) -> None:
    slow = by_hand(desk.run).set_index("exam_id")
    lists = {order: list(desk.worklist("", WorklistFilter(order=order)).page(0, 50)["exam_id"]) for order in ORDERS}
    assert all(sorted(names) == sorted(slow.index) for names in lists.values())
    assert slow.loc[lists["uncertainty"], "score"].is_monotonic_decreasing
    worse = slow[["grade_OD", "grade_OS"]].astype(float).max(axis=1)
    assert worse[lists["severity"]].is_monotonic_decreasing
    disagree = slow.loc[lists["disagreement"], "eyes_disagree"].tolist()
    assert disagree == sorted(disagree, reverse=True)
    assert True in disagree
    assert list(slow.loc[lists["patient"], "patient_id"]) == sorted(slow["patient_id"])


def test_missing_and_ungradable_eyes_are_named_and_truth_is_nowhere_in_the_index(desk: Desk) -> None:
    worklist = desk.worklist("").page(0, 50).set_index("exam_id")
    assert worklist.loc["exam-001", "why"].startswith("left eye missing")
    assert worklist.loc["exam-002", "why"].startswith("right eye ungradable")
    columns = desk.index.all("SELECT DISTINCT column_name FROM duckdb_columns() WHERE database_name = 'index'")
    truth = {"icdr_grade", "dme", "referable", "wrong", "silent_failure", "label_source"}
    assert not truth & {name for (name,) in columns}


def test_an_exam_without_any_answer_stands_first_and_never_ranks(run_copy: Path) -> None:
    run = open_run(run_copy)
    decisions = run.decisions()
    lost = decisions["exam_id"] == "exam-008"
    decisions.loc[lost, ["p_referable", "score"]] = float("nan")
    decisions.loc[lost, "called_referable"] = pd.NA
    decisions.loc[lost, "referred"] = True
    make_worklist(run)  # an index of the older analysis is there, and must not be used
    layout.write_table(layout.analysis_path(run_copy, "decisions"), decisions, schemas.DECISIONS_SCHEMA)
    worklist = make_worklist(run)
    assert worklist["exam_id"].iloc[0] == "exam-008"
    assert pd.isna(worklist["rank"].iloc[0])
    assert worklist["rank"].iloc[1:].notna().all()


def test_decided_needs_every_photographed_eye_by_this_reader(desk: Desk) -> None:
    assert not desk.worklist("Dr A").page(0, 50)["decided"].any()
    read(desk, "exam-001", eyes=("OD",))
    read(desk, "exam-004", eyes=("OD",))
    read(desk, "exam-005", "Dr B")
    table = desk.worklist("Dr A").page(0, 50).set_index("exam_id")
    assert table.loc["exam-001", "decided"]  # its left eye was never photographed
    assert not table.loc["exam-004", "decided"]
    assert not table.loc["exam-005", "decided"]
    assert table.loc["exam-005", "read_by"] == "Dr B"
    read(desk, "exam-004", eyes=("OS",))
    assert desk.worklist("Dr A").page(0, 50).set_index("exam_id").loc["exam-004", "decided"]
    assert desk.worklist("Dr A").counts() == (12, 2)
    assert desk.worklist("Dr A", WorklistFilter(unread=True)).counts() == (9, 0)


names = st.sampled_from(["referred", "undecided", "incomplete", "eyes_disagree"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    held=st.sets(names),
    grades=st.sets(st.integers(0, 4)),
    true_names=st.booleans(),
    search=st.sampled_from(
        ["", "AM-00", "P-", "a\ne-", "7", "exam-01", "patient-00", ".*", "%", "_", "'", "\\", "x\n", "Ä", "\x00"]
    ),
    camera=st.sampled_from(["", "Alpha 45", "nothing"]),
    begin=st.integers(0, 14),
    order=st.sampled_from(sorted(ORDERS)),
)
def test_filters_and_pages_are_those_of_pandas(
    read_once: Desk,
    held: set[str],
    grades: set[int],
    true_names: bool,
    search: str,
    camera: str,
    begin: int,
    order: str,
) -> None:
    desk, slow = read_once, by_hand_once(read_once.run)
    keep = pd.Series(True, index=slow.index)
    for name in held:
        keep &= ~slow["exam_id"].isin(["exam-001"]) if name == "undecided" else slow[name]
    if grades:
        keep &= slow["grade_OD"].isin(grades) | slow["grade_OS"].isin(grades)
    if words := search.strip().lower():
        shown = slow["patient_id"].map(desk.names.patient) + "\n" + slow["exam_id"].map(desk.names.exam)
        found = shown.str.lower().str.contains(words, regex=False)
        if true_names:
            found |= (slow["patient_id"] + "\n" + slow["exam_id"]).str.contains(words, regex=False)
        keep &= found
    if camera:
        keep &= (slow["exam_id"].str[-1].astype(int) % 2 == 0) & (camera == "Alpha 45")
    flags: dict[str, Any] = dict.fromkeys(held, True)
    chosen = WorklistFilter(grades=tuple(grades), search=search, camera=camera, order=order, **flags)
    everything = list(desk.worklist("", WorklistFilter(order=order)).page(0, 50)["exam_id"])
    expected = [name for name in everything if name in set(slow.loc[keep, "exam_id"])]
    ours = desk.worklist("Dr A", chosen, true_names=true_names)
    assert list(ours.page(begin, 5)["exam_id"]) == expected[begin : begin + 5]
    assert len(ours) == len(expected)
    assert [exam for _, exam in ours.first(3)] == expected[:3]
    assert WorklistFilter.from_kept(chosen.kept()) == chosen
    undecided = [name for name in expected if name != "exam-001"]
    assert next_undecided(ours) == (undecided[0] if undecided else None)


_slow: dict[str, pd.DataFrame] = {}


def by_hand_once(run: Run) -> pd.DataFrame:
    if "slow" not in _slow:
        _slow["slow"] = by_hand(run)
    return _slow["slow"]


def test_a_kept_list_is_asked_for_anew_once_somebody_has_read(desk: Desk) -> None:
    asked = WorklistFilter(undecided=True, order="risk")
    worklist = desk.worklist("Dr A", asked)
    before = list(worklist.page(0, 10**6)["exam_id"])
    assert len(worklist) == len(before)
    first = before[0]
    read(desk, first)
    after = desk.worklist("Dr A", asked)
    assert len(after) == len(before) - 1
    assert first not in set(after.page(0, 10**6)["exam_id"])
    for grade in range(5):  # more lists than are kept
        for order in ORDERS:
            len(desk.worklist("Dr B", WorklistFilter(grades=(grade,), order=order)))
    assert first not in set(desk.worklist("Dr A", asked).page(0, 10**6)["exam_id"])


def test_next_undecided_goes_down_the_list_and_round(desk: Desk) -> None:
    worklist = desk.worklist("Dr A")
    order = list(worklist.page(0, 50)["exam_id"])
    assert next_undecided(worklist) == order[0]
    assert next_undecided(worklist, after=order[0]) == order[1]
    assert next_undecided(worklist, after=order[-1]) == order[0]
    assert neighbours(worklist, order[0]) == (None, order[1])
    assert neighbours(worklist, order[-1]) == (order[-2], None)
    assert neighbours(worklist, "nobody") == (None, None)
    for exam_id in order:
        if exam_id != order[3]:
            read(desk, exam_id)
    assert next_undecided(desk.worklist("Dr A")) == order[3]
    assert next_undecided(desk.worklist("Dr A"), after=order[3]) is None
    read(desk, order[3])
    assert next_undecided(desk.worklist("Dr A")) is None
    assert next_undecided(desk.worklist("Dr B")) == order[0]


def test_exams_are_given_taken_back_and_counted(desk: Desk) -> None:
    pairs = desk.worklist("Chief").first(4)
    desk.queues.assign(desk.run_id, pairs, "Dr A", by="Chief")
    mine = WorklistFilter(assigned=True)
    assert [exam for _, exam in desk.worklist("Dr A", mine).first(9)] == [exam for _, exam in pairs]
    assert len(desk.worklist("Dr B", mine)) == 0
    assert desk.worklist("Dr B").page(0, 1)["assigned_to"].tolist() == ["Dr A"]
    read(desk, pairs[1][1])
    read(desk, "exam-007")
    assert "exam-007" not in {exam for _, exam in pairs}
    desk.queues.take_back(desk.run_id, pairs[:1], "Dr A", by="Chief")
    assert len(desk.worklist("Dr A", mine)) == 3
    found = {one.reader: (one.assigned, one.assigned_read) for one in desk.progress()}
    assert found["Dr A"] == (3, 1)


@pytest.mark.parametrize(
    "kept",
    [{}, {"order": "by truth"}, {"grades": "0; DROP TABLE exams"}, {"search": 3}, {"referred": "yes"}, {"new": True}],
)
def test_a_kept_filter_that_is_not_understood_leaves_nothing_out(kept: dict[str, Any]) -> None:
    assert WorklistFilter.from_kept(kept) == WorklistFilter()


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(WorkbenchError, match="no order 'truth'"):
        WorklistFilter(order="truth")


def test_the_blinded_filter_has_nothing_of_the_model() -> None:
    chosen = WorklistFilter(referred=True, eyes_disagree=True, flagged=True, grades=(3,), order="risk", undecided=True)
    assert chosen.blinded().kept() == {"undecided": True, "order": "shuffled"}


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_damaged_index_is_made_again(damage: str, run_copy: Path) -> None:
    before = make_worklist(open_run(run_copy))
    path = run_copy / "analysis" / "worklist.duckdb"
    if damage == "other":
        path.unlink()
        with duckdb.connect(str(path)) as other:
            other.execute("CREATE TABLE facts AS SELECT 1 AS value")
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:5000])
    pd.testing.assert_frame_equal(make_worklist(open_run(run_copy)), before)


def test_a_forgotten_patient_is_not_in_the_worklist_made_again_nor_named_where_it_is_noted(run_copy: Path) -> None:
    desk = Desk(run_copy)
    case = desk.case("exam-006")
    theirs = {exam for patient, exam in desk.worklist("").first(99) if patient == case.patient_id}
    before = len(desk.index)
    desk.close()
    forget(run_copy, case.patient_id)
    forget(run_copy, case.patient_id)
    desk = Desk(run_copy)
    assert len(desk.index) == before - len(theirs)
    for name in ("exams", "of_exams", "of_decisions", "of_eyes"):
        assert not theirs & {exam for (exam,) in desk.index.all(f"SELECT exam_id FROM index.{name}")}
    with pytest.raises(WorkbenchError, match="this run has no exam"):
        desk.case("exam-006")
    desk.close()
    noted = (run_copy / "erased.json").read_text(encoding="utf-8")
    assert case.patient_id not in noted
    assert len(json.loads(noted)["patients"]) == 1
    (run_copy / "erased.json").write_text("{}", encoding="utf-8")
    with pytest.raises(WorkbenchError, match="is damaged"):
        Desk(run_copy)


def test_the_viewer_flickers_to_another_visit_of_the_same_patient_and_of_nobody_else(run_copy: Path) -> None:
    eyes = open_run(run_copy).eyes()
    eyes.loc[eyes["exam_id"].isin(["exam-004", "exam-006"]), "patient_id"] = "twice"
    layout.write_table(layout.exams_path(run_copy), eyes, schemas.EXAMS_SCHEMA)
    desk = Desk(run_copy)
    for exam, stage in itertools.product(("exam-004", "exam-006"), ("single", "first")):
        panes = desk.viewer(exam, stage).panes
        pairs = [pair for pane in panes for pair in pane.comparisons]
        assert {pair.name for pair in pairs} == {OTHER_VISIT}
        assert all(pane.shown is None or pane.shown.label == "This visit" for pane in panes)
    alone = next(exam for patient, exam in desk.worklist("").first(99) if (eyes["patient_id"] == patient).sum() <= 2)
    assert not [pair for pane in desk.viewer(alone, "single").panes for pair in pane.comparisons]
    desk.close()


def test_a_damaged_analysis_is_one_line_with_a_remedy(run_copy: Path) -> None:
    layout.analysis_path(run_copy, "decisions").write_bytes(b"no parquet")
    with pytest.raises(WorkbenchError, match="cannot be read"):
        make_worklist(open_run(run_copy))


def test_an_index_that_cannot_be_written_is_served_from_memory(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = list(make_worklist(open_run(run_copy))["exam_id"])
    (run_copy / "analysis" / "worklist.duckdb").unlink()

    def refuse(target: Path) -> Any:
        raise WorkbenchError("read-only", "none") from PermissionError()

    monkeypatch.setattr("workbench.review.worklist_index.atomic_path", refuse)
    index = WorklistIndex(open_run(run_copy))
    assert [name for (name,) in index.all("SELECT exam_id FROM index.exams ORDER BY by_priority")] == expected
    assert CaseBook(index.run, index).case("exam-000").exam_id == "exam-000"
    index.close()


def test_the_risk_curve_rises_is_weighted_and_says_nothing_from_too_few() -> None:
    score, n = np.array([0.3, 0.1, 0.2]), np.array([60.0, 60.0, 60.0])
    low, risk = risk_curve(score, n, np.array([30.0, 6.0, 3.0]))
    np.testing.assert_allclose(risk, [9 / 120, 0.5])  # 0.1 and 0.2 are pooled: their shares fall
    assert low[0] == -np.inf
    assert low[1] == 0.3
    assert len(risk_curve(score, np.full(3, ENOUGH / 3 - 1), np.zeros(3))[0]) == 0


def test_an_exams_own_truth_has_no_part_in_its_risk(tmp_path: Path) -> None:
    from tests.benchmarks.worklist import write_run

    write_run(tmp_path / "run", 600)
    run = open_run(tmp_path / "run")
    before = make_worklist(run).set_index("exam_id")
    assert before["risk"].notna().any()
    assert before.loc[before["referred"], "risk"].isna().all()
    exam_id = str(before["risk"].idxmax())
    decisions = run.decisions()
    mine = (decisions["exam_id"] == exam_id) & (decisions["measurement"] == CLEAN)
    decisions.loc[mine, "wrong"] = ~decisions.loc[mine, "wrong"]
    layout.write_table(layout.analysis_path(run.folder, "decisions"), decisions, schemas.DECISIONS_SCHEMA)
    after = make_worklist(run).set_index("exam_id")
    assert after.loc[exam_id, "risk"] == before.loc[exam_id, "risk"]
    assert not after["risk"].equals(before["risk"])  # others' curves did change
