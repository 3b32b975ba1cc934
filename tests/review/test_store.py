from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.reader_words import blinded, place, submission
from workbench.review.protocols import STAGE_NAMES, STAGES, VISIBLE, is_blind, visible_answer
from workbench.review.reads import EyeRead, agreement_with
from workbench.review.store import NotSavedError, ReviewStore
from workbench.review.tables import CONTENT, ERASABLE, metadata
from workbench.schema.errors import WorkbenchError

Place = Path | str


def test_what_was_saved_is_read_back_by_another_opening(new_place: Callable[[], Place]) -> None:
    where = new_place()
    store = ReviewStore(where)
    saved = store.save(submission())
    store.close()
    again = ReviewStore(where)
    assert tuple(again.current("run-1")) == saved
    right, left = saved
    assert (right.icdr_grade, right.note, right.model_answer["p_referable"]) == (2, "soft exudate, temporal", 0.8124999)
    assert (right.dme, right.confidence, right.model_hash, right.role) == (1, 4, "cd" * 32, "reader")
    assert (right.disposition, right.rescreen_months, right.seconds_active) == ("rescreen", 12, 41.25)
    assert (right.shown, right.opened_at) == ({"exam_referred": True}, "2026-01-02T03:04:05.678+00:00")
    assert right.drawn.marks[0].points == ((12.5, 7.0),)
    assert (left.gradable, left.icdr_grade, left.agreement) == (False, None, None)
    assert right.saved_at.endswith("+00:00")
    assert again.current("another run") == []
    assert again.verify().first_bad is None
    again.close()


def test_a_retry_adds_no_row_and_a_key_used_twice_is_refused(store: ReviewStore) -> None:
    assert store.save(submission()) == store.save(submission())
    assert len(store.history("run-1", "e1")) == 2
    with pytest.raises(NotSavedError, match="not saved"):
        store.save(submission(exam_id="e2"))
    with pytest.raises(NotSavedError, match="not saved"):
        store.save(submission(note="other words"))
    assert store.history("run-1", "e2") == []


def test_what_several_readers_read_is_found_without_the_rest(store: ReviewStore) -> None:
    everything = [("e1", "Dr A"), ("e1", "Dr B"), ("e2", "Dr A"), ("e3", "Dr A"), ("e3", "Dr A")]
    for number, (exam_id, reader) in enumerate(everything):
        store.save(submission(f"key-{number:08d}", exam_id=exam_id, reader=reader))
    found = store.current("run-1", of_several_readers=True)
    assert {(read.exam_id, read.reader) for read in found} == {("e1", "Dr A"), ("e1", "Dr B")}
    assert store.current("another run", of_several_readers=True) == []


def test_a_correction_supersedes_and_both_stay(store: ReviewStore) -> None:
    first = store.save(submission())
    second = store.save(submission("key-00000002"))
    other = store.save(submission("key-00000003", reader="Dr B"))
    assert [read.supersedes for read in second] == [read.id for read in first]
    assert [read.supersedes for read in other] == [None, None]
    assert {read.id for read in store.current("run-1")} == {read.id for read in (*second, *other)}
    assert {read.id for read in store.current("run-1", reader="Dr A")} == {read.id for read in second}
    assert len(store.history("run-1", "e1")) == 6
    assert sorted(store.progress("run-1")) == [
        ("e1", "Dr A", "assisted", "single"),
        ("e1", "Dr B", "assisted", "single"),
    ]
    assert store.progress("run-1", "Dr C") == []


def test_rows_cannot_be_changed_even_past_the_store(filled: ReviewStore, vandal: Callable[..., None]) -> None:
    before = filled.verify()
    assert before.first_bad is None
    for table, column in {"events": "actor", **{name: column for name, (_, column) in CONTENT.items()}}.items():
        for statement in (
            f"UPDATE {table} SET {column} = {column}",
            f"DELETE FROM {table}",
            f"TRUNCATE {table} CASCADE",
        ):
            if not (filled.database.is_sqlite and statement.startswith("TRUNCATE")):
                with pytest.raises(sa.exc.IntegrityError, match="append-only"):
                    vandal(statement)
    for statement in ("UPDATE chain SET length = length - 1", "UPDATE chain SET length = length", "DELETE FROM chain"):
        with pytest.raises(sa.exc.IntegrityError, match=r"only grows|append-only"):
            vandal(statement)
    assert filled.verify() == before


def test_the_tables_are_those_of_the_code(store: ReviewStore) -> None:
    with store.database.engine.connect() as connection:
        if store.database.is_sqlite:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert MigrationContext.configure(connection).get_current_revision() == "0002"
        found = sa.MetaData()
        found.reflect(connection)
    assert set(found.tables) == {*metadata.tables, "alembic_version"}
    for name, declared in metadata.tables.items():
        migrated = found.tables[name]
        kind = lambda column: str(column.type).replace("DOUBLE PRECISION", "FLOAT").split("(")[0]  # noqa: E731
        assert [(c.name, kind(c), c.nullable) for c in migrated.columns] == [
            (c.name, kind(c), c.nullable) for c in declared.columns
        ]
        names = lambda table: {str(item.name) for item in (*table.constraints, *table.indexes) if item.name}  # noqa: E731
        assert names(declared) <= names(migrated)
    assert set(ERASABLE) < set(CONTENT)


def test_a_failed_write_says_not_saved_stores_neither_eye_and_can_be_sent_again(
    store: ReviewStore, vandal: Callable[..., None]
) -> None:
    store.save_draft(place(), "p1", {"grade": 3})
    if store.database.is_sqlite:
        vandal(
            "CREATE TRIGGER disk_fails BEFORE INSERT ON reads WHEN NEW.eye = 'OS' "
            "BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
        )
    else:
        vandal(
            "CREATE FUNCTION disk_fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'disk I/O error' USING ERRCODE = '58030'; END $$",
            "CREATE TRIGGER disk_fails BEFORE INSERT ON reads FOR EACH ROW WHEN (NEW.eye = 'OS') "
            "EXECUTE FUNCTION disk_fails()",
        )
    with pytest.raises(NotSavedError, match=r"not saved: disk I/O error — .*press save again"):
        store.save(submission())
    assert store.current("run-1") == []
    assert store.load_draft(place()) == {"grade": 3}
    vandal("DROP TRIGGER disk_fails" + ("" if store.database.is_sqlite else " ON reads"))
    assert len(store.save(submission())) == 2
    assert store.load_draft(place()) is None  # what is saved is no draft any more
    assert store.verify().first_bad is None


def test_readers_at_once_lose_nothing_and_supersede_in_a_chain(store: ReviewStore) -> None:
    def read_often(worker: int) -> None:
        for turn in range(10):
            store.save(submission(f"worker-{worker}-turn-{turn}"))

    threads = [threading.Thread(target=read_often, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = store.history("run-1", "e1")
    assert len(history) == 2 * 4 * 10
    assert len(store.current("run-1")) == 2
    assert len({read.supersedes for read in history if read.supersedes}) == 2 * 39
    verdict = store.verify()
    assert (verdict.length, verdict.first_bad) == (41, None)  # 40 submissions and the reader


def test_two_openings_at_once_make_one_database(new_place: Callable[[], Place]) -> None:
    where, failures = new_place(), []

    def open_it() -> None:
        try:
            ReviewStore(where).close()
        except WorkbenchError as error:
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_what_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "noise.sqlite").write_bytes(b"no database " * 100)
    with pytest.raises(WorkbenchError, match="cannot open the reviews"):
        ReviewStore(tmp_path / "noise.sqlite")
    with pytest.raises(WorkbenchError, match="cannot open the reviews"):
        ReviewStore(tmp_path / "absent" / "reviews.sqlite", patience=0.1)
    with pytest.raises(WorkbenchError, match="of the kind 'mysql'"):
        ReviewStore("mysql://somebody@nowhere/reviews")
    with pytest.raises(WorkbenchError, match="neither a file nor a URL"):
        ReviewStore("reviews at home")
    ReviewStore(tmp_path / "later.sqlite").close()
    connection = sqlite3.connect(tmp_path / "later.sqlite")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(WorkbenchError, match="later version"):
        ReviewStore(tmp_path / "later.sqlite")


def test_a_server_that_is_away_is_one_line_without_the_password() -> None:
    with pytest.raises(WorkbenchError, match="the database does not answer") as caught:
        ReviewStore("postgresql://reader:s3cret@127.0.0.1:1/reviews", patience=0.1)
    assert "s3cret" not in str(caught.value)


def test_a_blinded_read_stays_blind(store: ReviewStore) -> None:
    answer = {"icdr_grade": 2, "p_referable": 0.7, "exam_called_referable": True}
    grade = place(protocol="blinded", stage="grade")
    with pytest.raises(NotSavedError, match="the blinded read of this exam comes first"):
        store.reveal(grade, "p1", answer)
    with pytest.raises(NotSavedError, match="the blinded read of this exam comes first"):
        store.save(blinded("key-second", "second"))
    store.save(blinded("key-first-1", "first"))
    store.save(blinded("key-first-2", "first", grade=2))  # still blind: may be corrected
    assert store.reveal(grade, "p1", answer) == {"icdr_grade": 2, "exam_called_referable": True}
    assert store.reveal(grade, "p1", {"icdr_grade": 4}) == {"icdr_grade": 2, "exam_called_referable": True}
    assert store.revealed("Dr A", "run-1", "e1") == ("grade",)
    with pytest.raises(NotSavedError, match="its blinded read is closed"):
        store.save(blinded("key-first-3", "first", grade=4))
    store.save(blinded("key-second", "second", grade=3))
    firsts = [read.icdr_grade for read in store.current("run-1", stage="first")]
    assert (firsts, [read.icdr_grade for read in store.current("run-1", stage="second")]) == ([2], [3])
    store.save(blinded("key-other-1", "first", reader="Dr B", grade=0))  # another reader has seen nothing
    assert len(store.current("run-1", stage="first")) == 2


def test_who_has_read_with_the_model_cannot_read_blind_after(store: ReviewStore) -> None:
    store.save(submission())
    with pytest.raises(NotSavedError, match="its blinded read is closed"):
        store.save(blinded("key-first-1", "first"))
    store.save(blinded("key-first-2", "first", exam_id="e2"))


def test_a_draft_lands_on_no_other_case_reader_or_stage(store: ReviewStore) -> None:
    mine = place()
    store.save_draft(mine, "p1", {"grade": 1})
    store.save_draft(mine, "p1", {"grade": 2, "note": "=x\x00"})
    others = [
        place(reader="Dr B"),
        place(exam_id="e2"),
        place(protocol="blinded", stage="first"),
        place(protocol="review_only", stage="review_only"),
        place().model_copy(update={"run_id": "run-2"}),
    ]
    assert store.load_draft(mine) == {"grade": 2, "note": "=x\x00"}
    assert [store.load_draft(other) for other in others] == [None] * 5
    store.save(submission(reader="Dr B"))
    store.clear_draft(others[1])
    assert store.load_draft(mine) == {"grade": 2, "note": "=x\x00"}
    store.clear_draft(mine)
    assert store.load_draft(mine) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"gradable": True, "icdr_grade": None},
        {"gradable": False, "icdr_grade": 1},
        {"icdr_grade": 5},
        {"confidence": 0},
        {"confidence": 6},
        {"dme": 4},
        {"agreement": "disagree"},
        {"agreement": "disagree", "reason_code": "because"},
    ],
)
def test_a_read_that_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EyeRead.model_validate({"eye": "OD", "gradable": True, "icdr_grade": 1} | changes)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"eyes": (EyeRead(eye="OD", gradable=False),) * 2}, "twice"),
        ({"rescreen_months": None}, "number of months"),
        ({"disposition": "refer"}, "number of months"),
        ({"protocol": "blinded"}, "has the stages"),
        ({"protocol": "adjudication", "stage": "adjudication"}, "by an adjudicator"),
        ({"protocol": "blinded", "stage": "first"}, "shows nothing of the model"),
        ({"protocol": "review_only", "stage": "review_only", "shown": {}}, "shows nothing of the model"),
        ({"seconds_active": float("nan")}, "finite"),
    ],
)
def test_a_submission_that_contradicts_itself_is_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        submission(**changes)


def test_every_stage_has_a_name_and_shows_no_less_than_the_one_before() -> None:
    assert {stage for stages in STAGES.values() for stage in stages} == set(VISIBLE) == set(STAGE_NAMES)
    for before, after in zip(STAGES["blinded"], STAGES["blinded"][1:], strict=False):
        assert VISIBLE[before] <= VISIBLE[after]
    assert is_blind("first")
    assert visible_answer({"icdr_grade": 2}, "review_only") == {}


def test_agreement_follows_from_the_grades() -> None:
    assert agreement_with(2, True, 2) == "agree"
    assert agreement_with(2, True, 3) == "disagree"
    assert agreement_with(2, False, None) == "disagree"
    assert agreement_with(None, True, 2) is None


texts = st.text(max_size=60)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(note=texts, patient=texts, reader=texts.filter(lambda text: bool(text) and text != "system"))
def test_any_text_comes_back_as_it_went_in(store: ReviewStore, note: str, patient: str, reader: str) -> None:
    eye = EyeRead(eye="OD", gradable=False, note=note)
    key = f"key-{len(store.history('run-1', 'e1')):08d}"
    (saved,) = store.save(submission(key, eyes=(eye,), patient_id=patient, reader=reader))
    stored = [text.replace("\x00", "\ufffd") for text in (note, patient, reader)]  # no database holds a NUL
    assert [saved.note, saved.patient_id, saved.reader] == stored
    assert store.verify().first_bad is None
