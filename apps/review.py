"""Entry of the review app: opens the run that `workbench review` named, sees who is there, hands over to a page."""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from workbench.review.access import may_open
from workbench.review.entrance import enter, open_desk, open_page, recalled
from workbench.review.markup import STYLE
from workbench.review.theme import keep_theme
from workbench.schema.errors import WorkbenchError

# A page's file without its ending → its title, in the order in which they stand; rules are in `review.access`.
# (A string here would be shown on every page.)
TITLES = {
    "worklist": "Worklist",
    "adjudication": "Adjudication",
    "exam": "Exam",
    "overview": "Run overview",
    "readers": "Readers",
    "people": "People",
    "account": "Account",
}


def refused(page: str) -> None:
    """Say at a page's address that it is not open to whoever came there."""
    open_page(page)


st.set_page_config(page_title="Review · Retina Trust Workbench", layout="wide")
st.html(STYLE)
keep_theme(tuple(TITLES))
try:
    desk = open_desk()
    st.session_state["desk"] = desk
    st.session_state.setdefault("reader", desk.reader)
    st.session_state.setdefault("drafts", {})
    identity = enter(desk)
except WorkbenchError as error:
    st.error(error.what, icon=":material/error:")
    st.text(f"What to do: {error.remedy}.")
    st.stop()
pages: dict[str, Any] = {}
for name, title in TITLES.items():
    if not desk.offers(name):
        continue
    if may_open(identity, name):
        pages[name] = st.Page(f"{name}.py", title=title, url_path=name, default=not pages)
    elif identity.team:
        pages[name] = st.Page(partial(refused, name), title=title, url_path=name, visibility="hidden")
page = st.navigation(list(pages.values()), position="top")
if (place := recalled(identity)) is not None and place[0] in pages:
    st.switch_page(pages[place[0]], query_params=place[1])
page.run()
