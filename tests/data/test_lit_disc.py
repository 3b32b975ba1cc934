"""The lit disc: the convex hull of what is lit, whichever of its pixels it is found from."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from workbench.data.lit_disc import lit_disc


def slowly(image):
    """Return the hull of every lit pixel, as the definition has it."""
    brightness = image.max(axis=2)
    lit = (brightness > max(8 / 255, 0.1 * np.percentile(brightness, 90))).astype(np.uint8)
    speck = 2 * (image.shape[1] // 64) + 1
    opened = cv2.morphologyEx(lit, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (speck, speck)))
    hull, points = np.zeros_like(lit), cv2.findNonZero(opened)
    if points is not None:
        cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return (cv2.erode(hull, np.ones((3, 3), np.uint8)) | (hull & lit)).astype(bool)


@pytest.mark.parametrize("seed", range(40))
def test_the_ends_of_rows_have_the_hull_of_every_lit_pixel(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(6, 90, 2)
    image = (rng.random((height, width, 1)) < rng.random() ** 4) * rng.random((height, width, 3))
    image = image.astype(np.float32)
    np.testing.assert_array_equal(lit_disc(image), slowly(image))


def test_nothing_lit_is_no_disc_and_one_pixel_is_not_lost():
    dark = np.zeros((40, 50, 3), np.float32)
    assert not lit_disc(dark).any()
    dark[20, 30] = 1.0
    np.testing.assert_array_equal(lit_disc(dark), slowly(dark))
    assert lit_disc(dark)[20, 30]
