"""Fault R7: a populated database of every released version is brought up to date, and every read in it is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from tests.reader_words import submission
from workbench.review import database as database_module
from workbench.review.database import _engine_of
from workbench.review.reads import SavedRead
from workbench.review.store import ReviewStore

RELEASED = ("0001",)


def at_revision(where: Path | str, revision: str) -> sa.Engine:
    """Make a database as a released version made it, with its own steps."""
    engine = _engine_of(where, 10.0)
    config = Config()
    config.set_main_option("script_location", str(Path(database_module.__file__).parent / "migrations"))
    with engine.connect().execution_options(workbench_write=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    return engine


def old_rows() -> list[dict[str, Any]]:
    rows = []
    last: dict[tuple[str, str, str], int] = {}
    for number in range(40):
        reader, exam, eye = f"Dr {'AB'[number // 2 % 2]}", f"e{number // 4 % 7}", ("OD", "OS")[number % 2]
        row = {
            "id": 3 * number + 1,  # ids had gaps
            "submission_key": f"submission-{number // 2}",
            "saved_at": f"2026-01-01T00:00:{number // 2:02d}.000+00:00",
            "reader": reader,
            "protocol": "assisted",
            "stage": "single",
            "run_id": "run-1",
            "patient_id": f"päti=nt {exam}",
            "exam_id": exam,
            "eye": eye,
            "gradable": number % 5 > 0,
            "icdr_grade": number % 5 - 1 if number % 5 else None,
            "agreement": "disagree" if number % 3 else None,
            "reason_code": "other" if number % 3 else None,  # without a note: today's rules do not judge it again
            "note": "" if number % 3 else "soft\nexudate",
            "model_answer": json.dumps({"icdr_grade": 1, "p_referable": 0.1}),
            "image_sha256": f"{number:064x}",
            "supersedes": last.get((reader, exam, eye)),
        }
        last[reader, exam, eye] = row["id"]
        rows.append(row)
    return rows


@pytest.mark.parametrize("revision", RELEASED)
def test_every_read_of_a_released_version_is_kept_and_chained(where: Path | str, revision: str) -> None:
    engine = at_revision(where, revision)
    rows = old_rows()
    table = sa.Table("reads", sa.MetaData(), autoload_with=engine)
    with engine.connect().execution_options(workbench_write=True) as connection, connection.begin():
        connection.execute(table.insert(), rows)
    engine.dispose()

    store = ReviewStore(where)
    stored = store.reads_of(None, history=True)
    assert [
        {name: getattr(read, name) if name != "model_answer" else json.dumps(read.model_answer) for name in rows[0]}
        for read in stored
    ] == rows
    assert all(isinstance(read, SavedRead) and read.role == "reader" for read in stored)
    superseded = {row["supersedes"] for row in rows}
    assert [read.id for read in store.current("run-1")] == [row["id"] for row in rows if row["id"] not in superseded]
    verdict = store.verify()
    assert (verdict.length, verdict.first_bad) == (20 + 2, None)  # 20 submissions by two readers

    (right, left) = store.save(submission("a-new-one", exam_id="e0", patient_id="päti=nt e0"))
    assert right.id == rows[-1]["id"] + 1
    assert {right.supersedes, left.supersedes} <= {row["id"] for row in rows}
    assert store.verify().first_bad is None
    store.close()


@pytest.mark.parametrize("revision", RELEASED)
def test_an_empty_database_of_a_released_version_is_brought_up_to_date(where: Path | str, revision: str) -> None:
    at_revision(where, revision).dispose()
    store = ReviewStore(where)
    assert store.verify().length == 0
    store.save(submission())
    store.close()


def test_a_step_that_fails_leaves_the_old_database_as_it_was(
    where: Path | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = at_revision(where, "0001")
    table = sa.Table("reads", sa.MetaData(), autoload_with=engine)
    rows = old_rows()
    with engine.connect().execution_options(workbench_write=True) as connection, connection.begin():
        connection.execute(table.insert(), rows)
    engine.dispose()
    from workbench.review import trail

    with monkeypatch.context() as broken:
        broken.setattr(trail.Trail, "append", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ReviewStore(where)
    with engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == len(rows)
    engine.dispose()
    store = ReviewStore(where)
    assert len(store.reads_of(None, history=True)) == len(rows)
    store.close()
