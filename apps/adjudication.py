"""Adjudication: the exams about which readers differ, and how many of them are decided."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from workbench.review.desk import Desk
from workbench.review.disputes import Dispute
from workbench.review.entrance import names_switch, open_page, reader_name, true_names
from workbench.review.words import PROTOCOL_WORDS
from workbench.schema.errors import WorkbenchError


def show(desk: Desk) -> None:
    """Show the page."""
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
    picked = table(desk, found, done)
    if picked is not None:
        open_exam(desk, picked)


def table(desk: Desk, found: list[Dispute], done: set[str]) -> str | None:
    """Show the exams in dispute; return the one whose row was picked."""
    shown = [desk.shown_names(one.patient_id, one.exam_id, true_names=true_names(desk)) for one in found]
    columns = pd.DataFrame(
        {
            "Patient": [patient for patient, _ in shown],
            "Exam": [exam for _, exam in shown],
            "Readers": [len(dispute.reads) for dispute in found],
            "They differ in": ["; ".join(f"{eye}: {why}" for eye, why in one.why.items()) for one in found],
            "Decided": ["yes" if dispute.exam_id in done else "" for dispute in found],
        }
    )
    state = st.dataframe(
        columns, hide_index=True, on_select="rerun", selection_mode="single-row", height="content", key="disputes"
    )
    st.caption("Tick a row’s box at its left to open that exam.")
    rows = state["selection"]["rows"]
    return found[rows[0]].exam_id if rows and rows[0] < len(found) else None


def open_exam(desk: Desk, exam_id: str) -> None:
    """Go to the page of an exam."""
    st.switch_page("exam.py", query_params={"exam": desk.token(exam_id)})


show(open_page("adjudication"))
