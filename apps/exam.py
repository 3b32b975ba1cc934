"""One exam: both eyes, what the model says, how far it can be trusted, and the reader's own grades."""

from __future__ import annotations

import uuid
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from workbench.review.cases import Case, Flag, stress_summary
from workbench.review.desk import UNGRADABLE, Desk, agreement_of, eyes_to_read
from workbench.review.markup import chips, heading, reading_as, stress_table
from workbench.review.reads import REASONS, SavedRead
from workbench.review.words import EYE_NAMES, grade_words
from workbench.review.worklist import neighbours, next_undecided
from workbench.schema.errors import WorkbenchError

ASSETS = Path(__file__).parent / "viewer"
viewer = st.components.v2.component(
    "retina_trust_workbench.viewer",
    html=(ASSETS / "viewer.html").read_text(encoding="utf-8"),
    css=(ASSETS / "viewer.css").read_text(encoding="utf-8"),
    js=(ASSETS / "viewer.js").read_text(encoding="utf-8"),
)


def show(desk: Desk) -> None:
    """Show the page."""
    exam_id = desk.exam_of(st.query_params.get("exam", ""))
    reader = st.session_state["reader"]
    try:
        worklist = desk.worklist(reader)
        if exam_id is None:
            nothing_open(desk, next_undecided(worklist))
            return
        case = desk.case(exam_id)
        saved = desk.current_reads(exam_id, reader)
        content = desk.viewer(exam_id)
    except WorkbenchError as error:
        st.error(str(error), icon=":material/error:")
        return
    header(desk, case, neighbours(worklist, exam_id))
    left, right = st.columns([3.5, 1], gap="medium")
    with left:
        viewer(data=content, key="viewer")
    with right:
        reading(desk, case, reader, saved, next_undecided(worklist, after=exam_id))
    under_stress(case)


def nothing_open(desk: Desk, pressing: str | None) -> None:
    """Say what to do when no exam is open."""
    st.info("No exam is open. Choose one from the worklist, or begin with the most pressing one.")
    left, right, _ = st.columns([1, 1, 4])
    if left.button("To the worklist"):
        st.switch_page("worklist.py")
    if pressing is not None and right.button("Read next", type="primary"):
        go_to(desk, pressing)


def header(desk: Desk, case: Case, beside: tuple[str | None, str | None]) -> None:
    """Show whose exam this is, what to know first, and the way to the next ones."""
    left, back, before, after = st.columns([7, 1, 1, 1], vertical_alignment="center")
    left.html(heading(case))
    if back.button("Worklist", width="stretch"):
        st.switch_page("worklist.py")
    for column, words, exam_id in ((before, "Previous", beside[0]), (after, "Next", beside[1])):
        if column.button(words, width="stretch", disabled=exam_id is None) and exam_id is not None:
            go_to(desk, exam_id)
    quiet = [Flag("note", "Not referred: the model is sure enough by the policy")]
    st.html(chips([*case.flags, *([] if case.referred else quiet)]))


@st.fragment  # type: ignore[untyped-decorator]
def reading(desk: Desk, case: Case, reader: str, saved: dict[str, SavedRead], following: str | None) -> None:
    """Show the reader's form; a draft belongs to one reader and one exam, and stays until it is saved."""
    draft = draft_of(case, reader, saved)
    st.html(reading_as(reader))
    for eye in eyes_to_read(case):
        one_eye(case, reader, eye, draft)
    later = st.button("Save and next", type="primary", width="stretch", disabled=following is None)
    here = st.button("Save", width="stretch")
    if later or here:
        try:
            rows = desk.save(case, reader, draft["key"], draft["eyes"])
        except WorkbenchError as error:
            draft["failure"] = str(error)
        else:
            draft.update(key=uuid.uuid4().hex, failure="", saved_at=rows[0].saved_at, touched=False)
            if later and following is not None:
                go_to(desk, following)
    status(draft)


def draft_of(case: Case, reader: str, saved: dict[str, SavedRead]) -> dict[str, Any]:
    """Return the draft of this reader and exam; a new one begins with what was saved last."""
    drafts = st.session_state["drafts"]
    if (reader, case.exam_id) not in drafts:
        eyes = {}
        for eye in eyes_to_read(case):
            read = saved.get(eye)
            grade = None if read is None else (UNGRADABLE if read.icdr_grade is None else read.icdr_grade)
            eyes[eye] = {
                "grade": grade,
                "reason": read.reason_code if read else None,
                "note": read.note if read else "",
            }
        when = max((read.saved_at for read in saved.values()), default="")
        drafts[reader, case.exam_id] = {
            "key": uuid.uuid4().hex,
            "eyes": eyes,
            "failure": "",
            "saved_at": when,
            "touched": False,
        }
    draft: dict[str, Any] = drafts[reader, case.exam_id]
    return draft


def one_eye(case: Case, reader: str, eye: str, draft: dict[str, Any]) -> None:
    """Ask for one eye's grade, and for a reason where it is not the model's."""
    said = draft["eyes"][eye]
    place = partial(widget, draft, said, f"{reader}|{case.exam_id}|{eye}")
    st.segmented_control(
        EYE_NAMES[eye], [0, 1, 2, 3, 4, UNGRADABLE], format_func=lambda grade: str(grade).capitalize(), **place("grade")
    )
    answer = case.eyes[eye].answer
    model_says = grade_words(answer.icdr_grade if answer else None)
    agreement = agreement_of(case, eye, said["grade"])
    if said["grade"] is None:
        st.caption("ICDR grade 0 to 4, or ungradable")
    elif agreement is None:
        st.caption(f"{_chosen(said['grade'])}. The model gave no answer.")
    elif agreement == "agree":
        st.caption(f"{_chosen(said['grade'])}: you agree with the model.")
    else:
        st.caption(f"{_chosen(said['grade'])}: you disagree; the model says {model_says}.")
        st.selectbox(
            f"Why do you disagree ({eye})?",
            list(REASONS),
            format_func=REASONS.get,
            placeholder="Choose a reason",
            label_visibility="collapsed",
            **place("reason"),
        )
    st.text_input(
        f"Note ({eye})", placeholder="Note (optional)", max_chars=4000, label_visibility="collapsed", **place("note")
    )


def widget(draft: dict[str, Any], said: dict[str, Any], prefix: str, name: str) -> dict[str, Any]:
    """Return what ties a widget to its field of the draft: Streamlit forgets a widget that is off the page."""
    key = f"{prefix}|{name}"
    if key not in st.session_state:
        st.session_state[key] = said[name]

    def keep() -> None:
        said[name] = st.session_state[key]
        draft.update(touched=True, failure="", key=uuid.uuid4().hex)

    return {"key": key, "on_change": keep}


def status(draft: dict[str, Any]) -> None:
    """Say whether what is on the page is in the database."""
    if draft["failure"]:
        words = draft["failure"]
        st.error(words if words.startswith("not saved") else f"not saved: {words}", icon=":material/error:")
    elif draft["touched"]:
        st.warning("Not saved yet", icon=":material/edit:")
    elif draft["saved_at"]:
        st.success(f"Saved {draft['saved_at'][:16].replace('T', ' ')} UTC", icon=":material/check:")
    else:
        st.caption("Nothing saved for this exam yet.")


def under_stress(case: Case) -> None:
    """Show what each stress did to the call, and whether a human would have been asked."""
    st.html(f"<b>Under stress</b> <span class='quiet'>{stress_summary(case)}</span>")
    if case.stresses:
        st.html(stress_table(case))


def _chosen(grade: int | str) -> str:
    return "Ungradable" if grade == UNGRADABLE else grade_words(int(grade))


def go_to(desk: Desk, exam_id: str) -> None:
    """Open another exam on this page."""
    st.query_params["exam"] = desk.token(exam_id)
    st.rerun(scope="app")


show(st.session_state["desk"])
