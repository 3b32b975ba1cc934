"""Planes times colours.

OpenCV does these several times faster than numpy's broadcasting over a last axis of three.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float


def spread(
    plane: Float[np.ndarray, "height width"], colour: Float[np.ndarray, " channel"]
) -> Float[np.ndarray, "height width 3"]:
    """Return the plane times each component of the colour."""
    return np.asarray(cv2.merge([plane * component for component in colour.astype(np.float32)]), np.float32)


def combined(
    planes: Sequence[Float[np.ndarray, "height width"]], weights: Float[np.ndarray, "plane channel"]
) -> Float[np.ndarray, "height width 3"]:
    """Return the sum over planes of each plane times its colour."""
    channels = [sum(plane * weight for plane, weight in zip(planes, column, strict=True)) for column in weights.T]
    return np.asarray(cv2.merge(channels), np.float32)


def tripled(plane: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width 3"]:
    """Return the same plane for red, green and blue."""
    return np.asarray(cv2.merge([plane, plane, plane]), np.float32)


def blend(
    scene: Float[np.ndarray, "height width 3"],
    cover: Float[np.ndarray, "height width"],
    colour: Float[np.ndarray, " channel"],
) -> None:
    """Cover a scene with a colour, in place: 0 leaves it, 1 hides it."""
    scene *= tripled(1 - cover)
    scene += spread(cover, colour)
