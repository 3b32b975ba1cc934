"""What the importers read: photographs judged by their bytes, label tables by their text."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.data.importers.photographs import look_at
from workbench.data.importers.tables import grade_of, read_table
from workbench.schema.errors import WorkbenchError


def photograph(path: Path, seed: int, size: tuple[int, int] = (48, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_truncated(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    photograph(path, seed=1)
    assert look_at(path).fault == ""
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert look_at(path).fault == "truncated"


def test_a_thumbnail_end_is_not_the_photograph_end(tmp_path: Path) -> None:
    # Twice: a thumbnail whole in front, and a photograph that is cut behind it.
    small, large = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(small, "JPEG")
    Image.effect_noise((64, 64), 90).convert("RGB").save(large, "JPEG")
    segment = b"\xff\xe2" + (len(small.getvalue()) + 2).to_bytes(2, "big") + small.getvalue()
    whole = large.getvalue()[:2] + segment + large.getvalue()[2:]
    path = tmp_path / "a.jpg"
    path.write_bytes(whole)
    assert look_at(path).fault == ""
    path.write_bytes(whole[:-300])
    assert look_at(path).fault == "truncated"


def test_bytes_after_the_end_do_no_harm(tmp_path: Path) -> None:
    path = photograph(tmp_path / "a.jpg", seed=1)
    path.write_bytes(path.read_bytes() + b"\0" * 5000)
    assert look_at(path).fault == ""


def test_content_that_is_not_what_the_name_says(tmp_path: Path) -> None:
    path = photograph(tmp_path / "a.png", seed=1).rename(tmp_path / "a.jpg")
    assert look_at(path).fault == "its content is PNG, its name says JPEG"


def test_more_pixels_than_any_photograph(tmp_path: Path) -> None:
    path = photograph(tmp_path / "bomb.png", seed=1)
    content = path.read_bytes()
    header = b"IHDR" + struct.pack(">II", 20_000, 20_000) + content[24:29]
    path.write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])
    assert look_at(path).fault == "too many pixels to be a photograph"


@pytest.mark.parametrize(("name", "fault"), [("x", "no such file"), ("\0", "no such file"), ("sub", "no such file")])
def test_nothing_to_read(tmp_path: Path, name: str, fault: str) -> None:
    (tmp_path / "sub").mkdir()
    assert look_at(tmp_path / name).fault.startswith((fault, "cannot be read"))


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_never_raise(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = photograph(tmp_path / ("a.jpg", "a.png", "a.tif", "a.bmp")[seed % 4], seed=1)
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, min(len(content), 400), 20):
        content[place] = rng.integers(256)
    path.write_bytes(content)
    assert isinstance(look_at(path).fault, str)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a readable CSV"),
        (b'a,b\n1,2\n3,"4\n', "not a readable CSV"),
        (b"a\n1,2,3\n1,2,3,4\n", "not a readable CSV"),
        ("image,level\nä，b,1\n".encode("gb18030"), "not UTF-8"),
        (b"image,leve\n1,2\n", "lacks the column 'level'; it has image, leve — rename 'leve' to 'level'"),
    ],
)
def test_unreadable(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(WorkbenchError, match=words) as caught:
        read_table(path, required=("image", "level"))
    assert "\n" not in str(caught.value)


def test_byte_order_mark_blanks_and_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xef\xbb\xbf image , level\n 1_left ,2\n\nNA,\n")
    table = read_table(path, required=("image", "level"))
    assert table["image"].tolist() == ["1_left", "NA"]
    assert table["line"].tolist() == [2, 4]


def test_grades() -> None:
    assert [grade_of(cell)[0] for cell in ("0", "4", "4.0", "-1", "5", "nan", "inf", "")] == [0, 4, 4, *[None] * 5]
