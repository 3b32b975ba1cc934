from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.postgres_server import PostgresServer
from tests.reader_words import place, submission
from workbench.review.backup import TABLES, back_up, restore
from workbench.review.database import Database
from workbench.review.people import People
from workbench.review.store import ReviewStore
from workbench.schema.errors import WorkbenchError

Place = Path | str


def everything(store: ReviewStore) -> dict[str, list[tuple[object, ...]]]:
    with store.database.engine.connect() as connection:
        return {
            name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=str)
            for name, table in TABLES.items()
        }


@pytest.mark.parametrize("name", ["backup.jsonl", "backup.jsonl.gz", "copy.sqlite"])
def test_a_backup_gives_everything_back(
    filled: ReviewStore, new_place: Callable[[], Place], tmp_path: Path, name: str
) -> None:
    filled.save_draft(place(exam_id="e7"), "p1", {"grade": 3})
    People(filled.database).open_session("Dr A")
    if name.endswith(".sqlite") and not filled.database.is_sqlite:
        with pytest.raises(WorkbenchError, match=r"name the file backup.jsonl.gz"):
            back_up(filled.database, tmp_path / name)
        return
    verdict = back_up(filled.database, tmp_path / name)
    assert verdict == filled.verify()
    copy = ReviewStore(new_place())
    assert restore(tmp_path / name, copy.database) == verdict
    assert everything(copy) == everything(filled)
    assert copy.load_draft(place(exam_id="e7")) == {"grade": 3}
    next_id = copy.save(submission("after-the-restore"))[0].id
    assert filled.save(submission("after-the-restore"))[0].id == next_id
    assert copy.verify().first_bad is None
    with pytest.raises(WorkbenchError, match="is not empty"):
        restore(tmp_path / name, copy.database)
    copy.close()


@pytest.mark.parametrize("name", ["backup.jsonl.gz", "copy.sqlite"])
def test_reviews_move_from_sqlite_to_postgresql_and_back(tmp_path: Path, postgres: PostgresServer, name: str) -> None:
    first = ReviewStore(tmp_path / "first.sqlite")
    for number in range(5):
        first.save(submission(f"key-{number:08d}", exam_id=f"e{number}", note="=1+1 ü \x00"))
    back_up(first.database, tmp_path / name)
    server = ReviewStore(postgres.url())
    restore(tmp_path / name, server.database)
    server.save(submission("on-the-server"))
    back_up(server.database, tmp_path / "again.jsonl")
    again = ReviewStore(tmp_path / "again.sqlite")
    restore(tmp_path / "again.jsonl", again.database)
    assert everything(again) == everything(server)
    assert again.reads_of(None, history=True)[:10] == first.reads_of(None)
    assert again.verify().first_bad is None
    for store in (first, server, again):
        store.close()


def damaged(lines: list[bytes], how: str) -> list[bytes]:
    if how == "cut":
        return lines[:-1]
    if how == "a line lost":
        return lines[:3] + lines[4:]
    if how == "a line doubled":
        return [*lines[:4], *lines[3:]]
    if how == "a letter changed":
        return [line.replace(b"soft exudate", b"hard exudate") for line in lines]
    if how == "lines after its end":
        return [*lines, lines[3]]
    if how == "half a line":
        return [*lines[:-1], lines[-1][:20]]
    return [b"not ours\n"]


@pytest.mark.parametrize(
    "how",
    ["cut", "a line lost", "a line doubled", "a letter changed", "lines after its end", "half a line", "not ours"],
)
def test_a_damaged_backup_is_refused_and_nothing_of_it_stored(
    store: ReviewStore, new_place: Callable[[], Place], tmp_path: Path, how: str
) -> None:
    store.save(submission())
    back_up(store.database, tmp_path / "good.jsonl")
    lines = (tmp_path / "good.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "bad.jsonl").write_bytes(b"".join(damaged(lines, how)))
    other = ReviewStore(new_place())
    with pytest.raises(WorkbenchError, match=r"not a whole backup|cannot be loaded|broken at row"):
        restore(tmp_path / "bad.jsonl", other.database)
    assert all(rows == [] for rows in everything(other).values())
    restore(tmp_path / "good.jsonl", other.database)
    other.close()


def test_a_broken_trail_is_not_backed_up_as_if_it_were_whole(
    store: ReviewStore, vandal: Callable[..., None], tmp_path: Path
) -> None:
    store.save(submission())
    vandal("UPDATE reads SET note = 'forged'", triggers=False)
    for name in ("backup.jsonl", "copy.sqlite")[: 2 if store.database.is_sqlite else 1]:
        with pytest.raises(WorkbenchError, match="broken at row 2"):
            back_up(store.database, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_a_forged_dump_with_a_right_checksum_is_refused_by_its_trail(
    store: ReviewStore, new_place: Callable[[], Place], tmp_path: Path
) -> None:
    import hashlib

    store.save(submission())
    back_up(store.database, tmp_path / "good.jsonl.gz")
    *lines, end = gzip.decompress((tmp_path / "good.jsonl.gz").read_bytes()).splitlines(keepends=True)
    forged = [line.replace(b"soft exudate", b"hard exudate") for line in lines]
    last = {"counts": json.loads(end)["counts"], "sha256": hashlib.sha256(b"".join(forged)).hexdigest()}
    (tmp_path / "forged.jsonl").write_bytes(b"".join(forged) + json.dumps(last).encode())
    other = ReviewStore(new_place())
    with pytest.raises(WorkbenchError, match="broken at row 2: its content was edited"):
        restore(tmp_path / "forged.jsonl", other.database)
    assert other.reads_of(None) == []
    other.close()


def test_a_copy_of_an_older_version_is_restored_without_touching_it(tmp_path: Path) -> None:
    from tests.review.test_migrations import at_revision

    at_revision(tmp_path / "old.sqlite", "0001").dispose()
    with closing(sqlite3.connect(tmp_path / "old.sqlite")) as connection:
        connection.execute(
            "INSERT INTO reads VALUES (7, 'submission-1', '2026', 'Dr A', 'assisted', 'single', 'run-1', 'p1', 'e1', "
            "'OD', 0, NULL, NULL, NULL, '', '{}', '', NULL)"
        )
        connection.commit()
    before = (tmp_path / "old.sqlite").read_bytes()
    new = ReviewStore(tmp_path / "new.sqlite")
    restore(tmp_path / "old.sqlite", new.database)
    assert [read.id for read in new.reads_of(None)] == [7]
    assert (tmp_path / "old.sqlite").read_bytes() == before
    new.close()
    with pytest.raises(WorkbenchError, match="cannot read"):
        restore(tmp_path / "absent.sqlite", Database(tmp_path / "other.sqlite"))
