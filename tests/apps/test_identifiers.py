"""Fault P1: the 18 kinds of identifiers as canaries in whatever comes with a photograph, sought in all that is made.

Who keeps what: ``manifest.csv`` and ``import.json`` lie beside the photographs and name their files, as they must. All
that is made from them holds neither a path nor the name of a file: caches, runs, reports, databases, exports, logs.
The patient's and the exam's own id are in a run's tables; pages, reports and exports show them under pseudonyms or not
at all unless somebody asks, which is stored. A command that fails names the path in its one line on the user's own
terminal, and in no file.
"""

from __future__ import annotations

import gzip
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pydicom
import pytest
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from tests.apps.app_by_hand import open_app, open_exam, sent
from tests.everything_stored import pieces
from tests.reader_words import submission
from tests.small_audit import small_config, write_model, write_photograph
from workbench.audit.results import open_run
from workbench.audit.runner import run_audit
from workbench.cli.main import app as workbench
from workbench.review.desk import DATA_VARIABLE, DATABASE_VARIABLE
from workbench.review.reads import EyeRead
from workbench.review.store import NotSavedError, ReviewStore
from workbench.schema.errors import WorkbenchError

pytestmark = [
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning"),
    pytest.mark.usefixtures("fresh_app"),
]

KINDS = {
    "name": "Jane^Doe",
    "place": "Baker Street 221b",
    "date": "1950-01-02",
    "telephone": "555-0100",
    "fax": "555-0101",
    "e-mail": "jane@example.org",
    "social security": "078-05-1120",
    "record number": "MRN000111",
    "health plan": "HP-77",
    "account": "ACC-88",
    "licence": "LIC-99",
    "vehicle": "VIN-1HGCM",
    "device": "SN-4711",
    "url": "example.org-jane",
    "address of a machine": "192.0.2.77",
    "fingerprint": "FP-0xF00",
    "face": "FACE-12",
    "other": "UUID-77ab",
}
"""The 18 kinds of 45 CFR 164.514(b)(2), each as a word that stands nowhere else."""
CANARIES = {kind: f"CANARY{number:02d} {words}" for number, (kind, words) in enumerate(KINDS.items())}
ALL = " | ".join(CANARIES.values())
NEEDLE = b"canary"
"""Every canary holds it, in whatever case."""


def in_a_name(kind: str) -> str:
    return CANARIES[kind].replace(" ", "_").replace("^", "_")


def spoil(plain: Path, target: Path) -> None:
    """Write a photograph again with canaries wherever its format has a place for words."""
    exif = Image.Exif()
    for tag, kind in zip((0x010E, 0x013B, 0x8298, 0x0110, 0x0131, 0x0132), CANARIES, strict=False):
        exif[tag] = CANARIES[kind]
    exif.get_ifd(0x8769).update({0x9286: ALL, 0xA430: CANARIES["name"], 0xA431: CANARIES["device"]})
    exif.get_ifd(0x8825)[0x001D] = CANARIES["date"]
    chunks = PngImagePlugin.PngInfo()
    for kind, words in CANARIES.items():
        chunks.add_text(f"CANARY {kind}", words, zip=kind == "name")
        chunks.add_itxt(f"XMP:{kind}", f"<x>{words}</x>")
    with Image.open(plain) as image:
        pixels = image.convert("RGB")
    if target.suffix == ".png":
        pixels.save(target, pnginfo=chunks, exif=exif)
        return
    if target.suffix == ".tif":
        pixels.save(target, exif=exif, description=ALL, artist=CANARIES["name"])
        return
    pixels.save(target, exif=exif, comment=ALL.encode(), xmp=f"<x>{ALL}</x>".encode(), icc_profile=ALL.encode())
    target.write_bytes(target.read_bytes() + ALL.encode())


def dicom(target: Path) -> None:
    """Write a DICOM file whose every tag of a person is a canary; the workbench reads no photographs from DICOM."""
    tags = {"PatientName": "name", "PatientID": "record number", "PatientAddress": "place", "OtherPatientIDs": "other"}
    tags |= {"PatientTelephoneNumbers": "telephone", "InsurancePlanIdentification": "health plan"}
    tags |= {"DeviceSerialNumber": "device", "AccessionNumber": "account", "PatientComments": "e-mail"}
    image = pydicom.Dataset()
    for tag, kind in tags.items():
        setattr(image, tag, CANARIES[kind][: 16 if tag in ("AccessionNumber", "PatientTelephoneNumbers") else 64])
    image.PatientBirthDate = "19500102"
    image.SOPClassUID, image.SOPInstanceUID = pydicom.uid.SecondaryCaptureImageStorage, pydicom.uid.generate_uid()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    image.save_as(target, enforce_file_format=True)


@dataclass(frozen=True)
class Made:
    """What was made: the cohort in its custody, everything after it, and what the commands said."""

    cohort: Path
    after: Path
    run: Path
    said: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("identifiers")
    person = root / in_a_name("name") / in_a_name("place")
    photos, after = person / in_a_name("telephone") / in_a_name("e-mail") / in_a_name("date"), root / "after"
    photos.mkdir(parents=True)
    after.mkdir()
    suffixes = (".jpg", ".png", ".tif")
    lines = ["file,who,visit,side,dr,Patient Name,Comments"]
    for number in range(6):
        for eye in ("OD", "OS"):
            kind = list(CANARIES)[6 + 2 * number + (eye == "OS")]
            name = f"{number}_{eye}_{in_a_name(kind)}{suffixes[number % 3]}"
            write_photograph(root / "plain.png", seed=2 * number + (eye == "OS"))
            spoil(root / "plain.png", photos / name)
            lines.append(f"{name},study-{number},visit-{number},{eye},{number % 5},{CANARIES['name']},{ALL}")
    dicom(photos / f"{in_a_name('other')}.jpg")
    (photos / f"cut_{in_a_name('fax')}.jpg").write_bytes((photos / name.replace(".tif", ".tif")).read_bytes()[:90])
    lines.append(f"{in_a_name('other')}.jpg,study-7,visit-7,OD,1,x,x")
    lines.append(f"cut_{in_a_name('fax')}.jpg,study-7,visit-7,OS,1,x,x")
    lines.append(f"gone_{in_a_name('url')}.jpg,study-8,visit-8,OS,1,x,x")
    (photos / f"{in_a_name('account')}.csv").write_text("\n".join(lines) + "\n")
    columns = [f"--column={ours}={theirs}" for ours, theirs in (("image", "file"), ("patient_id", "who"))]
    columns += [f"--column={ours}={theirs}" for ours, theirs in (("exam_id", "visit"), ("eye", "side"))]
    columns += ["--column=icdr_grade=dr", "--split-fractions=0,0,1", f"--out={person / 'manifest'}"]
    table = photos / f"{in_a_name('account')}.csv"
    words = ["data", "import", "csv", f"--images={photos}", f"--labels={table}", *columns]
    done = CliRunner().invoke(workbench, words)
    assert done.exit_code == 0, done.output
    _break_after_the_import(photos)
    run = after / "run"
    model = write_model(after / "model")
    run_audit(small_config(person / "manifest", model, f"data.cache={after / 'cache'}"), run)
    written = CliRunner().invoke(workbench, ["report", str(run)])
    assert written.exit_code == 0, written.output
    return Made(root / in_a_name("name"), after, run, written.output)


def _break_after_the_import(photos: Path) -> None:
    """Take two photographs away from under the manifest: one is a folder now, one a link that leads to itself."""
    folder, loop = sorted(photos.glob("4_*"))
    folder.unlink()
    folder.mkdir()
    loop.unlink()
    loop.symlink_to(loop)


def leaks(found: Iterator[tuple[str, bytes]]) -> list[str]:
    return sorted({name for name, data in found if NEEDLE in data.lower()})


def test_the_canaries_are_where_they_should_be_looked_for(made: Made, tmp_path_factory: pytest.TempPathFactory) -> None:
    photographs = [path for path in made.cohort.rglob("*") if path.is_file()]
    for kind, canary in CANARIES.items():
        places = [path.name for path in photographs if canary.encode() in path.read_bytes()]
        assert places, kind
    named = str(list(made.cohort.rglob("*")))
    assert [kind for kind in CANARIES if in_a_name(kind) not in named] == []
    hidden = tmp_path_factory.mktemp("hidden")  # the search itself finds what it is there to find
    (hidden / "hidden.gz").write_bytes(gzip.compress(ALL.encode()))
    pd.DataFrame({"x": [CANARIES["name"]] * 3}).to_parquet(hidden / "hidden.parquet", compression="zstd")
    found = leaks(pieces(hidden))
    assert found
    assert {name.split("[")[0] for name in found} == {"hidden.parquet", "hidden.gz"}
    assert NEEDLE not in (hidden / "hidden.gz").read_bytes().lower()  # not without unpacking it


def test_nothing_that_an_audit_or_a_report_makes_holds_one(made: Made) -> None:
    assert leaks(pieces(made.after)) == []
    assert NEEDLE not in made.said.lower().encode()
    eyes = open_run(made.run).eyes()
    broken = dict(zip(eyes["exam_id"] + eyes["eye"], eyes["reason"], strict=True))
    told = {name: reason for name, reason in broken.items() if isinstance(reason, str)}
    assert set(told) == {"visit-4OD", "visit-4OS"}  # a folder and a loop, each with its reason and without its name
    left_out = json.loads(next(made.cohort.rglob("import.json")).read_text(encoding="utf-8"))["left_out"]
    assert len(left_out) == 3  # the DICOM file, the cut one, the one that is not there
    report = (made.run / "report.html").read_text(encoding="utf-8")
    assert not [f"study-{number}" for number in range(9) if f"study-{number}" in report]  # no patient, only exams


def test_no_page_export_log_or_traceback_holds_one(
    made: Made,
    where: Path | str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    run = Path(shutil.copytree(made.run, tmp_path / "run"))
    database = str(where) if isinstance(where, str) else str(run / "reviews.sqlite")
    if isinstance(where, str):
        monkeypatch.setenv(DATABASE_VARIABLE, where)
    monkeypatch.setenv(DATA_VARIABLE, str(next(made.cohort.rglob("manifest.csv"))))
    app = open_app(run, monkeypatch)
    app.session_state["true_names"] = False
    pages = [sent(app.run())]
    for exam in ("visit-0", "visit-1", "visit-2", "visit-4"):  # JPEG, PNG, TIFF, and the broken one
        app = open_exam(run, "assisted", monkeypatch, exam)
        app.session_state["true_names"] = False
        pages.append(sent(app.run()))
        assert "Photograph" in pages[-1] or "photograph" in pages[-1]
    assert not [page for page in pages if NEEDLE in page.lower().encode()]
    assert not [page for page in pages for number in range(6) if f"study-{number}" in page or f"visit-{number}" in page]

    store = ReviewStore(database if "://" in database else Path(database))
    for number, stage in enumerate(("first", "second")):
        for reader in ("CANARY Dr House", "CANARY Dr Wilson"):
            store.save(_read(run, f"{reader}-{number:08d}", stage, reader))
    with pytest.raises((NotSavedError, WorkbenchError)) as failed:
        store.save(_read(run, "CANARY Dr House-00000000", "first", "CANARY Dr House", note="other words"))
    store.close()
    assert NEEDLE not in str(failed.value).lower().encode()
    out = tmp_path / "exports"
    out.mkdir()
    for name in ("reads.csv", "reads.json", "reports"):
        _run("review", "export", database, "--out", out / name)
    _run("review", "readers", database, "--run", run, "--out", out / "readers", "--resamples", "100")
    names = {path.suffix for path in out.rglob("*") if path.is_file()}
    assert {".csv", ".json", ".dcm", ".imrmc"} <= names
    found = [*pieces(out), *pieces(run / "analysis"), ("log", caplog.text.encode())]
    found += [("terminal", "".join(capfd.readouterr()).encode())]
    assert leaks(iter(found)) == []
    ids = [name for name, data in found if b"study-" in data or b"visit-" in data]
    assert [name for name in ids if not name.startswith(("worklist", "decisions", "eyes", "attention"))] == []


def _read(run: Path, key: str, stage: str, reader: str, note: str = "") -> Any:
    shown = {} if stage == "first" else {"exam_referred": False}
    eye = EyeRead(eye="OD", gradable=True, icdr_grade=2, note=ALL)
    named = {"run_id": open_run(run).manifest.run_id, "exam_id": "visit-0", "patient_id": "study-0"}
    return submission(
        key, protocol="blinded", stage=stage, reader=reader, note=note or ALL, shown=shown, eyes=(eye,), **named
    )


def _run(*words: object) -> str:
    done = CliRunner().invoke(workbench, list(map(str, words)))
    assert done.exit_code == 0, (done.output, done.exception)
    assert NEEDLE not in done.output.lower().encode()
    return done.output


@pytest.mark.parametrize("command", ["audit", "report", "inspect", "export"])
def test_a_command_that_fails_names_the_path_on_the_terminal_and_in_no_file(
    made: Made, tmp_path: Path, command: str
) -> None:
    gone = made.cohort / "gone"
    asked: dict[str, list[object]] = {
        "audit": ["audit", "--model", made.after / "model", "--data", gone / "manifest.csv", "--out", tmp_path / "run"],
        "report": ["report", gone],
        "inspect": ["data", "inspect", gone],
        "export": ["review", "export", gone, "--out", tmp_path / "reads.csv"],
    }
    done = CliRunner().invoke(workbench, list(map(str, asked[command])))
    assert isinstance(done.exception, (WorkbenchError, FileNotFoundError))
    assert len(str(done.exception).splitlines()) == 1
    assert str(gone) in str(done.exception)
    assert leaks(pieces(tmp_path)) == []
