"""Flags before grading: a photograph that is unlike the training ones, upside down, or of the other eye.

A flag is a value with its reason, never an exception: the eye is still measured, and whoever reads sees the flag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd
import torch

from workbench.data.decode import UnreadablePhotograph
from workbench.data.exams import open_exams
from workbench.data.importers.folder import photographs_below
from workbench.data.preprocess import preprocess_photograph
from workbench.models.checkpoint import load_model, model_hash, read_card
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import EYES
from workbench.schema.manifest import manifest_hash, read_manifest
from workbench.schema.progress import console, track
from workbench.schema.specs import UNLIKE_SCORES, PolicySpec, PreprocessSpec
from workbench.uncertainty.flags import flag_of
from workbench.uncertainty.laterality_check import (
    Laterality,
    Pair,
    learn_laterality,
    read_laterality,
    verdicts,
    write_laterality,
)
from workbench.uncertainty.out_of_distribution import percentile_of, unlike_cutoffs
from workbench.uncertainty.reference import (
    REFERENCE_EYES,
    UnlikenessMeter,
    collect_reference,
    read_reference,
    write_reference,
)

BATCH: Final = 16
NO_REFERENCE: Final = "the model has neither reference.safetensors nor intake.safetensors"


@dataclass(frozen=True)
class Intake:
    """What a model's folder holds to check photographs with; None where it was not made."""

    laterality: Laterality | None
    meter: UnlikenessMeter | None
    spec: PreprocessSpec


def open_intake(folder: Path) -> Intake:
    """Return the checks of the model in ``folder``.

    Raises:
        WorkbenchError: no model, neither check there, or one that belongs to another model.
    """
    reference, laterality = read_reference(folder), read_laterality(folder)
    if reference is None and laterality is None:
        raise WorkbenchError(f"{folder}: {NO_REFERENCE}", f"make them with 'workbench model reference {folder}'")
    spec = read_card(folder).preprocess
    meter = None if reference is None else UnlikenessMeter(load_model(folder)[0], reference, spec.size)
    return Intake(laterality, meter, spec)


def check(intake: Intake, pairs: Sequence[Pair], policy: PolicySpec | None = None) -> list[dict[str, Any]]:
    """Return two rows per exam, OD then OS: ``flag`` (None for none) and each unlikeness as a percentile of training.

    Args:
        intake: of the model that is to grade.
        pairs: the prepared pixels of each exam.
        policy: which scores flag, and from which percentile on.
    """
    policy = policy or PolicySpec()
    turned = verdicts(intake.laterality.evidence(pairs), intake.laterality.thresholds) if intake.laterality else []
    scores = _unlikeness(intake, pairs)
    cutoffs: dict[str, float] = {}
    if intake.meter is not None:
        names = policy.unlike_training_scores
        cutoffs = unlike_cutoffs(intake.meter.held_out, names, policy.unlike_training_percentile)
    rows = []
    for exam in range(len(pairs)):
        for eye in range(2):
            own = {name: values[exam, eye] for name, values in scores.items()}
            unlike = tuple(name for name, cutoff in cutoffs.items() if own[name] > cutoff)
            row: dict[str, Any] = {"flag": flag_of(turned[exam][eye] if turned else None, unlike)}
            if intake.meter is not None:
                held_out = intake.meter.held_out
                row |= {name: float(percentile_of(np.array(own[name]), held_out[name])) for name in own}
            rows.append(row)
    return rows


def _unlikeness(intake: Intake, pairs: Sequence[Pair]) -> dict[str, np.ndarray]:
    """Return each score, arrays "exam 2"."""
    if intake.meter is None:
        return {}
    size, parts = intake.spec.size, []
    for start in range(0, len(pairs), BATCH):
        chosen = pairs[start : start + BATCH]
        stacked = np.zeros((len(chosen), 2, 3, size, size), np.float32)
        present = torch.tensor([[pixels is not None for pixels in pair] for pair in chosen])
        for exam, pair in enumerate(chosen):
            for eye, pixels in enumerate(pair):
                if pixels is not None:
                    stacked[exam, eye] = pixels.transpose(2, 0, 1) / np.float32(255)
        parts.append(intake.meter(torch.from_numpy(stacked).flatten(1, 2), present))
    return {name: np.concatenate([part[name] for part in parts]) for name in UNLIKE_SCORES}


def check_folder(folder: Path, intake: Intake, policy: PolicySpec | None = None) -> pd.DataFrame:
    """Return one row per photograph below ``folder``: ``photograph, exam, eye, flag``, then percentiles.

    Photographs named ``PATIENT_left`` and ``PATIENT_right`` (or OD, OS) are a pair; any other name is an exam of its
    own, whose side nobody claims and so is not checked. A file that is no photograph is flagged with the reason.

    Raises:
        WorkbenchError: no such folder, or not one photograph in it.
    """
    listed = photographs_below(folder)
    prepared: list[Any] = []
    for path, _, _ in track(listed, "preparing photographs", total=len(listed)):
        try:
            prepared.append(preprocess_photograph(path, intake.spec).pixels)
        except UnreadablePhotograph as error:
            prepared.append(error.reason)
    names = [path.relative_to(folder).as_posix() for path, _, _ in listed]
    rows: list[dict[str, Any]] = [
        {"photograph": name, "exam": exam, "eye": eye, "flag": pixels if isinstance(pixels, str) else None}
        for name, (_, exam, eye), pixels in zip(names, listed, prepared, strict=True)
    ]
    filed: dict[tuple[str, str], int] = {}
    unfiled: list[int] = []
    for place, row in enumerate(rows):
        if row["flag"] is None and row["eye"] in EYES and (row["exam"], row["eye"]) not in filed:
            filed[row["exam"], row["eye"]] = place
        elif row["flag"] is None:
            unfiled.append(place)
    paired = [(filed.get((exam, "OD")), filed.get((exam, "OS"))) for exam in dict.fromkeys(key[0] for key in filed)]
    alone: list[tuple[int | None, int | None]] = [(place, None) for place in unfiled]
    for checks, places in ((intake, paired), (replace(intake, laterality=None), alone)):
        pairs = [tuple(None if place is None else prepared[place] for place in pair) for pair in places]
        found = check(checks, cast(list[Pair], pairs), policy) if pairs else []
        for at, row in zip((place for pair in places for place in pair), found, strict=True):
            if at is not None:
                rows[at] |= row
    return pd.DataFrame(rows)


def make_intake(
    folder: Path, data: Path, *, cache: Path | None = None, split: str = "train", eyes: int = REFERENCE_EYES
) -> Intake:
    """Make the checks of the model in ``folder`` from the split that it learned from, and write them beside it.

    The side of the disc is learned from ``split`` too, and believed from where validation exams allow.

    Args:
        folder: the model's.
        data: the manifest, or its folder.
        cache: prepared pixels; None: 'cache' beside the manifest.
        split: the training split.
        eyes: of the reference, at most.

    Raises:
        WorkbenchError: no model, no manifest, no such split, too few photographs.
    """
    model, card = load_model(folder)
    manifest = read_manifest(data)
    where = cache or (data if data.is_dir() else data.parent) / "cache"
    train = open_exams(manifest, card.preprocess, cache=where, split=split)
    told = {"model_hash": model_hash(folder), "manifest_hash": manifest_hash(manifest)}
    write_reference(collect_reference(model, train, eyes=eyes, **told), folder)
    if (manifest["split"] == "validation").any():
        validation = open_exams(manifest, card.preprocess, cache=where, split="validation")
        write_laterality(learn_laterality(train, validation), folder)
    else:
        console.print("no validation split: whether photographs are upside down or swapped is not assessed")
    return open_intake(folder)
