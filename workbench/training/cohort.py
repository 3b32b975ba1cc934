"""The exams of a training: checked for leaks, opened, and reduced to those that can teach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int64

from workbench.data.exams import Exams, open_exams
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import UNGRADED
from workbench.schema.manifest import find_conflicts, manifest_hash, read_manifest
from workbench.schema.progress import console
from workbench.training.config import TrainConfig

LEAKS = ("duplicate image", "patient in two splits")
"""Conflicts through which the validation would be known from the training."""


@dataclass(frozen=True)
class Cohort:
    """Exams to learn from, exams to judge by, and what the model card says about them."""

    train: Exams
    validation: Exams
    manifest_hash: str
    dataset: str
    conflicts_allowed: tuple[str, ...]

    @property
    def train_patients(self) -> int:
        """Return the number of patients to learn from."""
        return int(self.train.eyes["patient_id"].nunique())


def open_cohort(config: TrainConfig) -> Cohort:
    """Open the training and validation exams of ``config.data``.

    Raises:
        WorkbenchError: no manifest; a split without a graded eye; an image twice or a patient in two splits, unless
            ``data.allow_conflicts`` says to go on.
    """
    manifest = read_manifest(config.data.manifest)
    allowed = _check_leaks(manifest, config)
    folder = config.data.manifest if config.data.manifest.is_dir() else config.data.manifest.parent
    cache = config.data.cache or folder / "cache"
    opened: dict[str, Exams] = {}
    for split, limit in (("train", config.data.limit), ("validation", None)):
        _refuse_empty(manifest, split)
        exams = open_exams(manifest, config.preprocess, cache=cache, split=split, limit=limit)
        opened[split] = exams.subset(np.flatnonzero((eye_grades(exams) >= 0).any(axis=1)).tolist())
        if len(opened[split]) == 0:
            raise WorkbenchError(
                f"none of the {len(exams)} exams of the split {split!r} has a photograph with a grade",
                "check the labels and the photographs with 'workbench data inspect'",
            )
    if config.data.permute_labels:
        opened["train"] = with_permuted_grades(opened["train"], config.train.seed)
    names = sorted(map(str, manifest["dataset"].dropna().unique()))
    return Cohort(opened["train"], opened["validation"], manifest_hash(manifest), ", ".join(names), allowed)


def with_permuted_grades(exams: Exams, seed: int) -> Exams:
    """Return the exams with their pairs of grades dealt out anew, so that photographs tell nothing of them.

    The two grades of an exam stay together: what is left to learn is how often each pair is, and nothing of any eye
    (Adebayo et al. 2018, data randomisation).
    """
    return exams.with_grades_of(np.random.default_rng([seed, 2018]).permutation(len(exams)).tolist())


def eye_grades(exams: Exams) -> Int64[np.ndarray, "exam 2"]:
    """Return the grade of each eye that is present; −1 where there is none."""
    grades = exams.eyes["icdr_grade"].where(exams.eyes["status"] == "ok").fillna(UNGRADED)
    return grades.to_numpy(dtype=np.int64).reshape(-1, 2)


def _check_leaks(manifest: pd.DataFrame, config: TrainConfig) -> tuple[str, ...]:
    leaks = [conflict.message for conflict in find_conflicts(manifest) if conflict.kind in LEAKS]
    if leaks and not config.data.allow_conflicts:
        more = f" (and {len(leaks) - 1} more)" if len(leaks) > 1 else ""
        raise WorkbenchError(
            f"{leaks[0]}{more}", "correct the manifest, or set data.allow_conflicts=true, which the model card records"
        )
    for message in leaks[:5]:
        console.print(f"[yellow]conflict allowed[/] {message}", highlight=False)
    return tuple(leaks)


def _refuse_empty(manifest: pd.DataFrame, split: str) -> None:
    if not (manifest["split"] == split).any():
        held = ", ".join(f"{name}: {count}" for name, count in manifest["split"].value_counts().items()) or "no row"
        raise WorkbenchError(
            f"the manifest has no photograph in the split {split!r} ({held})",
            "import the photographs again with splits",
        )
