"""What a reader has to do: exams given to readers, and filters of the worklist kept under a name."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from workbench.review.database import Database
from workbench.review.people import pseudonym_of
from workbench.review.tables import assignments, events, queues
from workbench.review.trail import appending


@dataclass(frozen=True)
class Assignment:
    """One exam that a reader has to read."""

    run_id: str
    patient_id: str
    exam_id: str
    reader: str
    protocol: str
    by: str
    at: str


@dataclass(frozen=True)
class Queue:
    """A filter of the worklist kept under a name; ``shared`` ones are everybody's to use."""

    owner: str
    name: str
    filters: dict[str, Any]
    shared: bool


class Queues:
    """Assignments and saved queues of one database, shared with the `ReviewStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def assign(
        self, run_id: str, exams: Iterable[tuple[str, str]], reader: str, by: str, protocol: str = "assisted"
    ) -> int:
        """Give exams, as (patient, exam), to a reader, all or none; return how many were not already given."""
        return self._set(run_id, list(exams), reader, by, protocol, True)

    def take_back(
        self, run_id: str, exams: Iterable[tuple[str, str]], reader: str, by: str, protocol: str = "assisted"
    ) -> int:
        """Take exams back from a reader; return how many the reader had."""
        return self._set(run_id, list(exams), reader, by, protocol, False)

    def assigned(self, run_id: str, reader: str | None = None) -> list[Assignment]:
        """Return what is given out in a run, in the order in which it was; of one reader if named."""
        return self._database.read(lambda connection: _assigned(connection, run_id, reader))

    def keep(self, owner: str, name: str, filters: dict[str, Any], *, shared: bool = False) -> None:
        """Keep a filter under a name, in place of the owner's last one of that name."""
        place = (queues.c.owner == owner) & (queues.c.name == name)
        row = {"owner": owner, "name": name, "shared": shared, "filters": json.dumps(filters, sort_keys=True)}

        def work(connection: sa.Connection) -> None:
            connection.execute(queues.delete().where(place))
            connection.execute(queues.insert(), {**row, "updated_at": _now()})

        self._database.write(work)

    def forget(self, owner: str, name: str) -> None:
        """Throw a kept filter away; nothing happens where there is none."""
        place = (queues.c.owner == owner) & (queues.c.name == name)

        def work(connection: sa.Connection) -> None:
            connection.execute(queues.delete().where(place))

        self._database.write(work)

    def kept(self, reader: str) -> list[Queue]:
        """Return a reader's own filters and the shared ones, by name."""
        mine = (queues.c.owner == reader) | queues.c.shared
        query = sa.select(queues).where(mine).order_by(queues.c.name, queues.c.owner)
        found = self._database.read(lambda connection: connection.execute(query).mappings().all())
        return [Queue(row["owner"], row["name"], json.loads(row["filters"]), row["shared"]) for row in found]

    def _set(
        self, run_id: str, exams: list[tuple[str, str]], reader: str, by: str, protocol: str, assigned: bool
    ) -> int:
        kind = "assign" if assigned else "take_back"

        def work(connection: sa.Connection) -> int:
            with appending(connection) as trail:
                who = pseudonym_of(connection, trail, by)
                pseudonym_of(connection, trail, reader)
                has = {item.exam_id for item in _assigned(connection, run_id, reader) if item.protocol == protocol}
                todo = [pair for pair in dict.fromkeys(exams) if (pair[1] in has) != assigned]
                shared = {"run_id": run_id, "reader": reader, "protocol": protocol, "by_subject": by}
                for patient_id, exam_id in todo:
                    row = {"event_id": trail.next_id, "patient_id": patient_id, "exam_id": exam_id, **shared}
                    content = {"assignments": [{**row, "assigned": assigned}]}
                    trail.append(f"{kind}:{secrets.token_hex(16)}", kind, who, _now(), content)
                return len(todo)

        return self._database.write(work)


def _assigned(connection: sa.Connection, run_id: str, reader: str | None) -> list[Assignment]:
    chosen = [assignments.c.run_id == run_id, *([] if reader is None else [assignments.c.reader == reader])]
    place = (assignments.c.exam_id, assignments.c.reader, assignments.c.protocol)
    last = sa.select(sa.func.max(assignments.c.event_id)).where(*chosen).group_by(*place)
    query = (
        sa.select(assignments, events.c.at)
        .join(events, events.c.id == assignments.c.event_id)
        .where(assignments.c.event_id.in_(last), assignments.c.assigned)
        .order_by(assignments.c.event_id)
    )
    return [
        Assignment(**{name: row[name] for name in _COLUMNS}, by=row["by_subject"], at=row["at"])
        for row in connection.execute(query).mappings()
    ]


_COLUMNS = ("run_id", "patient_id", "exam_id", "reader", "protocol")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
