"""What is flagged before it is graded: share of held-out exams, of tampered ones and of what is no fundus photograph.

    python tests/benchmarks/intake.py --model runs/eyepacs256/model --manifest workspace/eyepacs256 \
        --other workspace/odir5k

Every kind is judged by `workbench.uncertainty.intake.check`, as `workbench data check` does. Tampered exams are made
of the held-out patients' photographs. No fundus photograph: scikit-image's and scikit-learn's own example pictures (a
cat, a face, a cup, microscopy, a page …), and cross-sections of a retina that are drawn here, since no real OCT scan
can be had: bright layers on a dark speckled ground.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import skimage
import sklearn.datasets

from workbench.data.decode import UnreadablePhotograph
from workbench.data.exams import open_exams
from workbench.data.preprocess import preprocess_bytes
from workbench.metrics.proportions import wilson_interval
from workbench.schema.manifest import read_manifest
from workbench.uncertainty.intake import Intake, check, open_intake
from workbench.uncertainty.laterality_check import Pair, pairs_of

FUNDUS = ("retina", "microaneurysms")
"""Scikit-image's two fundus pictures are none of the others."""

Tamper = Callable[[Pair, Pair], Pair]


def turned(pixels: np.ndarray | None) -> np.ndarray | None:
    return None if pixels is None else np.ascontiguousarray(pixels[::-1, ::-1])


def mirrored(pixels: np.ndarray | None) -> np.ndarray | None:
    return None if pixels is None else np.ascontiguousarray(pixels[:, ::-1])


TAMPERED: dict[str, Tamper] = {
    "as filed": lambda pair, other: pair,
    "both eyes swapped": lambda pair, other: (pair[1], pair[0]),
    "both upside down": lambda pair, other: (turned(pair[0]), turned(pair[1])),
    "OD upside down": lambda pair, other: (turned(pair[0]), pair[1]),
    "OD mirrored": lambda pair, other: (mirrored(pair[0]), pair[1]),
    "OS twice": lambda pair, other: (pair[1], pair[1]),
    "another patient's OS as OD": lambda pair, other: (other[1], pair[1]),
    "another patient's OD as OD": lambda pair, other: (other[0], pair[1]),
}


def cross_sections(count: int, seed: int = 0) -> list[bytes]:
    """Return PNG files that look like OCT cross-sections of a retina: layers with a foveal pit, speckle."""
    rng = np.random.default_rng(seed)
    files = []
    for _ in range(count):
        height, width = 496, 768
        columns = np.arange(width)
        pit = rng.uniform(30, 60) * np.exp(-0.5 * ((columns - rng.uniform(300, 470)) / rng.uniform(50, 90)) ** 2)
        top = rng.uniform(140, 220) + rng.uniform(-0.08, 0.08) * (columns - width / 2) + pit
        image = np.full((height, width), 18.0)
        for depth, thickness, light in ((0, 14, 150), (30, 8, 90), (60, 6, 110), (95, 9, 210), (108, 12, 235)):
            edge = top + (depth - pit * (1 - depth / 120))
            rows = np.arange(height)[:, None]
            image += (light - 18) * np.exp(-0.5 * ((rows - edge) / thickness) ** 2)
        speckled = image * rng.gamma(4.0, 0.25, image.shape)
        grey = np.clip(cv2.GaussianBlur(speckled, (0, 0), 0.8), 0, 255).astype(np.uint8)
        files.append(cv2.imencode(".png", grey)[1].tobytes())
    return files


def everyday() -> list[tuple[bytes, str]]:
    folders = [Path(skimage.__file__).parent / "data", Path(sklearn.datasets.__file__).parent / "images"]
    listed = [path for folder in folders for path in sorted(folder.glob("*")) if path.suffix in (".png", ".jpg")]
    return [(path.read_bytes(), path.suffix) for path in listed if path.stem not in FUNDUS]


def prepared(intake: Intake, files: Sequence[tuple[bytes, str]]) -> list[np.ndarray | None]:
    """Return the pixels that a model would be given; None where the preparation refuses, which is a flag by itself."""
    found: list[np.ndarray | None] = []
    for data, suffix in files:
        try:
            found.append(preprocess_bytes(data, suffix, intake.spec).pixels)
        except UnreadablePhotograph:
            found.append(None)
    return found


def told(name: str, flagged: int, n: int, remark: str = "") -> None:
    low, high = wilson_interval(flagged, n)
    print(f"{name:<38}{flagged:>5} of {n:<5}{100 * flagged / n:>6.1f} %  ({100 * low:.1f}-{100 * high:.1f})  {remark}")


def exams_flagged(intake: Intake, pairs: Sequence[Pair]) -> int:
    rows = check(intake, pairs)
    return sum(any(row["flag"] for row in rows[2 * exam : 2 * exam + 2]) for exam in range(len(pairs)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True, help="the held-out patients are its split 'test'")
    parser.add_argument("--other", type=Path, help="photographs of another source, split of any name")
    options = parser.parse_args()
    intake = open_intake(options.model)
    exams = open_exams(read_manifest(options.manifest), intake.spec, cache=options.manifest / "cache", split="test")
    pairs = [pair for pair in pairs_of(exams, range(len(exams))) if pair[0] is not None and pair[1] is not None]
    print("kind                                  flagged exams          (95 % Wilson interval)")
    for name, tamper in TAMPERED.items():
        changed = [tamper(pair, pairs[place - 1]) for place, pair in enumerate(pairs)]
        told(name, exams_flagged(intake, changed), len(changed))
    if options.other:
        others = open_exams(read_manifest(options.other), intake.spec, cache=options.other / "cache", split=None)
        shown = [pair for pair in pairs_of(others, range(len(others))) if pair[0] is not None and pair[1] is not None]
        told("another source, as filed", exams_flagged(intake, shown), len(shown), str(options.other.name))
    for name, files in (
        ("everyday and other pictures", everyday()),
        ("drawn OCT cross-sections", [(data, ".png") for data in cross_sections(100)]),
    ):
        pixels = prepared(intake, files)
        kept: list[Pair] = [(image, None) for image in pixels if image is not None]
        refused = len(pixels) - len(kept)
        told(name, refused + (exams_flagged(intake, kept) if kept else 0), len(pixels), f"{refused} have no disc")


if __name__ == "__main__":
    main()
