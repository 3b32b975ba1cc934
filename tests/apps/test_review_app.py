"""The app's logic through Streamlit's AppTest: order, save, what a failing store shows, drafts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from workbench.audit import layout
from workbench.audit.results import open_run
from workbench.review.cases import CaseBook
from workbench.review.desk import DATA_VARIABLE, IDENTIFIERS_VARIABLE, READER_VARIABLE, RUN_VARIABLE
from workbench.review.pseudonyms import Pseudonyms
from workbench.review.store import ReviewStore
from workbench.review.worklist import make_worklist
from workbench.schema.bundled import bundled

# AppTest keeps a temporary folder until the interpreter collects it.
pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")


@pytest.fixture(autouse=True)
def _fresh_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(READER_VARIABLE, "Dr A")
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    monkeypatch.delenv(IDENTIFIERS_VARIABLE, raising=False)
    # AppTest has no browser, hence no address on this machine.
    monkeypatch.setattr("workbench.review.entrance._refuse_other_machines", lambda: None, raising=False)
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


def start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv(RUN_VARIABLE, str(folder))
    app = AppTest.from_file(str(bundled("apps") / "review.py"), default_timeout=120)
    app.session_state["true_names"] = True
    app.run()
    assert not app.exception
    return app


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    app.run()
    assert not app.exception
    return app


def markup(app: AppTest) -> str:
    return "\n".join(str(element.proto.body) for element in app.get("html"))


def said(app: AppTest) -> str:
    texts = [
        str(element.value) for kind in ("error", "warning", "success", "info", "caption") for element in app.get(kind)
    ]
    return "\n".join([*texts, markup(app)])


def table(app: AppTest) -> str:
    """Return what the worklist's component is given."""
    return "\n".join(str(element.proto) for element in app.get("bidi_component"))


def choose(app: AppTest, eye: str, grade: Any) -> AppTest:
    next(group for group in app.button_group if group.key.endswith(f"|{eye}|grade")).set_value(grade)
    app.run()
    assert not app.exception
    return app


def models_grades(folder: Path, exam_id: str) -> dict[str, int]:
    case = CaseBook(open_run(folder)).case(exam_id)
    return {eye: shown.answer.icdr_grade for eye, shown in case.eyes.items() if shown.answer}


def open_complete_exam(app: AppTest, folder: Path) -> tuple[AppTest, str]:
    """Walk down the worklist to the first exam with two answered eyes."""
    worklist = make_worklist(open_run(folder))
    press(app, "Read next")
    for exam_id, incomplete in zip(worklist["exam_id"], worklist["incomplete"], strict=True):
        if not incomplete:
            return app, exam_id
        press(app, "Next")
    raise AssertionError("the invented run has no complete exam")


def test_the_worklist_stands_in_its_order_and_filters(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = start(run_copy, monkeypatch)
    order = list(make_worklist(open_run(run_copy))["exam_id"])
    assert order[0] in table(app)
    assert table(app).index(order[0]) < table(app).index(order[1])
    assert "0 of 12 exams read by you" in str(app.get("progress")[0].proto)
    next(field for field in app.text_input if field.label == "Search").set_value("exam-004").run()
    assert [exam_id for exam_id in order if exam_id in table(app)] == ["exam-004"]
    next(field for field in app.text_input if field.label == "Search").set_value("nobody").run()
    assert "None of the 12 exams passes these filters" in said(app)


def switch_names(app: AppTest) -> AppTest:
    toggle = next(one for one in app.toggle if one.label == "True names")
    toggle.set_value(not toggle.value)
    app.run()
    assert not app.exception
    return app


def recorded(folder: Path) -> list[str]:
    with sqlite3.connect(folder / "reviews.sqlite") as database:
        found = [kind for (kind,) in database.execute("SELECT kind FROM events")]
    database.close()
    return found


def test_pages_show_pseudonyms_until_the_true_names_are_asked_for_which_is_recorded_first(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = switch_names(start(run_copy, monkeypatch))
    eyes = open_run(run_copy).eyes()
    true = {*eyes["patient_id"], *eyes["exam_id"]}
    names = Pseudonyms.open()
    assert not [name for name in true if name in table(app)]
    assert all(names.exam(exam_id) in table(app) for exam_id in eyes["exam_id"])
    search = next(field for field in app.text_input if field.label == "Search")
    search.set_value("exam-004").run()
    assert "None of the 12 exams passes these filters" in said(app)
    search.set_value(names.exam("exam-004").lower()[:9]).run()
    assert [exam_id for exam_id in sorted(set(eyes["exam_id"])) if names.exam(exam_id) in table(app)] == ["exam-004"]
    press(app, "Read next")
    assert not [name for name in true if name in markup(app) + table(app)]
    assert "identifiers_shown" not in recorded(run_copy)
    switch_names(app)
    assert "exam-004" in markup(app)
    assert recorded(run_copy).count("identifiers_shown") == 1
    assert ReviewStore(run_copy / "reviews.sqlite").verify().first_bad is None


def test_true_names_are_not_offered_where_they_are_forbidden(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(IDENTIFIERS_VARIABLE, "never")
    app = start(run_copy, monkeypatch)  # with a tab that claims to have asked
    assert not app.toggle
    assert "exam-004" not in table(app)


def test_a_read_is_saved_with_what_was_seen_and_seen_again_in_a_new_tab(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, exam_id = open_complete_exam(start(run_copy, monkeypatch), run_copy)
    models = models_grades(run_copy, exam_id)
    assert "Nothing saved for this exam yet." in said(app)
    choose(app, "OD", models["OD"])
    assert "you agree with the model" in said(app)
    assert "Not saved yet" in said(app)
    press(app, "Save")
    assert "not saved: OS has no grade" in said(app)
    choose(app, "OS", (models["OS"] + 1) % 5)
    press(app, "Save")
    assert "not saved: OS differs from the model without a reason" in said(app)
    app.selectbox[0].select("image_quality").run()
    press(app, "Save")
    assert "Saved 2" in said(app)
    right, left = ReviewStore(run_copy / "reviews.sqlite").current(open_run(run_copy).manifest.run_id)
    assert (right.eye, right.icdr_grade, right.agreement, right.reader) == ("OD", models["OD"], "agree", "Dr A")
    assert (left.eye, left.agreement, left.reason_code) == ("OS", "disagree", "image_quality")
    assert right.model_answer["icdr_grade"] == models["OD"]
    assert len(right.image_sha256) == 64

    other_tab = start(run_copy, monkeypatch)
    other_tab.switch_page("exam.py")
    other_tab.query_params["exam"] = app.query_params["exam"]
    other_tab.run()
    assert not other_tab.exception
    assert "Saved 2" in said(other_tab)
    grades = {group.key.partition("|")[2]: group.value for group in other_tab.button_group}
    assert grades["OD|grade"] == models["OD"]
    assert not [group.key for group in other_tab.button_group if "Dr A" in group.key or exam_id in group.key]


def test_pressing_save_twice_stores_once_and_a_correction_supersedes(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, exam_id = open_complete_exam(start(run_copy, monkeypatch), run_copy)
    models = models_grades(run_copy, exam_id)
    for eye, grade in models.items():
        choose(app, eye, grade)
    store, run_id = ReviewStore(run_copy / "reviews.sqlite"), open_run(run_copy).manifest.run_id
    press(app, "Save")
    first = store.history(run_id, exam_id)
    choose(app, "OD", "ungradable")
    app.selectbox[0].select("artefact").run()
    press(app, "Save")
    assert len(first) == 2
    history = store.history(run_id, exam_id)
    assert history[:2] == first
    assert [read.supersedes for read in history[2:]] == [first[0].id, first[1].id]
    assert [(read.eye, read.gradable) for read in store.current(run_id)] == [("OD", False), ("OS", True)]


def test_a_store_that_fails_is_said_and_the_draft_is_kept_and_saved_after(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, exam_id = open_complete_exam(start(run_copy, monkeypatch), run_copy)
    for eye, grade in models_grades(run_copy, exam_id).items():
        choose(app, eye, grade)
    database = sqlite3.connect(run_copy / "reviews.sqlite")
    database.execute("CREATE TRIGGER broken BEFORE INSERT ON reads BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END")
    database.commit()
    press(app, "Save and next")
    assert "not saved: disk I/O error" in said(app)
    assert "Saved" not in said(app).replace("not saved", "")
    database.execute("DROP TRIGGER broken")
    database.commit()
    database.close()
    press(app, "Next")
    press(app, "Previous")
    assert "not saved: disk I/O error" in said(app)
    press(app, "Save")
    assert "Saved 2" in said(app)
    assert len(ReviewStore(run_copy / "reviews.sqlite").current(open_run(run_copy).manifest.run_id)) == 2


def test_a_draft_stays_with_its_exam_and_its_reader(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app, exam_id = open_complete_exam(start(run_copy, monkeypatch), run_copy)
    choose(app, "OD", 3)
    press(app, "Next")
    assert all(group.value is None for group in app.button_group)
    press(app, "Previous")
    assert any(group.value == 3 for group in app.button_group if group.key.endswith("|OD|grade"))
    press(app, "Worklist")
    next(field for field in app.text_input if field.label == "Reading as").set_value("Dr B").run()
    press(app, "Read next")
    for _ in range(12):
        if exam_id in markup(app):
            break
        press(app, "Next")
    assert exam_id in markup(app)
    assert app.button_group
    assert all(group.value is None for group in app.button_group)


def test_without_a_name_nothing_is_saved(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(READER_VARIABLE, "")
    app, exam_id = open_complete_exam(start(run_copy, monkeypatch), run_copy)
    for eye, grade in models_grades(run_copy, exam_id).items():
        choose(app, eye, grade)
    press(app, "Save")
    assert "not saved: your name is not set" in said(app)


def test_save_and_next_goes_to_the_next_unread_exam(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = press(start(run_copy, monkeypatch), "Read next")
    order = list(make_worklist(open_run(run_copy))["exam_id"])
    for eye, grade in models_grades(run_copy, order[0]).items():
        choose(app, eye, grade)
    press(app, "Save and next")
    assert order[1] in markup(app)
    press(app, "Worklist")
    assert "1 of 12 exams read by you" in str(app.get("progress")[0].proto)
    press(app, "Read next")
    assert order[1] in markup(app)


def test_flags_and_stress_are_on_the_page(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = press(start(run_copy, monkeypatch), "Read next")
    page = markup(app)
    assert "Left eye (OS) missing: no photograph" in page
    assert "Referred to a human: incomplete" in page
    assert "Under stress" in page
    assert page.count("<tr><th>") == 4  # fgsm, pgd, defocus, jpeg
    asked = [group.key for group in app.button_group if group.key.endswith("|grade")]
    assert len(asked) == 1  # the missing eye is not asked for


def test_an_exam_page_without_an_exam_says_what_to_do(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = start(run_copy, monkeypatch)
    app.switch_page("exam.py").run()
    assert "No exam is open" in said(app)
    app.query_params["exam"] = "exam-001"  # a name is no token
    app.run()
    assert "No exam is open" in said(app)
    press(app, "Read next")
    assert "exam-001" in markup(app)


def test_the_overview_shows_the_three_rates(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = start(run_copy, monkeypatch)
    app.switch_page("overview.py").run()
    assert not app.exception
    assert "Silent failure" in markup(app)
    assert "PGD attack, ε = 2/255" in markup(app)


@pytest.mark.parametrize("broken", ["absent", "no run", "unfinished"])
def test_a_run_that_cannot_be_opened_is_one_line_with_a_remedy(
    broken: str, tmp_path: Path, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = {"absent": tmp_path / "nowhere", "no run": tmp_path, "unfinished": run_copy}[broken]
    if broken == "unfinished":
        layout.part_path(run_copy, layout.CLEAN, 0).unlink()
    app = start(folder, monkeypatch)
    assert len(app.error) == 1
    assert "What to do: " in app.text[0].value
