"""Would a grader still accept this photograph? A measure fitted to what graders said (EyeQ: good, usable, reject).

Four numbers, each with the sign that physics gives it, in one logistic line; `docs/corruptions.md` says how well it
tells rejected photographs and what it is blind to.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from jaxtyping import Float, Float32

from workbench.data.lit_disc import lit_disc

SIDE: Final = 128
"""Pixels across which structure and light are looked at, whatever the model's own size."""
TYPICAL_BRIGHTNESS: Final = 0.557
"""The median of photographs that were graded good."""
TYPICAL_GRAIN: Final = -4.706
WEIGHTS: Final = (-1.991, 6.649, 14.41, 3.715)
INTERCEPT: Final = -10.568
ACCEPTED: Final = 0.1082
"""Up to here: what 95 in 100 photographs that graders accepted keep to."""
_FLOOR: Final = 1e-3


def numbers(image: Float32[np.ndarray, "height width 3"]) -> Float[np.ndarray, 4]:
    """Return what the measure looks at inside the disc of an RGB photograph in [0, 1]; NaN where there is no disc.

    Structure: the log deviation of what a blur of one pixel of `SIDE` leaves of green and one of two takes (vessels are
    in it). Distance of the mean brightness from what is typical. Share that is almost black. Distance of the grain (the
    log of the median change that a blur of 0.8 pixels of the photograph takes from green) from what is typical.
    """
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    inside = cv2.erode(lit_disc(small).astype(np.uint8), np.ones((7, 7), np.uint8))
    if inside.sum() < SIDE:
        return np.full(4, np.nan)
    within, grey = inside.astype(bool), small.mean(axis=2)
    band = cv2.GaussianBlur(small[..., 1], (0, 0), 1.0) - cv2.GaussianBlur(small[..., 1], (0, 0), 2.0)
    fine = np.abs(image[..., 1] - cv2.GaussianBlur(image[..., 1], (0, 0), 0.8))
    at_full_size = cv2.resize(inside, image.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
    return np.array(
        [
            np.log(band[within].std() + _FLOOR),
            abs(grey[within].mean() - TYPICAL_BRIGHTNESS),
            (grey[within] < 0.12).mean(),
            abs(np.log(np.median(fine[at_full_size]) + _FLOOR) - TYPICAL_GRAIN),
        ],
        dtype=np.float64,
    )


def rejection_score(image: Float32[np.ndarray, "height width 3"]) -> float:
    """Return the log-odds that graders reject the photograph; infinite where no disc is left to look at."""
    found = numbers(image)
    return float(found @ np.array(WEIGHTS) + INTERCEPT) if np.isfinite(found).all() else float("inf")
