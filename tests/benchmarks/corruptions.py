"""What each severity does to a photograph (PSNR, SSIM, would a grader accept it), what it costs, and a sheet of all.

    python tests/benchmarks/corruptions.py PHOTOGRAPH... [--sheet sheet.jpg] [--size 256]

Prints one line per corruption: the median PSNR and SSIM to the clean photograph over the whole frame, the share of
photographs that the quality measure accepts, at severities 1 to 5, and milliseconds of processor time per eye.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from workbench.data.preprocess import preprocess_photograph
from workbench.data.quality import ACCEPTED, rejection_score
from workbench.schema.specs import PreprocessSpec
from workbench.stress.corruptions.catalogue import CORRUPTIONS

SEVERITIES = (1.0, 2.0, 3.0, 4.0, 5.0)


def photograph(path: Path, size: int) -> np.ndarray:
    """Return one prepared photograph, RGB in [0, 1]."""
    return preprocess_photograph(path, PreprocessSpec(size=size)).pixels.astype(np.float32) / 255


def spoiled(image: np.ndarray, name: str, severity: float, seed: int) -> np.ndarray:
    """Return the photograph under a corruption."""
    planes = torch.from_numpy(image.transpose(2, 0, 1).copy())
    x, y = torch.cat([planes, torch.zeros_like(planes)])[None], torch.zeros(1, 2, dtype=torch.int64)
    out = CORRUPTIONS[name](torch.nn.Identity(), x, y, [torch.Generator().manual_seed(seed)], severity=severity)
    return np.ascontiguousarray(out[0, :3].permute(1, 2, 0).numpy())


def measured(images: list[np.ndarray], name: str) -> str:
    """Return the line of one corruption."""
    began, cells = time.process_time(), []
    made = {
        severity: [spoiled(image, name, severity, seed) for seed, image in enumerate(images)] for severity in SEVERITIES
    }
    cost = (time.process_time() - began) / len(images) / len(SEVERITIES)
    for damaged in made.values():
        pairs = list(zip(images, damaged, strict=True))
        psnr = np.median([peak_signal_noise_ratio(clean, after, data_range=1) for clean, after in pairs])
        ssim = np.median([structural_similarity(clean, after, channel_axis=2, data_range=1) for clean, after in pairs])
        accepted = np.mean([rejection_score(after) <= ACCEPTED for after in damaged])
        cells.append(f"{psnr:.0f} / {ssim:.2f} / {100 * accepted:.0f}")
    return f"| `{name}` | {' | '.join(cells)} | {1000 * cost:.0f} |"


def sheet(image: np.ndarray, side: int) -> np.ndarray:
    """Return rows of corruptions, columns of severities, the clean photograph first."""
    rows = []
    for name in CORRUPTIONS:
        cells = [image, *(spoiled(image, name, severity, 3) for severity in SEVERITIES)]
        row = np.concatenate([cv2.resize(cell, (side, side), interpolation=cv2.INTER_AREA) for cell in cells], axis=1)
        row = np.ascontiguousarray((row * 255).round().astype(np.uint8)[..., ::-1])
        cv2.putText(row, name, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
        rows.append(row)
    half = (len(rows) + 1) // 2
    rows += [np.zeros_like(rows[0])] * (2 * half - len(rows))
    return np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], axis=1)


def main() -> None:
    """Measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", nargs="+", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--sheet", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    images = [photograph(path, given.size) for path in given.photographs]
    if given.sheet:
        cv2.imwrite(str(given.sheet), sheet(images[0], 112), [cv2.IMWRITE_JPEG_QUALITY, 82])
        return
    print("PSNR dB / SSIM / % accepted, severities 1 to 5, ms per eye")
    print(f"clean: {100 * np.mean([rejection_score(image) <= ACCEPTED for image in images]):.0f} % accepted")
    for name in CORRUPTIONS:
        print(measured(images, name))


if __name__ == "__main__":
    main()
