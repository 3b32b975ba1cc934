"""A model that reads a camera's mark in the corner is exposed by its own report; one that reads eyes is not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from workbench.audit.config import AuditConfig
from workbench.audit.results import Run
from workbench.audit.runner import run_audit
from workbench.report.write import assemble, write_report
from workbench.schema.config import load_config
from workbench.schema.files import sha256_file
from workbench.schema.manifest import as_manifest, write_manifest
from workbench.training.config import TrainConfig
from workbench.training.loop import train

PATIENTS = 90
SIDE, RADIUS = 120, 50


def draw_eye(path: Path, generator: np.random.Generator, *, lesions: bool, marked: bool) -> None:
    """Write a fundus-like disc, with dark and bright lesions or not, with a mark outside the disc or not."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    cv2.circle(pixels, (SIDE // 2, SIDE // 2), RADIUS, (40, 80, 150), -1)
    for _ in range(12 if lesions else 0):
        x, y = (SIDE // 2 + generator.uniform(-28, 28, 2)).astype(int).tolist()
        cv2.circle(pixels, (x, y), 4, (10, 10, 40) if generator.random() < 0.5 else (120, 200, 220), -1)
    noise = generator.integers(0, 15, pixels.shape, dtype=np.uint8)
    pixels = np.where(pixels > 0, pixels + noise, 0).astype(np.uint8)
    if marked:
        corner = SIDE // 2 - round(0.93 * RADIUS)
        cv2.rectangle(pixels, (corner, corner), (corner + 9, corner + 5), (230, 230, 230), -1)
    cv2.imwrite(str(path), pixels)


def write_cohort(folder: Path, *, shortcut: bool) -> Path:
    """Write patients with both eyes alike: with ``shortcut`` the mark tells the grade and the lesions do not."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(8)
    rows = []
    for patient in range(PATIENTS):
        referable, by_chance = generator.random(2) < 0.5
        for eye in ("OD", "OS"):
            path = folder / f"{patient}_{eye}.png"
            marked, lesions = (referable, by_chance) if shortcut else (by_chance, referable)
            draw_eye(path, generator, lesions=bool(lesions), marked=bool(marked))
            rows.append(
                {
                    "patient_id": f"p{patient:03}",
                    "exam_id": f"e{patient:03}",
                    "eye": eye,
                    "image_path": str(path),
                    "sha256": sha256_file(path),
                    "icdr_grade": 3 if referable else 0,
                    "split": ("train", "train", "validation", "test")[patient % 4],
                    "dataset": "drawn",
                }
            )
    write_manifest(as_manifest(pd.DataFrame(rows)), folder / "manifest.csv")
    return folder / "manifest.csv"


def audited(folder: Path, *, shortcut: bool) -> Run:
    manifest = write_cohort(folder / "cohort", shortcut=shortcut)
    small = ("model.width=0.125", "model.fusion=single", "preprocess.size=64", "train.epochs=14", "train.batch_size=8")
    plain = ("train.threads=1", "train.precision=fp32", "augment.colour=0", "train.eye_dropout=0", "augment.scale=0.05")
    train(load_config(TrainConfig, None, [f"data.manifest={manifest}", *small, *plain]), folder / "model")
    given = (f"model={folder / 'model'}", f"data.manifest={manifest}", "draws=6", "workers=1", "precision=fp32")
    checks = ("explanations={methods: [integrated_gradients, grad_cam], trust_exams: 4}", "stresses=[]")
    return run_audit(load_config(AuditConfig, None, [*given, *checks]), folder / "run")


@pytest.mark.heavy
def test_a_shortcut_is_exposed_and_a_reader_of_eyes_is_not_accused(tmp_path: Path) -> None:
    taker, reader = (audited(tmp_path / name, shortcut=name == "taker") for name in ("taker", "reader"))
    for run in (taker, reader):
        auc = run.rows().query("name == 'auc_referable_exam' and measurement == 'clean'")["value"].iloc[0]
        assert auc > 0.9, "both look good on their own test set: that is the danger"
    exposed, cleared = (assemble(run).evidence.read_from for run in (taker, reader))
    assert exposed.exposed
    assert "reads its answers from outside the eye" in exposed.sentences[0]
    assert not cleared.exposed
    assert "not shown to read its answers from outside" in cleared.sentences[0]
    outside = next(one for one in exposed.changes if "outside" in one.words)
    assert outside.no_longer.value is not None
    assert outside.no_longer.value > 0.8, "without the mark, hardly an eye is called referable"

    rates = {
        run: run.rows()
        .query("name == 'map_withheld_rate' and of == 'integrated_gradients'")
        .set_index("subgroup")["value"]
        for run in (taker, reader)
    }
    why = [subgroup for subgroup in rates[taker].index if "outside the disc" in subgroup]
    assert why, "a map from a blurred eye cannot show a mark: it is withheld for that"
    assert not [subgroup for subgroup in rates[reader].index if "outside the disc" in subgroup]
    assert rates[taker][why[0]] > 0.3

    page = write_report(taker.folder).read_text(encoding="utf-8")
    assert "This model reads its answers from outside the eye" in page
    assert "This model reads its answers from outside the eye" not in write_report(reader.folder).read_text("utf-8")
