"""A whole small run folder with invented answers, written through the same functions as a real one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from workbench.audit import layout, run_manifest, schemas
from workbench.audit.analysis import analyse
from workbench.audit.plan import Unit, all_units
from workbench.audit.results import Run
from workbench.audit.run_manifest import Environment, MeasurementSpec, RunManifest
from workbench.schema.files import canonical_hash
from workbench.schema.grades import EYES
from workbench.schema.maps import MapSpec
from workbench.schema.model_card import Architecture, ModelCard, Provenance
from workbench.schema.seeds import seed_for
from workbench.schema.specs import PolicySpec, PreprocessSpec, StressSpec

SIZE, DRAWS, GRADES = 64, 10, 5
STRESSES = (
    StressSpec(name="fgsm", strength=1),
    StressSpec(name="pgd", strength=1),
    StressSpec(name="pgd", strength=2),
    StressSpec(name="defocus", strength=1),
    StressSpec(name="defocus", strength=3),
    StressSpec(name="jpeg", strength=5),
)
METHODS = ("integrated_gradients", "grad_cam")
DRAWN = MapSpec(name="grad_cam", draws=10)
CREDENTIALS = (
    MeasurementSpec(id=f"maps.{DRAWN.key}", kind="maps", method=DRAWN.key, map=DRAWN),
    MeasurementSpec(id="trust.grad_cam", kind="map_trust", method="grad_cam"),
    MeasurementSpec(id=layout.INFLUENCE, kind="influence"),
)
"""Maps over draws, checks of Grad-CAM, and what each answer owes to the other eye."""


def make_run(
    folder: Path,
    exams: int = 12,
    seed: int = 0,
    stresses: tuple[StressSpec, ...] = STRESSES,
    searched: tuple[str, ...] = (),
    more: tuple[MeasurementSpec, ...] = (),
) -> Run:
    """Write a finished run below ``folder``: drawn circles, smooth maps, a missing and an ungradable eye.

    Exam 1 lacks its left eye, the right eye of exam 2 is ungradable, exam 3 has no grade, one map of exam 4 is
    withheld, and the work on exam 5 under pgd@2 failed. ``more``: further measurements, such as `CREDENTIALS`.
    """
    eyes = _eyes(exams, seed)
    manifest = _manifest(eyes, exams, seed, stresses, searched)
    manifest = manifest.model_copy(update={"measurements": (*manifest.measurements, *more)})
    run_manifest.write_manifest(folder, manifest)
    layout.write_table(layout.exams_path(folder), eyes, schemas.EXAMS_SCHEMA)
    write = {"draws": _draws_row, "maps": _map_row, "photographs": _photograph_row, "mildest": _mildest_row}
    write |= {"map_trust": _trust_row, "influence": _influence_row}
    for unit in all_units(manifest, list(eyes["exam_id"].drop_duplicates())):
        rows = [
            {"exam_id": row.exam_id, "eye": row.eye, **write[unit.measurement.kind](row, unit, seed)}
            for row in eyes[eyes["exam_id"].isin(unit.exam_ids)].itertuples()
        ]
        path = layout.part_path(folder, unit.measurement.id, unit.chunk)
        layout.write_table(path, rows, schemas.PART_SCHEMAS[unit.measurement.kind])
    return analyse(folder, resamples=40)


def _eyes(exams: int, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(exams):
        worse = int(generator.choice(GRADES, p=[0.45, 0.1, 0.25, 0.1, 0.1]))
        shared = {
            "exam_id": f"exam-{number:03d}",
            "patient_id": f"patient-{number * 10 // 11:03d}",
            "camera": ("Alpha 45", "Beta 50")[number % 2],
            "site": "clinic",
            "age": float(generator.integers(30, 80)),
            "sex": ("F", "M")[number // 2 % 2],
            "split": "test",
            "dataset": "invented",
            "dataset_version": "1",
            "label_source": "drawn",
            "label_level": "eye",
        }
        for eye in EYES:
            row: dict[str, Any] = {**shared, "eye": eye, "status": "ok", "icdr_grade": worse}
            row |= {"gradable": True, "quality": ("good", "usable", "reject")[number % 3]}
            row |= {"crop_x": 10.5, "crop_y": -3.25, "crop_side": 700.0, "photo_width": 720, "photo_height": 690}
            row["sha256"] = canonical_hash([seed, number, eye])
            row["pixels_sha256"] = canonical_hash([seed, number, eye, "pixels"])
            rows.append(_with_fault(row, number, eye))
    return pd.DataFrame(rows).reindex(columns=schemas.EXAMS_SCHEMA.names)


_OF_A_PHOTOGRAPH = ("sha256", "pixels_sha256", "icdr_grade", "gradable", "quality")
_OF_A_CROP = ("crop_x", "crop_y", "crop_side", "photo_width", "photo_height")
_NOTHING = dict.fromkeys((*_OF_A_PHOTOGRAPH, *_OF_A_CROP))


def _with_fault(row: dict[str, Any], number: int, eye: str) -> dict[str, Any]:
    if number == 1 and eye == "OS":
        return {**row, **_NOTHING, "status": "missing", "reason": "no photograph"}
    if number == 2 and eye == "OD":
        crop = {"crop_x": None, "crop_y": None, "crop_side": None, "pixels_sha256": None}
        return {**row, **crop, "status": "ungradable", "reason": "no disc", "gradable": False, "quality": "reject"}
    if number == 3:
        return {**row, "icdr_grade": None}
    return row


def _manifest(
    eyes: pd.DataFrame,
    exams: int,
    seed: int,
    stresses: tuple[StressSpec, ...] = STRESSES,
    searched: tuple[str, ...] = (),
) -> RunManifest:
    card = ModelCard(
        name="invented",
        architecture=Architecture(),
        preprocess=PreprocessSpec(size=SIZE),
        weights_sha256=canonical_hash(["weights", seed]),
        provenance=Provenance(dataset="invented", train_patients=100, epochs=3, manifest_hash="e" * 64),
    )
    measurements = (
        MeasurementSpec(id=layout.CLEAN, kind="draws"),
        *(MeasurementSpec(id=stress.measurement_id, kind="draws", stress=stress) for stress in stresses),
        *(MeasurementSpec(id=f"mildest.{name}", kind="mildest", method=name) for name in searched),
        *(MeasurementSpec(id=f"maps.{method}", kind="maps", method=method) for method in METHODS),
        MeasurementSpec(id=layout.PHOTOGRAPHS, kind="photographs"),
    )
    return RunManifest(
        run_id=canonical_hash(["run", seed])[:12],
        created="2026-01-02T03:04:05+00:00",
        workbench_version="0.1.0",
        model=card,
        model_hash=canonical_hash(["model", seed]),
        dataset="invented",
        split="test",
        exams=exams,
        manifest_hash=canonical_hash(["manifest", seed]),
        exams_hash=canonical_hash(eyes.to_csv()),
        config={"draws": DRAWS, "seed": seed},
        policy=PolicySpec(),
        referable_threshold=0.5,
        seed=seed,
        draws=DRAWS,
        chunk=5,
        measurements=measurements,
        environment=Environment(
            python="3.11.0",
            torch="2.13.0",
            numpy="2.4.0",
            system="Linux",
            processor="invented",
            threads=1,
            precision="fp32",
            draws_how="invented",
        ),
        plan_hash=canonical_hash(["plan", seed]),
    )


def _not_done(row: Any, unit: Unit) -> dict[str, Any] | None:
    if row.status != "ok":
        return {"status": "skipped", "reason": row.reason}
    if unit.measurement.id == "pgd@2" and row.exam_id == "exam-005":
        return {"status": "failed", "reason": "RuntimeError: invented"}
    return None


def _draws_row(row: Any, unit: Unit, seed: int) -> dict[str, Any]:
    """Return draws around the true grade, pulled towards a wrong one as the stress grows."""
    if (nothing := _not_done(row, unit)) is not None:
        return nothing
    generator = np.random.default_rng(seed_for(seed, row.exam_id, row.eye))
    stress = unit.measurement.stress
    reached = stress is not None and stress.eyes in ("both", "worst_of_one", row.eye)
    pull = stress.strength * (0.8 if stress.name == "pgd" else 0.25) if stress is not None and reached else 0.0
    grade = 0 if pd.isna(row.icdr_grade) else int(row.icdr_grade)
    logits = generator.normal(0, 1.0, GRADES)
    logits[grade] += 2.0 - pull
    logits[4 if grade < 2 else 0] += pull
    drawn = logits + generator.normal(0, 0.5, (DRAWS, GRADES))
    p = np.exp(drawn) / np.exp(drawn).sum(axis=1, keepdims=True)
    done = {"status": "done", "seed": seed_for(seed, row.exam_id, unit.measurement.id)}
    done["probabilities"] = p.astype(np.float32).ravel().tolist()
    if stress is not None:
        attack = stress.name in ("fgsm", "pgd")
        done |= {"linf": stress.strength / 255, "within_budget": True if attack else None, "in_box": True}
        done |= {"flipped": bool(pull > 1), "survives_8bit": bool(pull > 1.5) if pull > 1 else None}
    return done


def _mildest_row(row: Any, unit: Unit, seed: int) -> dict[str, Any]:
    """Return a severity that every fourth exam does not have, and that graders accept up to 2."""
    if (nothing := _not_done(row, unit)) is not None:
        return nothing
    number = int(row.exam_id.split("-")[1])
    severity = None if number % 4 == 3 else 0.5 + number % 5
    found = {"severity": severity, "steady": None if severity is None else number % 3 > 0}
    return {"status": "done", **found, "rejection_score": 0.0, "accepted": severity is not None and severity <= 2}


def _map_row(row: Any, unit: Unit, seed: int) -> dict[str, Any]:
    if (nothing := _not_done(row, unit)) is not None:
        return nothing
    if row.exam_id == "exam-004" and row.eye == "OD" and unit.measurement.method == METHODS[0]:
        gap = {"completeness_gap": 0.4, "fellow_share": 0.1}
        return {"status": "done", "withheld": "the attributions miss the logit by 40 % (at most 5 %)", **gap}
    generator = np.random.default_rng(seed_for(seed, row.exam_id, row.eye, str(unit.measurement.method)))
    x, y = generator.uniform(0.3, 0.7, 2) * SIZE
    rows, columns = np.mgrid[:SIZE, :SIZE]
    blob = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 150) - 0.3 * np.exp(-((columns - y) ** 2) / 300)
    gap = 0.01 if unit.measurement.method == METHODS[0] else None
    done = {"status": "done", **layout.pack_map(blob.astype(np.float32)), "completeness_gap": gap, "fellow_share": 0.08}
    if unit.measurement.maps.draws:
        done |= layout.pack_agreement(np.clip(blob, 0, 1).round(1).astype(np.float32), unit.measurement.maps.draws)
        done |= {"steadiness": 0.25, "draws_likeness": 0.93}
    return done


def _trust_row(row: Any, unit: Unit, seed: int) -> dict[str, Any]:
    if (nothing := _not_done(row, unit)) is not None:
        return nothing
    near = np.random.default_rng(seed_for(seed, row.exam_id, row.eye, "trust")).uniform(-0.05, 0.05)
    found = {"randomised_likeness": 0.12, "deletion_gain": 0.2, "repeatability": 0.9}
    return {"status": "done", "answer_change": 0.4 + 6 * near, **{name: value + near for name, value in found.items()}}


def _influence_row(row: Any, unit: Unit, seed: int) -> dict[str, Any]:
    done = {"status": "done", "p": 0.8, "p_healthy": 0.3, "rise_low": 0.4, "rise_high": 0.6, "donors": 3}
    return _not_done(row, unit) or done


def _photograph_row(row: Any, unit: Unit, seed: int) -> dict[str, Any]:
    if (nothing := _not_done(row, unit)) is not None:
        return nothing
    picture = Image.new("RGB", (SIZE, SIZE))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((2, 2, SIZE - 3, SIZE - 3), fill=(150, 70, 30))
    x = SIZE * (3 if row.eye == "OD" else 1) // 4
    draw.ellipse((x - 5, SIZE // 2 - 6, x + 5, SIZE // 2 + 6), fill=(240, 200, 120))
    generator = np.random.default_rng(seed_for(seed, row.exam_id, row.eye))
    for _ in range(0 if pd.isna(row.icdr_grade) else 3 * int(row.icdr_grade)):
        a, b = generator.uniform(0.25, 0.75, 2) * SIZE
        draw.ellipse((a - 1, b - 1, a + 1, b + 1), fill=(70, 10, 10))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return {"status": "done", "jpeg": buffer.getvalue()}
