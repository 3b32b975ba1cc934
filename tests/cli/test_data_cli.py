"""`workbench data ...` as a user runs it: what is written, what is said, the exit code."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.cli.main import main
from workbench.schema.manifest import read_manifest


@pytest.fixture
def workbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the program with some words; returns (exit code, stdout, stderr)."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["workbench", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four patients in EyePACS' layout."""
    folder = tmp_path / "source"
    (folder / "images").mkdir(parents=True)
    lines = ["image,level"]
    for place in range(8):
        name = f"{place // 2}_{('left', 'right')[place % 2]}"
        noise = np.random.default_rng(place).integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{name}.jpeg")
        lines.append(f"{name},{place % 5}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def words_of_import(source: Path, out: Path, *more: str) -> list[str | Path]:
    files = ["--images", source / "images", "--labels", source / "labels.csv"]
    return ["data", "import", "eyepacs", *files, "--out", out, *more]


def test_import_then_inspect(workbench, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (source / "images" / "3_left.jpeg").write_bytes(b"no photograph")
    code, shown, _ = workbench(*words_of_import(source, out))
    assert code == 0
    for words in ("complete pairs 3", "Left out", "not an image", "labels.csv line 8", f"workbench data inspect {out}"):
        assert words in shown
    assert len(read_manifest(out)) == 7
    assert json.loads((out / "import.json").read_text())["left_out"][0]["reason"] == "not an image"
    code, shown, _ = workbench("data", "inspect", out)
    assert code == 0
    assert "In order" in shown
    assert "not an image" in shown, "what the import left out is told again"


def test_inspect_finds_what_went_wrong_since(workbench, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    workbench(*words_of_import(source, out))
    (source / "images" / "1_left.jpeg").unlink()
    with (source / "images" / "2_left.jpeg").open("ab") as photograph:
        photograph.write(b"x")
    code, shown, _ = workbench("data", "inspect", out / "manifest.csv")
    assert code == 1
    assert "missing" in shown
    assert "sha256 differs" in shown
    assert "2 file(s) and 0 conflict(s)" in shown
    code, shown, _ = workbench("data", "inspect", "--no-hash", out)
    assert code == 1
    assert "1 file(s)" in shown


def test_inspect_finds_conflicts_and_a_changed_manifest(workbench, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    workbench(*words_of_import(source, out))
    text = (out / "manifest.csv").read_text()
    (out / "manifest.csv").write_text(text.replace("0,0,OS", "0,0,OD"))
    code, shown, _ = workbench("data", "inspect", out)
    assert code == 1
    assert "same eye twice" in shown
    assert "changed after the import" in shown


def test_a_duplicate_is_left_out_or_kept_and_recorded(workbench, source: Path, tmp_path: Path) -> None:
    (source / "images" / "1_left.jpeg").write_bytes((source / "images" / "2_left.jpeg").read_bytes())
    code, shown, _ = workbench(*words_of_import(source, tmp_path / "a"))
    assert code == 0
    assert "duplicate image" in shown
    assert len(read_manifest(tmp_path / "a")) == 6
    code, shown, _ = workbench(*words_of_import(source, tmp_path / "b", "--allow-conflicts"))
    assert code == 0
    assert len(read_manifest(tmp_path / "b")) == 8
    record = json.loads((tmp_path / "b" / "import.json").read_text())
    assert record["conflicts_allowed"] is True
    assert record["conflicts"][0]["kind"] == "duplicate image"


def test_splits_are_as_asked(workbench, source: Path, tmp_path: Path) -> None:
    workbench(*words_of_import(source, tmp_path / "out", "--split-fractions", "0,0,1"))
    assert set(read_manifest(tmp_path / "out")["split"]) == {"test"}


def test_a_column_can_be_named(workbench, source: Path, tmp_path: Path) -> None:
    (source / "labels.csv").write_text("file,who,side\n1_left.jpeg,a,L\n1_right.jpeg,a,R\n")
    words = words_of_import(source, tmp_path / "out")
    words[2] = "csv"
    columns = [word for pair in ("image=file", "patient_id=who", "eye=side") for word in ("--column", pair)]
    code, _, _ = workbench(*words, *columns)
    assert code == 0
    assert read_manifest(tmp_path / "out")["eye"].tolist() == ["OD", "OS"]


BAD = {
    "unknown layout": (
        ["data", "import", "eyepac", "--images", "{source}", "--out", "{out}"],
        "did you mean 'eyepacs'",
    ),
    "no labels": (["data", "import", "eyepacs", "--images", "{source}", "--out", "{out}"], "add --labels FILE"),
    "labels are missing": (
        ["data", "import", "eyepacs", "--images", "{source}", "--labels", "none.csv", "--out", "{out}"],
        "no label table at none.csv",
    ),
    "images are missing": (
        ["data", "import", "eyepacs", "--images", "nowhere", "--labels", "{source}/labels.csv", "--out", "{out}"],
        "no folder at nowhere",
    ),
    "wrong column": (
        ["data", "import", "csv", "--images", "{source}", "--labels", "{source}/labels.csv", "--out", "{out}"],
        "lacks the column 'patient_id'; it has image, level",
    ),
    "out is a file": (
        ["data", "import", "folder", "--images", "{source}", "--out", "{source}/labels.csv"],
        "is a file, not a folder",
    ),
    "not shares": (
        ["data", "import", "folder", "--images", "{source}", "--out", "{out}", "--split-fractions", "0.5,0.5"],
        "not three shares of 1",
    ),
    "no numbers": (
        ["data", "import", "folder", "--images", "{source}", "--out", "{out}", "--split-fractions", "most"],
        "are not numbers",
    ),
    "no mapping": (
        ["data", "import", "csv", "--images", "{source}", "--out", "{out}", "--column", "image"],
        "is not FIELD=COLUMN",
    ),
    "no manifest": (["data", "inspect", "{out}"], "no manifest at"),
    "a folder without photographs": (
        ["data", "import", "folder", "--images", "{empty}", "--out", "{out}"],
        "no photograph could be imported",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_mistake_is_one_line_and_writes_nothing(workbench, source: Path, tmp_path: Path, kind: str) -> None:
    words, said = BAD[kind]
    (tmp_path / "empty").mkdir()
    places = {"source": source, "out": tmp_path / "out", "empty": tmp_path / "empty"}
    code, shown, error = workbench(*(word.format(**places) for word in words))
    last = [line for line in error.splitlines() if line.startswith("error")]
    assert code == 2
    assert len(last) == 1
    assert said in last[0]
    assert "Traceback" not in shown + error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["import", "synth", "inspect"])
def test_help_is_complete(workbench, command: str) -> None:
    code, shown, _ = workbench("data", command, "--help")
    assert code == 0
    assert f"workbench data {command}" in shown
    assert "Example" in shown


def test_synth_then_inspect(workbench, tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    code, shown, _ = workbench(
        "data", "synth", "--patients", "3", "--size", "48", "--seed", "5", "--workers", "1", "--out", out
    )
    assert code == 0
    assert "complete pairs" in shown
    assert f"workbench data inspect {out}" in shown
    assert read_manifest(out)["patient_id"].nunique() == 3
    code, shown, _ = workbench("data", "inspect", out)
    assert code == 0
    assert "In order" in shown


def test_synth_tells_an_unknown_prevalence(workbench, tmp_path: Path) -> None:
    code, _, error = workbench("data", "synth", "--prevalence", "high", "--out", tmp_path / "cohort")
    assert code == 2
    assert "unknown prevalence 'high'" in error
