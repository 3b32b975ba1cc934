"""The audit trail: each row's hash seals its content and the row before it, so that no past row can change unseen.

``digest = sha256(canonical JSON of the content)`` and ``hash = sha256(canonical JSON of the row + previous hash)``. The
content lies in tables of its own, with a salt: after an erasure the digest stays, the chain still verifies, and nobody
can guess the content back from it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from workbench.review.tables import CONTENT, chain, events, tombstones

GENESIS: Final = "0" * 64
"""What stands before the first row."""

SEALED: Final = ("id", "key", "kind", "at", "actor", "digest")
"""What of a row its hash is made of, besides the row before."""

_BATCH: Final = 500

Content = Mapping[str, list[dict[str, Any]]]
"""Table → its rows of one event."""


@dataclass(frozen=True)
class Verdict:
    """What a check of the whole trail found.

    Args:
        length: rows that the trail says it has.
        head: the hash of its last row; written down elsewhere, it also betrays a trail that was made anew.
        erased: rows whose content was erased on purpose.
        first_bad: the first row that is not as it was written; None when all are.
        why: what is wrong with it.
    """

    length: int
    head: str
    erased: int
    first_bad: int | None = None
    why: str = ""


def canonical(value: Any) -> bytes:
    """Return the one way to write a JSON value; this format is a promise to every database in use."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest_of(content: Content) -> str:
    """Return the digest of an event's rows; empty cells are left out, so that a later column changes no old digest."""
    rows = {
        table: [{name: value for name, value in row.items() if value is not None} for row in found]
        for table, found in content.items()
        if found
    }
    return hashlib.sha256(canonical(rows)).hexdigest()


def hash_of(event: Mapping[str, Any], prev_hash: str) -> str:
    """Return the hash that seals an event to the one before."""
    return hashlib.sha256(canonical({name: event[name] for name in SEALED}) + prev_hash.encode()).hexdigest()


class Trail:
    """The end of the trail, held by one transaction.

    Args:
        connection: inside a transaction; on PostgreSQL the row of ``chain`` is locked until it ends, on SQLite the
            transaction already holds the one write lock.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        found = connection.execute(sa.select(chain.c.length, chain.c.head).where(chain.c.id == 1).with_for_update())
        self.length, self.head = found.one()

    @property
    def next_id(self) -> int:
        """The id that the next event gets; its content names it."""
        return self.length + 1

    def append(self, key: str, kind: str, actor: str, at: str, content: Content) -> int:
        """Add an event with its content; rows are written as they are, and must name `next_id`."""
        salt = {"event_id": self.next_id, "salt": secrets.token_hex(16)}
        whole = {**content, "salts": [salt]}
        event = {"id": self.next_id, "key": key, "kind": kind, "at": at, "actor": actor, "digest": digest_of(whole)}
        sealed = {**event, "prev_hash": self.head, "hash": hash_of(event, self.head)}
        self._connection.execute(events.insert(), sealed)
        for name, (table, _) in CONTENT.items():
            if whole.get(name):
                self._connection.execute(table.insert(), whole[name])
        self.length, self.head = self.next_id, sealed["hash"]
        return self.length

    def close(self) -> None:
        """Store where the trail ends now."""
        self._connection.execute(chain.update().where(chain.c.id == 1), {"length": self.length, "head": self.head})


@contextmanager
def appending(connection: sa.Connection) -> Iterator[Trail]:
    """Hold the end of the trail, and store it anew if something was appended."""
    trail = Trail(connection)
    before = trail.length
    yield trail
    if trail.length != before:
        trail.close()


def check_trail(connection: sa.Connection) -> Verdict:
    """Walk the whole trail, and name the first row that was edited, deleted, inserted or moved."""
    length, head = connection.execute(sa.select(chain.c.length, chain.c.head)).one()
    erased = set(connection.execute(sa.select(tombstones.c.event_id)).scalars())
    last, previous = 0, GENESIS
    for event, content in _walk(connection):
        if event["id"] != last + 1:
            return Verdict(length, head, len(erased), last + 1, "it is missing")
        why = _wrong_with(event, previous, content, event["id"] in erased)
        if why:
            return Verdict(length, head, len(erased), event["id"], why)
        last, previous = event["id"], event["hash"]
    if last != length:
        why = "it is missing" if last < length else "it was added past the trail"
        return Verdict(length, head, len(erased), min(last, length) + 1, why)
    if previous != head:
        return Verdict(length, head, len(erased), last, "the end of the trail does not name it")
    stray = _stray(connection, length)
    return Verdict(length, head, len(erased), stray, "" if stray is None else "content was added past the trail")


def _wrong_with(event: Mapping[str, Any], previous: str, content: Content, erased: bool) -> str:
    if event["prev_hash"] != previous:
        return "it does not follow the row before it: rows were moved, inserted or taken away"
    if event["hash"] != hash_of(event, previous):
        return "it was edited"
    held = any(name != "tombstones" for name in content)
    if erased:
        return "its content was erased and is there again" if held else ""
    if not held:
        return "its content was deleted"
    return "" if digest_of(content) == event["digest"] else "its content was edited"


def _walk(connection: sa.Connection) -> Iterator[tuple[Mapping[str, Any], Content]]:
    """Yield every event with its content, in order, a few hundred at a time."""
    after: int | None = None
    while True:
        query = sa.select(events).order_by(events.c.id).limit(_BATCH)
        batch = connection.execute(query if after is None else query.where(events.c.id > after)).mappings().all()
        if not batch:
            return
        after = batch[-1]["id"]
        contents = _contents(connection, batch[0]["id"], after)
        for event in batch:
            yield dict(event), contents.get(event["id"], {})


def _contents(connection: sa.Connection, first: int, last: int) -> dict[int, dict[str, list[dict[str, Any]]]]:
    found: dict[int, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for name, (table, column) in CONTENT.items():
        query = sa.select(table).where(table.c[column].between(first, last)).order_by(*table.primary_key.columns)
        for row in connection.execute(query).mappings():
            found[row[column]][name].append(dict(row))
    return found


def _stray(connection: sa.Connection, length: int) -> int | None:
    """Return the number under which content stands that no event of the trail has."""
    found = [
        connection.execute(sa.select(sa.func.min(table.c[column])).where(~table.c[column].between(1, length))).scalar()
        for table, column in CONTENT.values()
    ]
    return min((number for number in found if number is not None), default=None)
