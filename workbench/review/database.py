"""One database of reviews, SQLite or PostgreSQL: durable, brought up to date when opened, patient when it is away."""

from __future__ import annotations

import random
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from workbench.schema.errors import WorkbenchError

PATIENCE: Final = 10.0
"""Seconds for which a write is tried again while the database is busy or away."""

T = TypeVar("T")

_MIGRATION_LOCK: Final = 7_221_306_101
"""Any number: PostgreSQL lets one migration hold it at a time."""


class NotSavedError(WorkbenchError):
    """Nothing of this was stored; the same may be sent again."""


class Database:
    """A connection pool that knows how to write once and wholly.

    Args:
        place: an SQLite file, or ``postgresql://user@host/name``; made, or brought up to date by the shipped
            migrations, when opened.
        patience: seconds for which a write is tried again while the database is busy or away.

    Raises:
        WorkbenchError: it is no database, cannot be written, is away, or was made by a later version.
    """

    def __init__(self, place: Path | str, *, patience: float = PATIENCE) -> None:
        self.patience = patience
        self.engine = _engine_of(place, patience)
        self.name = str(place) if isinstance(place, Path) else self.engine.url.render_as_string(hide_password=True)
        try:
            self._retrying(self._migrate)
        except (sa.exc.DBAPIError, OSError) as error:
            raise WorkbenchError(
                f"cannot open the reviews in {self.name}: {words_of(error)}", _remedy(self.is_sqlite)
            ) from error
        finally:
            self.engine.dispose()  # what was opened to look is closed again; the next use opens its own

    @property
    def is_sqlite(self) -> bool:
        """Whether it is an SQLite file."""
        return self.engine.dialect.name == "sqlite"

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Do ``work`` in one transaction, again if the database was busy or away, and return once it is on the disk.

        ``work`` may run more than once, even after it was stored (the answer of a commit can be lost): it must look
        for what it would add before it adds it.

        Raises:
            NotSavedError: nothing was stored within the patience.
        """

        def once() -> T:
            with self.writing() as connection:
                return work(connection)

        try:
            return self._retrying(once)
        except (sa.exc.DBAPIError, OSError) as error:
            remedy = "your entries are kept on this page: press save again"
            # Without the cause: its text holds the row, hence the patient, and tracebacks are logged.
            raise NotSavedError(f"not saved: {words_of(error)}", remedy) from None

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Do ``work``, which only reads, on one snapshot, again if the database was busy or away.

        Raises:
            WorkbenchError: it cannot be read within the patience.
        """

        def once() -> T:
            with self.reading() as connection:
                return work(connection)

        try:
            return self._retrying(once)
        except (sa.exc.DBAPIError, OSError) as error:
            raise WorkbenchError(
                f"cannot read the reviews in {self.name}: {words_of(error)}", "check the database, then reload the page"
            ) from None

    def compact(self, tables: Iterable[str]) -> None:
        """Write the files anew, so that nothing of what was deleted stays in them: both engines keep it until told.

        Raises:
            WorkbenchError: the database is busy or away past the patience.
        """

        def once() -> None:
            level = {"workbench_plain": True} if self.is_sqlite else {"isolation_level": "AUTOCOMMIT"}
            with self.engine.connect().execution_options(**level) as connection:
                if self.is_sqlite:
                    connection.exec_driver_sql("VACUUM")
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                    return
                for name in tables:
                    connection.exec_driver_sql(f"VACUUM FULL {name}")

        try:
            self._retrying(once)
        except (sa.exc.DBAPIError, OSError) as error:
            raise WorkbenchError(
                f"what was deleted may still stand in the files of {self.name}: {words_of(error)}",
                "close the app and run VACUUM on the database (VACUUM FULL on PostgreSQL)",
            ) from None

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Hold one transaction; on SQLite with the write lock from the first statement on."""
        with self.engine.connect().execution_options(workbench_write=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Hold one transaction that sees the database as it was at its first statement."""
        level = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with self.engine.connect().execution_options(**level) as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    def _retrying(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, tried again with a growing pause while the fault may pass."""
        deadline, pause = time.monotonic() + self.patience, 0.02
        while True:
            try:
                return work()
            except sa.exc.DBAPIError as error:
                left = deadline - time.monotonic()
                if left <= 0 or not _may_pass(error):
                    raise
                time.sleep(min(left, pause * random.uniform(0.5, 1.5)))  # unlike pauses keep writers from colliding
                pause = min(1.0, pause * 2)

    def _migrate(self) -> None:
        config = AlembicConfig()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        head = ScriptDirectory.from_config(config).get_current_head()
        with self.engine.connect() as connection:
            if MigrationContext.configure(connection).get_current_revision() == head:
                return
        with self.writing() as connection:
            if not self.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise WorkbenchError(
                    f"{self.name} was made by a later version of the workbench ({words_of(error)})",
                    "upgrade the workbench",
                ) from error


def _engine_of(place: Path | str, patience: float) -> sa.Engine:
    if isinstance(place, Path):
        return _sqlite_engine(place, patience)
    try:
        url = sa.make_url(place)
    except sa.exc.ArgumentError:
        raise WorkbenchError(
            "the database is neither a file nor a URL that can be read", "write it as postgresql://user@host/name"
        ) from None
    if url.get_backend_name() == "sqlite" and url.database:
        return _sqlite_engine(Path(url.database), patience)
    if url.get_backend_name() != "postgresql":
        raise WorkbenchError(
            f"the database is of the kind {url.get_backend_name()!r}",
            "use an SQLite file or postgresql://user@host/name",
        )
    return _postgresql_engine(url, patience)


def _sqlite_engine(path: Path, patience: float) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": patience, "check_same_thread": False},
        hide_parameters=True,  # an error must not carry a patient into a log
    )

    @sa.event.listens_for(engine, "connect")
    def _durable(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        if options.get("workbench_plain", False):  # a statement that must stand outside of a transaction
            return
        if options.get("workbench_write", False):
            _wait_for_the_write_lock(connection, patience)
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def _wait_for_the_write_lock(connection: sa.Connection, patience: float) -> None:
    """Begin a transaction that holds SQLite's one write lock.

    SQLite's own waiting looks ever more rarely, so that among many writers newcomers overtake who waits longest; here
    all look equally often.
    """
    deadline = time.monotonic() + patience
    cursor = connection.connection.cursor()
    try:
        cursor.execute("PRAGMA busy_timeout=0")
        while time.monotonic() < deadline:
            try:
                cursor.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    break
                time.sleep(random.uniform(0.001, 0.01))
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # once more, to be told what is wrong in SQLAlchemy's words
    finally:
        cursor.execute(f"PRAGMA busy_timeout={int(patience * 1000)}")
        cursor.close()


def _postgresql_engine(url: sa.URL, patience: float) -> sa.Engine:
    milliseconds = max(1, int(patience * 1000))
    try:
        return sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,  # a server that was restarted is met by a fresh connection
            pool_timeout=patience,
            hide_parameters=True,
            max_overflow=30,
            connect_args={
                "connect_timeout": max(2, round(patience)),
                "options": f"{url.query.get('options', '')} -c lock_timeout={milliseconds} "
                "-c idle_in_transaction_session_timeout=60000",
                "tcp_user_timeout": milliseconds,
            },
        )
    except ModuleNotFoundError:
        raise WorkbenchError(
            "PostgreSQL needs the package psycopg, which is not installed",
            "pip install 'retina-trust-workbench[postgresql]'",
        ) from None


_PASSING_SQLITE: Final = ("locked", "busy", "unable to open database file")


_PASSING_CLASSES: Final = ("08", "40", "57")
_PASSING_STATES: Final = ("53300", "55P03")
"""PostgreSQL's codes for a lost connection, a deadlock, a shutdown or recovery; too many clients, a lock not had."""


def _may_pass(error: sa.exc.DBAPIError) -> bool:
    """Return whether a fault may be gone in a moment: the database is busy, restarting or away."""
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state[:2] in _PASSING_CLASSES or state in _PASSING_STATES
    if "sqlite3" in type(error.orig).__module__:
        return any(words in str(error.orig) for words in _PASSING_SQLITE)
    return isinstance(error, sa.exc.OperationalError)


def words_of(error: Exception) -> str:
    """Return what went wrong in a reader's words, one line, without a password."""
    cause = getattr(error, "orig", None) or error
    line = str(cause).strip().splitlines()[0]
    if "locked" in line or "busy" in line or "lock timeout" in line:
        return "the database is busy with other readers"
    away = getattr(cause, "sqlstate", None) or "08"  # no code: the connection itself failed
    if (
        isinstance(error, sa.exc.OperationalError)
        and "sqlite3" not in type(cause).__module__
        and away[:2] in ("08", "57")
    ):
        return "the database does not answer"
    return re.sub(r"//[^@/\s]*@", "//", line)


def _remedy(is_sqlite: bool) -> str:
    if is_sqlite:
        return "check that the folder can be written, or move the file away to begin a new one"
    return "check that the server runs, and the address, the user and the password"
