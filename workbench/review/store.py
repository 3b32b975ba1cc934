"""Where reads are kept: append-only, durable before it says *saved*, safe to retry."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from workbench.review.reads import SavedRead, Submission
from workbench.review.tables import reads
from workbench.schema.errors import WorkbenchError

BUSY_TIMEOUT: Final = 10.0
"""Seconds that a writer waits for another one."""


class NotSavedError(WorkbenchError):
    """Nothing of this submission was stored; the same submission may be sent again."""


class ReviewStore:
    """The reads of one database.

    Args:
        path: an SQLite file; made, or brought up to date by the shipped migrations, when opened.

    Raises:
        WorkbenchError: the file is no database, cannot be written, or was made by a later version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = _sqlite_engine(path)
        try:
            self._migrate()
        except (sa.exc.DatabaseError, OSError) as error:
            remedy = "check that the folder can be written, or move the file away to begin a new one"
            raise WorkbenchError(f"cannot open the reviews in {path}: {_first_line(error)}", remedy) from error

    def save(self, submission: Submission) -> tuple[SavedRead, ...]:
        """Store a submission, both eyes or neither, and return its rows once they are on the disk.

        A submission that was stored before (same key, same content) returns its rows and adds none.

        Raises:
            NotSavedError: the database refused, is busy or gone, or the key belongs to other content.
        """
        try:
            with self._writing() as connection:
                stored = _rows(connection, reads.c.submission_key == submission.submission_key)
                if not stored:
                    connection.execute(reads.insert(), _new_rows(connection, submission))
                    stored = _rows(connection, reads.c.submission_key == submission.submission_key)
        except (sa.exc.DatabaseError, OSError) as error:
            remedy = "your entries are kept on this page: press save again"
            raise NotSavedError(f"not saved: {_first_line(error)}", remedy) from error
        if not _same_content(stored, submission):
            raise NotSavedError("not saved: this save was already used for other entries", "reload the page")
        return tuple(stored)

    def current(self, run_id: str, *, reader: str | None = None, exam_id: str | None = None) -> list[SavedRead]:
        """Return the reads of a run that nothing supersedes, oldest first; of one reader or exam if named."""
        newer = sa.select(reads.c.supersedes).where(reads.c.supersedes.is_not(None))
        conditions = [reads.c.run_id == run_id, reads.c.id.not_in(newer)]
        if reader is not None:
            conditions.append(reads.c.reader == reader)
        if exam_id is not None:
            conditions.append(reads.c.exam_id == exam_id)
        return self._read(*conditions)

    def history(self, run_id: str, exam_id: str) -> list[SavedRead]:
        """Return every read of an exam, superseded ones too, oldest first."""
        return self._read(reads.c.run_id == run_id, reads.c.exam_id == exam_id)

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def _read(self, *conditions: sa.ColumnElement[bool]) -> list[SavedRead]:
        try:
            with self._engine.connect() as connection:
                return _rows(connection, *conditions)
        except sa.exc.DatabaseError as error:
            raise WorkbenchError(
                f"cannot read the reviews in {self.path}: {_first_line(error)}", "check the disk, then reload the page"
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """Hold the write lock from the first statement, so that a read-then-insert cannot be overtaken."""
        with self._engine.connect().execution_options(workbench_write=True) as connection, connection.begin():
            yield connection

    def _migrate(self) -> None:
        config = AlembicConfig()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        head = ScriptDirectory.from_config(config).get_current_head()
        with self._engine.connect() as connection:
            if MigrationContext.configure(connection).get_current_revision() == head:
                return
        with self._writing() as connection:
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise WorkbenchError(
                    f"{self.path} was made by a later version of the workbench ({_first_line(error)})",
                    "upgrade the workbench",
                ) from error


def _sqlite_engine(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
    )

    @sa.event.listens_for(engine, "connect")
    def _durable(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("workbench_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _new_rows(connection: sa.Connection, submission: Submission) -> list[dict[str, Any]]:
    shared = submission.model_dump(exclude={"eyes"})
    saved_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    rows = []
    for read in submission.eyes:
        values = read.model_dump()
        values["model_answer"] = json.dumps(read.model_answer, sort_keys=True, allow_nan=False)
        rows.append({**shared, **values, "saved_at": saved_at, "supersedes": _last(connection, submission, read.eye)})
    return rows


def _last(connection: sa.Connection, submission: Submission, eye: str) -> int | None:
    """Return this reader's last read of the same eye in the same protocol and stage."""
    same = [reads.c[name] == getattr(submission, name) for name in ("run_id", "exam_id", "reader", "protocol", "stage")]
    return connection.execute(sa.select(sa.func.max(reads.c.id)).where(*same, reads.c.eye == eye)).scalar_one()


def _rows(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[SavedRead]:
    found = connection.execute(sa.select(reads).where(*conditions).order_by(reads.c.id)).mappings()
    return [SavedRead.model_validate({**row, "model_answer": json.loads(row["model_answer"])}) for row in found]


def _same_content(stored: Sequence[SavedRead], submission: Submission) -> bool:
    shared = set(Submission.model_fields) - {"eyes"}
    eyes = tuple(sorted(submission.eyes, key=lambda read: read.eye))
    if tuple(read.eye for read in sorted(stored, key=lambda read: read.eye)) != tuple(read.eye for read in eyes):
        return False
    for row, read in zip(sorted(stored, key=lambda row: row.eye), eyes, strict=True):
        values = row.model_dump()
        if any(values[name] != getattr(submission, name) for name in shared):
            return False
        if any(values[name] != value for name, value in read.model_dump().items()):
            return False
    return True


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
