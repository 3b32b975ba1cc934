"""The cache: made once, whole or absent, one row with a reason per bad photograph."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from workbench.data import cache as cache_module
from workbench.data.cache import CHANGED, INDEX_FILE, PIXELS_FILE, build_cache
from workbench.data.preprocess import NO_DISC, preprocess_photograph
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import sha256_file
from workbench.schema.specs import PreprocessSpec

SPEC = PreprocessSpec(size=32)


def write_disc(path: Path, colour: int) -> Path:
    photo = np.zeros((80, 100, 3), np.uint8)
    cv2.circle(photo, (50, 40), 34, (40, 90, colour), -1)
    cv2.imwrite(str(path), photo)
    return path


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    return [write_disc(tmp_path / f"{n}.jpg", 120 + 10 * n) for n in range(5)]


def digests(paths: list[Path]) -> list[str]:
    return [sha256_file(path) for path in paths]


def names(paths: list[Path]) -> list[str]:
    return [str(path) for path in paths]


def forbid_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the cache did work that it need not")

    monkeypatch.setattr(cache_module, "preprocess_bytes", refuse)
    monkeypatch.setattr(cache_module, "read_photograph", refuse)


def test_pixels_are_those_of_the_photographs(photographs: list[Path], tmp_path: Path) -> None:
    built = build_cache(names(photographs), digests(photographs), SPEC, tmp_path / "cache", workers=3)
    stored = built.open()
    assert stored.shape == (5, 3, 32, 32)
    for slot, path in zip(built.index["slot"], photographs, strict=True):
        made = preprocess_photograph(path, SPEC)
        assert np.array_equal(stored[slot].transpose(1, 2, 0), made.pixels)
        assert built.index["crop_side"][slot] == made.geometry.side


def test_one_worker_and_many_write_the_same_bytes(photographs: list[Path], tmp_path: Path) -> None:
    files = []
    for workers in (1, 4):
        built = build_cache(names(photographs), digests(photographs), SPEC, tmp_path / str(workers), workers=workers)
        files.append((built.folder / PIXELS_FILE).read_bytes())
    assert files[0] == files[1]


def test_a_second_run_does_no_work(photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shas = digests(photographs)
    first = build_cache(names(photographs), shas, SPEC, tmp_path / "cache")
    forbid_work(monkeypatch)
    again = build_cache(names(photographs), shas, SPEC, tmp_path / "cache")
    assert again.folder == first.folder
    pd.testing.assert_frame_equal(again.index, first.index)


def test_content_settings_and_version_name_the_folder(
    photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shas = digests(photographs)
    root = tmp_path / "cache"
    folders = {build_cache(names(photographs), shas, SPEC, root).folder}
    folders.add(build_cache(names(photographs), shas, SPEC.model_copy(update={"clahe": True}), root).folder)
    folders.add(build_cache(names(photographs[1:]), shas[1:], SPEC, root).folder)
    monkeypatch.setattr(cache_module, "ALGORITHM_VERSION", -1)
    folders.add(build_cache(names(photographs), shas, SPEC, root).folder)
    assert len(folders) == 4


def test_each_bad_photograph_is_a_row_and_the_rest_goes_on(photographs: list[Path], tmp_path: Path) -> None:
    cut, grey, text = photographs[1], tmp_path / "grey.png", tmp_path / "text.jpg"
    cut.write_bytes(cut.read_bytes()[:400])
    cv2.imwrite(str(grey), np.full((90, 90, 3), 99, np.uint8))
    text.write_text("not a photograph")
    paths = [*photographs, grey, text]
    shas = digests(paths)
    write_disc(photographs[3], 250)
    paths.append(tmp_path / "none.jpg")
    built = build_cache(names(paths), [*shas, "0" * 64], SPEC, tmp_path / "cache")
    assert built.index["status"].tolist() == [
        "ok",
        "ungradable",
        "ok",
        "ungradable",
        "ok",
        *["ungradable"] * 2,
        "missing",
    ]
    reasons = built.index["reason"].fillna("").tolist()
    assert "truncated" in reasons[1]
    assert reasons[3] == CHANGED
    assert reasons[5:] == [NO_DISC, "not a JPEG, PNG or TIFF", "no such file"]
    assert built.index["slot"].dropna().tolist() == [0, 1, 2]
    assert built.count == 3


def test_a_photograph_that_comes_back_is_taken_in(photographs: list[Path], tmp_path: Path) -> None:
    shas = digests(photographs)
    away = photographs[2].rename(tmp_path / "away.jpg")
    assert build_cache(names(photographs), shas, SPEC, tmp_path / "cache").count == 4
    away.rename(photographs[2])
    built = build_cache(names(photographs), shas, SPEC, tmp_path / "cache")
    assert built.count == 5
    assert built.index["status"].eq("ok").all()


@pytest.mark.parametrize("damage", ["cut pixels", "no index", "cut index"])
def test_a_damaged_cache_is_made_again(photographs: list[Path], tmp_path: Path, damage: str) -> None:
    shas = digests(photographs)
    first = build_cache(names(photographs), shas, SPEC, tmp_path / "cache")
    whole = (first.folder / PIXELS_FILE).read_bytes()
    if damage == "cut pixels":
        (first.folder / PIXELS_FILE).write_bytes(whole[:-5])
    elif damage == "no index":
        (first.folder / INDEX_FILE).unlink()
    else:
        (first.folder / INDEX_FILE).write_bytes((first.folder / INDEX_FILE).read_bytes()[:50])
    again = build_cache(names(photographs), shas, SPEC, tmp_path / "cache")
    assert (again.folder / PIXELS_FILE).read_bytes() == whole


def test_nothing_usable_is_an_empty_cache(tmp_path: Path) -> None:
    built = build_cache([str(tmp_path / "a.jpg")], ["0" * 64], SPEC, tmp_path / "cache")
    assert built.count == 0
    assert built.open().shape == (0, 3, 32, 32)


def test_a_full_disk_is_one_line_and_leaves_nothing(
    photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.os, "fsync", full)
    with pytest.raises(WorkbenchError, match=r"cannot write the cache .*No space left"):
        build_cache(names(photographs), digests(photographs), SPEC, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_few_photographs_are_held_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Path] = []
    monkeypatch.setattr(cache_module, "_prepare", lambda path, *_: begun.append(path) or "refused")
    results = cache_module._in_order(["a"] * 300, ["0"] * 300, SPEC, 2)
    for taken in range(1, 300):
        next(results)
        assert len(begun) <= taken + 4 * 2
    assert len([*results]) == 1


def test_opencv_gets_its_threads_back(photographs: list[Path], tmp_path: Path) -> None:
    before = cv2.getNumThreads()
    build_cache(names(photographs), digests(photographs), SPEC, tmp_path / "cache")
    assert cv2.getNumThreads() == before


KILLED = """
import os, signal, sys
from pathlib import Path
from workbench.data import cache
from workbench.schema.files import sha256_file
from workbench.schema.specs import PreprocessSpec
folder = Path(sys.argv[1])
paths = sorted(map(str, folder.glob("*.jpg")))
real, left = cache._row, [3]
def row(*arguments, **named):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)
cache._row = row
cache.build_cache(paths, [sha256_file(Path(p)) for p in paths], PreprocessSpec(size=32), folder / "cache")
"""


@pytest.mark.slow
def test_after_sigkill_the_next_run_makes_the_whole_cache(photographs: list[Path], tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, env=environment)
    assert killed.returncode == -signal.SIGKILL
    built = build_cache(names(photographs), digests(photographs), SPEC, tmp_path / "cache")
    assert built.count == 5
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [built.folder.name]
