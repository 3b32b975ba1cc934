"""Every test of the store runs on both kinds of database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.reader_words import blinded, place, submission
from workbench.review.database import Database
from workbench.review.erasure import erase_patient
from workbench.review.people import People
from workbench.review.pseudonyms import Pseudonyms
from workbench.review.queues import Queues
from workbench.review.store import ReviewStore

Place = Path | str


@pytest.fixture
def store(where: Place) -> Iterator[ReviewStore]:
    opened = ReviewStore(where)
    yield opened
    opened.close()


@pytest.fixture
def filled(store: ReviewStore) -> ReviewStore:
    """Return a store with every kind of row in it: two patients read, one erased."""
    for patient in ("p1", "p2"):
        store.save(blinded(f"first-{patient}", "first", patient_id=patient, exam_id=f"e-{patient}"))
        store.reveal(place(exam_id=f"e-{patient}", protocol="blinded", stage="grade"), patient, {"icdr_grade": 2})
        store.save(submission(f"second-{patient}", patient_id=patient, exam_id=f"e-{patient}", reader="Dr B"))
        store.record("opened", "Dr A", {"page": "exam"}, run_id="run-1", patient_id=patient, exam_id=f"e-{patient}")
        Queues(store.database).assign("run-1", [(patient, f"e-{patient}")], "Dr A", by="Chief")
    People(store.database).grant("Dr A", "reader", by="Chief")
    store.record("opened", "Dr A", {"page": "worklist"})
    erase_patient(store.database, "p2", Pseudonyms(b"k" * 32), by="Chief")
    return store


@pytest.fixture
def vandal(where: Place) -> Callable[..., None]:
    """Return a function that runs statements past the store, with the triggers and foreign keys out of its way."""

    def run(*statements: str, triggers: bool = True) -> None:
        with closing(Database(where)) as database, database.engine.connect() as connection:
            if not triggers:
                for statement in _ways_past_the_triggers(connection):
                    connection.exec_driver_sql(statement)
                connection.commit()
            for statement in statements:
                connection.exec_driver_sql(statement)
            connection.commit()

    return run


def _ways_past_the_triggers(connection: sa.Connection) -> list[str]:
    if connection.dialect.name != "sqlite":
        return ["SET session_replication_role = replica"]
    names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all()
    connection.commit()
    connection.connection.dbapi_connection.execute("PRAGMA foreign_keys=OFF")  # no effect inside a transaction
    return [f"DROP TRIGGER {name}" for name in names]
