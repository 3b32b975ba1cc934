"""Fault P1 and the right to be forgotten: identifiers as canaries, and where they must not be found."""

from __future__ import annotations

import csv
import importlib
import io
import json
import logging
import os
import sqlite3
import stat
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa
from highdicom.sr import srread
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from tests.postgres_server import PostgresServer
from tests.reader_words import place, submission
from workbench.review.erasure import drop_caches, erase_patient
from workbench.review.exports import cell, export_reads
from workbench.review.pictures import original_picture
from workbench.review.pseudonyms import KEY_VARIABLE, Pseudonyms
from workbench.review.queues import Queues
from workbench.review.reads import EyeRead
from workbench.review.store import NotSavedError, ReviewStore
from workbench.schema.errors import WorkbenchError

NAMES = Pseudonyms(b"k" * 32)
CANARIES = {
    "name": "CANARY-Jane-Doe",
    "patient": "CANARY-MRN-000111",
    "exam": "CANARY-VISIT-000222",
    "reader": "CANARY-Dr-House",
    "photograph": "ca" * 32,
}


def canary_submission(key: str = "canary-00000001", **changes: object) -> object:
    eye = EyeRead(eye="OD", gradable=True, icdr_grade=3, note=f"{CANARIES['name']} called", model_answer={})
    eye = eye.model_copy(update={"image_sha256": CANARIES["photograph"]})
    values = {
        "patient_id": CANARIES["patient"],
        "exam_id": CANARIES["exam"],
        "reader": CANARIES["reader"],
        "note": f"born 1950-01-01, {CANARIES['name']}",
        "eyes": (eye,),
    }
    return submission(key, **(values | changes))


def test_a_pseudonym_is_one_persons_under_one_key() -> None:
    assert NAMES.patient("p1") == NAMES.patient("p1") != NAMES.patient("p2")
    assert NAMES.patient("p1")[2:] != NAMES.exam("p1")[2:]
    assert Pseudonyms(b"l" * 32).patient("p1") != NAMES.patient("p1")
    assert NAMES.photograph("") == ""
    uid = NAMES.uid("study", "e1")
    assert pydicom.uid.UID(uid).is_valid
    assert uid != NAMES.uid("series", "e1")


def test_the_key_is_made_once_for_its_owner_alone_and_a_broken_one_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "apart" / "key"))
    first = Pseudonyms.open().patient("p1")
    assert Pseudonyms.open().patient("p1") == first == Pseudonyms.open(tmp_path / "apart" / "key").patient("p1")
    assert stat.S_IMODE((tmp_path / "apart" / "key").stat().st_mode) == 0o600
    assert [file.name for file in (tmp_path / "apart").iterdir()] == ["key"]
    for text in ("short", "abcd", ""):
        (tmp_path / "apart" / "key").write_text(text)
        with pytest.raises(WorkbenchError, match="pseudonym key"):
            Pseudonyms.open()
        assert (tmp_path / "apart" / "key").read_text() == text


@pytest.mark.parametrize("name", ["reads.csv", "reads.json", "reports"])
def test_no_canary_is_in_an_export(store: ReviewStore, tmp_path: Path, name: str) -> None:
    store.save(canary_submission())
    assert export_reads(store, tmp_path / name, NAMES, by=CANARIES["reader"]) == 1
    files = [file for file in (tmp_path, *tmp_path.rglob("*")) if file.is_file() and "sqlite" not in file.name]
    assert files
    for file in files:
        for canary in (*CANARIES.values(), "CANARY", "1950"):
            assert canary.encode() not in file.read_bytes()
            assert canary not in str(file.relative_to(tmp_path))


@pytest.mark.parametrize("name", ["reads.csv", "reads.json"])
def test_who_asks_for_identifiers_gets_them_and_the_trail_says_so(
    store: ReviewStore, tmp_path: Path, name: str
) -> None:
    store.save(canary_submission())
    export_reads(store, tmp_path / name, NAMES, by="Chief", identifiers=True)
    text = (tmp_path / name).read_text(encoding="utf-8")
    assert all(canary in text for canary in CANARIES.values())
    with store.database.engine.connect() as connection:
        (content,) = connection.execute(sa.text("SELECT content FROM facts")).scalars()
    assert json.loads(content)["identifiers"] is True
    assert store.verify().first_bad is None


def test_an_export_of_nothing_or_to_an_unknown_format_is_one_line(store: ReviewStore, tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="no read to export"):
        export_reads(store, tmp_path / "reads.csv", NAMES, by="Chief")
    with pytest.raises(WorkbenchError, match=r"cannot export to '.xlsx'"):
        export_reads(store, tmp_path / "reads.xlsx", NAMES, by="Chief")


FORMULAS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1+1",
    "=cmd|' /C calc'!A0",
    "-",
    "--1",
    "-1e",
    "+5",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_text(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [-1, -0.25, 3, 0.0, True, "-1", "-0.5", "-1e-3", "7", "plain", "a=b", ""])
def test_a_number_stays_a_number_and_plain_text_plain(value: object) -> None:
    assert cell(value) == value


@given(st.text())
def test_no_text_begins_a_formula(text: str) -> None:
    said = cell(text)
    assert said in (text, f"'{text}")
    assert said[:1] not in ("=", "+", "@", "\t", "\r", "\n")
    assert not said.startswith("-") or float(said) <= 0


def test_formulas_are_neutral_in_the_file_too(store: ReviewStore, tmp_path: Path) -> None:
    for number, text in enumerate(FORMULAS):
        store.save(submission(f"key-{number:08d}", exam_id=f"e{number}", patient_id=text, note=text))
    export_reads(store, tmp_path / "reads.csv", NAMES, by="=Chief", identifiers=True)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "reads.csv").read_bytes().decode("utf-8-sig"), newline="")))
    assert len(rows) == 2 * len(FORMULAS)
    assert {row["patient"] for row in rows} == {f"'{text}" for text in FORMULAS}
    assert {row["patient_note"] for row in rows} == {f"'{text}" for text in FORMULAS}


def test_a_report_is_valid_dicom_with_each_eyes_grade(store: ReviewStore, tmp_path: Path) -> None:
    store.save(submission())
    export_reads(store, tmp_path / "reports", NAMES, by="Chief")
    (file,) = (tmp_path / "reports").iterdir()
    report = srread(file)
    assert report.SOPClassUID == pydicom.uid.ComprehensiveSRStorage
    assert (report.PatientID, str(report.PatientName)) == (NAMES.patient("p1"), f"{NAMES.patient('p1')}^")
    assert report.PatientBirthDate == ""
    right, left, whole = report.content.get_image_measurement_groups()
    assert [group.finding_sites[0].laterality.meaning for group in (right, left)] == ["Right", "Left"]
    said = {one.name.value: one.value.value for one in right.get_qualitative_evaluations()}
    assert said == {"GRADABLE": "YES", "ICDR": "ICDR2", "DME": "DME1"}
    assert [(one.name.value, one.value) for one in right.get_measurements()] == [("CONFIDENCE", 4)]
    assert {one.name.value: one.value.value for one in left.get_qualitative_evaluations()} == {"GRADABLE": "NO"}
    (disposition,) = whole.get_qualitative_evaluations()
    (months,) = whole.get_measurements()
    assert (disposition.value.value, months.value, months.unit.value) == ("RESCREEN", 12, "mo")
    observers = report.content.get_observer_contexts()
    assert [str(one.observer_identifying_attributes.name) for one in observers] == [f"{reader_pseudonym(store)}^"]
    seen = right.source_images[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert seen == NAMES.uid("photograph", "ab" * 32)
    assert seen in {
        image.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for image in series.ReferencedSOPSequence
    }


def reader_pseudonym(store: ReviewStore) -> str:
    from workbench.review.people import People

    user = People(store.database).user("Dr A")
    assert user is not None
    return user.pseudonym


@pytest.mark.parametrize("given_as", ["id", "pseudonym"])
def test_an_erased_patient_is_nowhere_and_the_trail_still_verifies(
    store: ReviewStore, tmp_path: Path, given_as: str
) -> None:
    patient, exam = CANARIES["patient"], CANARIES["exam"]
    store.save(canary_submission())
    store.save(canary_submission("canary-00000002"))  # a correction
    store.save(submission("another-patient"))
    store.reveal(place(CANARIES["reader"], exam, protocol="adjudication", stage="adjudication"), patient, {})
    store.save_draft(place(exam_id=exam), patient, {"note": CANARIES["name"]})
    store.record("opened", "Dr A", {}, run_id="run-1", exam_id=exam)
    queues = Queues(store.database)
    queues.assign("run-1", [(patient, exam)], "Dr A", by="Chief")
    queues.keep("Dr A", "Mine", {"search": patient.lower()[:3] + patient[3:]})
    queues.keep("Dr A", "Hers", {"search": patient})
    for name, identifiers in (("in.csv", True), ("out.json", False), ("reports", False), ("gone.csv", False)):
        export_reads(store, tmp_path / name, NAMES, by="Chief", identifiers=identifiers)
    (tmp_path / "gone.csv").unlink()
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "copy.csv").write_bytes((tmp_path / "in.csv").read_bytes())
    (tmp_path / "copies" / "not ours.json").write_text('{"rows": 1}')
    before = store.verify()

    asked = patient if given_as == "id" else NAMES.patient(patient)
    gone = erase_patient(store.database, asked, NAMES, by="Chief", folders=[tmp_path / "copies"])

    after = store.verify()
    assert (after.first_bad, after.length, after.erased) == (None, before.length + 1, gone.events)
    assert (gone.patient_id, gone.exams, gone.events) == (patient, (exam,), 2 + 1 + 1 + 1)
    assert {file.name for file in gone.files} >= {"in.csv", "out.json", "copy.csv"}
    assert gone.missing == (tmp_path / "gone.csv",)
    assert [read.patient_id for read in store.reads_of(None, history=True)] == ["p1", "p1"]
    assert [queue.name for queue in queues.kept("Dr A")] == ["Mine"]
    for needle in (patient, exam, CANARIES["name"], CANARIES["photograph"], NAMES.patient(patient)):
        assert everywhere(store, needle) == []
        for file in tmp_path.rglob("*"):
            assert not file.is_file() or needle.encode() not in file.read_bytes(), file
    assert (tmp_path / "copies" / "not ours.json").exists()
    rows = json.loads((tmp_path / "out.json").read_text())
    assert {row["patient"] for row in rows} == {NAMES.patient("p1")}
    with pytest.raises(WorkbenchError, match="nothing of the patient"):
        erase_patient(store.database, patient, NAMES, by="Chief")
    with pytest.raises(NotSavedError, match="was erased"):
        store.save(canary_submission())
    store.save(canary_submission("canary-00000003"))  # comes again years later
    assert store.verify().first_bad is None


def everywhere(store: ReviewStore, needle: str) -> list[str]:
    found = sa.MetaData()
    with store.database.engine.connect() as connection:
        found.reflect(connection)
        return [
            f"{table.name}: {row}"
            for table in found.sorted_tables
            for row in connection.execute(sa.select(table))
            if needle in str(row)
        ]


def test_nothing_of_an_erased_patient_stays_in_the_servers_tables_on_disk(postgres: PostgresServer) -> None:
    store = ReviewStore(postgres.url())
    store.save(canary_submission("on-the-disk", patient_id="CANARY-ON-DISK"))
    postgres.execute("CHECKPOINT")
    assert files_with(postgres.folder / "data" / "base", b"CANARY-ON-DISK")
    erase_patient(store.database, "CANARY-ON-DISK", NAMES, by="Chief")
    postgres.execute("CHECKPOINT")
    assert files_with(postgres.folder / "data" / "base", b"CANARY-ON-DISK") == []
    store.close()


def files_with(folder: Path, needle: bytes) -> list[str]:
    return [file.name for file in folder.rglob("*") if file.is_file() and needle in file.read_bytes()]


def test_caches_are_dropped_whole(tmp_path: Path) -> None:
    for name in ("0a", "0b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pixels.uint8").write_bytes(b"\x00")
        (tmp_path / name / "index.parquet").write_bytes(b"")
    (tmp_path / "mine").mkdir()
    assert drop_caches(tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_no_canary_is_in_a_log_or_a_traceback(
    store: ReviewStore, vandal: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    if store.database.is_sqlite:
        vandal("DROP TABLE reads")
    else:
        vandal("ALTER TABLE reads ADD CONSTRAINT never CHECK (id < 0)")  # PostgreSQL's words show the failing row
    with pytest.raises(NotSavedError) as caught:
        store.save(canary_submission())
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "not saved" in told
    assert "CANARY" not in told
    assert CANARIES["photograph"] not in told


def photographs_with_canaries() -> dict[str, bytes]:
    pixels = Image.linear_gradient("L").convert("RGB")
    exif = Image.Exif()
    for tag in (0x010E, 0x013B, 0x8298, 0x9286, 0x0110):
        exif[tag] = "CANARY in EXIF"
    exif.get_ifd(0x8825)[0x001D] = "CANARY-1950"
    turned = Image.Exif()
    turned[0x0112], turned[0x010E] = 6, "CANARY in EXIF"
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Patient", "CANARY in tEXt")
    chunks.add_itxt("XML:com.adobe.xmp", "<x>CANARY in XMP</x>")
    made = {}
    for name, kind, more in (
        (
            "jpeg",
            "JPEG",
            {"exif": exif, "comment": b"CANARY comment", "xmp": b"<x>CANARY</x>", "icc_profile": b"CANARY"},
        ),
        ("turned jpeg", "JPEG", {"exif": turned, "comment": b"CANARY comment"}),
        ("png", "PNG", {"pnginfo": chunks, "exif": exif}),
        ("tiff", "TIFF", {"exif": exif, "description": "CANARY", "artist": "CANARY"}),
    ):
        buffer = io.BytesIO()
        pixels.save(buffer, kind, **more)
        made[name] = buffer.getvalue() + (b"CANARY after the end" if kind == "JPEG" else b"")
    return made


@pytest.mark.parametrize("name", ["jpeg", "turned jpeg", "png", "tiff"])
def test_nothing_but_pixels_of_a_photograph_leaves(name: str) -> None:
    content = photographs_with_canaries()[name]
    assert b"CANARY" in content
    picture = original_picture(content)
    assert picture is not None
    assert b"CANARY" not in picture.jpeg
    with Image.open(io.BytesIO(picture.jpeg)) as image:
        image.load()
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "adobe", "adobe_transform"}


def test_a_key_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkbenchError, match=r"cannot use the pseudonym key .* --key"):
        Pseudonyms.open(tmp_path / "file" / "key")
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


def test_an_erasure_that_stops_at_a_file_can_be_run_again(
    store: ReviewStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(canary_submission())
    export_reads(store, tmp_path / "reports", NAMES, by="Chief")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pydicom", None)
        with pytest.raises(WorkbenchError, match=r"without the package pydicom"):
            erase_patient(store.database, CANARIES["patient"], NAMES, by="Chief")
    assert len(store.reads_of(None)) == 1
    gone = erase_patient(store.database, CANARIES["patient"], NAMES, by="Chief")
    assert (len(gone.files), list((tmp_path / "reports").iterdir())) == (1, [])


def test_a_file_that_cannot_be_written_anew_is_said(tmp_path: Path) -> None:
    where = tmp_path / "reviews.sqlite"
    store = ReviewStore(where, patience=0.2)
    store.save(canary_submission())
    other = sqlite3.connect(where, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(WorkbenchError, match=r"may still stand in the files .* VACUUM"):
        store.database.compact(["reads"])
    other.rollback()
    other.close()
    store.database.compact(["reads"])
    store.close()


def test_reports_need_a_package_and_say_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    monkeypatch.delitem(sys.modules, "workbench.review.dicom_report", raising=False)
    with pytest.raises(WorkbenchError, match=r"the package highdicom, .*\[dicom\]"):
        importlib.import_module("workbench.review.dicom_report")


def test_a_report_with_identifiers_holds_any_name(store: ReviewStore, tmp_path: Path) -> None:
    reader, patient = "Dr ^=\\ " + "x" * 80, "p\\1^=\n" + "y" * 80
    store.save(canary_submission(reader=reader, patient_id=patient))
    export_reads(store, tmp_path / "reports", NAMES, by="Chief", identifiers=True)
    (file,) = (tmp_path / "reports").iterdir()
    report = srread(file)
    assert report.PatientID == "p 1   " + "y" * 57
    (observer,) = report.content.get_observer_contexts()
    assert str(observer.observer_identifying_attributes.name).startswith("Dr     x")
