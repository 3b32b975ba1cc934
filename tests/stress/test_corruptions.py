"""What each corruption does to a photograph."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from workbench.data.lit_disc import lit_disc
from workbench.schema.specs import StressSpec
from workbench.stress.corruptions.catalogue import CORRUPTIONS, TABLE, draw, spoil
from workbench.stress.corruptions.lighting import LUMINANCE, expose
from workbench.stress.corruptions.optics import disc_kernel, line_kernel
from workbench.stress.corruptions.photograph import GAMMA, Photograph
from workbench.stress.corruptions.sensor import compress
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


NO_CHANCE = torch.zeros(0)
SEARCHABLE = [name for name, corruption in TABLE.items() if corruption.chance and name != "gamma"]


def photograph(image: np.ndarray, seed: int = 0) -> Photograph:
    return Photograph(torch.from_numpy(image.transpose(2, 0, 1).copy()), seed)


def pixels(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


def degrade(eye: np.ndarray, name: str, severity: float, seed: int = 1) -> np.ndarray:
    channels = torch.from_numpy(eye.transpose(2, 0, 1))
    x = torch.cat([channels, channels])[None]
    stress = bind(StressSpec(name=name, strength=severity))
    out = stress(no_model, x, torch.zeros(1, 2, dtype=torch.int64), [torch.Generator().manual_seed(seed)])
    return out[0].numpy().reshape(2, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_distortion_grows_with_severity(name: str, eye: np.ndarray) -> None:
    damaged = [degrade(eye, name, severity) for severity in range(6)]
    errors = [float(((image - eye) ** 2).mean()) for image in damaged]
    assert errors[0] == 0
    assert all(later > 1.15 * earlier for earlier, later in pairwise(errors)), errors
    likeness = [structural_similarity(eye, image[0], channel_axis=2, data_range=1) for image in damaged]
    assert likeness[0] == 1
    assert all(later < earlier for earlier, later in pairwise(likeness)), likeness


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_between_two_severities_lies_what_is_between_them(name: str, eye: np.ndarray) -> None:
    errors = [float(((degrade(eye, name, severity) - eye) ** 2).mean()) for severity in (2, 2.5, 3)]
    assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_the_result_is_an_8_bit_photograph(name: str, eye: np.ndarray) -> None:
    out = degrade(eye, name, 3) * 255
    assert np.abs(out - np.rint(out)).max() < 1e-4


@pytest.mark.parametrize("name", [name for name, corruption in TABLE.items() if not corruption.whole])
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
        assert measured == pytest.approx(TABLE["noise"].amounts["deviation"][severity], rel=0.05)


@pytest.mark.parametrize("name", ["defocus", "motion", "smear"])
def test_a_blur_keeps_the_rim_and_the_mean_light(name: str, eye: np.ndarray) -> None:
    if name != "smear":  # grease also veils
        flat = np.where(lit_disc(eye)[..., None], np.full_like(eye, 153 / 255), 0).astype(np.float32)
        assert np.abs(degrade(flat, name, 5) - flat).max() < 1e-5
    assert degrade(eye, name, 3).mean() == pytest.approx(eye.mean(), rel=0.02)


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.7, 6.0])
def test_the_defocus_kernel_is_a_disc(radius: float) -> None:
    kernel = disc_kernel(radius)
    half = len(kernel) // 2
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert np.allclose(kernel, kernel.T)
    assert np.allclose(kernel, kernel[::-1, ::-1])
    offsets = np.arange(-half, half + 1)
    inside = np.hypot(offsets[:, None], offsets[None, :]) <= radius - 0.5
    assert np.allclose(kernel[inside], kernel.max(), rtol=1e-4)
    assert kernel[half, half] == pytest.approx(1 / (np.pi * (radius + 0.5) ** 2), rel=0.15 if radius < 1 else 0.02)


@pytest.mark.parametrize("length", [0.4, 3.0, 8.0])
@pytest.mark.parametrize("turn", [0.0, 0.25, 0.6])
def test_the_motion_kernel_is_a_line(length: float, turn: float) -> None:
    kernel = line_kernel(length, torch.tensor(turn * np.pi)).numpy()
    half = len(kernel) // 2
    down, right = np.mgrid[-half : half + 1, -half : half + 1]
    along = right * np.cos(turn * np.pi) + down * np.sin(turn * np.pi)
    aside = down * np.cos(turn * np.pi) - right * np.sin(turn * np.pi)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert np.allclose(kernel, kernel[::-1, ::-1], atol=1e-6)
    assert (kernel * aside**2).sum() < 0.35, "it is one pixel wide"
    assert (kernel * along**2).sum() == pytest.approx(length**2 / 12, abs=0.45 + 0.05 * length**2)


def test_a_blur_is_the_average_that_the_definition_says(eye: np.ndarray) -> None:
    """The masked average written slowly, at some places."""
    photo, kernel = photograph(eye), line_kernel(7.0, torch.tensor(0.7))
    fast, inside, half = pixels(photo.averaged(kernel)), photo.inside.numpy(), len(kernel) // 2
    for row, column in ((48, 48), (5, 48), (30, 12), (80, 70)):
        total, weight = np.zeros(3), 0.0
        for down in range(-half, half + 1):
            for right in range(-half, half + 1):
                at = row + down, column + right
                if min(at) >= 0 and max(at) < SIDE and inside[at]:
                    share = float(kernel[half - down, half - right])
                    total, weight = total + share * eye[at], weight + share
        assert np.allclose(fast[row, column], total / max(weight, 1e-6), atol=1e-5)


@pytest.mark.parametrize("stops", [-2.0, -0.5, 1.0])
def test_exposure_is_stops_of_light(stops: float) -> None:
    image = np.full((4, 4, 3), 0.3, np.float32)
    light = pixels(expose(photograph(image), NO_CHANCE, stops=stops)) ** GAMMA / image**GAMMA
    assert np.allclose(np.log2(light), stops, atol=1e-3)


def test_overexposure_loses_what_exceeds_the_range() -> None:
    image = np.linspace(0, 1, 48, dtype=np.float32).reshape(4, 4, 3)
    assert (pixels(expose(photograph(image), NO_CHANCE, stops=2.0)) == 1).sum() > (image == 1).sum()


def test_jpeg_is_a_real_codec(eye: np.ndarray) -> None:
    out = pixels(compress(photograph(eye), NO_CHANCE, quality=7.0))
    assert out.shape == eye.shape
    blocks = np.abs(np.diff(out[..., 1], axis=1))
    assert blocks[:, 7::8].mean() > 1.3 * blocks[:, 3::8].mean(), "edges stand at the borders of 8 × 8 blocks"


@pytest.mark.parametrize("level", range(1, 6))
def test_sensor_noise_has_the_deviation_of_its_photons(level: int) -> None:
    """Var(light) = light·shot² + read² (the photon transfer curve), seen through the slope of the gamma."""
    grey = np.full((SIDE, SIDE, 3), 0.7, np.float32)
    amounts = TABLE["sensor_noise"].at(float(level))
    light = 0.7**GAMMA
    deviation = np.sqrt(light * amounts["shot"] ** 2 + amounts["read"] ** 2) * light ** (1 / GAMMA - 1) / GAMMA
    measured = float((degrade(grey, "sensor_noise", level) - grey).std())
    assert measured == pytest.approx(np.hypot(deviation, 1 / 255 / np.sqrt(12)), rel=0.06)


@pytest.mark.parametrize("severity", [1, 3])
def test_a_colour_cast_keeps_the_luminance(severity: int, eye: np.ndarray) -> None:
    inside, weights = lit_disc(eye), np.array(LUMINANCE)
    grey = np.where(inside[..., None], np.full_like(eye, 0.4), 0)
    before, after = (
        float((image[inside] ** GAMMA @ weights).mean()) for image in (grey, degrade(grey, "colour_cast", severity)[0])
    )
    assert after == pytest.approx(before, rel=0.02)


@pytest.mark.parametrize("name", [name for name, corruption in TABLE.items() if corruption.shared])
def test_what_belongs_to_the_camera_is_the_same_in_both_eyes(name: str, eye: np.ndarray) -> None:
    for seed in range(4):
        right, left = degrade(eye, name, 4, seed)
        assert np.array_equal(right, left)
        alone = TABLE[name], torch.from_numpy(np.concatenate([eye, eye], axis=2).transpose(2, 0, 1).copy())
        chance = draw(alone[0], torch.Generator().manual_seed(seed))
        assert np.allclose(pixels(spoil(*alone, chance, 4.0, "OS")[3:]), left, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("name", SEARCHABLE)
def test_the_slope_in_what_chance_decides_is_the_change_that_it_makes(name: str, eye: np.ndarray) -> None:
    corruption, photo = TABLE[name], photograph(eye)
    weights = torch.from_numpy(np.random.default_rng(1).random(photo.image.shape, np.float32)).cumsum(dim=2) / SIDE
    chance = 0.2 + 0.25 * torch.rand(corruption.chance, generator=torch.Generator().manual_seed(3))
    direction = torch.randn(corruption.chance, generator=torch.Generator().manual_seed(4))

    def response(at: torch.Tensor) -> torch.Tensor:
        return (corruption(photo, at, 3.0) * weights).double().sum()

    leaf = chance.clone().requires_grad_()
    (slope,) = torch.autograd.grad(response(leaf), leaf)
    step = 1e-3 if name == "motion" else 3e-4  # its slope is so small that float32 drowns it at the smaller step
    change = (response(chance + step * direction) - response(chance - step * direction)) / (2 * step)
    assert torch.isfinite(slope).all()
    assert float(slope @ direction) == pytest.approx(float(change), rel=0.15, abs=0.05 * float(slope.norm()))


def test_the_disc_holds_its_dark_parts_and_no_stray_light(eye: np.ndarray) -> None:
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    inside = np.hypot(rows, columns) < 46
    spoiled = eye.copy()
    spoiled[40:60, 40:60] = 0  # a large dark lesion
    spoiled[~inside] += np.float32(0.05)  # stray light
    spoiled[2, 2] = 1  # a hot pixel
    assert (lit_disc(spoiled) ^ inside).mean() < 0.01
    assert not lit_disc(np.zeros_like(eye)).any()
