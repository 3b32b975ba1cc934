from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from workbench.review.reads import EyeRead, Submission, agreement_with
from workbench.review.store import NotSavedError, ReviewStore
from workbench.review.tables import metadata
from workbench.schema.errors import WorkbenchError


def submission(key: str = "key-00000001", **changes: object) -> Submission:
    read = EyeRead(
        eye="OD",
        gradable=True,
        icdr_grade=2,
        agreement="agree",
        note="soft exudate, temporal",
        model_answer={"icdr_grade": 2, "p_referable": 0.8124999},
        image_sha256="ab" * 32,
    )
    values: dict[str, object] = {
        "submission_key": key,
        "reader": "Dr A",
        "run_id": "run-1",
        "patient_id": "p1",
        "exam_id": "e1",
        "eyes": (read, EyeRead(eye="OS", gradable=False)),
    }
    return Submission.model_validate(values | changes)


def test_what_was_saved_is_read_back_by_another_opening(tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "reviews.sqlite")
    saved = store.save(submission())
    store.close()
    again = ReviewStore(tmp_path / "reviews.sqlite")
    assert tuple(again.current("run-1")) == saved
    right, left = saved
    assert (right.icdr_grade, right.note, right.model_answer["p_referable"]) == (2, "soft exudate, temporal", 0.8124999)
    assert (left.gradable, left.icdr_grade, left.agreement) == (False, None, None)
    assert right.saved_at.endswith("+00:00")
    assert again.current("another run") == []


def test_a_retry_adds_no_row_and_a_key_used_twice_is_refused(tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "reviews.sqlite")
    assert store.save(submission()) == store.save(submission())
    assert len(store.history("run-1", "e1")) == 2
    with pytest.raises(NotSavedError, match="not saved"):
        store.save(submission(exam_id="e2"))
    assert store.history("run-1", "e2") == []


def test_a_correction_supersedes_and_both_stay(tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "reviews.sqlite")
    first = store.save(submission())
    second = store.save(submission("key-00000002"))
    other = store.save(submission("key-00000003", reader="Dr B"))
    assert [read.supersedes for read in second] == [read.id for read in first]
    assert [read.supersedes for read in other] == [None, None]
    assert {read.id for read in store.current("run-1")} == {read.id for read in (*second, *other)}
    assert {read.id for read in store.current("run-1", reader="Dr A")} == {read.id for read in second}
    assert len(store.history("run-1", "e1")) == 6


@pytest.mark.parametrize("statement", ["UPDATE reads SET icdr_grade = 0", "DELETE FROM reads"])
def test_rows_cannot_be_changed_even_past_the_store(tmp_path: Path, statement: str) -> None:
    store = ReviewStore(tmp_path / "reviews.sqlite")
    store.save(submission())
    connection = sqlite3.connect(tmp_path / "reviews.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()
    assert store.current("run-1")[0].icdr_grade == 2


def test_the_file_is_durable_and_its_tables_are_those_of_the_code(tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "reviews.sqlite")
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert MigrationContext.configure(connection).get_current_revision() == "0001"
        found = sa.MetaData()
        found.reflect(connection)
    migrated, declared = found.tables["reads"], metadata.tables["reads"]
    assert [(c.name, str(c.type), c.nullable) for c in migrated.columns] == [
        (c.name, str(c.type), c.nullable) for c in declared.columns
    ]
    names = lambda table: {str(item.name) for item in (*table.constraints, *table.indexes) if item.name}  # noqa: E731
    assert names(declared) <= names(migrated)


def test_a_failed_write_says_not_saved_stores_neither_eye_and_can_be_sent_again(tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "reviews.sqlite")
    connection = sqlite3.connect(tmp_path / "reviews.sqlite")
    connection.execute(
        "CREATE TRIGGER disk_fails BEFORE INSERT ON reads WHEN NEW.eye = 'OS' "
        "BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
    )
    connection.commit()
    with pytest.raises(NotSavedError, match=r"not saved: disk I/O error — .*press save again"):
        store.save(submission())
    assert store.current("run-1") == []
    connection.execute("DROP TRIGGER disk_fails")
    connection.commit()
    connection.close()
    assert len(store.save(submission())) == 2


def test_readers_at_once_lose_nothing_and_supersede_in_a_chain(tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "reviews.sqlite")

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


SAVE_UNTIL_KILLED = """
import sys
from pathlib import Path
from workbench.review.reads import EyeRead, Submission
from workbench.review.store import ReviewStore
store = ReviewStore(Path(sys.argv[1]))
for turn in range(1_000_000):
    key = f"submission-{turn:06d}"
    eyes = tuple(EyeRead(eye=eye, gradable=False) for eye in ("OD", "OS"))
    store.save(Submission(submission_key=key, reader="A", run_id="run-1", patient_id="p", exam_id="e1", eyes=eyes))
    print(key, flush=True)
"""


def test_what_was_acknowledged_before_a_kill_is_stored_once(tmp_path: Path) -> None:
    path = tmp_path / "reviews.sqlite"
    command = [sys.executable, "-c", SAVE_UNTIL_KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline().strip() for _ in range(20)]
        writer.kill()
        told += [line for line in writer.stdout.read().splitlines() if len(line) == len("submission-000000")]
    stored = [read.submission_key for read in ReviewStore(path).history("run-1", "e1") if read.eye == "OD"]
    assert set(told) <= set(stored)
    assert len(stored) == len(set(stored)) <= len(told) + 1


def test_many_openings_at_once_migrate_once(tmp_path: Path) -> None:
    failures: list[Exception] = []

    def open_it() -> None:
        try:
            ReviewStore(tmp_path / "reviews.sqlite").close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_file_that_is_no_database_a_later_version_and_a_missing_folder_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "noise.sqlite").write_bytes(b"this is not a database" * 100)
    with pytest.raises(WorkbenchError, match="cannot open the reviews"):
        ReviewStore(tmp_path / "noise.sqlite")
    with pytest.raises(WorkbenchError, match="cannot open the reviews"):
        ReviewStore(tmp_path / "absent" / "reviews.sqlite")
    ReviewStore(tmp_path / "later.sqlite").close()
    connection = sqlite3.connect(tmp_path / "later.sqlite")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(WorkbenchError, match="later version"):
        ReviewStore(tmp_path / "later.sqlite")


@pytest.mark.parametrize(
    "changes",
    [
        {"gradable": True, "icdr_grade": None},
        {"gradable": False, "icdr_grade": 1},
        {"icdr_grade": 5},
        {"agreement": "disagree"},
        {"agreement": "disagree", "reason_code": "because"},
    ],
)
def test_a_read_that_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EyeRead.model_validate({"eye": "OD", "gradable": True, "icdr_grade": 1} | changes)


def test_an_eye_twice_in_a_submission_is_refused() -> None:
    read = EyeRead(eye="OD", gradable=False)
    with pytest.raises(ValidationError, match="twice"):
        submission(eyes=(read, read))


def test_agreement_follows_from_the_grades() -> None:
    assert agreement_with(2, True, 2) == "agree"
    assert agreement_with(2, True, 3) == "disagree"
    assert agreement_with(2, False, None) == "disagree"
    assert agreement_with(None, True, 2) is None


texts = st.text(max_size=60)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(note=texts, patient=texts, reader=texts.filter(bool))
def test_any_text_comes_back_as_it_went_in(tmp_path: Path, note: str, patient: str, reader: str) -> None:
    store = ReviewStore(tmp_path / "reviews.sqlite")
    eye = EyeRead(eye="OD", gradable=False, note=note)
    key = f"key-{len(store.history('run-1', 'e1')):08d}"
    (saved,) = store.save(submission(key, eyes=(eye,), patient_id=patient, reader=reader))
    store.close()
    assert (saved.note, saved.patient_id, saved.reader) == (note, patient, reader)
