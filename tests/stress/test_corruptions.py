"""What each corruption does to a photograph."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from workbench.data.lit_disc import lit_disc
from workbench.schema.specs import StressSpec
from workbench.stress.corruptions import CORRUPTIONS, LEVELS, _disc_kernel, compress, defocus, expose
from workbench.stress.registry import bind

SIDE = 96


def no_model(x: torch.Tensor) -> torch.Tensor:
    raise AssertionError("a corruption does not look at the model")


@pytest.fixture(scope="module")
def eye() -> np.ndarray:
    """A disc of smooth colour with dark and bright spots, black around it."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    radius = np.hypot(rows - SIDE / 2 + 0.5, columns - SIDE / 2 + 0.5)
    image = np.stack([0.75 - radius / 300, 0.4 - radius / 400, 0.2 - radius / 600], axis=2)
    for _ in range(60):
        row, column = random.integers(20, SIDE - 20, 2)
        image[row : row + 2, column : column + 2] *= random.choice([0.4, 1.5])
    return np.where(radius[..., None] < 46, image, 0).clip(0, 1).astype(np.float32)


def degrade(eye: np.ndarray, name: str, severity: int, seed: int = 1) -> np.ndarray:
    channels = torch.from_numpy(eye.transpose(2, 0, 1))
    x = torch.cat([channels, channels])[None]
    stress = bind(StressSpec(name=name, strength=severity))
    out = stress(no_model, x, torch.zeros(1, 2, dtype=torch.int64), [torch.Generator().manual_seed(seed)])
    return out[0].numpy().reshape(2, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_distortion_grows_with_severity(name: str, eye: np.ndarray) -> None:
    errors = [float(((degrade(eye, name, severity) - eye) ** 2).mean()) for severity in range(6)]
    assert errors[0] == 0
    assert all(later > 1.15 * earlier for earlier, later in pairwise(errors)), errors


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_the_result_is_an_8_bit_photograph(name: str, eye: np.ndarray) -> None:
    out = degrade(eye, name, 3) * 255
    assert np.abs(out - np.rint(out)).max() < 1e-4


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "jpeg"])
def test_what_lies_outside_the_disc_stays(name: str, eye: np.ndarray) -> None:
    out = degrade(eye, name, 5)
    assert not out[:, eye.max(axis=2) == 0].any()


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_a_black_eye_stays_black(name: str, eye: np.ndarray) -> None:
    assert not degrade(np.zeros_like(eye), name, 5).any()


def test_the_two_eyes_get_their_own_noise(eye: np.ndarray) -> None:
    right, left = degrade(eye, "noise", 2)
    inside = lit_disc(eye)
    assert abs(np.corrcoef((right - eye)[inside].ravel(), (left - eye)[inside].ravel())[0, 1]) < 0.05


def test_noise_has_the_stated_strength() -> None:
    grey = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    for severity in range(1, 6):
        measured = float((degrade(grey, "noise", severity) - grey).std())
        assert measured == pytest.approx(LEVELS["noise"][severity - 1], rel=0.05)


def test_defocus_keeps_the_rim_and_the_mean_light(eye: np.ndarray) -> None:
    flat = np.where(lit_disc(eye)[..., None], np.full_like(eye, 0.6), 0)
    assert np.abs(defocus(flat, 0.05, np.random.default_rng()) - flat).max() < 1e-5
    blurred = defocus(eye, 0.02, np.random.default_rng())
    assert blurred.mean() == pytest.approx(eye.mean(), rel=0.01)


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.7, 6.0])
def test_the_defocus_kernel_is_a_disc(radius: float) -> None:
    kernel = _disc_kernel(radius)
    half = len(kernel) // 2
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert np.allclose(kernel, kernel.T)
    assert np.allclose(kernel, kernel[::-1, ::-1])
    offsets = np.arange(-half, half + 1)
    inside = np.hypot(offsets[:, None], offsets[None, :]) <= radius - 0.5
    assert np.allclose(kernel[inside], kernel.max(), rtol=1e-4)
    assert kernel[half, half] == pytest.approx(1 / (np.pi * (radius + 0.5) ** 2), rel=0.15 if radius < 1 else 0.02)


@pytest.mark.parametrize("stops", [-2.0, -0.5, 1.0])
def test_exposure_is_stops_of_light(stops: float) -> None:
    image = np.full((4, 4, 3), 0.3, np.float32)
    light = expose(image, stops, np.random.default_rng()) ** 2.2 / image**2.2
    assert np.allclose(np.log2(light), stops, atol=1e-3)


def test_overexposure_loses_what_exceeds_the_range() -> None:
    image = np.linspace(0, 1, 48, dtype=np.float32).reshape(4, 4, 3)
    assert (expose(image, 2.0, np.random.default_rng()) == 1).sum() > (image == 1).sum()


def test_jpeg_is_a_real_codec(eye: np.ndarray) -> None:
    out = compress(eye, 7.0, np.random.default_rng())
    assert out.shape == eye.shape
    blocks = np.abs(np.diff(out[..., 1], axis=1))
    assert blocks[:, 7::8].mean() > 1.3 * blocks[:, 3::8].mean(), "edges stand at the borders of 8 × 8 blocks"


def test_the_disc_holds_its_dark_parts_and_no_stray_light(eye: np.ndarray) -> None:
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    inside = np.hypot(rows, columns) < 46
    spoiled = eye.copy()
    spoiled[40:60, 40:60] = 0  # a large dark lesion
    spoiled[~inside] += np.float32(0.05)  # stray light
    spoiled[2, 2] = 1  # a hot pixel
    assert (lit_disc(spoiled) ^ inside).mean() < 0.01
    assert not lit_disc(np.zeros_like(eye)).any()
