"""A synthetic cohort on disk: whole, repeatable, and never written over something else."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from workbench.data.contact_sheet import contact_sheet
from workbench.data.synthetic.cohort import write_cohort
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import sha256_file
from workbench.schema.manifest import COLUMNS, find_conflicts, read_manifest

SETTINGS = {"patients": 5, "size": 48, "seed": 11, "workers": 1}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic") / "cohort"
    return out, write_cohort(out, **SETTINGS)


def image_hashes(manifest, patients=None):
    rows = manifest if patients is None else manifest[manifest["patient_id"].isin(patients)]
    return dict(zip(zip(rows["patient_id"], rows["eye"], strict=True), rows["sha256"], strict=True))


def test_manifest_is_complete_and_without_conflict(cohort):
    out, manifest = cohort
    assert list(manifest.columns) == list(COLUMNS)
    assert not manifest.isna().any().any()
    assert find_conflicts(manifest) == []
    assert set(manifest["dataset"]) == {"synthetic"}
    for row in manifest.itertuples():
        assert sha256_file(out / "images" / f"{row.patient_id}_{row.eye}.jpg") == row.sha256
        assert cv2.imread(row.image_path).shape == (48, 48, 3)
        mask = cv2.cvtColor(cv2.imread(row.mask_path), cv2.COLOR_BGR2RGB)
        assert (mask == (255, 255, 0)).all(axis=2).any(), "the optic disc is yellow in RGB"


def test_the_tables_beside_it_tell_lesions_and_artefacts(cohort):
    out, manifest = cohort
    lesions = pd.read_csv(out / "lesions.csv")
    assert list(lesions["icdr_grade"]) == list(manifest["icdr_grade"])
    healthy = lesions[lesions["icdr_grade"] == 0].drop(columns=["patient_id", "eye", "icdr_grade"])
    assert (healthy == 0).all().all()
    artefacts = pd.read_csv(out / "artefacts.csv")
    assert set(artefacts["patient_id"]) <= set(manifest["patient_id"])
    assert artefacts[["x", "y"]].to_numpy().min() >= 0
    assert artefacts[["x", "y"]].to_numpy().max() <= 1


def test_a_second_call_does_no_work(cohort):
    out, manifest = cohort
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = write_cohort(out, **SETTINGS)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    pd.testing.assert_frame_equal(again, manifest)


def test_patients_are_the_same_in_a_shorter_cohort(cohort, tmp_path):
    _, manifest = cohort
    shorter = write_cohort(tmp_path / "shorter", **{**SETTINGS, "patients": 2})
    assert image_hashes(shorter) == image_hashes(manifest, set(shorter["patient_id"]))


@pytest.mark.slow
def test_two_processes_write_what_one_writes(tmp_path):
    settings = {"patients": 24, "size": 32, "seed": 4}
    one = write_cohort(tmp_path / "one", **settings, workers=1)
    two = write_cohort(tmp_path / "two", **settings, workers=2)
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert [(tmp_path / "one" / name).read_bytes() for name in names] == [
        (tmp_path / "two" / name).read_bytes() for name in names
    ]
    assert image_hashes(one) == image_hashes(two)


@pytest.mark.parametrize("damage", ["delete", "flip", "cut short"])
def test_a_damaged_cohort_is_made_again(tmp_path, damage):
    out = tmp_path / "cohort"
    manifest = write_cohort(out, **{**SETTINGS, "patients": 1})
    victim = sorted((out / "masks").iterdir())[0]
    whole = victim.read_bytes()
    if damage == "delete":
        victim.unlink()
    elif damage == "flip":
        victim.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    else:
        (out / "manifest.csv").unlink()
        record = json.loads((out / "cohort.json").read_text())
        (out / "cohort.json").write_text(json.dumps({**record, "files": {}}))
    again = write_cohort(out, **{**SETTINGS, "patients": 1})
    assert victim.read_bytes() == whole
    pd.testing.assert_frame_equal(again, manifest)


def test_another_cohort_is_not_written_over(cohort):
    out, manifest = cohort
    with pytest.raises(WorkbenchError, match="seed 11, not 12"):
        write_cohort(out, **{**SETTINGS, "seed": 12})
    assert len(read_manifest(out)) == len(manifest)


def test_a_foreign_manifest_is_not_written_over(tmp_path):
    (tmp_path / "manifest.csv").write_text("patient_id\n")
    with pytest.raises(WorkbenchError, match="not a synthetic cohort"):
        write_cohort(tmp_path, **SETTINGS)
    assert (tmp_path / "manifest.csv").read_text() == "patient_id\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"patients": 0}, "0 patients"), ({"size": 8}, "8 pixels"), ({"prevalence": "usual"}, "'usual'")],
)
def test_settings_out_of_range_are_refused_before_any_work(tmp_path, change, message):
    with pytest.raises(WorkbenchError, match=message):
        write_cohort(tmp_path / "cohort", **{**SETTINGS, **change})
    assert not (tmp_path / "cohort").exists()


def test_a_record_that_is_none_is_refused(tmp_path):
    (tmp_path / "cohort.json").write_text("[1, 2]")
    with pytest.raises(WorkbenchError, match=r"cohort\.json is not a cohort's record"):
        write_cohort(tmp_path, **SETTINGS)


def test_splits_are_by_patient(tmp_path):
    manifest = write_cohort(tmp_path / "cohort", patients=20, size=32, workers=1)
    assert (manifest.groupby("patient_id")["split"].nunique() == 1).all()
    patients = manifest.drop_duplicates("patient_id")["split"].value_counts()
    assert patients["train"] == pytest.approx(14, abs=1)
    assert patients["test"] == pytest.approx(4, abs=1)


def test_contact_sheet_keeps_order_and_shape():
    red, green = np.zeros((10, 10, 3), np.uint8), np.zeros((10, 20, 3), np.uint8)
    red[..., 0], green[..., 1] = 200, 200
    sheet = contact_sheet([red, green, red], columns=2, side=40)
    assert sheet.shape == (80, 80, 3)
    assert tuple(sheet[20, 20]) == tuple(sheet[60, 20]) == (200, 0, 0)
    assert tuple(sheet[20, 60]) == (0, 200, 0)
    assert not sheet[5, 60].any(), "a wide photograph is not squeezed"
    assert not sheet[60, 60].any()


def test_an_empty_contact_sheet_is_refused():
    with pytest.raises(WorkbenchError, match="0 photographs"):
        contact_sheet([], columns=2)
