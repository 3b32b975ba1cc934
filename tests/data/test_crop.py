"""Crop geometry: there and back, and maps laid where they belong."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.crop import CropGeometry

geometries = st.builds(
    CropGeometry,
    x=st.floats(-500, 500),
    y=st.floats(-500, 500),
    side=st.floats(50, 5000),
    photo_width=st.integers(50, 400),
    photo_height=st.integers(50, 400),
    size=st.integers(32, 1024),
)


@given(geometries, st.integers(0, 2**32 - 1))
def test_points_come_back(geometry: CropGeometry, seed: int) -> None:
    points = np.random.default_rng(seed).uniform(0, geometry.size, (20, 2))
    assert np.allclose(geometry.to_model(geometry.to_photo(points)), points, atol=1e-6)


def test_the_window_spans_the_model_input() -> None:
    geometry = CropGeometry(-10.0, 20.0, 300.0, 400, 350, 64)
    corners = np.array([[0.0, 0.0], [64.0, 64.0]])
    assert np.allclose(geometry.to_photo(corners), [[-10, 20], [290, 320]])


def test_identity_changes_no_map() -> None:
    heat = np.random.default_rng(0).random((40, 40)).astype(np.float32)
    assert np.allclose(CropGeometry(0.0, 0.0, 40.0, 40, 40, 40).lay_map_on_photo(heat), heat, atol=1e-6)


def test_a_map_of_another_resolution_lies_in_the_same_window() -> None:
    geometry = CropGeometry(30.0, -20.0, 200.0, 260, 240, 64)
    for side in (4, 7, 64):
        laid = geometry.lay_map_on_photo(np.ones((side, side), np.float32))
        inside = np.zeros((240, 260), bool)
        inside[:180, 30:230] = True
        assert np.array_equal(laid > 0.5, inside)
        assert not laid[~inside].any()


def test_a_bright_model_pixel_lands_within_one_model_pixel() -> None:
    geometry = CropGeometry(-33.5, 41.25, 411.0, 500, 460, 64)
    for column, row in ((20, 30), (50, 12), (33, 40)):
        heat = np.zeros((64, 64), np.float32)
        heat[row, column] = 1
        laid = geometry.lay_map_on_photo(heat)
        y, x = (float((laid * axis).sum() / laid.sum()) + 0.5 for axis in np.mgrid[:460, :500])
        found = geometry.to_model(np.array([[x, y]]))[0]
        assert np.allclose(found, [column + 0.5, row + 0.5], atol=0.1)
