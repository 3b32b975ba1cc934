"""From a photograph to the model's square: scale, invertibility, quality, colour steps written slowly."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from PIL import Image

from workbench.data.decode import UnreadablePhotograph
from workbench.data.preprocess import NO_DISC, NoDisc, equalise, preprocess_bytes, preprocess_photograph
from workbench.data.preprocess import subtract_local_average as subtract
from workbench.schema.specs import PreprocessSpec


def photograph(width: int, height: int, x: float, y: float, radius: float) -> np.ndarray:
    across, down = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    inside = np.hypot(across - x, down - y) <= radius
    return np.where(inside[..., None], np.array([180, 90, 50]), 3).astype(np.uint8)


def as_bytes(photo: np.ndarray, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "preprocessing.py"
    spec = importlib.util.spec_from_file_location("benchmark_preprocessing", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("margin", [0.0, 0.1])
@pytest.mark.parametrize(("scale", "kind"), [(1, "PNG"), (3, "JPEG"), (6, "JPEG")])
def test_the_disc_fills_the_square_at_any_resolution(scale: int, kind: str, margin: float) -> None:
    photo = photograph(300 * scale, 200 * scale, 140 * scale, 104 * scale, 80 * scale)
    made = preprocess_bytes(as_bytes(photo, kind), "", PreprocessSpec(size=96, margin=margin))
    lit = (made.pixels.max(axis=2) > 90).mean()
    assert lit == pytest.approx(np.pi / 4 / (1 + margin) ** 2, abs=0.03)
    assert made.geometry.side == pytest.approx(160 * scale * (1 + margin), rel=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_a_mark_on_the_photograph_is_found_within_one_model_pixel(seed: int) -> None:
    """Draw a mark, prepare, find it in the model's input, carry it back."""
    generator = np.random.default_rng(seed)
    width, height = (int(side) for side in generator.integers(500, 1100, 2))
    radius = 0.55 * min(width, height)
    photo = photograph(width, height, width / 2, height / 2, radius)
    mark = np.array([width, height]) / 2 + generator.uniform(-0.5, 0.5, 2) * radius
    cv2.circle(photo, [int(v) for v in mark], round(radius / 30), (20, 250, 250), -1)
    made = preprocess_bytes(as_bytes(photo), ".jpg", PreprocessSpec(size=96))
    y, x = np.nonzero(made.pixels[..., 1] > 170)
    found = np.array([[x.mean() + 0.5, y.mean() + 0.5]])
    expected = np.floor(mark) + 0.5
    assert np.abs(made.geometry.to_photo(found)[0] - expected).max() < made.geometry.scale
    assert np.abs(made.geometry.to_model(expected[None])[0] - found[0]).max() < 1
    laid = made.geometry.lay_map_on_photo((made.pixels[..., 1] > 170).astype(np.float32))
    assert laid.shape == (height, width)
    assert laid[int(mark[1]), int(mark[0])] > 0.9


def test_a_small_disc_is_decoded_more_finely() -> None:
    photo = photograph(1200, 800, 600, 400, 120)
    photo[340:420, 600:602] = 0  # a vertical line that a coarse decode would wash out
    made = preprocess_bytes(as_bytes(photo), ".jpg", PreprocessSpec(size=128))
    assert made.geometry.scale < 2
    assert made.pixels[50:60, 60:68, 0].min() < 60


def test_shrunk_decoding_stays_near_the_exact_result(benchmark: ModuleType, tmp_path: Path) -> None:
    path = benchmark.write_as(benchmark.drawn_photograph(), tmp_path / "drawn.jpeg")
    assert benchmark.psnr_to_exact(path) >= 38


@pytest.mark.realdata
@pytest.mark.slow
def test_shrunk_decoding_of_real_photographs(benchmark: ModuleType, real_data: Path) -> None:
    paths = benchmark.real_photographs()[::6]
    assert paths
    for path in paths:
        assert benchmark.psnr_to_exact(path) >= 38


def test_no_disc_is_its_own_reason(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    Image.new("RGB", (200, 200), (90, 90, 90)).save(path)
    with pytest.raises(NoDisc) as caught:
        preprocess_photograph(path, PreprocessSpec(size=64))
    assert isinstance(caught.value, UnreadablePhotograph)
    assert caught.value.reason == NO_DISC == "ungradable (no disc)"


def test_local_average_is_grahams_formula() -> None:
    """Against a Gaussian written out as a sum over every pixel."""
    generator = np.random.default_rng(0)
    size, radius = 48, 24.0
    pixels = generator.integers(60, 200, (size, size, 3)).astype(np.uint8)
    raised = subtract(pixels, radius)
    sigma = radius / 30
    y, x = np.mgrid[:size, :size]
    for row, column in ((24, 24), (20, 30), (33, 18)):
        weight = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma**2))
        average = (pixels * weight[..., None]).sum(axis=(0, 1)) / weight.sum()
        expected = np.clip(4 * (pixels[row, column] - average) + 128, 0, 255)
        assert np.abs(raised[row, column] - expected).max() <= 6
    assert (raised[0, 0] == 128).all()
    assert (subtract(np.full((48, 48, 3), 77, np.uint8), radius) == 128).all()


def test_equalisation_raises_contrast_inside_and_leaves_the_rest() -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(100, 116, (64, 64, 3)).astype(np.uint8)
    inside = np.zeros((64, 64), bool)
    inside[16:48, 16:48] = True
    raised = equalise(pixels, inside)
    assert np.array_equal(raised[~inside], pixels[~inside])
    assert raised[inside].std() > 1.2 * pixels[inside].std()


def test_options_change_pixels_but_not_geometry() -> None:
    data = as_bytes(photograph(300, 220, 150, 110, 95))
    plain = preprocess_bytes(data, "", PreprocessSpec(size=64))
    for option in ("local_average", "clahe"):
        other = preprocess_bytes(data, "", PreprocessSpec(size=64, **{option: True}))
        assert other.geometry == plain.geometry
        assert not np.array_equal(other.pixels, plain.pixels)
