"""A cohort on disk: photographs, lesion masks, the manifest, and the facts behind them."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import pandas as pd
from jaxtyping import UInt8

from workbench.data.splits import split_by_patient
from workbench.data.synthetic.camera import Artefact
from workbench.data.synthetic.grades import shares_of
from workbench.data.synthetic.lesions import KINDS
from workbench.data.synthetic.patient import EyeFacts, PatientFacts, render_patient
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import atomic_path, sha256_file, write_json, write_text
from workbench.schema.manifest import read_manifest, write_manifest
from workbench.schema.progress import track

GENERATOR_VERSION: Final = "1"
"""Raised whenever the same settings would give other bytes."""

SMALLEST_SHARE: Final = 12
"""Patients from which a further process pays for its start."""

RECORD: Final = "cohort.json"

TABLES: Final[dict[str, tuple[str, ...]]] = {
    "lesions": ("patient_id", "eye", "icdr_grade", *(kind.replace(" ", "_") for kind in KINDS), "beaded_quadrants"),
    "artefacts": ("patient_id", "site", "camera", "kind", "x", "y", "radius"),
}
"""Columns of the tables beside the manifest: lesions are counted; an artefact's place and radius are shares of the
photograph's side."""

Row = dict[str, Any]
Rendered = tuple[dict[str, bytes], dict[str, list[Row]]]


def write_cohort(
    out: Path,
    *,
    patients: int,
    size: int = 256,
    seed: int = 0,
    prevalence: str = "enriched",
    workers: int | None = None,
) -> pd.DataFrame:
    """Write a synthetic cohort and return its manifest; where the same one already lies intact, do nothing.

    Writes ``images/{patient}_{eye}.jpg``, ``masks/{patient}_{eye}.png`` (`eye.MASK_COLOURS`), ``manifest.csv``,
    ``lesions.csv`` (what each eye has), ``artefacts.csv`` (what lies on each patient's camera, and where) and
    ``cohort.json`` (the settings, and every file's sha256).

    Args:
        out: the cohort's folder.
        patients: their number; the first ones of a longer cohort are the same patients.
        size: side of the photographs, pixels.
        seed: another seed gives other patients.
        prevalence: ``enriched`` (43 % of the eyes referable) or ``eyepacs`` (19.5 %).
        workers: processes; by default one per processor.

    Raises:
        WorkbenchError: a setting is out of range, the folder holds something else, or it cannot be written.
    """
    if patients < 1 or size < 32:
        raise WorkbenchError(f"{patients} patients at {size} pixels", "ask for at least 1 patient and 32 pixels")
    shares_of(prevalence)
    settings = {
        "generator_version": GENERATOR_VERSION,
        "patients": patients,
        "prevalence": prevalence,
        "seed": seed,
        "size": size,
    }
    if _is_intact(out, settings):
        return read_manifest(out)
    # First without files, so that a cohort cut short is known for what it is; last with all of them.
    write_json(out / RECORD, {"settings": settings, "files": {}})
    render = partial(_render, seed=seed, size=size, prevalence=prevalence)
    tables, files = _write_photographs(out, render, patients, _processes(workers, patients))
    version = f"{GENERATOR_VERSION}-{prevalence}-{size}px-seed{seed}"
    write_manifest(_manifest(tables["photographs"], files, out, version, seed), out / "manifest.csv")
    for name in ("lesions", "artefacts"):
        write_text(out / f"{name}.csv", pd.DataFrame(tables[name], columns=list(TABLES[name])).to_csv(index=False))
    for name in ("manifest.csv", "lesions.csv", "artefacts.csv"):
        files[name] = sha256_file(out / name)
    write_json(out / RECORD, {"settings": settings, "files": files})
    return read_manifest(out)


def _is_intact(out: Path, settings: Row) -> bool:
    """Say whether the folder holds exactly this cohort; what is not a cohort of these settings is never written over.

    Raises:
        WorkbenchError: it holds another cohort, or a manifest of another kind.
    """
    remedy = "choose another folder, or delete this one"
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
        found, files = dict(record["settings"]), dict(record["files"])
    except FileNotFoundError:
        if (out / "manifest.csv").exists():
            raise WorkbenchError(f"{out} holds a manifest that is not a synthetic cohort's", remedy) from None
        return False
    except (ValueError, KeyError, TypeError):
        raise WorkbenchError(f"{out / RECORD} is not a cohort's record", remedy) from None
    for name, value in settings.items():
        if found.get(name) != value:
            raise WorkbenchError(f"{out} holds a cohort with {name} {found.get(name)!r}, not {value!r}", remedy)
    return bool(files) and all(
        (out / name).is_file() and sha256_file(out / name) == digest for name, digest in files.items()
    )


def _processes(workers: int | None, patients: int) -> int:
    wanted = workers if workers is not None else os.cpu_count() or 1
    return max(1, min(wanted, patients // SMALLEST_SHARE))


def _write_photographs(
    out: Path, render: Callable[[int], Rendered], patients: int, processes: int
) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """Write every patient's files; return the rows of each table and the sha256 of each file."""
    tables: dict[str, list[Row]] = {"photographs": [], "lesions": [], "artefacts": []}
    files: dict[str, str] = {}
    with _mapped(render, range(patients), processes) as rendered:
        for encoded, rows in track(rendered, "synthetic cohort", total=patients):
            for name, content in encoded.items():
                with atomic_path(out / name) as temporary:
                    temporary.write_bytes(content)
                files[name] = hashlib.sha256(content).hexdigest()
            for name, table in tables.items():
                table += rows[name]
    return tables, files


@contextmanager
def _mapped(render: Callable[[int], Rendered], indices: range, processes: int) -> Iterator[Iterator[Rendered]]:
    """Yield ``render`` of every index, in order, by so many processes."""
    if processes == 1:
        yield map(render, indices)
        return
    # Spawned, not forked: the parent may hold threads (a progress bar, torch) that a fork would copy in mid-step.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield pool.map(render, indices, chunksize=4)


def _render(index: int, *, seed: int, size: int, prevalence: str) -> Rendered:
    """Return a patient's encoded files by name, and the rows of each table."""
    patient = render_patient(seed, index, size, prevalence)
    encoded: dict[str, bytes] = {}
    for photo in patient.photographs:
        stem = f"{patient.facts.patient_id}_{photo.facts.eye}"
        quality = [cv2.IMWRITE_JPEG_QUALITY, patient.facts.camera.jpeg]
        encoded[f"images/{stem}.jpg"] = _encode(".jpg", photo.pixels, quality)
        encoded[f"masks/{stem}.png"] = _encode(".png", photo.mask, [])
    rows = {
        "photographs": [_photograph_row(patient.facts, photo.facts) for photo in patient.photographs],
        "lesions": [_lesion_row(patient.facts, photo.facts) for photo in patient.photographs],
        "artefacts": [_artefact_row(patient.facts, artefact) for artefact in patient.facts.artefacts],
    }
    return encoded, rows


def _encode(suffix: str, pixels: UInt8[np.ndarray, "size size 3"], options: list[int]) -> bytes:
    done, buffer = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise RuntimeError(f"OpenCV cannot encode {suffix}")
    return bytes(buffer)


def _photograph_row(patient: PatientFacts, eye: EyeFacts) -> Row:
    stem = f"{patient.patient_id}_{eye.eye}"
    return {
        "patient_id": patient.patient_id,
        "exam_id": f"{patient.patient_id}-1",
        "eye": eye.eye,
        "image_path": f"images/{stem}.jpg",
        "icdr_grade": eye.icdr_grade,
        "dme": eye.dme,
        "gradable": eye.gradable,
        "quality": eye.conditions.quality,
        "camera": patient.camera.name,
        "site": patient.site,
        "age": patient.age,
        "sex": patient.sex,
        "dataset": "synthetic",
        "label_source": "synthetic",
        "label_level": "eye",
        "mask_path": f"masks/{stem}.png",
    }


def _lesion_row(patient: PatientFacts, eye: EyeFacts) -> Row:
    counts = [eye.findings.count(kind) for kind in KINDS]
    beaded = len(eye.findings.beaded)
    return dict(zip(TABLES["lesions"], (patient.patient_id, eye.eye, eye.icdr_grade, *counts, beaded), strict=True))


def _artefact_row(patient: PatientFacts, artefact: Artefact) -> Row:
    values = (patient.patient_id, patient.site, patient.camera.name, artefact.kind)
    extent = artefact.radius / patient.camera.field * 2 * patient.camera.radius
    return dict(zip(TABLES["artefacts"], (*values, artefact.x, artefact.y, extent), strict=True))


def _manifest(rows: list[Row], files: dict[str, str], out: Path, version: str, seed: int) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    table["sha256"] = table["image_path"].map(files)
    table["dataset_version"] = version
    table["split"] = split_by_patient(table, seed=seed)
    for column in ("image_path", "mask_path"):
        table[column] = [str(out / name) for name in table[column]]
    return table
