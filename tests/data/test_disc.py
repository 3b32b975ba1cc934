"""The disc is found where it was drawn, and not where none was."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from workbench.data.decode import decode_photograph
from workbench.data.disc import find_disc


def drawn(width: int, height: int, x: float, y: float, radius: float, *, floor: int = 4, seed: int = 0) -> np.ndarray:
    """Return a disc with a dark macula, vessels' grain and one dim side."""
    generator = np.random.default_rng(seed)
    across, down = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    light = (
        0.65 + 0.35 * (across - x) / radius - 0.5 * np.exp(-((across - x) ** 2 + (down - y) ** 2) / (0.1 * radius) ** 2)
    )
    photo = np.array([200, 110, 60]) * light[..., None]
    photo[np.hypot(across - x, down - y) > radius] = floor
    return (photo + generator.normal(0, 2, photo.shape)).clip(0, 255).astype(np.uint8)


CASES = {
    "whole": (600, 400, 310, 195, 180),
    "cut at top and bottom": (430, 285, 200, 140, 172),
    "touches the frame": (256, 256, 128, 128, 128),
    "exceeds the frame, four dark corners": (512, 512, 256, 256, 300),
    "cut at the left": (500, 400, 120, 200, 170),
    "small in a large frame": (640, 480, 300, 250, 90),
    "as small as the model's input": (64, 64, 32, 31, 28),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("floor", [0, 30])
def test_a_drawn_disc_is_found_to_two_hundredths_of_its_radius(name: str, floor: int) -> None:
    width, height, x, y, radius = CASES[name]
    disc = find_disc(drawn(width, height, x, y, radius, floor=floor))
    assert disc is not None
    slack = 0.02 * radius + 0.5
    assert abs(disc.x - x) < slack
    assert abs(disc.y - y) < slack
    assert abs(disc.radius - radius) < slack


def test_black_bars_do_not_pull_the_circle() -> None:
    photo = drawn(256, 256, 128, 128, 122)
    photo[:30] = photo[-34:] = 0
    disc = find_disc(photo)
    assert disc is not None
    assert abs(disc.y - 128) < 3
    assert abs(disc.radius - 122) < 3


@pytest.mark.parametrize("width", [260, 300, 340])
def test_a_stretched_disc_gets_the_circle_about_its_extent(width: int) -> None:
    disc = find_disc(cv2.resize(drawn(400, 400, 200, 200, 180), (width, 400)))
    assert disc is not None
    assert abs(disc.radius - 180) < 5
    assert abs(disc.x - width / 2) < 5


def test_a_white_mount_is_not_the_disc() -> None:
    photo = drawn(400, 400, 200, 200, 150)
    photo[:20] = photo[-20:] = 255
    photo[:, :20] = photo[:, -20:] = 255
    disc = find_disc(photo)
    assert disc is not None
    assert abs(disc.radius - 150) < 5


def test_what_has_no_disc_has_none() -> None:
    generator = np.random.default_rng(0)
    without = {
        "black": np.zeros((300, 300, 3), np.uint8),
        "uniform": np.full((300, 300, 3), 140, np.uint8),
        "noise": generator.integers(0, 255, (300, 300, 3)).astype(np.uint8),
        "tiny": drawn(20, 20, 10, 10, 9),
        "a strip": np.full((40, 900, 3), 140, np.uint8),
        "no rim": drawn(300, 300, 150, 150, 400),
        "a framed rectangle": cv2.copyMakeBorder(
            np.full((200, 300, 3), 150, np.uint8), 30, 30, 30, 30, cv2.BORDER_CONSTANT
        ),
        "too small": drawn(640, 640, 300, 300, 40),
    }
    assert {name: find_disc(photo) for name, photo in without.items()} == dict.fromkeys(without)


def test_the_same_photograph_has_the_same_disc_at_any_scale() -> None:
    photo = drawn(1200, 800, 590, 410, 380)
    coarse, fine = find_disc(photo[::4, ::4].copy()), find_disc(photo)
    assert coarse is not None
    assert fine is not None
    assert abs(4 * coarse.radius - fine.radius) < 0.02 * fine.radius


@pytest.mark.realdata
def test_real_photographs_have_discs(real_data: Path) -> None:
    for folder, every in (("eyepacs256", 300), ("odir5k", 60), ("idrid", 5)):
        paths = sorted((real_data / folder / "images").iterdir())[::every]
        discs = [find_disc(decode_photograph(path, target_size=200)) for path in paths]
        assert None not in discs, folder
