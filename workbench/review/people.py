"""Who may do what: people, their roles, their sessions. No passwords: a login provider vouches, or the machine."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

import sqlalchemy as sa

from workbench.review.database import Database
from workbench.review.reads import Role
from workbench.review.tables import events, grants, sessions, users
from workbench.review.trail import Trail, appending
from workbench.schema.errors import WorkbenchError

ROLES: Final[tuple[str, ...]] = get_args(Role)

SYSTEM: Final = "system"
"""The actor of what no person did."""

SessionState = Literal["open", "locked", "expired", "revoked", "unknown"]


@dataclass(frozen=True)
class User:
    """One person: the login's subject, the name to show, and the name to write where no name may stand."""

    subject: str
    display_name: str
    pseudonym: str


@dataclass(frozen=True)
class Session:
    """What a token stands for at this moment; only *open* opens a page.

    Args:
        handle: names it for an administrator; the token cannot be found back from it.
    """

    state: SessionState
    subject: str = ""
    expires_at: str = ""
    created_at: str = ""
    last_seen_at: str = ""
    handle: str = ""


class People:
    """Users, roles and sessions of one database.

    Args:
        database: shared with the `ReviewStore`.
        lifetime: after which a session ends, however busy.
        idle: after which a session that nobody touched is locked; it takes a new login to go on.
    """

    def __init__(
        self,
        database: Database,
        *,
        lifetime: timedelta = timedelta(hours=12),
        idle: timedelta = timedelta(minutes=15),
    ) -> None:
        self._database = database
        self.lifetime = lifetime
        self.idle = idle

    def ensure_user(self, subject: str, display_name: str = "") -> User:
        """Return a person, added when not known yet; the name that was stored first stays."""

        def work(connection: sa.Connection) -> User:
            with appending(connection) as trail:
                return _ensure(connection, trail, subject, display_name)

        return self._database.write(work)

    def user(self, subject: str) -> User | None:
        """Return a person, None when not known."""
        return self._database.read(lambda connection: _user(connection, subject))

    def users(self) -> list[User]:
        """Return everybody, in the order in which they came."""
        query = sa.select(users.c.subject, users.c.display_name, users.c.pseudonym).order_by(users.c.event_id)
        return [User(*row) for row in self._database.read(lambda connection: connection.execute(query).all())]

    def grant(self, subject: str, role: str, by: str) -> None:
        """Give a role; nothing happens when it is already held.

        Raises:
            WorkbenchError: no such role.
        """
        self._set(subject, role, True, by)

    def withdraw(self, subject: str, role: str, by: str) -> None:
        """Take a role away; nothing happens when it is not held.

        Raises:
            WorkbenchError: no such role.
        """
        self._set(subject, role, False, by)

    def roles_of(self, subject: str) -> frozenset[str]:
        """Return the roles that a person holds now."""
        return self._database.read(lambda connection: _roles(connection, subject))

    def holders(self, role: str) -> list[str]:
        """Return the subjects that hold a role now, in the order in which it was given."""
        return self._database.read(lambda connection: _holders(connection, role))

    def open_session(self, subject: str, token: str | None = None) -> str:
        """Begin a session and return its token, which is stored nowhere.

        Args:
            subject: whose it is.
            token: what stands for it where a login already has such a thing; two tabs may bring it at once.
        """
        token = token or secrets.token_urlsafe(32)
        key = f"session:{_hash(token)[:32]}"

        def work(connection: sa.Connection) -> None:
            with appending(connection) as trail:
                if connection.execute(sa.select(events.c.id).where(events.c.key == key)).first() is not None:
                    return
                who = _ensure(connection, trail, subject, "").pseudonym
                fact = {"event_id": trail.next_id, "content": "{}"}
                trail.append(key, "session_opened", who, _stamp(), {"facts": [fact]})
                connection.execute(
                    sessions.insert(),
                    {
                        "id_hash": _hash(token),
                        "subject": subject,
                        "created_at": _stamp(),
                        "last_seen_at": _stamp(),
                        "expires_at": _stamp(self.lifetime),
                    },
                )

        self._database.write(work)
        return token

    def touch(self, token: str) -> Session:
        """Return what a token stands for now, and note that it was used; a locked or ended one is not revived.

        Use is noted at most every twentieth part of the idle time: a press on the page need not wait for the disk.
        """
        session = self.look(token)
        if session.state == "open" and session.last_seen_at <= _stamp(-self.idle / 20):
            used = sessions.update().where(sessions.c.id_hash == session.handle).values(last_seen_at=_stamp())
            self._database.write(lambda connection: connection.execute(used) and None)
        return session

    def look(self, token: str) -> Session:
        """Return what a token stands for now, without a touch."""
        found = self._sessions(sessions.c.id_hash == _hash(token))
        return found[0] if found else Session("unknown")

    def sessions_of(self, subject: str) -> list[Session]:
        """Return the sessions of a person, the last one first."""
        return self._sessions(sessions.c.subject == subject)

    def revoke_one(self, handle: str, by: str) -> None:
        """End one session of anybody; nothing happens when it has ended."""
        self._revoke(sessions.c.id_hash == handle, by)

    def revoke(self, token: str) -> None:
        """End one session (logout); nothing happens when it has ended."""
        self._revoke(sessions.c.id_hash == _hash(token), None)

    def revoke_all(self, subject: str, by: str) -> None:
        """End every session of a person, at once and on every tab."""
        self._revoke(sessions.c.subject == subject, by)

    def _sessions(self, which: sa.ColumnElement[bool]) -> list[Session]:
        query = sa.select(sessions).where(which).order_by(sessions.c.created_at.desc())
        rows = self._database.read(lambda connection: connection.execute(query).mappings().all())
        shown = ("subject", "expires_at", "created_at", "last_seen_at")
        return [
            Session(self._state(row), **{name: str(row[name]) for name in shown}, handle=str(row["id_hash"]))
            for row in map(dict, rows)
        ]

    def _state(self, row: Mapping[str, Any]) -> SessionState:
        if row["revoked_at"] is not None:
            return "revoked"
        if _stamp() >= row["expires_at"]:
            return "expired"
        return "locked" if _stamp(-self.idle) >= row["last_seen_at"] else "open"

    def _revoke(self, which: sa.ColumnElement[bool], by: str | None) -> None:
        live = which & sessions.c.revoked_at.is_(None)

        def work(connection: sa.Connection) -> None:
            with appending(connection) as trail:
                subjects = connection.execute(sa.select(sessions.c.subject).where(live)).scalars().all()
                if not subjects:
                    return
                who = pseudonym_of(connection, trail, by or subjects[0])
                fact = {"event_id": trail.next_id, "content": f'{{"sessions": {len(subjects)}}}'}
                trail.append(f"revoke:{secrets.token_hex(16)}", "session_revoked", who, _stamp(), {"facts": [fact]})
                connection.execute(sessions.update().where(live), {"revoked_at": _stamp()})

        self._database.write(work)

    def _set(self, subject: str, role: str, granted: bool, by: str) -> None:
        if role not in ROLES:
            raise WorkbenchError(f"there is no role {role!r}", f"choose one of {', '.join(ROLES)}")

        def work(connection: sa.Connection) -> None:
            with appending(connection) as trail:
                if (role in _roles(connection, subject)) == granted:
                    return
                if role == "admin" and not granted and _holders(connection, role) == [subject]:
                    raise WorkbenchError("this is the only administrator", "appoint another one first")
                actor = pseudonym_of(connection, trail, by)
                _ensure(connection, trail, subject, "")
                row = {"event_id": trail.next_id, "subject": subject, "role": role, "granted": granted}
                kind = "grant" if granted else "withdraw"
                content = {"grants": [{**row, "by_subject": by}]}
                trail.append(f"{kind}:{secrets.token_hex(16)}", kind, actor, _stamp(), content)

        self._database.write(work)


def pseudonym_of(connection: sa.Connection, trail: Trail, subject: str) -> str:
    """Return the name under which a person stands in the trail; a new person is added to it."""
    return SYSTEM if subject == SYSTEM else _ensure(connection, trail, subject, "").pseudonym


def _ensure(connection: sa.Connection, trail: Trail, subject: str, display_name: str) -> User:
    known = _user(connection, subject)
    if known is not None:
        return known
    if subject == SYSTEM:
        raise WorkbenchError(f"nobody can be called {SYSTEM!r}", "choose another name")
    user = User(subject, display_name or subject, f"R-{secrets.token_hex(5).upper()}")
    row = {"event_id": trail.next_id, "subject": subject, "display_name": user.display_name}
    content = {"users": [{**row, "pseudonym": user.pseudonym}]}
    trail.append(f"user:{secrets.token_hex(16)}", "user", user.pseudonym, _stamp(), content)
    return user


def _user(connection: sa.Connection, subject: str) -> User | None:
    query = sa.select(users.c.subject, users.c.display_name, users.c.pseudonym).where(users.c.subject == subject)
    row = connection.execute(query).one_or_none()
    return None if row is None else User(*row)


def _roles(connection: sa.Connection, subject: str) -> frozenset[str]:
    query = sa.select(grants.c.role, grants.c.granted).where(grants.c.subject == subject).order_by(grants.c.event_id)
    last = {row.role: row.granted for row in connection.execute(query)}
    return frozenset(role for role, granted in last.items() if granted)


def _holders(connection: sa.Connection, role: str) -> list[str]:
    query = sa.select(grants.c.subject, grants.c.granted).where(grants.c.role == role).order_by(grants.c.event_id)
    last = {row.subject: row.granted for row in connection.execute(query)}
    return [subject for subject, granted in last.items() if granted]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _stamp(later: timedelta = timedelta(0)) -> str:
    return (datetime.now(UTC) + later).isoformat(timespec="milliseconds")
