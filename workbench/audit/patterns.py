"""Perturbations that are one for all exams: on which exams they are fitted, and how they are kept. No torch here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Float32

from workbench.audit.layout import part_path, read_table
from workbench.audit.plan import sample
from workbench.audit.schemas import PATTERN_SCHEMA
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import EYES
from workbench.schema.specs import StressSpec

FITTED_IN: Final = ("validation", "train")
"""Splits to fit on, the first that has exams of patients who are not audited."""


def pattern_id(stress: str) -> str:
    """Return the measurement that holds the pattern of a stress such as ``universal@2``."""
    return f"pattern.{stress}"


@dataclass(frozen=True)
class StoredPattern:
    """A pattern as a run keeps it.

    Attributes:
        values: of the pixel range [0, 1]; zero in an eye that is not stressed.
        sha256: of the values.
        fitted_on: exams; 0: signs by lot.
        success: share of those on which it reaches the goal; None where not known.
        already: the same share without it.
    """

    values: Float32[np.ndarray, "6 height width"]
    sha256: str
    fitted_on: int
    success: float | None
    already: float | None


def rows_of_pattern(
    values: Float32[np.ndarray, "6 height width"], stressed: Sequence[bool], **about: Any
) -> list[dict[str, Any]]:
    """Return the rows of `PATTERN_SCHEMA`; ``stressed`` says for each eye whether it has any."""
    kept = np.ascontiguousarray(values * np.repeat(np.asarray(stressed, np.float32), 3)[:, None, None], dtype="<f4")
    sha256 = hashlib.sha256(kept.tobytes()).hexdigest()
    size = {"height": values.shape[1], "width": values.shape[2]}
    rows: list[dict[str, Any]] = []
    for place, (eye, there) in enumerate(zip(EYES, stressed, strict=True)):
        shared = {"eye": eye, **size, "values": kept[3 * place : 3 * place + 3].tobytes(), "sha256": sha256, **about}
        why = {"status": "done"} if there else {"status": "skipped", "reason": f"the {eye} is not stressed"}
        rows.append(shared | why)
    return rows


def read_pattern(folder: Path, stress: str) -> StoredPattern:
    """Return the pattern of a stress such as ``universal@2``.

    Raises:
        WorkbenchError: it is missing, damaged, or could not be made.
    """
    path = part_path(folder, pattern_id(stress), 0)
    rows = read_table(path, PATTERN_SCHEMA)
    failed = rows.loc[rows["status"] == "failed", "reason"]
    if len(failed):
        raise WorkbenchError(f"no pattern could be made: {failed.iloc[0]}", "see the measurement " + pattern_id(stress))
    data = b"".join(rows["values"])
    first = rows.iloc[0]
    if hashlib.sha256(data).hexdigest() != first["sha256"]:
        raise WorkbenchError(f"{path} is damaged: its hash is not that of its values", AGAIN)
    values = np.frombuffer(data, dtype="<f4").reshape(6, int(first["height"]), int(first["width"]))
    success, already = (None if pd.isna(first[name]) else float(first[name]) for name in _FITTED)
    return StoredPattern(values, str(first["sha256"]), int(first["fitted_on"]), success, already)


def refuse_other_pattern(folder: Path, stress: StressSpec, part: pd.DataFrame) -> None:
    """Refuse a part that was measured under another pattern than the run holds.

    Raises:
        WorkbenchError: the hashes differ.
    """
    used = part.loc[part["status"] == "done", "pattern_sha256"]
    if len(used) and set(used) != {read_pattern(folder, stress.measurement_id).sha256}:
        path = part_path(folder, pattern_id(stress.measurement_id), 0)
        raise WorkbenchError(f"{path} is not the pattern that {stress.measurement_id} was measured under", AGAIN)


AGAIN: Final = "delete it and run the same audit command again"
_FITTED: Final = ("fitted_success", "fitted_already")


def manifest_to_fit_on(
    manifest: pd.DataFrame, audited: Sequence[str], split: str | None
) -> tuple[pd.DataFrame, str] | None:
    """Return the photographs of patients who are not audited that a pattern may be fitted on, and which they are.

    Args:
        manifest: of the run.
        audited: patients.
        split: to take them from; None: validation, else train, else any.

    Raises:
        WorkbenchError: the named split has no other patient.
    """
    others = manifest[~manifest["patient_id"].isin(set(audited))]
    for name in FITTED_IN if split is None else (split,):
        chosen = others[others["split"] == name]
        if len(chosen):
            return chosen, f"exams of the split {name}"
    if split is not None:
        raise WorkbenchError(f"fitting.split is {split}: it has no patient that is not audited", "name another split")
    return (others, "exams that the audit leaves out") if len(others) else None


def places_not_judged(patients: Sequence[str], exam_ids: Sequence[str], judged: int | None, seed: int) -> list[int]:
    """Return which audited exams are of no patient judged under a pattern, where ``judged`` is the size of the sample.

    Raises:
        WorkbenchError: there are none.
    """
    taken = set(sample(exam_ids, judged, seed))
    theirs = {patient for patient, exam_id in zip(patients, exam_ids, strict=True) if exam_id in taken}
    left = [place for place, patient in enumerate(patients) if patient not in theirs]
    if not left:
        raise WorkbenchError(
            "no exam is left to fit a perturbation for all exams on: every patient is judged",
            "give the stress `exams: N`, fewer than there are, or a manifest with another split",
        )
    return left
