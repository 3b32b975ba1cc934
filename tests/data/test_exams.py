"""Exams: two eyes in order, absent ones empty and told, the same alone or in a batch."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from workbench.data.exams import Exams, open_exams
from workbench.data.preprocess import preprocess_photograph
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import sha256_file
from workbench.schema.manifest import COLUMNS, as_manifest
from workbench.schema.specs import PreprocessSpec

SPEC = PreprocessSpec(size=32)


def photograph(path: Path, colour: tuple[int, int, int], radius: int = 34) -> str:
    photo = np.zeros((80, 100, 3), np.uint8)
    cv2.circle(photo, (50, 40), radius, colour, -1)
    cv2.imwrite(str(path), photo)
    return str(path)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Exam a: both; b: OS only; c: OD without a disc; d: one photograph of an unknown eye; e: OD and an unknown one."""
    folder = tmp_path_factory.mktemp("photographs")
    rows = []
    listed = [("e", "OD", 2), ("a", "OS", 1), ("a", "OD", 0), ("b", "OS", 4), ("c", "OD", 3), ("d", "unknown", 1)]
    for number, (exam, eye, grade) in enumerate([*listed, ("e", "unknown", 0)]):
        path = photograph(folder / f"{number}.png", (20, 90, 120 + 15 * number), 34 if exam != "c" else 0)
        split = "train" if exam in "ab" else "test"
        rows.append(
            {
                "patient_id": f"p{exam}", "exam_id": exam, "eye": eye, "image_path": path, "split": split,
                "sha256": sha256_file(Path(path)), "icdr_grade": grade, "age": 60, "quality": "good",
            }
        )  # fmt: skip
    return as_manifest(pd.DataFrame(rows))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def exams(manifest: pd.DataFrame, cache: Path) -> Exams:
    return open_exams(manifest, SPEC, cache=cache)


def test_two_rows_per_exam_right_eye_first(exams: Exams) -> None:
    assert exams.exam_ids == ["a", "b", "c", "d", "e"]
    assert len(exams) == 5
    assert exams.eyes["exam_id"].tolist() == [exam for exam in "abcde" for _ in range(2)]
    assert exams.eyes["eye"].tolist() == ["OD", "OS"] * 5
    assert exams.eyes["status"].tolist() == [
        "ok", "ok", "missing", "ok", "ungradable", "missing", "missing", "missing", "ok", "missing",
    ]  # fmt: skip
    assert exams.eyes["reason"].fillna("").tolist() == [
        "", "", "no photograph", "", "ungradable (no disc)", "no photograph",
        "laterality unknown", "laterality unknown", "", "laterality unknown",
    ]  # fmt: skip
    geometry = ["crop_x", "crop_y", "crop_side", "photo_width", "photo_height"]
    first = ["exam_id", "patient_id", "eye", "status", "reason"]
    assert list(exams.eyes.columns) == [*first, *(name for name in COLUMNS if name not in first), *geometry]


def test_what_is_known_of_the_exam_is_told_of_the_missing_eye(exams: Exams) -> None:
    row = exams.eyes.iloc[2]
    assert (row["patient_id"], row["split"], row["age"]) == ("pb", "train", 60)
    assert row[["icdr_grade", "image_path", "quality", "crop_x"]].isna().all()


def test_a_batch_holds_the_prepared_pixels(exams: Exams, manifest: pd.DataFrame) -> None:
    batch = exams.batch(range(5))
    assert batch.x.shape == (5, 6, 32, 32)
    assert batch.x.dtype == torch.float32
    assert float(batch.x.min()) == 0
    assert float(batch.x.max()) <= 1
    assert batch.present.tolist() == [[True, True], [False, True], [False, False], [False, False], [True, False]]
    assert batch.grade.tolist() == [[0, 1], [-1, 4], [-1, -1], [-1, -1], [2, -1]]
    assert batch.exam_ids == ("a", "b", "c", "d", "e")
    assert batch.patient_ids == ("pa", "pb", "pc", "pd", "pe")
    assert not batch.x[1, :3].any()
    assert not batch.x[2:4].any()
    for channel, eye in ((0, "OD"), (3, "OS")):
        path = manifest.query("exam_id == 'a' and eye == @eye")["image_path"].item()
        expected = preprocess_photograph(Path(path), SPEC)
        assert torch.equal(
            batch.x[0, channel : channel + 3], torch.from_numpy(expected.pixels).permute(2, 0, 1).float() / 255
        )
        assert np.array_equal(exams.pixels(0, eye), expected.pixels)
        assert exams.geometry(0, eye) == expected.geometry


def test_an_ungradable_eye_keeps_its_grade_in_the_table_only(exams: Exams) -> None:
    assert exams.eyes["icdr_grade"][4] == 3
    assert exams.batch([2]).grade.tolist() == [[-1, -1]]


def test_the_same_exam_has_the_same_bytes_alone_or_in_a_batch(exams: Exams) -> None:
    together = exams.batch([4, 0, 1])
    for place, index in enumerate((4, 0, 1)):
        alone = exams.batch([index])
        assert torch.equal(together.x[place], alone.x[0])
        assert together.exam_ids[place] == alone.exam_ids[0]


def test_absent_eyes_have_no_pixels_and_no_geometry(exams: Exams) -> None:
    assert exams.pixels(1, "OD") is None
    assert exams.geometry(1, "OD") is None
    assert exams.geometry(2, "OD") is None


def test_a_subset_is_the_same_exams(exams: Exams) -> None:
    part = exams.subset([4, 1])
    assert part.exam_ids == ["e", "b"]
    assert part.eyes["exam_id"].tolist() == ["e", "e", "b", "b"]
    assert torch.equal(part.batch([0, 1]).x, exams.batch([4, 1]).x)
    assert part.geometry(1, "OS") == exams.geometry(1, "OS")
    assert exams.batch([]).x.shape == (0, 6, 32, 32)


def test_exams_travel_to_another_process_as_a_table_not_as_pixels(exams: Exams) -> None:
    packed = pickle.dumps(exams)
    assert torch.equal(pickle.loads(packed).batch([0]).x, exams.batch([0]).x)
    assert b"pixels.uint8" not in packed
    assert len(packed) < 60_000


def test_order_of_the_manifest_changes_nothing(exams: Exams, manifest: pd.DataFrame, cache: Path) -> None:
    shuffled = open_exams(manifest.sample(frac=1, random_state=3), SPEC, cache=cache)
    pd.testing.assert_frame_equal(shuffled.eyes, exams.eyes)
    assert torch.equal(shuffled.batch(range(5)).x, exams.batch(range(5)).x)


def test_split_and_limit_choose_exams(manifest: pd.DataFrame, cache: Path) -> None:
    assert open_exams(manifest, SPEC, cache=cache, split="train").exam_ids == ["a", "b"]
    chosen = [open_exams(manifest, SPEC, cache=cache, limit=limit).exam_ids for limit in (1, 3, 4)]
    assert [len(ids) for ids in chosen] == [1, 3, 4]
    assert all(set(less) < set(more) for less, more in itertools.pairwise(chosen))
    backwards = open_exams(manifest[::-1], SPEC, cache=cache, limit=3).exam_ids
    assert backwards == chosen[1] == sorted(chosen[1])


def test_conflicts_are_refused_with_the_exam_named(manifest: pd.DataFrame, cache: Path) -> None:
    two_left = manifest.assign(eye=manifest["eye"].mask(manifest["exam_id"] == "a", "OS"))
    other_patient = manifest.copy()
    other_patient.loc[1, "patient_id"] = "px"
    two_splits = manifest.copy()
    two_splits.loc[1, "split"] = "validation"
    wrong = {
        "exam a has two photographs of the eye OS": two_left,
        "exam a belongs to two patients": other_patient,
        "exam a belongs to two splits": two_splits,
    }
    for message, table in wrong.items():
        with pytest.raises(WorkbenchError, match=message):
            open_exams(table, SPEC, cache=cache)
    with pytest.raises(WorkbenchError, match="no photograph in the split 'validation'"):
        open_exams(manifest, SPEC, cache=cache, split="validation")
    with pytest.raises(WorkbenchError, match="limit is 0"):
        open_exams(manifest, SPEC, cache=cache, limit=0)


def test_only_unknown_eyes_still_open(manifest: pd.DataFrame, cache: Path) -> None:
    exams = open_exams(manifest[manifest["exam_id"] == "d"], SPEC, cache=cache)
    assert exams.eyes["status"].tolist() == ["missing", "missing"]
    assert not exams.batch([0]).present.any()
