"""Counts of a manifest, and whether its files are still there."""

from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from workbench.data.importers.result import Remark
from workbench.data.summary import by_reason, summarise, verify_files
from workbench.data.summary_tables import print_remarks, print_summary
from workbench.schema.files import sha256_file
from workbench.schema.manifest import as_manifest, empty_manifest


@pytest.fixture
def manifest(tmp_path: Path) -> pd.DataFrame:
    """A pair, a single eye and an eye of unknown side."""
    told = [("p", "OD", 0, "train"), ("p", "OS", 2, "train"), ("q", "OS", None, "test"), ("r", "unknown", 2, "test")]
    rows = []
    for place, (patient, eye, grade, split) in enumerate(told):
        path = tmp_path / f"{place}.png"
        path.write_bytes(bytes([place]))
        row = {"patient_id": patient, "exam_id": patient, "eye": eye, "icdr_grade": grade, "split": split}
        rows.append({**row, "image_path": str(path), "sha256": sha256_file(path), "quality": "good"})
    return as_manifest(pd.DataFrame(rows))


def test_counts(manifest: pd.DataFrame) -> None:
    counts = summarise(manifest)
    assert (counts["photographs"], counts["patients"], counts["exams"], counts["complete_pairs"]) == (4, 3, 3, 1)
    assert counts["eyes"] == {"OD": 1, "OS": 2, "unknown": 1}
    assert counts["grades"] == {
        "OD": {"0": 1, "2": 0, "none": 0}, "OS": {"0": 0, "2": 1, "none": 1}, "unknown": {"0": 0, "2": 1, "none": 0},
    }  # fmt: skip
    assert counts["patients_by_split"] == {"train": 1, "validation": 0, "test": 2}
    assert counts["grades_by_split"]["test"] == {"0": 0, "2": 1, "none": 1}
    assert counts["quality"] == {"good": 4}
    assert counts["conflicts"] == {"unknown laterality": 1}


def test_an_empty_manifest_counts_nothing() -> None:
    counts = summarise(empty_manifest())
    assert (counts["photographs"], counts["complete_pairs"], counts["grades"]) == (0, 0, {})


def test_files_in_order(manifest: pd.DataFrame) -> None:
    assert verify_files(manifest) == []


def test_a_file_gone_and_a_byte_flipped(manifest: pd.DataFrame) -> None:
    gone, flipped = (Path(path) for path in manifest["image_path"][:2])
    gone.unlink()
    flipped.write_bytes(b"x")
    found = {remark.source: remark.reason for remark in verify_files(manifest)}
    assert found == {str(gone): "missing", str(flipped): "its bytes changed since the import (sha256 differs)"}
    assert len(verify_files(manifest, hashes=False)) == 1


def test_a_missing_mask(manifest: pd.DataFrame, tmp_path: Path) -> None:
    manifest.loc[0, "mask_path"] = str(tmp_path / "mask.png")
    assert verify_files(manifest) == [Remark(str(tmp_path / "mask.png"), "missing")]


def test_reasons_are_grouped_the_most_frequent_first() -> None:
    remarks = [Remark("line 2", "empty"), Remark("line 3", "odd: x"), Remark("line 4", "odd: y")]
    assert by_reason(remarks) == {"odd": ["line 3: x", "line 4: y"], "empty": ["line 2"]}


def test_names_are_printed_literally(manifest: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=120)
    print_summary(summarise(manifest), console, "[bold]a[/]")
    print_remarks("Left out", [Remark("[red]x[/red].jpg", "[link]")] * 5, console)
    print_remarks("Nothing", [], console)
    shown = capsys.readouterr().out
    assert "[bold]a[/]" in shown
    assert "[red]x[/red].jpg" in shown
    assert "and 2 more" in shown
    assert "2 moderate NPDR" in shown
    assert "Nothing" not in shown
