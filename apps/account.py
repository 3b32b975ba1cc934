"""One's own account: who one is here, where one is signed in, and the way out."""

from __future__ import annotations

import streamlit as st

from workbench.review.desk import Desk
from workbench.review.entrance import current, door_of, open_page, sign_out
from workbench.review.markup import literal, session_table


def show(desk: Desk) -> None:
    """Show the page."""
    door, identity = door_of(desk), current()
    if door is None:
        return
    st.subheader("Account", anchor=False)
    st.html(f"<p>Signed in as <b>{literal(identity.name)}</b>: {', '.join(sorted(identity.roles))}.</p>")
    here, everywhere, _ = st.columns([1, 1, 3])
    if here.button("Sign out", type="primary", width="stretch", icon=":material/logout:"):
        sign_out()
    if everywhere.button("Sign out everywhere", width="stretch", help="Ends your sessions on every machine"):
        sign_out(everywhere=True)
    minutes = round(door.people.idle.total_seconds() / 60, 1)
    st.caption(
        f"A page that nobody touches for {minutes:g} minutes is locked; "
        f"a session ends after {door.people.lifetime.total_seconds() / 3600:g} hours."
    )
    st.markdown("**Your sessions**")
    st.html(session_table(door.people.sessions_of(identity.subject)[:20]))
    st.caption("Your reads are stored under this name of your login, and leave the database under a pseudonym:")
    st.code(identity.subject, language=None, wrap_lines=True)


show(open_page("account"))
