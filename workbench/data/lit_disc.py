"""Where prepared pixels show an eye."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

DARK: Final = 8 / 255
"""A photograph whose bright pixels are below this shows nothing."""

GLOW: Final = 0.1
"""Stray light and codec noise around the disc stay below this share of the photograph's bright pixels."""


def lit_disc(image: Float32[np.ndarray, "height width 3"]) -> Bool[np.ndarray, "height width"]:
    """Return the convex hull of what is lit: a disc, its caps perhaps cut off; ``image`` in [0, 1].

    The hull holds what is dark inside the disc; specks outside are opened away first.
    """
    brightness = np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])  # far faster than max(axis=2)
    lit = (brightness > max(DARK, GLOW * float(np.percentile(brightness, 90)))).astype(np.uint8)
    speck = 2 * (image.shape[1] // 64) + 1
    opened = cv2.morphologyEx(lit, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (speck, speck)))
    hull = np.zeros_like(lit)
    ends = _ends_of_rows(opened)
    if len(ends):
        cv2.fillConvexPoly(hull, cv2.convexHull(ends), 1)
    # The drawn polygon may cover unlit pixels along its border; inside, dark ones belong to the eye.
    return (cv2.erode(hull, np.ones((3, 3), np.uint8)) | (hull & lit)).astype(bool)


def _ends_of_rows(lit: UInt8[np.ndarray, "height width"]) -> Int32[np.ndarray, "end 2"]:
    """Return the first and the last lit pixel of each row, as (x, y): no other one can be a corner of the hull."""
    rows = np.flatnonzero(lit.any(axis=1))
    first = lit[rows].argmax(axis=1)
    last = lit.shape[1] - 1 - lit[rows, ::-1].argmax(axis=1)
    return np.stack([np.r_[first, last], np.r_[rows, rows]], axis=1).astype(np.int32)
