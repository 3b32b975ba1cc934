"""A whole database in one file, and back: SQLite's own copy, or lines of JSON that either kind of database can load."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final, Literal

import sqlalchemy as sa

from workbench.review.database import Database, words_of
from workbench.review.tables import CONTENT, chain, drafts, events, queues, sessions
from workbench.review.trail import Verdict, check_trail
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import atomic_path

FORMAT: Final = "retina-trust-workbench reviews"
VERSION: Final = 1

TABLES: Final[dict[str, sa.Table]] = {
    "events": events,
    **{name: table for name, (table, _) in CONTENT.items()},
    "drafts": drafts,
    "queues": queues,
}
"""What a backup holds, parents first; sessions stay behind: nobody is logged in to a copy."""

_SQLITE_MAGIC: Final = b"SQLite format 3\x00"
_BATCH: Final = 500

Row = tuple[str, dict[str, Any]]


def back_up(database: Database, out: Path) -> Verdict:
    """Write a backup of one moment, while others read and write, and return what the check of its trail found.

    Args:
        database: stays open to everybody.
        out: ``.jsonl`` or ``.jsonl.gz`` for lines of JSON, any other name for SQLite's own copy.

    Raises:
        WorkbenchError: the trail does not verify, the file cannot be written, or SQLite's copy is asked of PostgreSQL.
    """
    if out.name.endswith((".jsonl", ".jsonl.gz")):
        return database.read(lambda connection: _dump(connection, out))
    if not database.is_sqlite:
        raise WorkbenchError(f"a PostgreSQL database cannot be copied to {out.name}", "name the file backup.jsonl.gz")
    with atomic_path(out) as temporary:
        _copy_sqlite(Path(str(database.engine.url.database)), temporary)
        with closing(Database(temporary)) as copy:
            verdict = copy.read(check_trail)
        _refuse_a_bad_trail(verdict)
    return verdict


def restore(file: Path, database: Database) -> Verdict:
    """Load a backup into an empty database, wholly or not at all, and return what the check of its trail found.

    Raises:
        WorkbenchError: the file is no whole backup, its trail or its counts do not hold, or the database is not empty.
    """
    try:
        with file.open("rb") as handle:
            is_sqlite = handle.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
    except OSError as error:
        raise WorkbenchError(f"cannot read {file}: {error.strerror}", "check the path") from None
    if not is_sqlite:
        return _load(database, lambda: _rows_of_lines(file))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.sqlite"  # an older backup is brought up to date in a copy, never in place
        _copy_sqlite(file, copy)
        with closing(Database(copy)) as source, source.reading() as connection:
            return _load(database, lambda: _rows_of(connection))


def _copy_sqlite(source: Path, target: Path) -> None:
    try:
        with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
            one.backup(other)
    except sqlite3.Error as error:
        raise WorkbenchError(f"cannot copy {source}: {error}", "check the file and the space left") from None


def _dump(connection: sa.Connection, out: Path) -> Verdict:
    verdict = check_trail(connection)
    _refuse_a_bad_trail(verdict)
    counts: Counter[str] = Counter()
    digest = hashlib.sha256()

    def write(handle: io.BufferedIOBase, value: Any) -> None:
        line = json.dumps(value, sort_keys=True, allow_nan=False).encode() + b"\n"
        digest.update(line)
        handle.write(line)

    with atomic_path(out) as temporary, _opened(temporary, "wb", out) as handle:
        write(handle, {"format": FORMAT, "version": VERSION})
        for name, row in _rows_of(connection):
            if name in TABLES:
                counts[name] += 1
            write(handle, [name, row])
        write(handle, {"counts": counts, "sha256": digest.hexdigest()})
    return verdict


def _rows_of(connection: sa.Connection) -> Iterator[Row]:
    """Yield every row, empty cells left out: the trail's end first, then the tables, parents before children."""
    yield "chain", dict(connection.execute(sa.select(chain.c.length, chain.c.head)).mappings().one())
    for name, table in TABLES.items():
        query = sa.select(table).order_by(*table.primary_key.columns)
        for row in connection.execution_options(yield_per=_BATCH).execute(query).mappings():
            yield name, {column: value for column, value in row.items() if value is not None}


def _rows_of_lines(file: Path) -> Iterator[Row]:
    """Yield the rows of a dump, and only end when it was whole."""
    digest = hashlib.sha256()
    counts: Counter[str] = Counter()
    try:
        with _opened(file, "rb", file) as handle:
            header = handle.readline()
            if json.loads(header) != {"format": FORMAT, "version": VERSION}:
                raise ValueError("its first line is not that of a backup")
            digest.update(header)
            for line in handle:
                value = json.loads(line)
                if isinstance(value, dict):
                    if value != {"counts": counts, "sha256": digest.hexdigest()} or handle.read(1):
                        raise ValueError("its lines are not those that were written")
                    return
                digest.update(line)
                name, row = value
                counts[name] += name in TABLES
                counts += Counter()  # forget zeros
                yield str(name), row
        raise ValueError("it ends too early")
    except (ValueError, KeyError, TypeError, EOFError, OSError) as error:
        raise WorkbenchError(f"{file} is not a whole backup: {error}", "use another backup") from None


def _load(database: Database, rows: Callable[[], Iterator[Row]]) -> Verdict:
    try:
        with database.writing() as connection:
            _refuse_a_filled_database(connection, database.name)
            found = rows()
            _, end = next(found)
            counts: Counter[str] = Counter()
            for name, group in groupby(found, key=lambda row: row[0]):
                for batch in _batches(row for _, row in group):
                    counts[name] += len(batch)
                    connection.execute(TABLES[name].insert(), _filled(TABLES[name], batch))
            if end["length"]:
                connection.execute(chain.update(), {"length": end["length"], "head": end["head"]})
            verdict = check_trail(connection)
            _refuse_a_bad_trail(verdict)
            _refuse_other_counts(connection, counts)
            return verdict
    except (sa.exc.SQLAlchemyError, KeyError) as error:
        raise WorkbenchError(
            f"the backup cannot be loaded: {words_of(error)}", "nothing was stored; use another backup"
        ) from None


def _filled(table: sa.Table, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{column.name: row.get(column.name) for column in table.columns} for row in rows]


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def _refuse_a_filled_database(connection: sa.Connection, name: str) -> None:
    connection.execute(sa.select(chain.c.length).with_for_update())
    for table in (*TABLES.values(), sessions):
        if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None:
            raise WorkbenchError(f"{name} is not empty: it holds {table.name}", "restore into a new database")


def _refuse_a_bad_trail(verdict: Verdict) -> None:
    if verdict.first_bad is not None:
        raise WorkbenchError(
            f"the audit trail is broken at row {verdict.first_bad}: {verdict.why}",
            "keep the damaged database as it is for whoever looks into it, and use another backup",
        )


def _refuse_other_counts(connection: sa.Connection, counts: Counter[str]) -> None:
    for name, table in TABLES.items():
        stored = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        if stored != counts[name]:
            raise WorkbenchError(
                f"{stored} rows of {name} were stored, the backup has {counts[name]}", "use another backup"
            )


def _opened(path: Path, mode: Literal["rb", "wb"], named: Path) -> io.BufferedIOBase:
    return gzip.open(path, mode) if named.name.endswith(".gz") else path.open(mode)  # type: ignore[return-value]
