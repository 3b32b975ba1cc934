"""Photographs and maps as the viewer gets them: pixels alone, no metadata, no name and no address."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float
from PIL import Image

from workbench.audit.results import Run
from workbench.data.decode import ORIENTATION_TAG, decode_bytes
from workbench.review.bare_jpeg import bare_jpeg
from workbench.review.cases import EyeCase
from workbench.schema.errors import WorkbenchError
from workbench.schema.manifest import read_manifest
from workbench.schema.maps import FLICKERS, STABLE

LARGEST_PIXELS: Final = 40_000_000
"""Pixels; a larger photograph is scaled down to it, since a browser holds four bytes for each."""
QUALITY: Final = 95
"""Of a photograph that is no plain upright JPEG, and so is encoded anew, with colours at full resolution."""


@dataclass(frozen=True)
class Picture:
    """One photograph as JPEG, or as PNG where every bit counts.

    Args:
        jpeg: the bytes, without any metadata.
        width: pixels.
        height: pixels.
        crop: x, y and side of the square that the model saw, in these pixels.
        original: whether this is the photograph as taken, not the model's input.
        native: whether every pixel as taken is here, none scaled away.
    """

    jpeg: bytes
    width: int
    height: int
    crop: tuple[float, float, float]
    original: bool
    native: bool = False


@dataclass(frozen=True)
class MapPicture:
    """One map as an 8-bit grey PNG: 128 is zero, 255 the strongest evidence for *referable*, 1 against it."""

    png: bytes
    largest: float


class Originals:
    """The photographs as taken, found by their hash; none when no manifest is given.

    Args:
        manifest: a ``manifest.csv`` or the folder that holds it. A run keeps no path, so it must be named.

    Raises:
        WorkbenchError: the manifest is not readable.
    """

    def __init__(self, manifest: Path | None) -> None:
        table = read_manifest(manifest) if manifest is not None else None
        self._paths: dict[str, Path] = (
            {} if table is None else {str(row.sha256): Path(row.image_path) for row in table.itertuples()}
        )

    def content(self, sha256: str) -> bytes | None:
        """Return the file with exactly these bytes; None when it is gone or was changed."""
        path = self._paths.get(sha256)
        try:
            data = path.read_bytes() if path is not None else b""
        except OSError:
            return None
        return data if data and hashlib.sha256(data).hexdigest() == sha256 else None


def eye_picture(run: Run, originals: Originals, exam_id: str, case: EyeCase) -> Picture | None:
    """Return the original photograph if it is there and unchanged, else what the model was given, else None."""
    taken = originals.content(case.sha256) if case.sha256 else None
    picture = original_picture(taken, case.crop, case.photo_size) if taken is not None else None
    return picture or model_picture(run, exam_id, case.eye)


def model_picture(run: Run, exam_id: str, eye: str) -> Picture | None:
    """Return what the model was given, at its resolution; None when the run holds none."""
    stored = run.photograph(exam_id, eye)
    if stored is None:
        return None
    with Image.open(io.BytesIO(stored)) as image:
        width, height = image.size
    return Picture(bare_jpeg(stored) or stored, width, height, (0.0, 0.0, float(width)), original=False)


def original_picture(
    content: bytes, crop: tuple[float, float, float] | None = None, photo_size: tuple[int, int] | None = None
) -> Picture | None:
    """Return a photograph's file at native resolution, upright and without metadata.

    A plain upright JPEG keeps its own bytes of pixels (`bare_jpeg`); everything else is decoded and encoded anew.

    Args:
        content: JPEG, PNG or TIFF.
        crop: x, y and side of the square that the model saw, in pixels of the upright photograph; None: all of it.
        photo_size: width and height on which the crop was measured.

    Returns:
        None where the file is not readable or not of this size.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            upright = image.getexif().get(ORIENTATION_TAG, 1) == 1
            plain = (
                upright and image.format == "JPEG" and image.mode in ("RGB", "L") and width * height <= LARGEST_PIXELS
            )
        jpeg = bare_jpeg(content) if plain else None
        if jpeg is None:
            jpeg, (width, height), whole = _encoded_anew(content)
        else:
            whole = (width, height)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, WorkbenchError):
        return None
    if photo_size not in (None, whole):
        return None  # not the geometry that the crop was measured on
    scale = width / whole[0]
    x, y, side = crop or _whole(*whole)
    return Picture(jpeg, width, height, (x * scale, y * scale, side * scale), original=True, native=scale == 1)


def _encoded_anew(content: bytes) -> tuple[bytes, tuple[int, int], tuple[int, int]]:
    """Return the JPEG, its width and height, and those of the photograph as taken."""
    decoded = decode_bytes(content, "")
    pixels = Image.fromarray(decoded.pixels)
    whole = pixels.size
    if whole[0] * whole[1] > LARGEST_PIXELS:
        shrink = (LARGEST_PIXELS / (whole[0] * whole[1])) ** 0.5
        pixels = pixels.resize((int(whole[0] * shrink), int(whole[1] * shrink)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    pixels.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return bare_jpeg(buffer.getvalue()) or buffer.getvalue(), pixels.size, whole


def _whole(width: int, height: int) -> tuple[float, float, float]:
    side = max(width, height)
    return (width - side) / 2, (height - side) / 2, float(side)


def largest_of(maps: list[Float[np.ndarray, "height width"]]) -> float:
    """Return the magnitude that both eyes of an exam are drawn against: the 99.5th percentile of all their pixels."""
    return float(np.percentile(np.abs(np.concatenate([values.ravel() for values in maps])), 99.5)) if maps else 0.0


def agreement_png(agreement: Float[np.ndarray, "height width"]) -> bytes:
    """Return where a map is stable (255: matters in nearly all draws), flickers (128) or neither (0), as a grey PNG."""
    levels = np.where(agreement >= STABLE, 255, np.where(agreement >= FLICKERS, 128, 0)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    return buffer.getvalue()


def map_picture(values: Float[np.ndarray, "height width"], largest: float) -> MapPicture:
    """Return a map as grey levels around 128, clipped at ``largest``; a map of zeros stays 128 everywhere."""
    shares = np.clip(values / largest, -1, 1) if largest > 0 else np.zeros_like(values)
    grey = np.round(128 + 127 * shares).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return MapPicture(buffer.getvalue(), largest)
