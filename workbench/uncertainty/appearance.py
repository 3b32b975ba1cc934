"""What a photograph looks like in forty numbers, whatever a model makes of it: colours, and sharpness at four scales.

A grading network learns to ignore what does not help it to grade, so its features may tell little about a cat. These
numbers do not pass through it.
"""

from __future__ import annotations

from itertools import combinations
from typing import Final

import cv2
import numpy as np
from jaxtyping import Float

SIDE: Final = 64
"""Pixels; what is finer is the camera's business."""
SCALES: Final = 4
SHARES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)

NUMBERS: Final = SCALES * 4 + 3 + 3 + 3 + 3 * len(SHARES)

_DARK: Final = 1e-4


def appearance(pixels: Float[np.ndarray, "eye 3 height width"]) -> Float[np.ndarray, "eye numbers"]:
    """Return `NUMBERS` numbers per photograph, whose pixels are RGB in [0, 1]."""
    return np.stack([_of_one(np.ascontiguousarray(eye.transpose(1, 2, 0), dtype=np.float32)) for eye in pixels])


def _of_one(photograph: Float[np.ndarray, "height width 3"]) -> Float[np.ndarray, " numbers"]:
    small = cv2.resize(photograph, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.concatenate([_sharpness(small), _colours(small)]).astype(np.float64)


def _sharpness(photograph: Float[np.ndarray, "side side 3"]) -> Float[np.ndarray, " numbers"]:
    """Return per scale the log deviation of what a blur removes, of grey and two colour differences, and the grain.

    The grain is the log ratio of the changes across columns to those across rows: layers of a scan, lines of a text.
    """
    red, green, blue = np.moveaxis(photograph, -1, 0)
    left = np.stack([(red + green + blue) / 3, red - green, (red + green) / 2 - blue], axis=-1)
    numbers = []
    for _ in range(SCALES):
        smooth = cv2.GaussianBlur(left, (0, 0), 1)
        fine = np.sqrt(((left - smooth) ** 2).mean(axis=(0, 1)))
        across, down = (np.abs(np.diff(left[..., 0], axis=axis)).mean() for axis in (1, 0))
        numbers += [*np.log(fine + _DARK), np.log((across + _DARK) / (down + _DARK))]
        left = smooth[::2, ::2]
    return np.array(numbers)


def _colours(photograph: Float[np.ndarray, "side side 3"]) -> Float[np.ndarray, " numbers"]:
    """Return per colour the mean, the deviation and five quantiles, and how the colours vary together."""
    colours = photograph.reshape(-1, 3).astype(np.float64)
    mean, deviation = colours.mean(axis=0), colours.std(axis=0)
    centred = colours - mean
    together = [
        (centred[:, one] * centred[:, other]).mean() / (deviation[one] * deviation[other] + _DARK)
        for one, other in combinations(range(3), 2)
    ]
    return np.concatenate([mean, deviation, together, np.quantile(colours, SHARES, axis=0).ravel()])
