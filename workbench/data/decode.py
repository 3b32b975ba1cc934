"""A photograph's file to upright RGB pixels, or one reason why not."""

from __future__ import annotations

import io
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image

from workbench.schema.errors import WorkbenchError

MAGIC: Final = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"II*\x00": "TIFF", b"MM\x00*": "TIFF"}
SUFFIXES: Final = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF"}

MAX_BYTES: Final = 256 * 2**20
MAX_PIXELS: Final = 120_000_000
"""More than any fundus camera makes; a header that claims more is refused before anything is unpacked."""

NO_FILE: Final = "no such file"
ORIENTATION_TAG: Final = 0x0112

_WARNINGS = threading.Lock()


class UnreadablePhotograph(WorkbenchError):  # noqa: N818 - it names what was found
    """One photograph that cannot be used; in a batch it becomes a row with ``reason``.

    The reason never holds the file's name, which may hold a patient's.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "replace the file or leave it out of the manifest")
        self.reason = reason


@dataclass(frozen=True)
class Decoded:
    """Upright pixels, perhaps shrunk, and the side lengths of the whole photograph.

    ``step`` is how many of the photograph's pixels one pixel here covers.
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    photo_width: int
    photo_height: int
    step: float


def decode_photograph(path: Path, *, target_size: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """Return the photograph upright, in RGB.

    A JPEG is shrunk while it is decoded (to 1/2, 1/4 or 1/8) as long as its shorter side stays at or above
    ``target_size``; other kinds are decoded whole. The EXIF orientation is applied, as every viewer does, so these
    are the pixels that a grader saw.

    Raises:
        UnreadablePhotograph: absent, too large, not what its extension says, truncated, damaged, or not 8-bit RGB or
            grey (CMYK, transparency and 16 bits are refused rather than converted by guess).
    """
    return decode_bytes(read_photograph(path), path.suffix, target_size=target_size).pixels


def read_photograph(path: Path) -> bytes:
    """Return a photograph's bytes.

    Raises:
        UnreadablePhotograph: absent, empty, too large, or the disk fails.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnreadablePhotograph(f"file is larger than {MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    except FileNotFoundError:
        raise UnreadablePhotograph(NO_FILE) from None
    except OSError as error:
        raise UnreadablePhotograph(f"cannot be read: {error.strerror}") from None


def decode_bytes(data: bytes, suffix: str, *, target_size: int | None = None) -> Decoded:
    """Decode a file's bytes (see `decode_photograph`); ``suffix`` is its extension, '' if it has none."""
    kind = next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), None)
    if kind is None:
        raise UnreadablePhotograph("empty file" if not data else "not a JPEG, PNG or TIFF")
    if suffix and SUFFIXES.get(suffix.lower()) != kind:
        raise UnreadablePhotograph(f"content is {kind}, extension is {suffix.lower()}")
    decoded = _decode_jpeg(data, target_size or 0) if kind == "JPEG" else _decode_other(data)
    return _upright(decoded, _orientation(data, kind))


def _decode_jpeg(data: bytes, target_size: int) -> Decoded:
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise UnreadablePhotograph(f"damaged or truncated JPEG: {_one_line(error)}") from None
    _refuse_bomb(width, height)
    if colours not in ("YCbCr", "RGB", "Gray"):
        raise UnreadablePhotograph(f"{colours} colours, not RGB")
    # Between the powers of two, the decoder has no fast path: 5/8 takes longer than the whole.
    eighths = next((part for part in (1, 2, 4) if min(width, height) * part >= 8 * target_size > 0), 8)
    # Asking for exactly the sides that this factor gives; by itself, the decoder would choose per side.
    sides = {"min_height": -(-height * eighths // 8), "min_width": -(-width * eighths // 8)} if eighths < 8 else {}
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True, **sides)
    except ValueError as error:
        raise UnreadablePhotograph(f"damaged or truncated JPEG: {_one_line(error)}") from None
    return Decoded(pixels, width, height, 8 / eighths)


def _decode_other(data: bytes) -> Decoded:
    """Decode PNG or TIFF; Pillow refuses what is cut or damaged, and tells palette, depth and transparency apart."""
    try:
        with _open_quietly(data) as picture:
            _refuse_bomb(picture.width, picture.height)
            _refuse_depth(picture, data)
            pixels = np.asarray(_opaque(picture).convert("RGB"))
    except UnreadablePhotograph:
        raise
    except Exception as error:  # a mutated file raises nearly anything in Pillow's parsers
        raise UnreadablePhotograph(f"damaged or truncated file: {_one_line(error)}") from None
    return Decoded(pixels, pixels.shape[1], pixels.shape[0], 1.0)


def _open_quietly(data: bytes) -> Image.Image:
    """Read the header without Pillow's warnings of large pictures and odd metadata: both are judged here instead."""
    # The filters of warnings belong to the whole process, hence the lock.
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "TIFF"))


def _refuse_bomb(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadablePhotograph(f"{width}×{height} pixels, more than {MAX_PIXELS // 10**6} million")
    if min(width, height) < 1:
        raise UnreadablePhotograph("no pixels")


def _refuse_depth(picture: Image.Image, data: bytes) -> None:
    png_depth = data[24] if picture.format == "PNG" else 8
    bits = getattr(picture, "tag_v2", {}).get(258, (png_depth,))
    if max(bits) > 8:
        raise UnreadablePhotograph(f"{max(bits)} bits per colour, not 8")
    if getattr(picture, "n_frames", 1) > 1:
        raise UnreadablePhotograph(f"{getattr(picture, 'n_frames', 0)} pictures in one file")
    if picture.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise UnreadablePhotograph(f"{picture.mode} colours, not RGB")


def _opaque(picture: Image.Image) -> Image.Image:
    if picture.mode not in ("LA", "PA", "RGBA") and "transparency" not in picture.info:
        return picture
    whole = picture.convert("RGBA")
    if whole.getchannel("A").getextrema()[0] != 255:
        raise UnreadablePhotograph("partly transparent")
    return whole


def _orientation(data: bytes, kind: str) -> int:
    """Return what is still to be done; Pillow has turned a TIFF upright already."""
    if kind == "TIFF" or {"JPEG": b"Exif\x00", "PNG": b"eXIf"}[kind] not in data[: 1 << 16]:
        return 1
    try:
        with _open_quietly(data) as picture, _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return int(picture.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # unreadable metadata is no reason to lose a photograph: as stored
        return 1


def _upright(decoded: Decoded, orientation: int) -> Decoded:
    """Turn and mirror as EXIF 2.3 says (1 = as stored … 8 = a quarter turn)."""
    if orientation not in range(2, 9):
        return decoded
    pixels = decoded.pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    sides = (decoded.photo_width, decoded.photo_height)
    width, height = sides if orientation < 5 else sides[::-1]
    return Decoded(np.ascontiguousarray(pixels), width, height, decoded.step)


def halve(pixels: UInt8[np.ndarray, "height width 3"], times: int) -> UInt8[np.ndarray, "new_height new_width 3"]:
    """Return the mean over squares of 2, 4, 8 … pixels; what does not fill a square is cut off."""
    for _ in range(times):
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        # The mean over 2 × 2 has a path of its own in OpenCV, ten times faster than over any other area.
        pixels = cv2.resize(pixels[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return pixels


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
