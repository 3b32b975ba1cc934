"""From a photograph to the model's square, and where the square lies in the photograph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from workbench.data.crop import CropGeometry
from workbench.data.decode import Decoded, UnreadablePhotograph, decode_bytes, halve, read_photograph
from workbench.data.disc import Disc, find_disc
from workbench.schema.specs import PreprocessSpec

ALGORITHM_VERSION: Final = 4
"""Raised whenever the same photograph and settings would give other pixels; old caches are then left alone."""

NO_DISC: Final = "ungradable (no disc)"

HEADROOM: Final = 1.1
"""How much finer than the model's size the shorter side is decoded, since the disc may not fill it."""


class NoDisc(UnreadablePhotograph):
    """A readable photograph without a findable disc."""

    def __init__(self) -> None:
        super().__init__(NO_DISC)


@dataclass(frozen=True)
class Preprocessed:
    """The model's pixels of one eye, RGB, and where they lie in the photograph."""

    pixels: UInt8[np.ndarray, "size size 3"]
    geometry: CropGeometry


def preprocess_photograph(path: Path, spec: PreprocessSpec) -> Preprocessed:
    """Find the disc, crop to it and scale it; see `preprocess_bytes`."""
    return preprocess_bytes(read_photograph(path), path.suffix, spec)


def preprocess_bytes(data: bytes, suffix: str, spec: PreprocessSpec) -> Preprocessed:
    """Find the disc in a photograph's bytes, crop to it with the margin, scale it to ``spec.size``.

    The disc's diameter thus has the same length for every camera. Then, where the settings say so, adaptive
    histogram equalisation (`equalise`) and, after it, subtraction of the local average (`subtract_local_average`).

    Raises:
        UnreadablePhotograph: see `workbench.data.decode.decode_photograph`.
        NoDisc: there is no disc to crop to.
    """
    decoded = decode_bytes(data, suffix, target_size=round(spec.size * HEADROOM))
    disc = find_disc(decoded.pixels, spec.min_disc_share)
    if disc is None:
        raise NoDisc
    side = 2 * disc.radius * (1 + spec.margin)
    if side < spec.size and decoded.step > 1:
        # A small disc in a large frame: decode again, as finely as this disc needs.
        finer = decode_bytes(data, suffix, target_size=round(spec.size / side * min(decoded.pixels.shape[:2]) + 1))
        grown = decoded.step / finer.step
        decoded, disc = finer, Disc(disc.x * grown, disc.y * grown, disc.radius * grown)
    pixels, geometry = crop_to_disc(decoded, disc, spec)
    if spec.clahe or spec.local_average:
        inside = _circle(spec)
        pixels = equalise(pixels, inside) if spec.clahe else pixels
        pixels = subtract_local_average(pixels, _radius(spec)) if spec.local_average else pixels
    return Preprocessed(pixels, geometry)


def crop_to_disc(
    decoded: Decoded, disc: Disc, spec: PreprocessSpec
) -> tuple[UInt8[np.ndarray, "size size 3"], CropGeometry]:
    """Return the disc's square and its geometry; what lies beyond the frame is black."""
    wanted = 2 * disc.radius * (1 + spec.margin)
    # Whole decoded pixels, finer than the model's, that halve without a rest: the geometry is exact, not rounded.
    times = max(0, int(np.floor(np.log2(wanted / spec.size))))
    side = round(wanted / 2**times) * 2**times
    x, y = round(disc.x - side / 2), round(disc.y - side / 2)
    height, width = decoded.pixels.shape[:2]
    window = decoded.pixels[max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)]
    before = (max(-y, 0), max(-x, 0))
    after = (max(y + side - height, 0), max(x + side - width, 0))
    if any(before + after):
        window = cv2.copyMakeBorder(window, before[0], after[0], before[1], after[1], cv2.BORDER_CONSTANT, value=0)
    step = decoded.step
    geometry = CropGeometry(x * step, y * step, side * step, decoded.photo_width, decoded.photo_height, spec.size)
    halved = halve(window, times)
    # Less than twice too large now, so linear interpolation skips no pixel; cubic where there are too few of them.
    kind = cv2.INTER_LINEAR if len(halved) >= spec.size else cv2.INTER_CUBIC
    return cv2.resize(halved, (spec.size, spec.size), interpolation=kind), geometry


def subtract_local_average(pixels: UInt8[np.ndarray, "size size 3"], radius: float) -> UInt8[np.ndarray, "size size 3"]:
    """Return 4 · (photograph − its local average) + 128, grey beyond 0.9 of the radius (Graham 2015).

    The local average is a Gaussian with a standard deviation of a thirtieth of the disc's radius.
    """
    values = pixels.astype(np.float32)
    average = cv2.GaussianBlur(values, (0, 0), radius / 30)
    raised = np.clip(4 * (values - average) + 128, 0, 255).round().astype(np.uint8)
    raised[~_circle_of(pixels.shape[0], 0.9 * radius)] = 128
    return raised


def equalise(
    pixels: UInt8[np.ndarray, "size size 3"], inside: Bool[np.ndarray, "size size"]
) -> UInt8[np.ndarray, "size size 3"]:
    """Return contrast-limited adaptive histogram equalisation of L (of L*a*b*) inside the disc (Zuiderveld 1994)."""
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(lab[..., 0])
    return np.where(inside[..., None], cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), pixels)


def _radius(spec: PreprocessSpec) -> float:
    """Return the disc's radius in model pixels."""
    return spec.size / 2 / (1 + spec.margin)


def _circle(spec: PreprocessSpec) -> Bool[np.ndarray, "size size"]:
    return _circle_of(spec.size, _radius(spec))


def _circle_of(size: int, radius: float) -> Bool[np.ndarray, "size size"]:
    y, x = np.ogrid[:size, :size]
    return (x + 0.5 - size / 2) ** 2 + (y + 0.5 - size / 2) ** 2 <= radius**2
