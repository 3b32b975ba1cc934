"""Where reads are kept: append-only, durable before it says *saved*, safe to retry, sealed in the audit trail."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from workbench.review.database import PATIENCE, Database, NotSavedError
from workbench.review.people import pseudonym_of
from workbench.review.protocols import VISIBLE, is_blind, visible_answer
from workbench.review.reads import DraftPlace, SavedRead, Submission
from workbench.review.tables import chain, drafts, events, reads, reveals, submissions
from workbench.review.trail import Trail, Verdict, appending, check_trail

__all__ = ["NotSavedError", "ReviewStore"]

T = TypeVar("T")

_PLACE: Final = ("run_id", "exam_id", "reader", "protocol", "stage")
_SEEING: Final = tuple(stage for stage in VISIBLE if not is_blind(stage))


class ReviewStore:
    """The reads, reveals and drafts of one database.

    Args:
        place: an SQLite file or ``postgresql://user@host/name``; made, or brought up to date, when opened.
        patience: seconds for which a write is tried again while the database is busy or away.
        erased: whether a patient was erased, asked inside each transaction; an erasure marks the patient first and
            deletes after, so that no read can slip in between.

    Raises:
        WorkbenchError: it is no database, cannot be written, is away, or was made by a later version.
    """

    def __init__(
        self, place: Path | str, *, patience: float = PATIENCE, erased: Callable[[str], bool] | None = None
    ) -> None:
        self.database = Database(place, patience=patience)
        self._erased = erased

    def save(self, submission: Submission) -> tuple[SavedRead, ...]:
        """Store a submission, both eyes or neither, and return its rows once they are on the disk.

        A submission that was stored before (same key, same content) returns its rows and adds none. The draft of the
        same place is cleared with it.

        Raises:
            NotSavedError: the database refused, is busy or away past the patience, the key belongs to other content,
                or the protocol has closed this stage for this reader.
        """
        stored = self._write(submission.patient_id, lambda connection: _save(connection, submission))
        if not _same_content(stored, submission):
            raise NotSavedError("not saved: this save was already used for other entries", "reload the page")
        return tuple(stored)

    def reveal(self, place: DraftPlace, patient_id: str, answer: dict[str, Any]) -> dict[str, Any]:
        """Record that the model's answer is now shown at a stage, and return what may be shown of it.

        From then on this reader's blinded read of the exam is closed. A second call returns what the first one stored.

        Raises:
            NotSavedError: it could not be recorded, hence must not be shown; or the blinded read is not saved yet.
        """
        shown = _json(visible_answer(answer, place.stage))
        stored = self._write(patient_id, lambda connection: _reveal(connection, place, patient_id, shown))
        revealed: dict[str, Any] = json.loads(stored)
        return revealed

    def revealed(self, reader: str, run_id: str, exam_id: str, protocol: str = "blinded") -> tuple[str, ...]:
        """Return the stages that this reader was shown of an exam, in the order in which they were."""
        same = (reveals.c.reader == reader, reveals.c.run_id == run_id, reveals.c.exam_id == exam_id)
        query = sa.select(reveals.c.stage).where(*same, reveals.c.protocol == protocol).order_by(reveals.c.event_id)
        return self.database.read(lambda connection: tuple(connection.execute(query).scalars()))

    def current(
        self,
        run_id: str,
        *,
        reader: str | None = None,
        exam_id: str | None = None,
        protocol: str | None = None,
        stage: str | None = None,
        of_several_readers: bool = False,
    ) -> list[SavedRead]:
        """Return the reads of a run that nothing supersedes, oldest first; only those that fit what is named.

        With ``of_several_readers`` only those of exams that two readers or more read, adjudications not counted.
        """
        named = {"reader": reader, "exam_id": exam_id, "protocol": protocol, "stage": stage}
        chosen = [submissions.c[name] == value for name, value in named.items() if value is not None]
        if of_several_readers:
            first_hand = (submissions.c.run_id == run_id) & (submissions.c.stage != "adjudication")
            several = sa.select(submissions.c.exam_id).where(first_hand).group_by(submissions.c.exam_id)
            chosen.append(
                submissions.c.exam_id.in_(several.having(sa.func.count(sa.distinct(submissions.c.reader)) > 1))
            )
        return self._read(submissions.c.run_id == run_id, _newest(), *chosen)

    def history(self, run_id: str, exam_id: str) -> list[SavedRead]:
        """Return every read of an exam, superseded ones too, oldest first."""
        return self._read(submissions.c.run_id == run_id, submissions.c.exam_id == exam_id)

    def reads_of(self, run_id: str | None, *, history: bool = False) -> list[SavedRead]:
        """Return the reads of a run, or of all runs, oldest first; superseded ones only with ``history``."""
        of_run = [] if run_id is None else [submissions.c.run_id == run_id]
        return self._read(*of_run, *([] if history else [_newest()]))

    def progress(self, run_id: str, reader: str | None = None) -> list[tuple[str, str, str, str]]:
        """Return (exam, reader, protocol, stage) of all that was read in a run, each once; quick for large runs."""
        columns = (submissions.c.exam_id, submissions.c.reader, submissions.c.protocol, submissions.c.stage)
        query = sa.select(*columns).distinct().where(submissions.c.run_id == run_id)
        if reader is not None:
            query = query.where(submissions.c.reader == reader)
        found = self.database.read(lambda connection: connection.execute(query).all())
        return [(exam, who, protocol, stage) for exam, who, protocol, stage in found]

    def record(
        self,
        kind: str,
        actor: str,
        content: dict[str, Any],
        *,
        run_id: str | None = None,
        patient_id: str | None = None,
        exam_id: str | None = None,
    ) -> int:
        """Append a fact to the trail (an opened exam, an export, a refused page) and return its number.

        What names a patient must be in ``patient_id`` or ``exam_id``, or in content beside a ``patient_id``: only then
        is it found when the patient is erased.
        """
        key = f"{kind}:{secrets.token_hex(16)}"
        row = {"run_id": run_id, "patient_id": patient_id, "exam_id": exam_id, "content": _json(content)}

        def work(connection: sa.Connection) -> int:
            known = connection.execute(sa.select(events.c.id).where(events.c.key == key)).scalar()
            if known is not None:
                return int(known)
            with appending(connection) as trail:
                who = pseudonym_of(connection, trail, actor)
                return trail.append(key, kind, who, now(), {"facts": [{"event_id": trail.next_id, **row}]})

        return self.database.write(work)

    def save_draft(self, place: DraftPlace, patient_id: str, content: dict[str, Any]) -> None:
        """Keep what is typed and not yet saved, in place of what was kept there before.

        Raises:
            NotSavedError: it could not be kept.
        """
        row = {"patient_id": patient_id, "content": _json(content), "updated_at": now()}

        def work(connection: sa.Connection) -> None:
            connection.execute(drafts.delete().where(*_at(drafts, place)))
            connection.execute(drafts.insert(), {**place_of(place), **row})

        self._write(patient_id, work)

    def load_draft(self, place: DraftPlace) -> dict[str, Any] | None:
        """Return what this reader left unsaved of this exam at this stage, None when nothing."""
        query = sa.select(drafts.c.content).where(*_at(drafts, place))
        found = self.database.read(lambda connection: connection.execute(query).scalar())
        return None if found is None else json.loads(found)

    def clear_draft(self, place: DraftPlace) -> None:
        """Throw a draft away; nothing happens where there is none."""
        self.database.write(lambda connection: connection.execute(drafts.delete().where(*_at(drafts, place))) and None)

    def verify(self) -> Verdict:
        """Check the whole audit trail."""
        return self.database.read(check_trail)

    def holds(self, hash_: str) -> bool:
        """Return whether some row of the trail has this hash: what was written down of it earlier."""
        query = sa.select(events.c.id).where(events.c.hash == hash_)
        return self.database.read(lambda connection: connection.execute(query).first() is not None)

    def head(self) -> str:
        """Return the hash of the trail's last row: it changes with whatever is stored, drafts and queues aside."""
        return self.database.read(lambda connection: str(connection.execute(sa.select(chain.c.head)).scalar() or ""))

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()

    def _write(self, patient_id: str, work: Callable[[sa.Connection], T]) -> T:
        """Do ``work`` unless the patient was erased."""
        erased = self._erased
        if erased is None:
            return self.database.write(work)

        def unless_erased(connection: sa.Connection) -> T:
            with appending(connection):  # nobody erases from here on
                if erased(patient_id):
                    raise NotSavedError("not saved: this patient was erased", "go back to the worklist")
                return work(connection)

        return self.database.write(unless_erased)

    def _read(self, *conditions: sa.ColumnElement[bool]) -> list[SavedRead]:
        return self.database.read(lambda connection: _rows(connection, *conditions))


def now() -> str:
    """Return the time as it is stored: UTC, ISO 8601, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def place_of(place: DraftPlace) -> dict[str, Any]:
    """Return the five columns that say whose and of what something is."""
    return {name: getattr(place, name) for name in _PLACE}


def _save(connection: sa.Connection, submission: Submission) -> list[SavedRead]:
    same_key = submissions.c.submission_key == submission.submission_key
    with appending(connection) as trail:  # from here on nobody else writes
        stored = _rows(connection, same_key)
        if stored:
            return stored
        key = f"submission:{submission.submission_key}"
        if connection.execute(sa.select(events.c.id).where(events.c.key == key)).scalar() is not None:
            raise NotSavedError("not saved: what this save had stored was erased", "reload the page")
        _refuse_a_closed_stage(connection, submission)
        actor = pseudonym_of(connection, trail, submission.reader)
        trail.append(key, "submission", actor, now(), _new_rows(connection, trail, submission))
    connection.execute(drafts.delete().where(*_at(drafts, submission)))
    return _rows(connection, same_key)


def _refuse_a_closed_stage(connection: sa.Connection, place: DraftPlace) -> None:
    """Keep a blinded read blind: none after the model's answer was seen, and no reveal before it is saved."""
    if place.protocol != "blinded":
        return
    if place.stage == "first":
        if _exists(connection, reveals, place) or _exists(
            connection, submissions, place, submissions.c.stage.in_(_SEEING)
        ):
            raise NotSavedError(
                "not saved: you have seen the model's answer to this exam, so its blinded read is closed",
                "save a second read instead",
            )
    elif not _exists(connection, submissions, place, submissions.c.stage == "first"):
        raise NotSavedError("not saved: the blinded read of this exam comes first", "save it, then reveal the model")


def _exists(connection: sa.Connection, table: sa.Table, place: DraftPlace, *more: sa.ColumnElement[bool]) -> bool:
    same = [table.c[name] == getattr(place, name) for name in ("run_id", "exam_id", "reader")]
    return (
        connection.execute(sa.select(sa.literal(1)).select_from(table).where(*same, *more).limit(1)).first() is not None
    )


def _reveal(connection: sa.Connection, place: DraftPlace, patient_id: str, shown: str) -> str:
    query = sa.select(reveals.c.shown).where(*_at(reveals, place))
    with appending(connection) as trail:
        stored = connection.execute(query).scalar()
        if stored is not None:
            return str(stored)
        if place.stage != "first":
            _refuse_a_closed_stage(connection, place)
        actor = pseudonym_of(connection, trail, place.reader)
        row = {"event_id": trail.next_id, **place_of(place), "patient_id": patient_id, "shown": shown}
        trail.append(f"reveal:{secrets.token_hex(16)}", "reveal", actor, now(), {"reveals": [row]})
    return shown


def _new_rows(connection: sa.Connection, trail: Trail, submission: Submission) -> dict[str, list[dict[str, Any]]]:
    shared = submission.model_dump(exclude={"eyes", "shown", "drawn"})
    older = sa.select(sa.func.max(submissions.c.event_id)).where(*_at(submissions, submission))
    made = {"event_id": trail.next_id, "saved_at": now(), "shown": _json(submission.shown)}
    made["drawn"] = _json(submission.drawn.model_dump(mode="json") if submission.drawn else {})
    whole = {**shared, **made, "supersedes": connection.execute(older).scalar()}
    first = (connection.execute(sa.select(sa.func.max(reads.c.id))).scalar() or 0) + 1
    rows = []
    for number, read in enumerate(submission.eyes, start=first):
        values = read.model_dump() | {"model_answer": _json(read.model_answer)}
        last = _last(connection, submission, read.eye)
        rows.append({**values, "id": number, "event_id": trail.next_id, "supersedes": last})
    return {"submissions": [whole], "reads": rows}


def _last(connection: sa.Connection, submission: Submission, eye: str) -> int | None:
    """Return this reader's last read of the same eye in the same protocol and stage."""
    query = (
        sa.select(sa.func.max(reads.c.id)).join(submissions).where(*_at(submissions, submission), reads.c.eye == eye)
    )
    found: int | None = connection.execute(query).scalar()
    return found


def _newest() -> sa.ColumnElement[bool]:
    newer = sa.select(reads.c.supersedes).where(reads.c.supersedes.is_not(None))
    return reads.c.id.not_in(newer)


def _at(table: sa.Table, place: DraftPlace) -> list[sa.ColumnElement[bool]]:
    return [table.c[name] == value for name, value in place_of(place).items()]


def _rows(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[SavedRead]:
    whole = [column for column in submissions.c if column.name not in ("event_id", "note", "supersedes")]
    query = sa.select(reads, *whole, submissions.c.note.label("patient_note")).join(submissions)
    found = connection.execute(query.where(*conditions).order_by(reads.c.id)).mappings()
    return [
        SavedRead.model_validate(
            {**row, **{name: json.loads(row[name]) for name in ("model_answer", "shown", "drawn")}}
        )
        for row in found
    ]


def _same_content(stored: Sequence[SavedRead], submission: Submission) -> bool:
    shared = submission.model_dump(exclude={"eyes", "note"}) | {"patient_note": submission.note}
    eyes = {read.eye: read.model_dump() for read in submission.eyes}
    for values in (shared, *eyes.values()):  # a tuple inside comes back as a list
        values.update({name: json.loads(_json(values[name])) for name in ("shown", "model_answer") if name in values})
    if {row.eye for row in stored} != set(eyes):
        return False
    for row in stored:
        values, expected = row.model_dump(), {**shared, **eyes[row.eye]}
        if any(values[name] != value for name, value in expected.items()):
            return False
    return True


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)
