"""The manifest on disk and in memory, and every conflict that it can hold."""

from pathlib import Path

import pandas as pd
import pytest

from workbench.schema.errors import WorkbenchError
from workbench.schema.manifest import (
    BLOCKING,
    COLUMNS,
    REQUIRED,
    as_manifest,
    empty_manifest,
    find_conflicts,
    manifest_hash,
    read_manifest,
    write_manifest,
)


def rows(*given: dict[str, object]) -> pd.DataFrame:
    """Return a manifest of rows that differ from a plain one as told."""
    plain = {"patient_id": "p", "exam_id": "e", "eye": "OD", "split": "train"}
    table = [
        {**plain, "image_path": f"/data/{place}.png", "sha256": f"{place:064x}", **values}
        for place, values in enumerate(given)
    ]
    return as_manifest(pd.DataFrame(table))


PAIR = ({"eye": "OD", "icdr_grade": 2, "gradable": True, "age": 61.5}, {"eye": "OS", "gradable": False})


def test_every_column_has_its_type() -> None:
    manifest = rows(*PAIR)
    assert list(manifest.columns) == list(COLUMNS)
    assert {name: str(kind) for name, kind in manifest.dtypes.items()} == COLUMNS
    assert {name: str(kind) for name, kind in empty_manifest().dtypes.items()} == COLUMNS


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_column_is_named(name: str) -> None:
    with pytest.raises(WorkbenchError, match=f"lacks the column '{name}'"):
        as_manifest(rows(*PAIR).drop(columns=name))


def test_a_value_that_does_not_fit_its_column() -> None:
    with pytest.raises(WorkbenchError, match="column 'icdr_grade'"):
        rows({"icdr_grade": "two"})


def test_written_and_read_again(tmp_path: Path) -> None:
    manifest = rows(*PAIR)
    write_manifest(manifest, tmp_path / "manifest.csv")
    assert read_manifest(tmp_path).equals(manifest)
    assert read_manifest(tmp_path / "manifest.csv").equals(manifest)


def test_paths_below_the_manifest_are_relative_so_that_the_folder_can_move(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    manifest = rows({"image_path": str(old / "images" / "a.png"), "mask_path": str(old / "masks" / "a.png")})
    write_manifest(manifest, old / "manifest.csv")
    assert str(old) not in (old / "manifest.csv").read_text()
    old.rename(new)
    assert read_manifest(new)["image_path"].tolist() == [str(new / "images" / "a.png")]
    assert read_manifest(new)["mask_path"].tolist() == [str(new / "masks" / "a.png")]


def test_words_that_look_like_nulls_stay_words(tmp_path: Path) -> None:
    write_manifest(rows({"patient_id": "NA", "exam_id": "null"}), tmp_path / "manifest.csv")
    assert read_manifest(tmp_path)[["patient_id", "exam_id"]].values.tolist() == [["NA", "null"]]


@pytest.mark.parametrize(
    ("column", "value"), [("eye", "left"), ("split", "val"), ("quality", "bad"), ("icdr_grade", "5")]
)
def test_a_value_out_of_range_names_its_line(tmp_path: Path, column: str, value: str) -> None:
    table = rows(*PAIR).astype("string")
    table.loc[1, column] = value
    table.to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(WorkbenchError, match=f"line 3: {column} is .*{value}"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("column", REQUIRED)
def test_an_empty_required_cell_names_its_line(tmp_path: Path, column: str) -> None:
    table = rows(*PAIR).astype("string")
    table.loc[1, column] = pd.NA
    table.to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(WorkbenchError, match=f"line 3: {column} is empty"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"", b'a,b\n"', b"\xff\xfe\x00a", b"a\n1,2,3\n1,2,3,4\n"])
def test_no_csv_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(WorkbenchError, match=r"manifest\.csv|the manifest lacks") as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match=r"no manifest at .*manifest\.csv"):
        read_manifest(tmp_path)


def test_hash_is_of_what_is_said_not_of_where_it_lies() -> None:
    manifest = rows(*PAIR)
    elsewhere = manifest.assign(image_path=["/x", "/y"]).iloc[::-1]
    assert manifest_hash(elsewhere) == manifest_hash(manifest)
    assert manifest_hash(manifest.assign(icdr_grade=3)) != manifest_hash(manifest)


CONFLICTS = {
    "same eye twice": ({"eye": "OS"}, {"eye": "OS"}),
    "duplicate image": ({"sha256": "f", "eye": "OD"}, {"sha256": "f", "eye": "OS"}),
    "patient in two splits": ({"exam_id": "e1"}, {"exam_id": "e2", "split": "test"}),
    "exam of two patients": ({"eye": "OD"}, {"eye": "OS", "patient_id": "q"}),
    "unknown laterality": ({"eye": "unknown"},),
}


def test_a_plain_pair_has_no_conflict() -> None:
    assert find_conflicts(rows(*PAIR)) == []
    assert find_conflicts(empty_manifest()) == []


@pytest.mark.parametrize("kind", CONFLICTS)
def test_each_conflict_is_found_alone_and_among_others(kind: str) -> None:
    given = CONFLICTS[kind]
    found = find_conflicts(rows(*given))
    assert [conflict.kind for conflict in found] == [kind]
    assert found[0].rows == tuple(range(len(given)))
    innocent = tuple({"patient_id": f"other{place}", "exam_id": f"other{place}"} for place in range(5))
    shifted = find_conflicts(rows(*innocent, *given))
    assert [conflict.rows for conflict in shifted] == [tuple(place + 5 for place in range(len(given)))]


def test_every_conflict_but_the_unknown_eye_blocks() -> None:
    assert set(BLOCKING) == set(CONFLICTS) - {"unknown laterality"}


def test_two_photographs_of_unknown_side_are_not_the_same_eye() -> None:
    kinds = [conflict.kind for conflict in find_conflicts(rows({"eye": "unknown"}, {"eye": "unknown"}))]
    assert kinds == ["unknown laterality"] * 2
