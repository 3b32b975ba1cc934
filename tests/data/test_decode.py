"""Decoding: right pixels, or one reason."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from workbench.data import decode
from workbench.data.decode import UnreadablePhotograph, decode_bytes, decode_photograph


def picture(height: int = 48, width: int = 64) -> np.ndarray:
    """Return something smooth with a different value in each corner and colour."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width)], axis=2).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_lossless_kinds_give_exactly_the_pixels() -> None:
    for kind, suffix in (("PNG", ".png"), ("TIFF", ".tif"), ("TIFF", "")):
        decoded = decode_bytes(encoded(Image.fromarray(picture()), kind), suffix)
        assert np.array_equal(decoded.pixels, picture())
        assert (decoded.photo_width, decoded.photo_height, decoded.step) == (64, 48, 1.0)


def test_jpeg_is_near_the_pixels_and_in_rgb_order() -> None:
    decoded = decode_bytes(encoded(Image.fromarray(picture()), "JPEG", quality=95, subsampling=0), ".JPG")
    assert np.abs(decoded.pixels.astype(int) - picture()).mean() < 2


@pytest.mark.parametrize(("target", "step"), [(500, 1), (300, 1), (250, 2), (130, 2), (125, 4), (62, 8), (1, 8)])
def test_a_jpeg_is_shrunk_as_far_as_the_target_allows(target: int, step: int) -> None:
    data = encoded(Image.fromarray(picture(500, 750)), "JPEG")
    decoded = decode_bytes(data, ".jpg", target_size=target)
    assert decoded.step == step
    assert min(decoded.pixels.shape[:2]) >= target
    assert decoded.pixels.shape[:2] == (-(-500 // step), -(-750 // step))
    assert (decoded.photo_width, decoded.photo_height) == (750, 500)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_shows_the_picture_upright(kind: str, orientation: int) -> None:
    """What Pillow's own transposition shows is what a viewer shows."""
    exif = Image.Exif()
    exif[decode.ORIENTATION_TAG] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    data = encoded(Image.fromarray(picture()), kind, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    decoded = decode_bytes(data, "")
    assert (decoded.photo_height, decoded.photo_width) == expected.shape[:2] == decoded.pixels.shape[:2]
    assert np.abs(decoded.pixels.astype(int) - expected).mean() < 2


def test_other_colour_modes_are_right_or_refused() -> None:
    rgb = Image.fromarray(picture())
    palette = rgb.quantize(16)
    assert np.array_equal(decode_bytes(encoded(palette, "PNG"), ".png").pixels, np.asarray(palette.convert("RGB")))
    grey = rgb.convert("L")
    for kind, suffix in (("PNG", ".png"), ("JPEG", ".jpg")):
        pixels = decode_bytes(encoded(grey, kind), suffix).pixels
        assert pixels.shape == (48, 64, 3)
        assert np.array_equal(pixels[..., 0], pixels[..., 2])
    opaque = rgb.copy()
    opaque.putalpha(255)
    assert np.array_equal(decode_bytes(encoded(opaque, "PNG"), ".png").pixels, picture())
    opaque.putalpha(128)
    deep = Image.fromarray(np.full((40, 40), 30000, np.uint16))
    refused = {
        "transparent": encoded(opaque, "PNG"),
        "CMYK": encoded(rgb.convert("CMYK"), "JPEG"),
        "16 bits": encoded(deep, "PNG"),
        "16 bits per": encoded(deep, "TIFF"),
        "pictures in one": encoded(rgb, "TIFF", save_all=True, append_images=[rgb]),
    }
    for reason, data in refused.items():
        with pytest.raises(UnreadablePhotograph, match=reason.split(" per")[0] if reason != "CMYK" else "K"):
            decode_bytes(data, "")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    data = encoded(Image.fromarray(picture(200, 300)), kind)
    for target in (None, 50):
        with pytest.raises(UnreadablePhotograph):
            decode_bytes(data[: int(len(data) * share)], "", target_size=target)


def test_each_wrong_file_has_its_reason(tmp_path: Path) -> None:
    jpeg = encoded(Image.fromarray(picture()), "JPEG")
    wrong = {
        "a.png": (jpeg, "content is JPEG, extension is .png"),
        "b.txt": (jpeg, "extension is .txt"),
        "c.jpg": (b"GIF89a...", "not a JPEG, PNG or TIFF"),
        "d.jpg": (b"", "empty file"),
        "e.jpg": (b"\xff\xd8\xff\xe0", "damaged"),
    }
    for name, (data, reason) in wrong.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnreadablePhotograph, match=reason) as caught:
            decode_photograph(tmp_path / name)
        assert name not in caught.value.reason  # a file's name may hold a patient's
        assert "\n" not in str(caught.value)
    with pytest.raises(UnreadablePhotograph, match="no such file"):
        decode_photograph(tmp_path / "none.jpg")
    with pytest.raises(UnreadablePhotograph, match="cannot be read"):
        decode_photograph(tmp_path)


def test_a_bomb_is_refused_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with pytest.raises(UnreadablePhotograph, match=r"30000×30000|damaged"):
        decode_bytes(b"\x89PNG\r\n\x1a\n" + chunk, ".png")
    jpeg = bytearray(encoded(Image.fromarray(picture()), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(UnreadablePhotograph, match="60000×60000"):
        decode_bytes(bytes(jpeg), ".jpg")


def test_mutated_files_give_pixels_or_a_reason_never_anything_else() -> None:
    chance = random.Random(0)
    for kind in ("JPEG", "PNG", "TIFF"):
        original = encoded(Image.fromarray(picture()), kind)
        for _ in range(100):
            data = bytearray(original)
            for _ in range(chance.randint(1, 8)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            with contextlib.suppress(UnreadablePhotograph):
                pixels = decode_bytes(bytes(data), "", target_size=chance.choice([None, 20])).pixels
                assert pixels.dtype == np.uint8
                assert pixels.shape[2] == 3
