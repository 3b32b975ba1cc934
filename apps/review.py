"""Entry of the review app: opens the run that `workbench review` named, then hands over to a page."""

from __future__ import annotations

import streamlit as st

from workbench.review.desk import Desk, desk_from_environment
from workbench.review.markup import STYLE
from workbench.schema.errors import WorkbenchError


@st.cache_resource(show_spinner="Opening the run")  # type: ignore[untyped-decorator]
def open_desk() -> Desk:
    """Open the run once for all tabs."""
    return desk_from_environment()


st.set_page_config(page_title="Review · Retina Trust Workbench", layout="wide")
st.html(STYLE)
try:
    st.session_state["desk"] = open_desk()
except WorkbenchError as error:
    st.error(error.what, icon=":material/error:")
    st.text(f"What to do: {error.remedy}.")
    st.stop()
st.session_state.setdefault("reader", st.session_state["desk"].reader)
st.session_state.setdefault("drafts", {})
pages = [
    st.Page("worklist.py", title="Worklist", default=True),
    st.Page("exam.py", title="Exam", url_path="exam"),
    st.Page("overview.py", title="Run overview", url_path="overview"),
]
st.navigation(pages, position="top").run()
