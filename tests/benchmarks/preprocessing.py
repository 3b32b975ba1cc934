"""How fast a 3000×2000 photograph becomes 512×512 pixels: ours beside scikit-image and OpenCV, in one run.

Run ``python tests/benchmarks/preprocessing.py``. Photographs: the full-resolution ones of the folder of real data,
re-encoded at 3000×2000, or a drawn one. All three give the same window of the photograph; the peers are given the
window, ours also has to find the disc. The exact result is the area mean of the full decode.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import skimage.io
import skimage.transform
from PIL import Image

from workbench.data.crop import CropGeometry
from workbench.data.decode import decode_photograph
from workbench.data.preprocess import preprocess_photograph
from workbench.schema.specs import PreprocessSpec

SPEC = PreprocessSpec(size=512)
COLUMNS = ("ours", "our decode", "OpenCV", "scikit-image", "× OpenCV", "× scikit-image", "PSNR dB")
ROOT = Path(__file__).resolve().parents[2]


def real_photographs() -> list[Path]:
    """Return the full-resolution photographs, if their folder is here."""
    folder = Path(os.environ.get("WORKBENCH_REAL_DATA") or ROOT.parent / "shared" / "data")
    return [*sorted(folder.glob("eyepacs_fullres/images/*")), *sorted(folder.glob("idrid/images/*"))[:4]]


def drawn_photograph(seed: int = 0, width: int = 3000, height: int = 2000) -> np.ndarray:
    """Return a disc with a vignette, vessels and grain, for where no real photograph is."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    away = np.hypot(x - width / 2, y - height / 2) / (0.47 * height)
    photo = np.array([190, 90, 40], np.float32) * (1.1 - 0.5 * away[..., None] ** 2)
    for _ in range(12):
        turn = generator.uniform(0, 2 * np.pi) + np.cumsum(generator.normal(0, 0.05, 300))
        path = np.cumsum(np.stack([np.cos(turn), np.sin(turn)], 1) * 4, 0)
        path += width * 0.62, height / 2
        cv2.polylines(photo, [path.astype(np.int32)], False, (110, 35, 20), int(generator.integers(4, 14)), cv2.LINE_AA)
    photo = cv2.GaussianBlur(photo, (0, 0), 1.5) + 2 * generator.standard_normal((height, width, 1), np.float32)
    photo[away > 1] = 3
    return photo.clip(0, 255).astype(np.uint8)


def write_as(photo: np.ndarray, path: Path, width: int = 3000, height: int = 2000) -> Path:
    """Write a photograph as a JPEG of these side lengths, cut to their aspect first."""
    tall = min(photo.shape[0], round(photo.shape[1] * height / width))
    wide = min(photo.shape[1], round(tall * width / height))
    top, left = (photo.shape[0] - tall) // 2, (photo.shape[1] - wide) // 2
    cut = np.ascontiguousarray(photo[top : top + tall, left : left + wide])
    sized = cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA if wide >= width else cv2.INTER_CUBIC)
    buffer = io.BytesIO()
    Image.fromarray(sized).save(buffer, "JPEG", quality=92)
    path.write_bytes(buffer.getvalue())
    return path


def window(pixels: np.ndarray, lies: CropGeometry) -> np.ndarray:
    """Cut a window out of the whole photograph, padded with black."""
    left, top, side = round(lies.x), round(lies.y), round(lies.side)
    out = np.zeros((side, side, 3), pixels.dtype)
    part = pixels[max(top, 0) : top + side, max(left, 0) : left + side]
    down, across = max(-top, 0), max(-left, 0)
    out[down : down + part.shape[0], across : across + part.shape[1]] = part
    return out


def opencv_full(path: Path, lies: CropGeometry) -> np.ndarray:
    """Decode whole with OpenCV, cut, resize by area: also the exact result."""
    cut = window(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), lies)
    return cv2.resize(cut, (SPEC.size, SPEC.size), interpolation=cv2.INTER_AREA)


def scikit_image(path: Path, lies: CropGeometry) -> np.ndarray:
    """Decode, cut and resize as scikit-image's documentation says."""
    cut = window(skimage.io.imread(path), lies)
    return skimage.transform.resize(cut, (SPEC.size, SPEC.size), anti_aliasing=True)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of two 8-bit pictures, in dB."""
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other.astype(float)) ** 2)))


def psnr_to_exact(path: Path) -> float:
    """Return how near our 512×512 comes to the area mean of the full decode of the same window."""
    ours = preprocess_photograph(path, SPEC)
    return psnr(ours.pixels, opencv_full(path, ours.geometry))


def best_milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Return the processor time of the fastest of some runs, the one that other work disturbed least."""
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return 1e3 * min(seconds)


def measure(path: Path, repeats: int) -> list[float]:
    """Return one row of `COLUMNS`."""
    lies = preprocess_photograph(path, SPEC).geometry
    ours = best_milliseconds(lambda: preprocess_photograph(path, SPEC), repeats)
    decode = best_milliseconds(lambda: decode_photograph(path, target_size=SPEC.size), repeats)
    opencv = best_milliseconds(lambda: opencv_full(path, lies), repeats)
    slow = best_milliseconds(lambda: scikit_image(path, lies), max(1, repeats // 3))
    return [ours, decode, opencv, slow, opencv / ours, slow / ours, psnr_to_exact(path)]


def main() -> None:
    """Print one line per photograph and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = real_photographs()
        photos = [decode_photograph(path) for path in found] or [drawn_photograph(seed) for seed in range(3)]
        print(f"{len(photos)} {'real' if found else 'drawn'} photographs as 3000×2000 JPEG → 512×512")
        print("processor milliseconds of one thread, best of some; the last line is the median")
        print("".join(f"{name:>14}" for name in COLUMNS))
        rows = [measure(write_as(photo, Path(folder) / f"{n}.jpeg"), repeats) for n, photo in enumerate(photos)]
        for row in [*rows, [statistics.median(column) for column in zip(*rows, strict=True)]]:
            print("".join(f"{value:14.1f}" for value in row))


if __name__ == "__main__":
    main()
