"""What the readers did to the machine and the machine to the readers: sentences first, then the tables."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from workbench.review.desk import Desk
from workbench.review.entrance import open_page
from workbench.review.markup import answer_box, literal
from workbench.schema.errors import WorkbenchError
from workbench.schema.reader_study import POOLED, ReaderFigure, ReaderStudy

SECTIONS = {
    "reveal": "What the model's answer did to the readers",
    "team": "Reader and model together",
    "confidence": "Confidence",
    "time": "Time",
    "agreement": "Agreement between readers",
    "multi-reader": "Readers compared, for all readers and all patients",
}
FEW = 10
"""Exams read both ways below which the page says that its figures say little."""


def show(desk: Desk) -> None:
    """Show the page."""
    st.subheader("What readers do to the machine, and the machine to readers", anchor=False)
    try:
        with st.spinner("Counting what was read"):
            study = desk.study(desk.store.head())
    except WorkbenchError as error:
        st.error(str(error), icon=":material/error:")
        return
    counts = study.counts
    st.caption(
        f"{counts.get('reads of eyes', 0)} reads of eyes, {counts.get('exams read', 0)} exams, "
        f"{counts.get('readers', 0)} readers, {counts.get('exams read both ways', 0)} times one reader read an "
        "exam both without and with the model. Readers stand under their pseudonyms; intervals are 95 %."
    )
    if not counts.get("reads of eyes"):
        st.info(
            "Nothing was read yet. Reads come here by themselves: open the run with --protocol blinded for a first "
            "read without the model, its reveal, and a second read."
        )
        return
    both = counts.get("exams read both ways", 0)
    if both < FEW:
        st.info(
            f"An exam was read both without and with the model {both} times. That is too few to say what the "
            f"model does to readers: read {FEW} or more before you look at a share, and many more before you act on it."
        )
    for section, title in SECTIONS.items():
        part(study, section, title)
    tables(study)


def part(study: ReaderStudy, section: str, title: str) -> None:
    """Show one section: its sentences, or why there are none."""
    said = study.sentences.get(section, ())
    if said:
        st.html(answer_box(title, said))
    elif section in study.not_assessed:
        words = f"not assessed: {study.not_assessed[section]}"
        st.html(f'<div class="answer"><p>{literal(title)}</p><span class="quiet">{literal(words)}</span></div>')


def tables(study: ReaderStudy) -> None:
    """Show every figure and table, each behind its own title."""
    if study.figures:
        with st.expander(f"All figures ({len(study.figures)})"):
            st.dataframe(pd.DataFrame([_line(figure) for figure in study.figures]), hide_index=True)
    for name, rows in study.tables.items():
        if rows:
            with st.expander(f"Table: {name}"):
                shown = pd.DataFrame(
                    [{key.replace("_", " "): _cell(cell) for key, cell in row.items()} for row in rows]
                )
                st.dataframe(shown, hide_index=True)


def _line(figure: ReaderFigure) -> dict[str, object]:
    return {
        "Figure": figure.words,
        "Reader": "all" if figure.reader == POOLED else figure.reader,
        "Value": _cell(figure.value),
        "From": _cell(figure.low),
        "To": _cell(figure.high),
        "Reads": figure.n,
        "Patients": figure.patients,
        "Remark": figure.reason or figure.how,
    }


def _cell(value: object) -> object:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


show(open_page("readers"))
