"""Fault A8: whoever gets past the triggers is named by `verify`, at the first row that was touched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from tests.reader_words import submission
from workbench.review.store import ReviewStore
from workbench.review.tables import CONTENT, events
from workbench.review.trail import GENESIS, check_trail, digest_of, hash_of


def test_the_hash_is_the_formula_in_the_docstring() -> None:
    event = {"id": 1, "key": "k", "kind": "fact", "at": "now", "actor": "R-1", "digest": "d" * 64, "hash": "not sealed"}
    text = '{"actor":"R-1","at":"now","digest":"' + "d" * 64 + '","id":1,"key":"k","kind":"fact"}'
    assert hash_of(event, GENESIS) == hashlib.sha256((text + "0" * 64).encode()).hexdigest()


def test_a_digest_is_of_what_is_there() -> None:
    row = {"event_id": 1, "content": "é", "patient_id": None}
    text = json.dumps({"facts": [{"content": "é", "event_id": 1}]}, separators=(",", ":"))
    assert digest_of({"facts": [row]}) == hashlib.sha256(text.encode()).hexdigest()
    assert digest_of({"facts": [row], "reads": []}) == digest_of({"facts": [{**row, "of_a_later_version": None}]})
    assert digest_of({"facts": [{**row, "content": "e"}]}) != digest_of({"facts": [row]})


def test_a_new_trail_is_whole_and_empty(store: ReviewStore) -> None:
    verdict = store.verify()
    assert (verdict.length, verdict.head, verdict.erased, verdict.first_bad) == (0, GENESIS, 0, None)


def submission_ids(store: ReviewStore) -> list[int]:
    with store.database.engine.connect() as connection:
        return list(connection.execute(sa.select(events.c.id).where(events.c.kind == "submission")).scalars())


EDITS = {
    "a row edited": ("UPDATE events SET actor = 'R-0' WHERE id = {n}", "it was edited"),
    "a digest edited": ("UPDATE events SET digest = '0' WHERE id = {n}", "it was edited"),
    "a row deleted": ("DELETE FROM events WHERE id = {n}", "it is missing"),
    "a grade edited": ("UPDATE reads SET note = 'another' WHERE event_id = {n}", "its content was edited"),
    "a reader edited": ("UPDATE submissions SET reader = 'Dr C' WHERE event_id = {n}", "its content was edited"),
    "one eye deleted": ("DELETE FROM reads WHERE event_id = {n} AND eye = 'OS'", "its content was edited"),
    "content deleted": (
        "DELETE FROM reads WHERE event_id = {n}; DELETE FROM submissions WHERE event_id = {n}; "
        "DELETE FROM salts WHERE event_id = {n}",
        "its content was deleted",
    ),
    "rows swapped": (
        "UPDATE events SET id = 900 WHERE id = {n}; UPDATE events SET id = {n} WHERE id = {n} + 1; "
        "UPDATE events SET id = {n} + 1 WHERE id = 900",
        "it does not follow the row before it",
    ),
    "an eye added": (
        "INSERT INTO reads (id, event_id, eye, gradable, note, model_answer, image_sha256) "
        "SELECT 900, event_id + 1, 'OD', gradable, '', '', '' FROM reads WHERE event_id = {n} AND eye = 'OS'",
        None,
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_verify_names_the_first_row_that_was_touched(
    store: ReviewStore, vandal: Callable[..., None], edit: str
) -> None:
    for number in range(4):
        store.save(submission(f"key-{number:08d}", exam_id=f"e{number}"))
    target = submission_ids(store)[1]
    statements, why = EDITS[edit]
    if edit == "an eye added":
        store.record("opened", "Dr A", {})
        target = store.verify().length
        statements = statements.replace("event_id + 1", str(target)).replace("{n}", "2")
        why = "its content was edited"
    vandal(*statements.format(n=target).split("; "), triggers=False)
    verdict = store.verify()
    assert verdict.first_bad == target
    assert why in verdict.why


@pytest.mark.parametrize("table", ["events", *CONTENT])
def test_verify_names_any_row_of_any_table_that_was_edited_or_deleted(
    filled: ReviewStore, vandal: Callable[..., None], table: str
) -> None:
    """Fault A8, one row at a time, each put back; an erasure's own tombstones too."""
    vandal(triggers=False)
    column = "id" if table == "events" else CONTENT[table][1]
    changes = CHANGES.get(table, ())
    with filled.database.engine.connect() as connection:
        ways_past_the_triggers(connection)
        query = f"SELECT {column} FROM {table} ORDER BY {column}"
        numbers = list(dict.fromkeys(connection.exec_driver_sql(query).scalars()))
        connection.rollback()
        assert numbers
        for number in numbers:
            for words in (f"DELETE FROM {table}", *(f"UPDATE {table} SET {change}" for change in changes)):
                ways_past_the_triggers(connection)
                assert connection.exec_driver_sql(f"{words} WHERE {column} = {number}").rowcount > 0
                verdict = check_trail(connection)
                assert verdict.first_bad is not None, (words, number)
                assert verdict.first_bad == number or table == "tombstones", (words, number)
                connection.rollback()
    assert filled.verify().first_bad is None


CHANGES = {
    "events": ("key = 'x'", "kind = 'x'", "at = 'x'", "actor = 'x'", "digest = 'x'", "prev_hash = 'x'", "hash = 'x'"),
    "submissions": ("reader = 'x'", "patient_id = 'x'", "saved_at = 'x'", "note = 'x'", "shown = '{\"x\": 1}'"),
    "reads": ("reason_code = 'x'", "note = 'x'", "image_sha256 = 'x'"),
    "reveals": ("shown = 'x'", "stage = 'map'"),
    "assignments": ("reader = 'x'", "exam_id = 'x'"),
    "facts": ("content = 'x'",),
    "salts": ("salt = 'x'",),
    "users": ("subject = 'x'", "display_name = 'x'"),
    "grants": ("role = 'admin'", "subject = 'x'"),
}
"""Table → what is set in one of its rows."""


def ways_past_the_triggers(connection: sa.Connection) -> None:
    """Keep foreign keys, and PostgreSQL's triggers, out of the way; SQLite's triggers were dropped for good."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        return
    connection.rollback()
    connection.connection.dbapi_connection.execute("PRAGMA foreign_keys=OFF")  # no effect inside a transaction


def test_verify_names_what_stands_at_the_end(store: ReviewStore, vandal: Callable[..., None]) -> None:
    for number in range(3):
        store.record("opened", "system", {"page": number})
    whole = store.verify()
    vandal("INSERT INTO facts (event_id, content) VALUES (9, '{}')", triggers=False)
    assert (store.verify().first_bad, store.verify().why) == (9, "content was added past the trail")
    vandal("DELETE FROM facts WHERE event_id = 9", triggers=False)
    assert store.verify() == whole
    vandal("DELETE FROM events WHERE id = 3", triggers=False)
    assert (store.verify().first_bad, store.verify().why) == (3, "it is missing")
    vandal(f"UPDATE chain SET length = 2, head = '{GENESIS}'", triggers=False)
    assert (store.verify().first_bad, store.verify().why) == (2, "the end of the trail does not name it")


def test_a_trail_cut_at_its_end_and_mended_is_betrayed_by_a_head_that_was_written_down(
    store: ReviewStore, vandal: Callable[..., None]
) -> None:
    for number in range(3):
        store.record("opened", "system", {"page": number})
    written_down = store.verify().head
    with store.database.engine.connect() as connection:
        before = connection.execute(sa.select(events.c.hash).where(events.c.id == 2)).scalar_one()
    assert store.holds(written_down)
    vandal(
        "DELETE FROM facts WHERE event_id = 3",
        "DELETE FROM salts WHERE event_id = 3",
        "DELETE FROM events WHERE id = 3",
        f"UPDATE chain SET length = 2, head = '{before}'",
        triggers=False,
    )
    assert store.verify().first_bad is None  # nothing inside the database can know
    assert not store.holds(written_down)


def test_an_erasure_verifies_and_a_forged_one_does_not(filled: ReviewStore, vandal: Callable[..., None]) -> None:
    verdict = filled.verify()
    assert verdict.first_bad is None
    assert verdict.erased > 0
    target = submission_ids(filled)[0]
    with filled.database.engine.connect() as connection:
        erasure = connection.execute(sa.select(events.c.id).where(events.c.kind == "erasure")).scalar_one()
    vandal(f"INSERT INTO tombstones (event_id, erased_by) VALUES ({target}, {erasure})")
    assert filled.verify().first_bad in (target, erasure)


def test_the_salt_keeps_equal_contents_apart(store: ReviewStore) -> None:
    store.record("opened", "system", {})
    store.record("opened", "system", {})
    with store.database.engine.connect() as connection:
        digests = connection.execute(sa.select(events.c.digest)).scalars().all()
    assert len(set(digests)) == 2
