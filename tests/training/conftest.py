from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from workbench.schema.config import load_config
from workbench.schema.files import sha256_file
from workbench.schema.manifest import as_manifest, write_manifest
from workbench.training.config import TrainConfig

SMALL = {
    "model.width": 0.125,
    "preprocess.size": 64,
    "train.epochs": 2,
    "train.batch_size": 4,
    "train.threads": 1,
    "train.precision": "fp32",
    "train.device": "cpu",
}


def draw_eye(path: Path, grade: int, seed: int) -> None:
    """Write a disc like a fundus whose brightness follows the grade: enough to be learned in seconds."""
    generator = np.random.default_rng(seed)
    pixels = np.zeros((96, 96, 3), np.uint8)
    cv2.circle(pixels, (48, 48), 44, (40 + 40 * grade, 60, 120), -1)
    noise = generator.integers(0, 20, pixels.shape, dtype=np.uint8)
    cv2.imwrite(str(path), np.where(pixels > 0, pixels + noise, 0).astype(np.uint8))


def make_cohort(folder: Path, patients: int = 24) -> Path:
    """Write photographs and a manifest: half the patients to learn from, a third to judge by."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for patient in range(patients):
        grade = patient % 5
        split = ("train", "validation", "train", "validation", "train", "test")[patient // 4 % 6]
        for side, eye in enumerate(("OD", "OS")):
            path = folder / f"{patient}_{eye}.png"
            draw_eye(path, grade, seed=2 * patient + side)
            rows.append(
                {
                    "patient_id": f"p{patient:03}",
                    "exam_id": f"e{patient:03}",
                    "eye": eye,
                    "image_path": str(path),
                    "sha256": sha256_file(path),
                    "icdr_grade": grade,
                    "split": split,
                    "dataset": "discs",
                }
            )
    write_manifest(as_manifest(pd.DataFrame(rows)), folder / "manifest.csv")
    return folder / "manifest.csv"


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of drawn discs, shared by tests that do not change it."""
    return make_cohort(tmp_path_factory.mktemp("discs"))


@pytest.fixture
def configure(discs: Path) -> Callable[..., TrainConfig]:
    """``configure("train.epochs=3", manifest=...)``: a small training's configuration."""

    def make(*overrides: str, manifest: Path = discs) -> TrainConfig:
        small = [f"{key}={value}" for key, value in SMALL.items()]
        return load_config(TrainConfig, None, [f"data.manifest={manifest}", *small, *overrides])

    return make


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the learning curve undrawn: it takes longer than a small training, and test_history draws it."""
    monkeypatch.setattr("workbench.training.loop.write_learning_curve", lambda *arguments: None)
