"""Photographs and maps as the viewer gets them: pixels alone, no metadata, no name and no address."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from PIL import Image

from workbench.audit.results import Run
from workbench.review.cases import EyeCase
from workbench.schema.files import sha256_file
from workbench.schema.manifest import read_manifest

LONGEST_SIDE: Final = 2048
"""Pixels; a larger original is scaled down to it."""


@dataclass(frozen=True)
class Picture:
    """One photograph as JPEG.

    Args:
        jpeg: the bytes, without any metadata.
        width: pixels.
        height: pixels.
        crop: x, y and side of the square that the model saw, in these pixels.
        original: whether this is the photograph as taken, not the model's input.
    """

    jpeg: bytes
    width: int
    height: int
    crop: tuple[float, float, float]
    original: bool


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

    def path(self, sha256: str) -> Path | None:
        """Return the file with exactly these bytes; None when it is gone or was changed."""
        path = self._paths.get(sha256)
        try:
            return path if path is not None and sha256_file(path) == sha256 else None
        except OSError:
            return None


def eye_picture(run: Run, originals: Originals, exam_id: str, case: EyeCase) -> Picture | None:
    """Return the original photograph if it is there and unchanged, else what the model was given, else None."""
    path = originals.path(case.sha256) if case.sha256 else None
    if path is not None:
        picture = _original_picture(path, case)
        if picture is not None:
            return picture
    stored = run.photograph(exam_id, case.eye)
    if stored is None:
        return None
    with Image.open(io.BytesIO(stored)) as image:
        width, height = image.size
    return Picture(stored, width, height, (0.0, 0.0, float(width)), original=False)


def _original_picture(path: Path, case: EyeCase) -> Picture | None:
    try:
        with Image.open(path) as image:
            full_width, full_height = image.size
            if case.photo_size not in (None, image.size):
                return None  # not the geometry that the crop was measured on
            image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))  # decode a large JPEG at a fraction of its size
            pixels = image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    pixels.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    scale = pixels.width / full_width
    x, y, side = case.crop or _whole(full_width, full_height)
    clean = Image.new("RGB", pixels.size)  # a new image carries no EXIF, no comment and no profile
    clean.paste(pixels)
    buffer = io.BytesIO()
    clean.save(buffer, "JPEG", quality=92, subsampling=0)
    return Picture(buffer.getvalue(), *clean.size, (x * scale, y * scale, side * scale), original=True)


def _whole(width: int, height: int) -> tuple[float, float, float]:
    side = max(width, height)
    return (width - side) / 2, (height - side) / 2, float(side)


def largest_of(maps: list[Float[np.ndarray, "height width"]]) -> float:
    """Return the magnitude that both eyes of an exam are drawn against: the 99.5th percentile of all their pixels."""
    return float(np.percentile(np.abs(np.concatenate([values.ravel() for values in maps])), 99.5)) if maps else 0.0


def map_picture(values: Float[np.ndarray, "height width"], largest: float) -> MapPicture:
    """Return a map as grey levels around 128, clipped at ``largest``; a map of zeros stays 128 everywhere."""
    shares = np.clip(values / largest, -1, 1) if largest > 0 else np.zeros_like(values)
    grey = np.round(128 + 127 * shares).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return MapPicture(buffer.getvalue(), largest)


def viewer_maps(run: Run, exam_id: str) -> dict[str, dict[str, Any]]:
    """Return method → eye → the PNG in base64, both eyes against the same magnitude; withheld maps are left out."""
    pictures: dict[str, dict[str, Any]] = {}
    for method in run.methods():
        found = {eye: run.heat_map(exam_id, eye, method) for eye in ("OD", "OS")}
        values = {eye: heat.values for eye, heat in found.items() if heat is not None and heat.values is not None}
        largest = largest_of(list(values.values()))
        pictures[method] = {eye: as_text(map_picture(map_, largest).png) for eye, map_ in values.items()}
    return {method: maps for method, maps in pictures.items() if maps}


def as_text(content: bytes) -> str:
    """Return bytes in base64, as they travel inside the component."""
    return base64.b64encode(content).decode("ascii")
