"""Each protocol through AppTest, from the first entry to what is stored; a reload in the middle loses nothing."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tests.apps.app_by_hand import EXAM, choose, open_exam, page, press, sent
from tests.reader_words import blinded
from workbench.audit.results import open_run
from workbench.review.desk import READER_VARIABLE, Desk
from workbench.review.reads import EyeRead, Submission
from workbench.review.store import ReviewStore

# AppTest keeps a temporary folder until the interpreter collects it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning"),
    pytest.mark.usefixtures("fresh_app"),
]


def rows(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "reviews.sqlite") as database:
        found = database.execute(query).fetchall()
    database.close()
    return found


def telling(folder: Path) -> list[str]:
    """Return words that only the model's answer to the exam holds."""
    desk = Desk(folder)
    case = desk.case(EXAM)
    answers = [eye.answer for eye in case.eyes.values() if eye.answer]
    told = [f"{answer.p_referable:.6f}"[:8] for answer in answers]
    told += [flag.words for flag in case.flags if flag.tells]
    desk.close()
    return [*told, "P(referable)", "Under stress", "surer about", "draws call", "agree with the model", "Called "]


def first_read(app: AppTest) -> AppTest:
    for eye, grade in (("OD", 1), ("OS", 3)):
        choose(app, eye, "grade", grade)
        choose(app, eye, "confidence", 4)
    return app


def test_blinded_shows_nothing_before_its_reveal_and_each_reveal_is_stored_first(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_exam(run_copy, "blinded", monkeypatch)
    assert EXAM in sent(app)
    assert [words for words in telling(run_copy) if words in sent(app)] == []
    first_read(app)
    press(app, "Save first read and lock it")
    assert "saved and locked" in page(app)
    assert not app.button_group
    assert [words for words in telling(run_copy) if words in sent(app)] == []
    seen = []
    for label in ("Show the model's grade", "Show how sure it is", "Show its map"):
        press(app, label)
        seen.append(page(app))
    assert "P(referable)" not in seen[0]
    assert "Called " in seen[0]
    assert "P(referable)" in seen[1]
    assert "Under stress" not in seen[1]
    assert "Under stress" in seen[2]
    stored = rows(run_copy, "SELECT stage, shown FROM reveals ORDER BY event_id")
    assert [stage for stage, _ in stored] == ["grade", "uncertainty", "map"]
    assert set(json.loads(stored[0][1])) == {"icdr_grade", "exam_called_referable"}
    assert "maps" in json.loads(stored[2][1])
    assert "maps" not in json.loads(stored[1][1])


def test_a_second_read_needs_a_reason_and_keeps_what_was_seen(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = first_read(open_exam(run_copy, "blinded", monkeypatch))
    press(app, "Save first read and lock it")
    for label in ("Show the model's grade", "Show how sure it is", "Show its map"):
        press(app, label)
    case = app.session_state["desk"].case(EXAM)
    models = {eye: one.answer.icdr_grade for eye, one in case.eyes.items()}
    for eye, grade in models.items():
        choose(app, eye, "grade", grade)
    press(app, "Save")
    changed = [eye for eye, mine in (("OD", 1), ("OS", 3)) if models[eye] != mine]
    assert changed
    assert f"not saved: {changed[0]} was changed without a reason" in page(app)
    for box in app.selectbox:
        box.select("looked_again")
    app.run()
    press(app, "Save")
    assert "Saved 2" in page(app)
    reads = ReviewStore(run_copy / "reviews.sqlite").current(case_run(run_copy))
    by_stage = {(read.stage, read.eye): read for read in reads}
    assert by_stage["first", "OD"].model_answer == {}
    assert by_stage["first", "OD"].model_hash == ""
    assert by_stage["second", "OD"].model_answer["icdr_grade"] == models["OD"]
    assert by_stage["second", changed[0]].reason_code == "looked_again"
    assert by_stage["second", "OD"].shown["exam_called_referable"] == case.called_referable
    assert by_stage["first", "OS"].confidence == 4


def case_run(folder: Path) -> str:
    return open_run(folder).manifest.run_id


def test_a_blinded_read_needs_a_confidence(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_exam(run_copy, "blinded", monkeypatch)
    for eye in ("OD", "OS"):
        choose(app, eye, "grade", 0)
    press(app, "Save first read and lock it")
    assert "not saved: OD has no confidence" in page(app)
    assert rows(run_copy, "SELECT count(*) FROM reads") == [(0,)]


@pytest.mark.parametrize("protocol", ["assisted", "blinded", "review_only"])
def test_a_reload_in_the_middle_loses_nothing_and_no_other_exam_or_reader_sees_it(
    protocol: str, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_exam(run_copy, protocol, monkeypatch)
    choose(app, "OD", "grade", 2)
    choose(app, "OD", "dme", 1)
    choose(app, "OS", "confidence", 3)
    next(one for one in app.button_group if one.key.endswith("|disposition")).set_value("rescreen")
    app.run()
    app.number_input[0].set_value(6).run()
    next(one for one in app.text_input if one.label == "Note (OD)").set_value("=drüsen?").run()
    st.cache_resource.clear()  # the server too was started anew
    again = open_exam(run_copy, protocol, monkeypatch)
    values = {
        group.key.rsplit("|", 2)[1] + "." + group.key.rsplit("|", 1)[1]: group.value for group in again.button_group
    }
    assert (values["OD.grade"], values["OD.dme"], values["OS.confidence"]) == (2, 1, 3)
    assert (values["patient.disposition"], again.number_input[0].value) == ("rescreen", 6)
    assert next(one for one in again.text_input if one.label == "Note (OD)").value == "=drüsen?"
    assert "Not saved yet" in page(again)
    other = open_exam(run_copy, protocol, monkeypatch, "exam-007")
    assert all(group.value is None for group in other.button_group)
    monkeypatch.setenv(READER_VARIABLE, "Dr B")
    st.cache_resource.clear()
    somebody = open_exam(run_copy, protocol, monkeypatch)
    assert all(group.value is None for group in somebody.button_group)


def test_review_only_has_no_model_and_stores_everything_that_was_entered(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_exam(run_copy, "review_only", monkeypatch)
    assert [words for words in telling(run_copy) if words in sent(app)] == []
    for eye, grade, dme, sure in (("OD", 2, 3, 5), ("OS", "ungradable", None, 1)):
        choose(app, eye, "grade", grade)
        if dme is not None:
            choose(app, eye, "dme", dme)
        choose(app, eye, "confidence", sure)
    next(one for one in app.button_group if one.key.endswith("|disposition")).set_value("refer")
    app.run()
    press(app, "Save")
    right, left = ReviewStore(run_copy / "reviews.sqlite").current(case_run(run_copy))
    assert (right.protocol, right.icdr_grade, right.dme, right.confidence) == ("review_only", 2, 3, 5)
    assert (left.gradable, left.icdr_grade, left.dme, left.confidence) == (False, None, None, 1)
    assert (right.disposition, right.rescreen_months, right.shown, right.model_answer) == ("refer", None, {}, {})
    worklist = open_exam(run_copy, "review_only", monkeypatch).session_state["desk"].worklist("Dr A")
    assert worklist.chosen.order == "shuffled"


def differing_reads(folder: Path) -> None:
    store, run_id = ReviewStore(folder / "reviews.sqlite"), case_run(folder)
    for reader, grade in (("Dr A", 1), ("Dr B", 2)):
        eyes = tuple(EyeRead(eye=eye, gradable=True, icdr_grade=grade) for eye in ("OD", "OS"))
        read = blinded(f"key-of-{reader}", "first", reader=reader, exam_id=EXAM, patient_id="patient-005")
        store.save(Submission.model_validate(read.model_dump() | {"run_id": run_id, "eyes": eyes}))
    store.close()


def test_an_adjudicator_sees_both_reads_without_names_and_decides_with_a_reason(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    differing_reads(run_copy)
    monkeypatch.setenv(READER_VARIABLE, "Dr Chief")
    app = open_exam(run_copy, "adjudication", monkeypatch)
    assert "Read A" in page(app)
    assert "referable or not" in page(app)
    assert "1 mild NPDR" in page(app)
    assert "2 moderate NPDR" in page(app)
    assert "Dr B" not in sent(app)
    for eye in ("OD", "OS"):
        choose(app, eye, "grade", 2)
    press(app, "Save")
    assert "not saved: OD is decided without a reason" in page(app)
    for box in app.selectbox:
        box.select("missed_microaneurysms")
    app.run()
    press(app, "Save")
    assert "Saved 2" in page(app)
    decided = ReviewStore(run_copy / "reviews.sqlite").current(case_run(run_copy), stage="adjudication")
    assert {(read.role, read.icdr_grade, read.reason_code) for read in decided} == {
        ("adjudicator", 2, "missed_microaneurysms")
    }
    assert len(decided[0].shown["reads"]) == 4
    app.switch_page("adjudication.py").run()
    assert not app.exception
    assert "1 of 1 exams in dispute decided" in str(app.get("progress")[0].proto)


def test_the_list_of_disputes_says_what_to_do_when_it_is_empty(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_exam(run_copy, "adjudication", monkeypatch)
    app.switch_page("adjudication.py").run()
    assert "No two readers differ so far" in page(app)


def test_the_readers_page_says_plainly_when_there_is_too_little(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_exam(run_copy, "assisted", monkeypatch)
    app.switch_page("readers.py").run()
    assert not app.exception
    assert "Nothing was read yet" in page(app)
    differing_reads(run_copy)
    app.run()
    assert not app.exception
    assert "too few" in page(app)
    assert "Dr B" not in sent(app)
