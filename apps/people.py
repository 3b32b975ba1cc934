"""The administrator's page: who has which role, who is signed in, and the end of a session."""

from __future__ import annotations

import streamlit as st

from workbench.review.desk import Desk
from workbench.review.entrance import current, door_of, open_page, require
from workbench.review.erase_dialog import erase_button
from workbench.review.markup import literal, session_table
from workbench.review.people import ROLES, People, User
from workbench.review.worklist_rows import plain_message, pressed_into, show_rows
from workbench.schema.errors import WorkbenchError

PAGE = 50
COLUMNS = {
    "Name": "text",
    "Roles": "wide",
    "Open sessions": "text",
    "Last seen (UTC)": "text",
    "Login": "wide",
    "Pseudonym": "text",
}
WHAT_A_ROLE_DOES = {
    "reader": "reads exams",
    "adjudicator": "reads, settles disagreements, assigns, sees the readers' figures",
    "admin": "gives roles, ends sessions, exports, erases; sees no exam",
    "auditor": "sees everything, changes nothing",
}


def show(desk: Desk) -> None:
    """Show the page."""
    door = door_of(desk)
    if door is None:
        return
    title, erase = st.columns([12, 1], vertical_alignment="bottom")
    title.subheader("People", anchor=False)
    with erase:
        erase_button(desk)
    st.caption("Who signs in for the first time appears here without a role, and sees nothing until one is given.")
    users = door.people.users()
    table(door.people, users)
    picked = next((user for user in users if user.pseudonym == st.session_state.get("person")), None)
    if picked is None:
        st.info("Pick a person to give or take roles, or to end a session.")  # by a click, or by keys
        return
    left, right = st.columns([1, 1.4], gap="large")
    with left:
        roles(door.people, picked)
    with right:
        open_sessions(door.people, picked)


def table(people: People, users: list[User]) -> None:
    """Show a page of everybody."""
    at = min(st.session_state.get("people_page", 0), max(0, len(users) - 1) // PAGE)
    st.session_state["people_page"] = at
    rows = []
    for user in users[at * PAGE : (at + 1) * PAGE]:
        held, found = people.roles_of(user.subject), people.sessions_of(user.subject)
        roles = ", ".join(role for role in ROLES if role in held) or "none"
        seen = found[0].last_seen_at[:16].replace("T", " ") if found else "never"
        sessions = str(sum(session.state == "open" for session in found))
        rows.append((user.pseudonym, (user.display_name, roles, sessions, seen, user.subject, user.pseudonym)))
    content = plain_message(COLUMNS, rows, begin=at * PAGE, total=len(users))
    show_rows(content, pressed_into("person", "people_page"), key="people")


def roles(people: People, user: User) -> None:
    """Give and take roles."""
    st.html(f"<b>Roles of {literal(user.display_name)}</b>")
    held = people.roles_of(user.subject)
    wanted = [
        role
        for role in ROLES
        if st.checkbox(f"**{role}**: {WHAT_A_ROLE_DOES[role]}", value=role in held, key=f"role|{user.subject}|{role}")
    ]
    if st.button("Save roles", type="primary", disabled=set(wanted) == held):
        try:
            require("manage_people")
            for role in ROLES:
                change = people.grant if role in wanted else people.withdraw
                change(user.subject, role, by=current().subject)
        except WorkbenchError as error:
            st.error(str(error), icon=":material/error:")
        else:
            st.rerun()
    if set(wanted) != held:
        st.warning("Not saved yet", icon=":material/edit:")


def open_sessions(people: People, user: User) -> None:
    """Show a person's sessions, and end one or all."""
    st.html(f"<b>Sessions of {literal(user.display_name)}</b>")
    found = people.sessions_of(user.subject)[:20]
    if not found:
        st.caption("Never signed in.")
        return
    st.html(session_table(found))
    live = [session for session in found if session.state == "open"]
    if not live:
        return
    ended = None
    for number, session in enumerate(found, start=1):
        if session in live and st.button(f"End session {number}", key=f"end|{session.handle}"):
            ended = session
    everything = len(live) > 1 and st.button("End all sessions", type="primary")
    if ended is None and not everything:
        return
    try:
        require("manage_people")
        if ended is not None:
            people.revoke_one(ended.handle, by=current().subject)
        else:
            people.revoke_all(user.subject, by=current().subject)
    except WorkbenchError as error:
        st.error(str(error), icon=":material/error:")
    else:
        st.rerun()


show(open_page("people"))
