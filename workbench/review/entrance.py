"""What stands before every page: who is there, whether the session is open, whether the page is theirs to open."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import streamlit as st

from workbench.review.access import ALL_ROLES, Identity, may, may_open
from workbench.review.desk import Desk, desk_from_environment
from workbench.review.markup import literal
from workbench.review.people import People
from workbench.review.sessions import Door, Entry
from workbench.review.team import FIRST_ADMIN_VARIABLE, TEAM_VARIABLE, is_loopback, read_team
from workbench.schema.errors import WorkbenchError

_IDENTITY: Final = "identity"

SHUT: Final = {
    "signed_out": ("Sign in", "Exams are shown to signed-in members of the team only."),
    "locked": ("Locked", "Nobody touched this page for a while. Sign in again to go on where you were."),
    "expired": ("Session ended", "Your session has reached its end. Sign in again to go on where you were."),
    "revoked": ("Signed out", "This session was ended, by you or by an administrator."),
}
"""What a shut door says; nothing of a run, let alone of a patient."""


@st.cache_resource(show_spinner="Opening the run")  # type: ignore[untyped-decorator]
def open_desk() -> Desk:
    """Open the run that `workbench review` named, once for all tabs."""
    return desk_from_environment()


def enter(desk: Desk) -> Identity:
    """Return who is there; where nobody may be, show why and stop.

    In team mode the session is looked up anew at every interaction. Without a team this machine's one user is there.

    Raises:
        WorkbenchError: the list of erased patients is damaged.
    """
    notice_erasures(desk)
    door = door_of(desk)
    if door is None:
        _refuse_other_machines()
        identity = Identity(st.session_state["reader"], st.session_state["reader"], ALL_ROLES)
    else:
        entry = door.enter(_claims())
        if entry.state not in ("open", "no_role"):
            _shut(door, entry)
        assert entry.identity is not None
        identity = entry.identity
        st.session_state["reader"] = identity.subject
        if entry.state == "no_role":
            _remember(door, identity)
            _no_role(identity)
        _watch(door)
    st.session_state[_IDENTITY] = identity
    return identity


def notice_erasures(desk: Desk) -> bool:
    """Look whether a patient was erased since this tab last did, drop what the tab kept of exams that are gone.

    Raises:
        WorkbenchError: the list of erased patients is damaged.
    """
    desk.notice_erasures()
    if st.session_state.setdefault("erasures", desk.erasures) == desk.erasures:
        return False
    drafts = st.session_state["drafts"]
    for name in [name for name in drafts if desk.exam_of(desk.token(name[1])) is None]:
        del drafts[name]
    st.session_state["erasures"] = desk.erasures
    return True


def open_page(page: str) -> Desk:
    """Return the desk to a page that may be shown; else say so, note it in the audit trail, and stop."""
    identity, desk = st.session_state.get(_IDENTITY), st.session_state.get("desk")
    if identity is None or desk is None:
        st.error("Start this app with ‘workbench review RUN’.")
        st.stop()
    if not may_open(identity, page):
        st.error("Your role does not open this page. Ask an administrator if it should.", icon=":material/block:")
        noted = st.session_state.setdefault("refused", set())
        if page not in noted:  # once per tab: a refused reload must not fill the trail
            noted.add(page)
            desk.store.record("refused", identity.subject, {"page": page})
        st.stop()
    return desk


def recalled(identity: Identity) -> tuple[str, dict[str, str]] | None:
    """Return, on a tab's first open page, where its reader was when the last one was locked, or wanted to go."""
    door = door_of(st.session_state["desk"])
    if door is None or st.session_state.setdefault("arrived", False):
        return None
    st.session_state["arrived"] = True
    return door.recall(identity.subject)


def current() -> Identity:
    """Return who is there at this interaction."""
    identity: Identity = st.session_state[_IDENTITY]
    return identity


def reader_name(desk: Desk) -> str:
    """Return under whose name reads are saved: the login's, or, on one's own machine, the name typed here."""
    if current().team:
        return current().subject
    name = st.text_input("Reading as", value=st.session_state["reader"], placeholder="Your name", max_chars=200)
    st.session_state["reader"] = desk.reader = name.strip()
    if not name.strip():
        st.warning("Type your name under ‘Reading as’: reads are saved under it.")
    return name.strip()


def true_names(desk: Desk) -> bool:
    """Return whether this tab shows the true identifiers of patients: asked for, allowed, and stored as such."""
    asked = bool(st.session_state.get("true_names"))
    return asked and desk.identifiers != "never" and may(current(), "see_identifiers")


def names_switch(desk: Desk) -> None:
    """Offer to show the true identifiers; that they are shown is stored first, and holds for this tab."""
    if desk.identifiers == "never" or not may(current(), "see_identifiers"):
        return
    st.session_state["names_switch"] = true_names(desk)

    def switched() -> None:
        if not st.session_state["names_switch"]:
            st.session_state["true_names"] = False
            return
        try:
            _note_true_names(desk)
        except WorkbenchError as error:
            st.session_state["not_named"] = str(error)
            return
        st.session_state["true_names"] = True

    st.toggle("True names", key="names_switch", on_change=switched, help="Show patients as they are; it is recorded")
    if (failure := st.session_state.pop("not_named", "")) != "":
        st.error(f"not shown: {failure}", icon=":material/error:")


def _note_true_names(desk: Desk) -> None:
    require("see_identifiers")
    subject = current().subject.strip()
    if not subject:
        raise WorkbenchError("your name is not set", "type it on the worklist")
    desk.store.record("identifiers_shown", subject, {"protocol": desk.protocol}, run_id=desk.run_id)


def require(action: str) -> None:
    """Look the session and the rule up once more, just before something is written.

    Raises:
        WorkbenchError: the session has ended since the page was drawn, or no role of this person allows it.
    """
    identity = current()
    if identity.team:
        door = door_of(st.session_state["desk"])
        entry = door.enter(_claims()) if door else Entry("signed_out")
        if entry.state not in ("open", "no_role") or entry.identity is None:
            raise WorkbenchError("not saved: your session has ended or is locked", "sign in again")
        identity = entry.identity
    if not may(identity, action):
        raise WorkbenchError("not saved: your role does not allow it", "ask an administrator")


def fragment(part: Callable[..., Any]) -> Callable[..., Any]:
    """Make a part of a page that runs by itself; it runs only while the session is open."""
    return st.fragment(_checked(part))


def dialog(title: str, **named: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what makes a dialog with a title; it runs only while the session is open."""
    return lambda part: st.dialog(title, **named)(_checked(part))


def _checked(part: Callable[..., Any]) -> Callable[..., Any]:
    """Return a part that looks for the session and for erasures, since its run passes by the entry of the app."""

    @functools.wraps(part)
    def checked(*values: Any, **named: Any) -> Any:
        if _erased_since(st.session_state["desk"]):
            st.rerun(scope="app")
        if current().team:
            door = door_of(st.session_state["desk"])
            if door is None or door.enter(_claims()).state != "open":
                st.rerun(scope="app")
        return part(*values, **named)

    return checked


def _erased_since(desk: Desk) -> bool:
    try:
        return notice_erasures(desk)
    except WorkbenchError:  # the entry of the app says what is wrong
        return True


def sign_out(everywhere: bool = False) -> None:
    """End this login's session, or all sessions of the person, and forget the login."""
    door = door_of(st.session_state["desk"])
    if door is not None:
        if everywhere:
            door.people.revoke_all(current().subject, by=current().subject)
        door.leave(_claims())
    st.session_state.clear()
    st.logout()
    st.stop()


def door_of(desk: Desk) -> Door | None:
    """Return the one door of this process; None where one person works on one machine."""
    named = os.environ.get(TEAM_VARIABLE)
    return _door(named, os.environ.get(FIRST_ADMIN_VARIABLE, ""), desk) if named else None


@st.cache_resource(show_spinner=False)  # type: ignore[untyped-decorator]
def _door(named: str, first_admin: str, _desk: Desk) -> Door:
    limits = read_team(Path(named)).limits
    return Door(People(_desk.store.database, lifetime=limits.lifetime, idle=limits.idle), first_admin)


def _claims() -> dict[str, Any]:
    return dict(st.user)


def _refuse_other_machines() -> None:
    """Without a login only this machine may ask: the command line sees to it, this sees to a bare 'streamlit run'."""
    address = st.get_option("server.address")
    if (address and not is_loopback(address)) or st.context.ip_address is not None:
        st.error("Without a team file this app answers to its own machine only.", icon=":material/block:")
        st.text("What to do: start it with 'workbench review RUN', or with --team (see docs/team_mode.md).")
        st.stop()


def _shut(door: Door, entry: Entry) -> None:
    """Show a shut door instead of a page, and remember the page for the next login of the same person."""
    st.session_state.pop(_IDENTITY, None)
    if entry.state in ("locked", "expired") and entry.identity is not None and not st.session_state.get("was_shut"):
        _remember(door, entry.identity)
        st.session_state["was_shut"] = True
    title, words = SHUT.get(entry.state, ("The login cannot be used", f"The provider did not send {entry.missing}."))
    _, middle, _ = st.columns([1, 1.2, 1])
    with middle.container(border=True):
        st.subheader(f":material/lock: {title}", anchor=False)
        st.text(words)
        if entry.state in ("locked", "expired"):
            st.caption("What was saved is saved; drafts are kept.")
        if st.button("Sign in", type="primary", width="stretch"):
            st.login()
    st.stop()


def _remember(door: Door, identity: Identity) -> None:
    """Remember the page that somebody came for; without pages in the navigation the browser forgets it."""
    page = urlsplit(st.context.url or "").path.rpartition("/")[2]
    if page:
        door.remember(identity.subject, page, st.query_params.to_dict())


def _no_role(identity: Identity) -> None:
    """Tell somebody without a role what to do; nothing of a run is shown."""
    _, middle, _ = st.columns([1, 1.6, 1])
    with middle.container(border=True):
        st.subheader("No role yet", anchor=False)
        st.html(f"<p>You are signed in as <b>{literal(identity.name)}</b>, but you have no role here yet.</p>")
        st.text("Ask an administrator for one, and give them this line:")
        st.code(identity.subject, language=None, wrap_lines=True)
        again, out = st.columns(2)
        again.button("Check again", type="primary", width="stretch")
        if out.button("Sign out", width="stretch"):
            st.session_state[_IDENTITY] = identity
            sign_out()
    st.stop()


def _watch(door: Door) -> None:
    """Look now and then whether the session is still open, without keeping it awake, and lock the page when not."""

    @st.fragment(run_every=max(2.0, min(15.0, door.people.idle.total_seconds() / 10)))  # type: ignore[untyped-decorator]
    def look() -> None:
        if door.look(_claims()) != "open":
            st.rerun(scope="app")

    look()
