"""Photographs and maps as pictures inside the report: no file beside it, no metadata, no name."""

from __future__ import annotations

import base64
import io
from functools import cache
from typing import Final

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from skimage.color import lab2rgb, rgb2lab

from workbench.schema.maps import FLICKERS, STABLE

LONGEST_SIDE: Final = 384
"""Pixels; a larger model input is scaled down to it, so that a report stays a few megabytes."""
QUALITY: Final = 85
AGAINST: Final = (20, 84, 190)
NEUTRAL: Final = (246, 246, 244)
FOR: Final = (184, 92, 0)
"""Blue speaks against referable disease, orange for it: told apart by colour-blind readers."""
HATCH: Final = 32
"""From line to line where a map flickers, pixels of the picture: a case shows it at a quarter of its size."""
FAINT: Final = 0.45
"""How much of the photograph's grey is kept below a map."""


@cache
def diverging_colours() -> UInt8[np.ndarray, "256 3"]:
    """Return 256 colours from `AGAINST` over `NEUTRAL` to `FOR`, evenly spaced to the eye: straight in CIELAB."""
    ends = rgb2lab(np.array([[AGAINST, NEUTRAL, FOR]], dtype=float) / 255)[0]
    share = np.linspace(-1, 1, 256)
    lab = np.stack([np.interp(share, (-1, 0, 1), ends[:, channel]) for channel in range(3)], axis=-1)
    return np.round(255 * lab2rgb(lab[None])[0]).astype(np.uint8)


def largest_of(maps: list[Float[np.ndarray, "height width"]]) -> float:
    """Return the magnitude that the maps of both eyes are drawn against: the 99.5th percentile of their pixels."""
    return float(np.percentile(np.abs(np.concatenate([one.ravel() for one in maps])), 99.5)) if maps else 0.0


def photograph_uri(jpeg: bytes) -> str:
    """Return a photograph of the run as a data URI, without metadata."""
    with Image.open(io.BytesIO(jpeg)) as image:
        return picture_uri(image.convert("RGB"))


def map_uri(jpeg: bytes, values: Float[np.ndarray, "height width"], largest: float) -> str:
    """Return a map as a data URI, laid on the pale grey of its photograph, so that one sees where it lies."""
    height, width = values.shape
    with Image.open(io.BytesIO(jpeg)) as image:
        grey = np.asarray(image.convert("L").resize((width, height)), dtype=float)[..., None] / 255
    share = np.clip(values / largest, -1, 1) if largest > 0 else np.zeros_like(values)
    colours = diverging_colours()[np.round(127.5 + 127.5 * share).astype(np.int64)] / 255.0
    pixels = colours * (1 - FAINT + FAINT * np.sqrt(grey))
    return picture_uri(Image.fromarray(np.round(255 * pixels).astype(np.uint8)))


def agreement_uri(
    jpeg: bytes, values: Float[np.ndarray, "height width"], agreement: Float[np.ndarray, "height width"]
) -> str:
    """Return as a data URI what matters in nearly all draws of a map (solid) and what flickers (hatched)."""
    height, width = values.shape
    times = max(1, round(LONGEST_SIDE / max(height, width)))
    with Image.open(io.BytesIO(jpeg)) as image:
        grey = np.asarray(image.convert("L").resize((times * width, times * height)), dtype=float)[..., None] / 255
    pixels = np.array(NEUTRAL) * (1 - FAINT + FAINT * np.sqrt(grey))
    levels, signs = (whole.repeat(times, axis=0).repeat(times, axis=1) for whole in (agreement, values))
    colours = np.where(signs[..., None] < 0, AGAINST, FOR)
    rows, columns = np.indices(levels.shape)
    line = (rows + columns) % HATCH < HATCH // 3
    drawn = (levels >= STABLE) | ((levels >= FLICKERS) & line)
    pixels = np.where(drawn[..., None], colours, pixels)
    return picture_uri(Image.fromarray(np.round(pixels).astype(np.uint8)))


def difference_uri(clean: bytes, stressed: bytes) -> tuple[str, int]:
    """Return what a stress changed, magnified around mid-grey, as a data URI, and by how much it is magnified."""
    with Image.open(io.BytesIO(clean)) as before, Image.open(io.BytesIO(stressed)) as after:
        change = np.asarray(after.convert("RGB"), dtype=np.int64) - np.asarray(before.convert("RGB"), dtype=np.int64)
    times = max(1, 127 // max(int(np.abs(change).max()), 1))
    return picture_uri(Image.fromarray((128 + times * change).clip(0, 255).astype(np.uint8))), times


def pattern_uri(values: Float[np.ndarray, "height width 3"], size: float) -> str:
    """Return a pattern as a data URI: grey is none, ±``size`` the ends of each colour. Lossless: all of it is grain."""
    share = values / size if size > 0 else np.zeros_like(values)
    image = Image.fromarray(np.round(127.5 + 127.5 * share).clip(0, 255).astype(np.uint8))
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def picture_uri(image: Image.Image) -> str:
    """Return a picture as a data URI, scaled down to `LONGEST_SIDE`, without metadata."""
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    clean = Image.new("RGB", image.size)  # a new image carries no EXIF, no comment and no profile
    clean.paste(image)
    buffer = io.BytesIO()
    clean.save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
