from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workbench.review.bare_jpeg import bare_jpeg
from workbench.review.pictures import LARGEST_PIXELS, original_picture

CANARY = "PATIENT-NAME-CANARY"


def picture(size: tuple[int, int] = (120, 80)) -> Image.Image:
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 255, (size[1], size[0], 3), np.uint8))


def jpeg(**options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = CANARY
    exif[0x0112] = options.pop("orientation", 1)
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG", exif=exif, comment=CANARY.encode(), icc_profile=CANARY.encode(), **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 3}, {"optimize": True}, {"quality": 5}],
    ids=lambda options: next(iter(options), "plain"),
)
def test_the_pixels_stay_bit_by_bit_and_nothing_else_does(options: dict[str, Any]) -> None:
    whole = jpeg(**options)
    bare = bare_jpeg(whole + b"\xff\xd8 a thumbnail behind the end " + CANARY.encode())
    assert bare is not None
    assert CANARY.encode() in whole
    assert CANARY.encode() not in bare
    assert b"thumbnail" not in bare
    assert (pixels(bare) == pixels(whole)).all()
    assert Image.open(io.BytesIO(bare)).info.keys() <= {
        "jfif",
        "jfif_version",
        "jfif_unit",
        "jfif_density",
        "progressive",
        "progression",
    }
    assert bare_jpeg(bare) == bare


def test_colours_of_an_adobe_file_are_read_as_before() -> None:
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG", keep_rgb=True, quality=95)
    bare = bare_jpeg(buffer.getvalue())
    assert bare is not None
    assert (pixels(bare) == pixels(buffer.getvalue())).all()


@pytest.mark.parametrize("cut", [0, 1, 3, 20, 300, -2])
def test_a_cut_file_is_not_passed_on(cut: int) -> None:
    assert bare_jpeg(jpeg()[:cut]) is None


def test_a_picture_of_another_kind_is_not_passed_on() -> None:
    buffer = io.BytesIO()
    picture().save(buffer, "PNG")
    assert bare_jpeg(buffer.getvalue()) is None


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_photograph_is_shown_upright_as_the_model_saw_it(orientation: int) -> None:
    content = jpeg(orientation=orientation, quality=98, subsampling=0)
    shown = original_picture(content)
    assert shown is not None
    turned = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    wanted = np.rot90(pixels(content), turned)
    assert (shown.height, shown.width) == wanted.shape[:2]
    assert np.abs(pixels(shown.jpeg).astype(int) - wanted).mean() < (0.5 if orientation == 1 else 6)
    assert shown.native
    assert CANARY.encode() not in shown.jpeg


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_other_kinds_are_encoded_anew_without_their_texts(kind: str) -> None:
    buffer = io.BytesIO()
    smooth = picture((12, 8)).resize((120, 80), Image.Resampling.BICUBIC)
    smooth.save(buffer, kind, description=CANARY)
    shown = original_picture(buffer.getvalue(), (10.0, -5.0, 90.0), (120, 80))
    assert shown is not None
    assert shown.crop == (10.0, -5.0, 90.0)
    assert np.abs(pixels(shown.jpeg).astype(int) - np.asarray(smooth)).mean() < 2
    assert CANARY.encode() not in shown.jpeg


def test_what_cannot_be_read_is_no_picture() -> None:
    for content in (b"", b"no picture", jpeg()[:200], b"\x89PNG\r\n\x1a\n"):
        assert original_picture(content) is None
    assert original_picture(jpeg(), photo_size=(121, 80)) is None


def test_a_larger_photograph_than_a_browser_holds_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LARGEST_PIXELS >= 15_000_000
    monkeypatch.setattr("workbench.review.pictures.LARGEST_PIXELS", 2400)
    shown = original_picture(jpeg(), (0.0, 0.0, 80.0), (120, 80))
    assert shown is not None
    assert not shown.native
    assert (shown.width, shown.height) == (60, 40)
    assert shown.crop == (0.0, 0.0, 40.0)


@pytest.mark.realdata
def test_real_photographs_keep_their_pixels(real_data: Path) -> None:
    found = [*sorted(real_data.glob("idrid/images/*"))[:2], *sorted(real_data.glob("eyepacs_fullres/images/13*"))]
    assert found
    for path in found:
        content = path.read_bytes()
        bare = bare_jpeg(content)
        assert bare is not None
        assert (pixels(bare) == pixels(content)).all()
        assert not Image.open(io.BytesIO(bare)).getexif()
