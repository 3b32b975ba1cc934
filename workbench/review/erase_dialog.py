"""A patient's erasure from a page: who it is, what it does, once more whether, then what was done."""

from __future__ import annotations

import streamlit as st

from workbench.review.access import may
from workbench.review.desk import Desk
from workbench.review.entrance import current, dialog, require
from workbench.review.erasure import Erasure
from workbench.schema.errors import WorkbenchError


def erase_button(desk: Desk) -> None:
    """Offer an administrator to erase a patient; say what the last erasure of this tab did."""
    if not may(current(), "erase"):
        return
    if st.button("Erase", help="Erase a patient", key="erase_patient", width="stretch"):
        ask(desk)
    if (done := st.session_state.pop("erased", "")) != "":
        st.toast(done, icon=":material/check:", duration="long")


@dialog("Erase a patient")
def ask(desk: Desk) -> None:
    """Ask who is to be erased, and erase."""
    st.text(
        "Every read, note, mark and assignment of the patient goes, out of the exports too, and every page of this "
        "run is without the patient from then on. The audit trail keeps that something was erased, and still "
        "verifies. Backups, photographs and the run’s own tables are not touched: delete them where they lie."
    )
    who = st.text_input("Patient", placeholder="Pseudonym or id", max_chars=200, key="erase_whom")
    sure = st.checkbox("It cannot be brought back. I have checked the name.", key="erase_sure")
    if st.button("Erase this patient", type="primary", disabled=not (who.strip() and sure)):
        try:
            require("erase")
            st.session_state["erased"] = _words(desk.erase(who, current().subject))
        except WorkbenchError as error:
            st.error(str(error), icon=":material/error:")
            return
        st.rerun()


def _words(gone: Erasure) -> str:
    if not gone.events:
        return "Erased. Nobody had read this patient."
    missing = f"; {len(gone.missing)} exports are no longer where they were written" if gone.missing else ""
    return f"Erased: {gone.events} entries on {len(gone.exams)} exams, {len(gone.files)} exports cleaned{missing}."
