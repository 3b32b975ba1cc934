"""From degrees on the retina to pixels of one photograph, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class View:
    """Where one photograph looks, and how large it is.

    Retinal positions are in degrees: origin at the fovea, x towards the nose (so the optic disc lies at positive x in
    both eyes), y down. In the photograph of a right eye (OD) nasal is right, in that of a left eye (OS) left.
    """

    eye: Literal["OD", "OS"]
    size: int
    radius: float
    """of the disc of the photograph, share of the side"""
    field: float
    """of view, degrees across that disc"""
    gaze: tuple[float, float]
    """the retinal position at the centre, degrees"""
    roll: float
    """of the head, radians"""
    clip: float = 1.0
    """the disc is cut above and below at this share of its radius; 1: a full circle"""

    @property
    def pixels_per_degree(self) -> float:
        """Pixels that one degree of the retina takes."""
        return 2 * self.radius * self.size / self.field

    def to_pixels(self, points: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 2"]:
        """Return the pixel positions (x, y; whole numbers are pixel centres) of retinal positions."""
        return (points - np.array(self.gaze)) @ self._matrix().T * self.pixels_per_degree + (self.size - 1) / 2

    def to_retina(self, pixels: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 2"]:
        """Return the retinal positions of pixel positions; the inverse of `to_pixels`."""
        return (pixels - (self.size - 1) / 2) / self.pixels_per_degree @ self._matrix() + np.array(self.gaze)

    def _matrix(self) -> Float[np.ndarray, "2 2"]:
        mirror = 1.0 if self.eye == "OD" else -1.0
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        return np.array([[cos * mirror, -sin], [sin * mirror, cos]])

    def grid(self) -> tuple[Float[np.ndarray, "size size"], Float[np.ndarray, "size size"]]:
        """Return the retinal x and y of every pixel, degrees."""
        axis = (np.arange(self.size, dtype=np.float32) - (self.size - 1) / 2) / np.float32(self.pixels_per_degree)
        matrix = self._matrix().astype(np.float32)
        column, row = axis[None, :], axis[:, None]
        x = column * matrix[0, 0] + row * matrix[1, 0] + np.float32(self.gaze[0])
        y = column * matrix[0, 1] + row * matrix[1, 1] + np.float32(self.gaze[1])
        return x, y

    def sees(self, points: Float[np.ndarray, "point 2"], margin: float = 0.06) -> Bool[np.ndarray, " point"]:
        """Say which retinal positions lie on the photograph, ``margin`` (share of its radius) inside the rim."""
        offset = (self.to_pixels(points) - (self.size - 1) / 2) / (self.radius * self.size)
        half_height = min(self.clip, 0.5 / self.radius)
        return (np.hypot(offset[:, 0], offset[:, 1]) < 1 - margin) & (np.abs(offset[:, 1]) < half_height - margin)
