"""The worklist: which exams need a human, the most pressing first."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from workbench.review.desk import Desk
from workbench.review.words import grade_words
from workbench.review.worklist import TIERS, WorklistFilter, next_undecided
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import GRADES

CONDITIONS = {
    "undecided": "Not read by me",
    "referred": "Referred",
    "incomplete": "Eye missing or ungradable",
    "eyes_disagree": "Eyes disagree",
}


def show(desk: Desk) -> None:
    """Show the page."""
    title, begin, name = st.columns([5, 1, 1.5], vertical_alignment="bottom")
    title.subheader("Worklist", anchor=False)
    with name:
        reader = reader_name(desk)
    try:
        worklist = desk.worklist(reader)
    except WorkbenchError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()
    summary(worklist, desk)
    chosen = filters()
    shown = chosen.apply(worklist)
    pressing = next_undecided(shown) or next_undecided(worklist)
    if pressing is None:
        st.success("You have read every exam of this run. See the run overview for what the model does to it.")
    elif begin.button(
        "Read next", type="primary", icon=":material/arrow_forward:", help="The most pressing unread exam"
    ):
        open_exam(desk, pressing)
    if shown.empty:
        st.info(f"None of the {len(worklist)} exams passes these filters. Take one away to see more.")
        return
    picked = table(shown)
    if picked is not None:
        open_exam(desk, picked)


def reader_name(desk: Desk) -> str:
    """Ask who reads; the name stays for every tab that is opened later."""
    name = st.text_input("Reading as", value=st.session_state["reader"], placeholder="Your name", max_chars=200)
    st.session_state["reader"] = desk.reader = name.strip()
    if not name.strip():
        st.warning("Type your name under ‘Reading as’: reads are saved under it.")
    return name.strip()


def summary(worklist: pd.DataFrame, desk: Desk) -> None:
    """Say how much there is and how much is done."""
    referred, check = ((worklist["tier"] == tier).sum() for tier in (0, 1))
    done = int(worklist["decided"].sum())
    st.progress(done / max(1, len(worklist)), text=f"{done} of {len(worklist)} exams read by you")
    st.caption(
        f"{referred} referred by the model’s policy, {check} not referred but worth a check, "
        f"{len(worklist) - referred - check} routine. Model and audit: run {desk.run_id}."
    )


def filters() -> WorklistFilter:
    """Return what the reader wants to see."""
    left, middle, right = st.columns([3, 1.6, 1.6], vertical_alignment="bottom")
    conditions = left.pills(
        "Show only", list(CONDITIONS), format_func=CONDITIONS.get, selection_mode="multi", key="conditions"
    )
    grades = middle.pills(
        "Model’s grade, either eye",
        list(range(len(GRADES))),
        selection_mode="multi",
        key="grades",
    )
    search = right.text_input("Search", placeholder="Patient or exam", key="search")
    return WorklistFilter(grades=tuple(grades), search=search, **dict.fromkeys(conditions, True))


def table(shown: pd.DataFrame) -> str | None:
    """Show the exams; return the one whose row was picked."""
    columns = pd.DataFrame(
        {
            "Patient": shown["patient_id"].astype(str),
            "Exam": shown["exam_id"].astype(str),
            "Priority": shown["tier"].map(TIERS),
            "Why": shown["why"],
            "OD": [_grade(row.grade_OD, row.status_OD) for row in shown.itertuples()],
            "OS": [_grade(row.grade_OS, row.status_OS) for row in shown.itertuples()],
            "P(referable)": 100 * shown["p_referable"].astype(float),
            "Uncertainty": 100 * shown["rank"].astype(float),
            "You": shown["decided"].map({True: "read", False: ""}),
            "Read by": shown["read_by"],
        }
    )
    share = {"min_value": 0.0, "max_value": 100.0, "format": "%.0f %%"}
    state = st.dataframe(
        columns,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        height=min(430, 40 + 35 * len(columns)),
        key="exams",
        column_config={
            "Why": st.column_config.TextColumn(width="large"),
            "P(referable)": st.column_config.ProgressColumn(help="Of the worse eye", **share),
            "Uncertainty": st.column_config.ProgressColumn(
                help="Share of this run’s exams about which the model is at least as sure", **share
            ),
        },
    )
    st.caption("Tick a row’s box at its left to open that exam.")
    rows = state["selection"]["rows"]
    return str(shown["exam_id"].iloc[rows[0]]) if rows and rows[0] < len(shown) else None


def _grade(grade: object, status: str) -> str:
    return status if status != "ok" else grade_words(None if pd.isna(grade) else int(str(grade)))


def open_exam(desk: Desk, exam_id: str) -> None:
    """Go to the page of an exam."""
    st.switch_page("exam.py", query_params={"exam": desk.token(exam_id)})


show(st.session_state["desk"])
