"""A patient's erasure: out of the database, the exports and the caches, while the audit trail still verifies."""

from __future__ import annotations

import csv
import io
import json
import secrets
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import sqlalchemy as sa

from workbench.audit.layout import exams_path
from workbench.review.database import Database
from workbench.review.exports import WRITERS, cell
from workbench.review.forgotten import erased_in, forget
from workbench.review.people import pseudonym_of
from workbench.review.pseudonyms import Pseudonyms
from workbench.review.store import now
from workbench.review.tables import (
    ERASABLE,
    assignments,
    drafts,
    events,
    facts,
    metadata,
    queues,
    reveals,
    submissions,
    tombstones,
)
from workbench.review.trail import appending
from workbench.schema.errors import WorkbenchError

_NAMING: Final = (submissions, reveals, assignments, facts)
"""The tables whose rows name a patient."""


@dataclass(frozen=True)
class Erasure:
    """What was erased.

    Args:
        patient_id: who.
        events: rows of the trail whose content is gone; none of a patient whom nobody has read.
        exams: the exams that those rows named.
        files: exports that no longer hold the patient; one with nothing else in it is gone.
        missing: exports of which the database knows and that are no longer where they were written.
    """

    patient_id: str
    events: int
    exams: tuple[str, ...]
    files: tuple[Path, ...]
    missing: tuple[Path, ...]


def erase_patient(
    database: Database,
    patient: str,
    names: Pseudonyms,
    *,
    by: str,
    folders: Iterable[Path] = (),
    runs: Iterable[Path] = (),
) -> Erasure:
    """Erase a patient from the database and from what was exported of it.

    Args:
        database: its rows, drafts and kept queues lose the patient; the file itself is then written anew without them.
        patient: the patient's id or pseudonym.
        names: makes pseudonyms.
        by: who erases.
        folders: where copies of exports may lie, besides the places to which they were written.
        runs: whose worklists must not show the patient again, read or not; their tables stay as they were made.

    Raises:
        WorkbenchError: nothing of this patient is stored and no run shows any, or a file cannot be written.
    """
    runs = tuple(runs)
    patient_id = _patient_of(database, patient, names, runs)
    exams = database.read(lambda connection: _exams(connection, patient_id))
    exported = database.read(_exported)
    missing = tuple(sorted(file for file in exported if not file.exists()))
    inside = [folder for folder in (*exported, *folders) if folder.is_dir()]
    places = {*exported, *(file for folder in inside for file in folder.rglob("*"))}
    marks = {patient_id, names.patient(patient_id), cell(patient_id)}
    # The files go first: should one of them fail, the database still knows the patient, and the same call goes on.
    cleaned = tuple(sorted(file for file in places if file.is_file() and _clean(file, marks)))
    for run in runs:
        forget(run, patient_id)
    named = {patient_id, *exams, names.patient(patient_id), *map(names.exam, exams)}
    key = f"erasure:{secrets.token_hex(16)}"
    count = database.write(lambda connection: _erase(connection, patient_id, exams, named, key, by))
    database.compact((*ERASABLE, "drafts", "queues"))
    return Erasure(patient_id, count, tuple(sorted(exams)), cleaned, missing)


def drop_caches(root: Path) -> int:
    """Delete every cache of prepared photographs below a folder; they are made again without the erased patient.

    A cache holds pixels without names, so one patient's cannot be found in it.
    """
    found = [file.parent for file in root.glob("*/pixels.uint8")]
    for folder in found:
        shutil.rmtree(folder)
    return len(found)


def _patient_of(database: Database, patient: str, names: Pseudonyms, runs: Iterable[Path]) -> str:
    def stored(connection: sa.Connection) -> list[str]:
        columns = [sa.select(table.c.patient_id) for table in (*_NAMING, drafts)]
        return [one for one in connection.execute(sa.union(*columns)).scalars() if one is not None]

    for known in (database.read(stored), *(_shown_in(run) for run in runs)):
        if patient in known:
            return patient
        found = next((patient_id for patient_id in known if names.patient(patient_id) == patient), None)
        if found is not None:
            return found
    raise WorkbenchError(f"nothing of the patient {patient!r} is stored", "check the id, or give the pseudonym")


def _shown_in(run: Path) -> list[str]:
    """Return the patients of a run whom its list does not hold yet."""
    exams = pq.read_table(exams_path(run), columns=["patient_id"])["patient_id"].unique().to_pylist()
    erased = erased_in(run)
    return [patient_id for patient_id in exams if not erased(patient_id)]


def _exams(connection: sa.Connection, patient_id: str) -> set[str]:
    queries = [sa.select(table.c.exam_id).where(table.c.patient_id == patient_id) for table in (*_NAMING, drafts)]
    return {exam for exam in connection.execute(sa.union(*queries)).scalars() if exam is not None}


def _exported(connection: sa.Connection) -> set[Path]:
    query = sa.select(facts.c.content).join(events, events.c.id == facts.c.event_id).where(events.c.kind == "export")
    return {Path(json.loads(content)["path"]) for content in connection.execute(query).scalars()}


def _erase(connection: sa.Connection, patient_id: str, exams: set[str], named: set[str], key: str, by: str) -> int:
    with appending(connection) as trail:
        if (done := connection.execute(sa.select(events.c.id).where(events.c.key == key)).scalar()) is not None:
            return _gone_by(connection, done)  # it was stored, and only the answer was lost
        found: set[int] = set()
        for table in _NAMING:
            mine = (table.c.patient_id == patient_id) | (
                table.c.patient_id.is_(None) & table.c.exam_id.in_(sorted(exams)) if table is facts else sa.false()
            )
            found.update(connection.execute(sa.select(table.c.event_id).where(mine)).scalars())
        connection.execute(drafts.delete().where(drafts.c.patient_id == patient_id))
        for row in connection.execute(sa.select(queues)).mappings().all():
            if any(name in row["filters"] for name in map(_inside_json, named)):
                queue = (queues.c.owner == row["owner"]) & (queues.c.name == row["name"])
                connection.execute(queues.delete().where(queue))
        actor = pseudonym_of(connection, trail, by)
        gone = [{"event_id": event_id, "erased_by": trail.next_id} for event_id in sorted(found)]
        erasure = trail.append(key, "erasure", actor, now(), {"tombstones": gone})
        erased = sa.select(tombstones.c.event_id).where(tombstones.c.erased_by == erasure)
        for name in ERASABLE:
            table = metadata.tables[name]
            connection.execute(table.delete().where(table.c.event_id.in_(erased)))
        return len(found)


def _gone_by(connection: sa.Connection, erasure: int) -> int:
    query = sa.select(sa.func.count()).select_from(tombstones).where(tombstones.c.erased_by == erasure)
    return int(connection.execute(query).scalar() or 0)


def _inside_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _clean(file: Path, marks: set[str]) -> bool:
    cleaner = _CLEANERS.get(file.suffix)
    return cleaner is not None and cleaner(file, marks)


def _read_rows(file: Path) -> list[dict[str, Any]]:
    text = file.read_bytes().decode("utf-8-sig")
    if file.suffix == ".json":
        return [dict(row) for row in json.loads(text)]
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _clean_rows(file: Path, marks: set[str]) -> bool:
    try:
        rows = _read_rows(file)
    except (ValueError, KeyError, TypeError):  # not an export of ours
        return False
    kept = [row for row in rows if row["patient"] not in marks]
    if len(kept) == len(rows):
        return False
    if kept:
        WRITERS[file.suffix](kept, file)
    else:
        file.unlink()
    return True


def _clean_report(file: Path, marks: set[str]) -> bool:
    try:
        import pydicom
    except ModuleNotFoundError:
        raise WorkbenchError(
            f"whose report {file} is cannot be told without the package pydicom",
            "pip install 'retina-trust-workbench[dicom]', then run the same command again",
        ) from None
    try:
        patient = str(pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["PatientID"]).get("PatientID", ""))
    except pydicom.errors.InvalidDicomError:
        return False
    if patient not in marks:
        return False
    file.unlink()
    return True


_CLEANERS: Final[dict[str, Callable[[Path, set[str]], bool]]] = {
    ".csv": _clean_rows,
    ".json": _clean_rows,
    ".dcm": _clean_report,
}
