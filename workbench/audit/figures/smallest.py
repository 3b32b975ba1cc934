"""How small an ε turns a call: the curve of a search, its median, and which attack does better. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from workbench.audit import schemas
from workbench.audit.figures.figure import NOTHING, Figure, Found, floats
from workbench.audit.figures.rows import row_of
from workbench.audit.results import Run
from workbench.audit.run_manifest import MeasurementSpec
from workbench.metrics.referral import mean
from workbench.schema.specs import SmallestSpec, StressSpec
from workbench.schema.words import ATTACKS

STEPS: Final = 12
"""Of the curve, from 0 to the largest ε: denser near 0, where most calls turn."""
ROUNDING: Final = 1e-4
"""Share of ε by which two that are equal may differ as they are stored."""


def smallest_rows(run: Run, *, resamples: int) -> pd.DataFrame:
    """Return the rows of every search for the smallest ε of a run, with patient-clustered intervals."""
    eyes = run.eyes()
    patients = dict(zip(eyes["exam_id"], eyes["patient_id"], strict=True))
    rows = [
        row_of(run.manifest, measurement, figure, resamples)
        for measurement in run.manifest.measurements
        if measurement.search is not None
        for figure in _figures(run, measurement, measurement.search, patients)
    ]
    return pd.DataFrame(rows, columns=schemas.ROWS_SCHEMA.names)


def fixed(run: Run, spec: SmallestSpec) -> list[MeasurementSpec]:
    """Return the attacks of one ε that want and may what the search does: norm, eyes, the call of the model itself."""
    return [
        one
        for one in run.manifest.measurements
        if one.kind == "draws" and one.stress is not None and _is_alike(one.stress, spec)
    ]


def epsilons(run: Run, spec: SmallestSpec) -> list[float]:
    """Return where the curve of a search is stated: steps that grow, and every ε of an attack beside it."""
    beside = {one.stress.strength for one in fixed(run, spec) if one.stress is not None}
    return sorted({spec.largest * (step / STEPS) ** 2 for step in range(STEPS + 1)} | beside)


def _is_alike(stress: StressSpec, spec: SmallestSpec) -> bool:
    aim = stress.aim
    wants = (aim.norm, aim.goal, stress.eyes, aim.eight_bit) == (spec.norm, "cross", spec.eyes, False)
    return stress.name in ATTACKS and wants and not stress.options.get("draws") and stress.strength <= spec.largest


def _figures(
    run: Run, measurement: MeasurementSpec, spec: SmallestSpec, patients: dict[str, str]
) -> Iterator[Figure | Found]:
    done = run.exams_of(measurement)
    whose, epsilon = done.index.map(patients).to_numpy(dtype=str), floats(done["epsilon"])
    holds = np.nan_to_num(epsilon, nan=np.inf)
    for at in epsilons(run, spec):
        yield Figure("holds_up_to", mean, whose, ((holds > at).astype(float),), at=at)
    right = epsilon != 0  # NaN, one that holds throughout, is right too
    known = np.where(np.isnan(epsilon), spec.largest, epsilon)[right]
    if len(known) and np.median(holds[right]) > spec.largest:
        reason = f"more than half hold up to the largest ε tried, {spec.largest:g}"
        yield Found("smallest_epsilon_median", NOTHING, reason=reason)
    else:
        yield Figure("smallest_epsilon_median", _median, whose[right], (known,))
    turned = right & ~np.isnan(epsilon)
    survives = floats(done["survives_8bit"])[turned]
    yield Figure("smallest_survives_8bit_share", mean, whose[turned], (survives,))
    for one in fixed(run, spec):
        yield _beaten(run, one, holds, done.index, patients)


def _beaten(run: Run, attack: MeasurementSpec, holds: np.ndarray, exams: pd.Index, patients: dict[str, str]) -> Figure:
    """Return on how many of their common exams an attack of one ε turned a call that the search could not with it."""
    strength = 0.0 if attack.stress is None else attack.stress.strength
    success = floats(run.exams_of(attack)["success"].reindex(exams))
    both = ~np.isnan(success)
    more = (success == 1) & (holds > strength * (1 + ROUNDING))
    whose = exams[both].map(patients).to_numpy(dtype=str)
    return Figure("search_beaten_share", mean, whose, (more[both].astype(float),), at=strength, of=attack.id)


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")
