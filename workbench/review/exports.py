"""Reads as a table for others: CSV that no spreadsheet takes for formulas, or JSON; pseudonyms unless asked."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from workbench.review.people import People
from workbench.review.pseudonyms import Pseudonyms
from workbench.review.reads import SavedRead
from workbench.review.store import ReviewStore
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import write_text

COLUMNS: Final = (
    "patient",
    "exam",
    "eye",
    "reader",
    "role",
    "protocol",
    "stage",
    "saved_at",
    "seconds_active",
    "gradable",
    "icdr_grade",
    "dme",
    "confidence",
    "agreement",
    "reason_code",
    "disposition",
    "rescreen_months",
    "marks",
    "photograph",
    "run_id",
    "model_hash",
    "model_icdr_grade",
    "model_p_referable",
    "model_referred",
    "read",
    "supersedes",
)
"""One row per read of an eye. ``marks`` counts the lesions marked; ``photograph`` is its hash or what stands for it."""

IDENTIFYING: Final = ("note", "patient_note")
"""Free text may name anybody: these columns are only there where identifiers were asked for."""

_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def rows_of(reads: Sequence[SavedRead], names: Pseudonyms | None, reader: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return one plain row per read.

    Args:
        reads: as stored.
        names: None writes the identifiers and the notes.
        reader: what stands for a reader.
    """
    return [_row(read, names, reader) for read in reads]


def cell(value: Any) -> Any:
    """Return what may stand in a spreadsheet: text that would be taken for a formula gets an apostrophe before it.

    >>> cell("=1+1"), cell("-0.5"), cell(-0.5), cell("-cmd"), cell(None)
    ("'=1+1", '-0.5', -0.5, "'-cmd", '')
    """
    if value is None:
        return ""
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}" if value.startswith(_FORMULA) else value


def write_csv(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Write rows as CSV (UTF-8 with a byte order mark, as spreadsheets expect it), atomically."""
    columns = list(rows[0]) if rows else list(COLUMNS)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([cell(row[name]) for name in columns] for row in rows)
    write_text(out, "\ufeff" + buffer.getvalue())


def write_json_rows(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Write rows as a list in JSON, atomically."""
    write_text(out, json.dumps(list(rows), indent=1, allow_nan=False, ensure_ascii=False) + "\n")


WRITERS: Final[dict[str, Callable[[Sequence[dict[str, Any]], Path], None]]] = {
    ".csv": write_csv,
    ".json": write_json_rows,
}


def export_reads(
    store: ReviewStore,
    out: Path,
    names: Pseudonyms,
    *,
    by: str,
    run_id: str | None = None,
    history: bool = False,
    identifiers: bool = False,
) -> int:
    """Write the reads to a ``.csv`` or ``.json`` file, or as DICOM reports to a folder; return how many.

    The trail notes who exported what and where to, so that an erasure finds it.

    Args:
        store: holds the reads.
        out: a name without an ending is a folder, which gets one DICOM report per submission.
        names: makes pseudonyms.
        by: who exports.
        run_id: None exports every run.
        history: also the reads that were superseded.
        identifiers: true ids, names and notes instead of pseudonyms.

    Raises:
        WorkbenchError: no such format, nothing to export, or the file cannot be written.
    """
    if out.suffix and out.suffix not in WRITERS:
        raise WorkbenchError(f"cannot export to {out.suffix!r}", "name a .csv, a .json, or a folder for DICOM reports")
    found = store.reads_of(run_id, history=history)
    if not found:
        raise WorkbenchError("there is no read to export", "save one first, or name another run")
    reader = reader_names(store, identifiers)
    note = {"path": str(out.resolve()), "reads": len(found), "identifiers": identifiers}
    store.record("export", by, note, run_id=run_id)  # before the files: of what lies outside the trail always knows
    if out.suffix:
        WRITERS[out.suffix](rows_of(found, None if identifiers else names, reader), out)
    else:
        _write_reports(found, out, names, reader, identifiers)
    return len(found)


def _write_reports(
    reads: Sequence[SavedRead], folder: Path, names: Pseudonyms, reader: Callable[[str], str], identifiers: bool
) -> None:
    from workbench.review.dicom_report import report_of, write_report

    for event_id, eyes in groupby(reads, key=lambda read: read.event_id):
        of_one = list(eyes)
        report = report_of(of_one, names, reader(of_one[0].reader), identifiers=identifiers)
        write_report(report, folder / f"{names.exam(of_one[0].exam_id)}-{event_id}.dcm")


def reader_names(store: ReviewStore, identifiers: bool) -> Callable[[str], str]:
    """Return what writes a reader: the name where identifiers were asked for, else the pseudonym."""
    users = People(store.database).users()
    names: dict[str, str] = {user.subject: user.display_name if identifiers else user.pseudonym for user in users}
    return lambda subject: names[subject]


def _row(read: SavedRead, names: Pseudonyms | None, reader: Callable[[str], str]) -> dict[str, Any]:
    answer = read.model_answer
    stored = read.model_dump()
    made: dict[str, Any] = {
        "patient": names.patient(read.patient_id) if names else read.patient_id,
        "exam": names.exam(read.exam_id) if names else read.exam_id,
        "reader": reader(read.reader),
        "marks": sum(mark.eye == read.eye for mark in read.drawn.marks),
        "photograph": names.photograph(read.image_sha256) if names else read.image_sha256,
        "model_icdr_grade": answer.get("icdr_grade"),
        "model_p_referable": answer.get("p_referable"),
        "model_referred": answer.get("exam_referred"),
        "read": read.id,
    }
    whole: dict[str, Any] = {**stored, **made}
    kept = {name: whole[name] for name in COLUMNS}
    return kept if names else {**kept, **{name: stored[name] for name in IDENTIFYING}}
