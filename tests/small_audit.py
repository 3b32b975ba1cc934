"""A real audit in seconds: drawn photographs, a tiny model with random weights, two of every kind of measurement."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from workbench.audit.config import AuditConfig
from workbench.schema.config import load_config
from workbench.schema.files import sha256_file
from workbench.schema.manifest import as_manifest, write_manifest

EXAMS = 6
STRESSES = "[{name: fgsm, strengths: [2], exams: 4}, {name: noise, strengths: [3]}]"


def write_photograph(path: Path, seed: int) -> None:
    """Write a disc like a fundus on black, with some dark spots."""
    generator = np.random.default_rng(seed)
    pixels = np.zeros((90, 100, 3), np.uint8)
    cv2.circle(pixels, (50, 45), 42, (40, 80, 150), -1)
    for x, y in generator.integers(25, 65, (3 + seed % 4, 2)).tolist():
        cv2.circle(pixels, (x, y), 3, (10, 10, 60), -1)
    noise = generator.integers(0, 20, pixels.shape, dtype=np.uint8)
    cv2.imwrite(str(path), np.where(pixels > 0, pixels + noise, 0).astype(np.uint8))


def write_cohort(folder: Path, exams: int = EXAMS) -> Path:
    """Write photographs and their manifest; exam 1 lacks its left eye, the right eye of exam 2 is cut short."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(exams):
        for eye in ("OD", "OS"):
            if number == 1 and eye == "OS":
                continue
            path = folder / f"{number}_{eye}.jpg"
            write_photograph(path, seed=2 * number + (eye == "OS"))
            if number == 2 and eye == "OD":
                path.write_bytes(path.read_bytes()[:300])
            rows.append(
                {
                    "patient_id": f"p{number}",
                    "exam_id": f"e{number}",
                    "eye": eye,
                    "image_path": str(path),
                    "sha256": sha256_file(path),
                    "icdr_grade": number % 5,
                    "camera": ("A", "B")[number % 2],
                    "split": "test",
                    "dataset": "drawn",
                }
            )
    manifest = folder / "manifest.csv"
    write_manifest(as_manifest(pd.DataFrame(rows)), manifest)
    return manifest


def write_model(folder: Path, seed: int = 0, **architecture: Any) -> Path:
    """Write a model with random weights, too small to know anything."""
    import torch

    from workbench.models.checkpoint import save_model
    from workbench.models.paired import PairedEyeNet
    from workbench.schema.model_card import Architecture, ModelCard
    from workbench.schema.specs import PreprocessSpec

    shape = Architecture(**{"trunk": "resnet10", "width": 0.0625, **architecture})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = PairedEyeNet(shape)
    card = ModelCard(name="tiny", architecture=shape, preprocess=PreprocessSpec(size=64))
    save_model(model, card, folder)
    return folder


def small_config(manifest: Path, model: Path, *overrides: str) -> AuditConfig:
    """Return an audit of that model on that cohort: clean, FGSM on four exams, noise, both kinds of maps."""
    fixed = ["draws=4", "batch_size=4", "workers=1", "precision=fp32", f"stresses={STRESSES}"]
    paths = [f"model={model}", f"data.manifest={manifest}"]
    few = ["explanations.exams=2", "explanations.trust_exams=0", "credibility.exams=0"]
    return load_config(AuditConfig, None, [*paths, *fixed, *few, *overrides])


def stored_bytes(folder: Path) -> dict[str, bytes]:
    """Return every canonical file of a run: all but `run.json`, which holds the time, and the lock."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    named = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {name: data for name, data in named.items() if name not in ("run.json", ".lock")}


def serve_and_die(connection: Connection, config: AuditConfig, folder: Path, cutoff: float | None) -> None:
    """Stand in for a worker's main function: it is killed whenever it gets the first clean chunk."""
    from workbench.audit.preparation import open_bench
    from workbench.audit.units import make_part

    bench = open_bench(config)[0]
    connection.send(None)
    while True:
        try:
            unit = connection.recv()
        except EOFError:
            return
        if unit.measurement.id == "clean" and unit.chunk == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        make_part(bench, unit, folder)
        connection.send(None)


def serve_nothing(connection: Connection, config: AuditConfig, folder: Path, cutoff: float | None) -> None:
    """Stand in for a worker that cannot begin."""
    os._exit(9)
