"""Adjudication: the exams about which readers differ, and how many of them are decided."""

from __future__ import annotations

import streamlit as st

from workbench.review.desk import Desk
from workbench.review.disputes import Dispute
from workbench.review.entrance import names_switch, open_page, reader_name, true_names
from workbench.review.words import PROTOCOL_WORDS
from workbench.review.worklist_rows import plain_message, pressed_into, show_rows
from workbench.schema.errors import WorkbenchError

PAGE = 50
COLUMNS = {"Patient": "text", "Exam": "text", "They differ in": "wide", "Read by": "text", "Decided": "done"}


def show(desk: Desk) -> None:
    """Show the page."""
    opened = desk.exam_of(st.session_state.pop("opening", ""))
    if opened is not None:
        open_exam(desk, opened)
    title, named, begin, name = st.columns([4, 1.1, 1, 1.5], vertical_alignment="bottom")
    title.subheader("Adjudication", anchor=False)
    with named:
        names_switch(desk)
    with name:
        reader_name(desk)
    st.caption(f"{PROTOCOL_WORDS['adjudication']} by a grade across referable, by two grades, or in gradability.")
    try:
        found, done = desk.disputes(), desk.adjudicated()
    except WorkbenchError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()
    if not found:
        st.info(
            "No two readers differ so far. Exams come here by themselves once two people have read them: "
            "open the run with --protocol blinded, review_only or assisted to read."
        )
        return
    open_ones = [dispute for dispute in found if dispute.exam_id not in done]
    decided = len(found) - len(open_ones)
    st.progress(decided / len(found), text=f"{decided} of {len(found)} exams in dispute decided")
    if open_ones and begin.button("Decide next", type="primary", icon=":material/arrow_forward:"):
        open_exam(desk, open_ones[0].exam_id)
    if not open_ones:
        st.success("Every exam in dispute is decided. See the readers’ page for how they agree.")
    table(desk, found, done)


def table(desk: Desk, found: list[Dispute], done: set[str]) -> None:
    """Show a page of the exams in dispute."""
    at = min(st.session_state.get("disputes_page", 0), (len(found) - 1) // PAGE)
    st.session_state["disputes_page"] = at
    rows = []
    for one in found[at * PAGE : (at + 1) * PAGE]:
        names = desk.shown_names(one.patient_id, one.exam_id, true_names=true_names(desk))
        why = "; ".join(f"{eye}: {words}" for eye, words in one.why.items())
        cells = (*names, why, f"{len(one.reads)} readers", "decided" if one.exam_id in done else "")
        rows.append((desk.token(one.exam_id), cells))
    content = plain_message(COLUMNS, rows, begin=at * PAGE, total=len(found))
    show_rows(content, pressed_into("opening", "disputes_page"), key="disputes")


def open_exam(desk: Desk, exam_id: str) -> None:
    """Go to the page of an exam."""
    st.switch_page("exam.py", query_params={"exam": desk.token(exam_id)})


show(open_page("adjudication"))
