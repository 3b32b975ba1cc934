"""From a login provider's claims to a session of ours: one login is one session, on every tab of a browser."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from workbench.review.access import Identity
from workbench.review.people import SYSTEM, People, SessionState

EntryState = Literal["signed_out", "unusable", "no_role"] | SessionState

_LONGEST_SUBJECT: Final = 200


@dataclass(frozen=True)
class Entry:
    """What a door says; only *open* shows a page, and *no_role* one's own account.

    Args:
        state: why not, where not.
        identity: who it is; None before a login.
        missing: the claim that the provider did not send, for *unusable*.
    """

    state: EntryState
    identity: Identity | None = None
    missing: str = ""


@dataclass(frozen=True)
class Login:
    """One login as the provider vouches for it.

    Args:
        subject: ``issuer|sub``; an e-mail address may be given to another person, this pair may not.
        sub: the provider's own name of the person.
        name: to show.
        token: stands for this login; made of what only the provider and the browser's signed cookie hold.
        at: when the provider vouched.
    """

    subject: str
    sub: str
    name: str
    token: str
    at: datetime


@dataclass
class Door:
    """Lets in who has an open session and a role; everybody else is told why not.

    Args:
        people: users, roles and sessions, with the lifetimes that hold.
        first_admin: a subject or a ``sub`` that becomes the administrator while there is none.
    """

    people: People
    first_admin: str = ""
    _places: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)

    def enter(self, claims: Mapping[str, Any]) -> Entry:
        """Return who this is now and whether the session is open, and note that it was used."""
        if not claims.get("is_logged_in"):
            return Entry("signed_out")
        missing = next((name for name in ("iss", "sub", "nonce", "iat") if not claims.get(name)), "")
        if missing:
            return Entry("unusable", missing=missing)
        login = login_of(claims)
        state = self.people.touch(login.token).state
        if state == "unknown":
            state = self._begin(login)
        user = self.people.user(login.subject)
        name = user.display_name if user else login.name
        roles = self.people.roles_of(login.subject) if state == "open" else frozenset[str]()
        identity = Identity(login.subject, name, roles, team=True)
        return Entry("no_role" if state == "open" and not roles else state, identity)

    def look(self, claims: Mapping[str, Any]) -> EntryState:
        """Return the state of a session without a touch: looking does not keep it awake."""
        return self.people.look(login_of(claims).token).state if claims.get("is_logged_in") else "signed_out"

    def leave(self, claims: Mapping[str, Any]) -> None:
        """End the session of a login, on every tab of the browser."""
        if claims.get("is_logged_in"):
            self.people.revoke(login_of(claims).token)

    def remember(self, subject: str, page: str, query: Mapping[str, str]) -> None:
        """Remember where somebody was when the door fell shut."""
        self._places[subject] = (page, dict(query))

    def recall(self, subject: str) -> tuple[str, dict[str, str]] | None:
        """Return, once, where somebody was when the door fell shut."""
        return self._places.pop(subject, None)

    def _begin(self, login: Login) -> SessionState:
        """Begin the session of a fresh login; an old cookie, for which no session is known, begins none."""
        if datetime.now(UTC) - login.at >= min(self.people.lifetime, self.people.idle):
            return "expired"
        self.people.ensure_user(login.subject, login.name)
        self.people.open_session(login.subject, login.token)
        named = self.first_admin.strip()
        if named and named in (login.subject, login.sub) and not self.people.holders("admin"):
            self.people.grant(login.subject, "admin", by=SYSTEM)
        return self.people.look(login.token).state


def login_of(claims: Mapping[str, Any]) -> Login:
    """Return a login from the claims of an identity token whose signature was checked."""
    issuer, sub = str(claims["iss"]), str(claims["sub"])
    subject = f"{issuer}|{sub}"
    if len(subject) > _LONGEST_SUBJECT:
        subject = f"sha256|{hashlib.sha256(subject.encode()).hexdigest()}"
    name = next((str(claims[key]) for key in ("name", "preferred_username") if claims.get(key)), sub)
    whole = "\x1f".join((issuer, sub, str(claims["nonce"]), str(claims["iat"])))
    at = datetime.fromtimestamp(float(claims["iat"]), UTC)
    return Login(subject, sub, name[:_LONGEST_SUBJECT], hashlib.sha256(whole.encode()).hexdigest(), at)
