"""Who has read what, beside the index: the part of the store that filters need, fetched anew only where it grew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import sqlalchemy as sa

from workbench.review.database import Database
from workbench.review.tables import assignments, events, reads, submissions, tombstones
from workbench.review.worklist_index import WorklistIndex

_TABLES: Final = (
    "CREATE OR REPLACE TABLE read_log (place INTEGER, reader VARCHAR, eye VARCHAR, event_id INTEGER)",
    "CREATE OR REPLACE TABLE given_log "
    "(place INTEGER, reader VARCHAR, protocol VARCHAR, assigned BOOLEAN, event_id INTEGER)",
)
_FINISHED: Final = """
    CREATE OR REPLACE TABLE finished AS
    SELECT place, reader FROM (
        SELECT place, reader, bool_or(eye = 'OD') AS od, bool_or(eye = 'OS') AS os FROM read_log GROUP BY place, reader)
    JOIN index.exams ON by_priority = place
    WHERE (od OR status_OD = 'missing') AND (os OR status_OS = 'missing')
"""
_GIVEN: Final = """
    CREATE OR REPLACE TABLE given AS
    SELECT DISTINCT place, reader FROM (
        SELECT place, reader, arg_max(assigned, event_id) AS held FROM given_log GROUP BY place, reader, protocol)
    WHERE held
"""


@dataclass(frozen=True)
class ReaderProgress:
    """How far a reader is: exams given to them, how many of those they have read, and how many in all."""

    reader: str
    assigned: int
    assigned_read: int
    read: int


class ReadMirror:
    """The reads and assignments of a run as small tables beside the index: ``finished`` and ``given`` (place, reader).

    The store is the truth: before each use one row of it is asked for (its last event), and only what is new is
    fetched, by its index. An erasure fetches all anew.

    Args:
        index: of the run.
        database: of the reads.
        stage: reads of this stage alone count as read; None: of any.
    """

    def __init__(self, index: WorklistIndex, database: Database, stage: str | None = None) -> None:
        self._stage = stage
        self._index = index
        self._database = database
        self._run_id = index.run.manifest.run_id
        self._seen: tuple[int, int] = (-1, -1)

    @property
    def stamp(self) -> tuple[int, int]:
        """What changes whenever the two tables do."""
        return self._seen

    def refresh(self) -> None:
        """Fetch what came since the last time.

        Raises:
            WorkbenchError: the store cannot be read.
        """
        with self._index.lock:
            stamp = self._database.read(_stamp)
            if stamp == self._seen:
                return
            after = self._seen[0] if self._seen[1] == stamp[1] else -1
            new_reads, new_given = self._database.read(
                lambda connection: _since(connection, self._run_id, after, self._stage)
            )
            with self._index.connection.cursor() as cursor:
                cursor.execute("BEGIN")
                if after < 0:
                    for statement in _TABLES:
                        cursor.execute(statement)
                if new_reads or after < 0:
                    _append(cursor, "read_log", ("reader", "eye", "event_id"), new_reads)
                    cursor.execute(_FINISHED)
                if new_given or after < 0:
                    _append(cursor, "given_log", ("reader", "protocol", "assigned", "event_id"), new_given)
                    cursor.execute(_GIVEN)
                cursor.execute("COMMIT")
            self._seen = stamp

    def progress(self) -> list[ReaderProgress]:
        """Return how far every reader is who read or was given an exam of this run, by name."""
        self.refresh()
        found = self._index.all(
            """SELECT reader, count(given.place), count(given.place) FILTER (finished.place IS NOT NULL),
                count(finished.place)
            FROM given FULL JOIN finished USING (reader, place) GROUP BY reader ORDER BY reader"""
        )
        return [ReaderProgress(*row) for row in found]


def _stamp(connection: sa.Connection) -> tuple[int, int]:
    last = connection.execute(sa.select(sa.func.max(events.c.id))).scalar()
    erased = connection.execute(sa.select(sa.func.count()).select_from(tombstones)).scalar()
    return int(last or 0), int(erased or 0)


def _since(connection: sa.Connection, run_id: str, after: int, stage: str | None) -> tuple[list[Any], list[Any]]:
    columns = (submissions.c.exam_id, submissions.c.reader, reads.c.eye, submissions.c.event_id)
    new = (submissions.c.run_id == run_id, submissions.c.event_id > after)
    new_reads = (*new, *([] if stage is None else [submissions.c.stage == stage]))
    read = connection.execute(sa.select(*columns).join(reads).where(*new_reads)).all()
    of_given = (assignments.c.exam_id, assignments.c.reader, assignments.c.protocol, assignments.c.assigned)
    chosen = (assignments.c.run_id == run_id, assignments.c.event_id > after)
    given = connection.execute(sa.select(*of_given, assignments.c.event_id).where(*chosen)).all()
    return list(read), list(given)


def _append(cursor: Any, table: str, columns: tuple[str, ...], rows: list[Any]) -> None:
    """Append rows that begin with an exam, put down by its place; an exam that is not in the run is left out."""
    if not rows:
        return
    exam_ids, *values = zip(*rows, strict=True)
    new = pa.table({"exam_id": exam_ids, **dict(zip(columns, values, strict=True))})
    cursor.register("new_rows", new)
    cursor.execute(
        f"INSERT INTO {table} SELECT by_priority, {', '.join(columns)} FROM new_rows JOIN index.exams USING (exam_id)"
    )
    cursor.unregister("new_rows")
