"""What randomised smoothing proves, as rows: how much is right and certified at each radius, and what abstains.

No torch here.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist
from typing import Final

import numpy as np
import pandas as pd

from workbench.audit import schemas
from workbench.audit.figures.figure import NOTHING, Answered, Figure, Found, floats
from workbench.audit.figures.rows import row_of
from workbench.audit.results import Run
from workbench.audit.run_manifest import MeasurementSpec
from workbench.metrics.referral import mean
from workbench.schema.specs import SmoothingSpec

STEPS: Final = 12
"""Radii at which the curve is stated, evenly from 0 to the largest that the samples could prove."""
ALL_ABSTAIN: Final = "every exam abstains"


def certified_rows(run: Run, clean: Answered, *, resamples: int) -> pd.DataFrame:
    """Return the rows of every certificate of a run, with patient-clustered intervals.

    Args:
        run: with its parts.
        clean: its clean exams, for the truth and for the deployed call.
        resamples: of the bootstrap.
    """
    known = clean.decisions.set_index("exam_id")
    rows = [
        row_of(run.manifest, measurement, figure, resamples)
        for measurement in run.manifest.measurements
        if measurement.kind in ("certified", "head_margin")
        for figure in _figures(run, measurement, known)
    ]
    return pd.DataFrame(rows, columns=schemas.ROWS_SCHEMA.names)


def radii(spec: SmoothingSpec) -> list[float]:
    """Return where the curve of a smoothing is stated; the last is a hair below what all samples together prove."""
    largest = spec.sigma * NormalDist().inv_cdf(spec.alpha ** (1 / spec.samples))
    return [(1 - 1e-6) * largest * step / STEPS for step in range(STEPS + 1)]


def _figures(run: Run, measurement: MeasurementSpec, known: pd.DataFrame) -> Iterator[Figure | Found]:
    if measurement.smoothing is None:
        yield from _head(run.rows_of(measurement), known)
    else:
        exams = run.exams_of(measurement).join(known[["patient_id", "referable"]])
        yield from _smoothed(exams, known, radii(measurement.smoothing))


def _smoothed(exams: pd.DataFrame, known: pd.DataFrame, at: list[float]) -> Iterator[Figure | Found]:
    whose, radius = exams["patient_id"].to_numpy(dtype=str), floats(exams["radius"])
    called, truth = floats(exams["called_referable"]), floats(exams["referable"])
    right = np.where(np.isnan(truth), np.nan, called == truth)  # an exam that abstains is never right
    sick = truth == 1
    for r in at:
        proved = np.where(radius >= r, right, 0 * truth)
        yield Figure("certified_accuracy", mean, whose, (proved,), at=r)
        yield Figure("certified_sensitivity", mean, whose[sick], (proved[sick],), at=r)
    answered = ~np.isnan(called)
    yield Figure("abstention_rate", mean, whose, (~answered,))
    deployed = floats(known.loc[exams.index, "called_referable"])
    wanted = {
        "certified_radius_median": (_median, radius),
        "smoothed_agreement": (mean, np.where(np.isnan(deployed), np.nan, called == deployed)),
        "smoothed_called_share": (mean, called),
    }
    for name, (metric, values) in wanted.items():
        if len(answered) and not answered.any():
            yield Found(name, NOTHING, reason=ALL_ABSTAIN)
        else:
            yield Figure(name, metric, whose[answered], (values[answered],))


def _head(table: pd.DataFrame, known: pd.DataFrame) -> Iterator[Figure | Found]:
    done = table[table["status"] == "done"]
    for name, column in (("head_margin", "margin"), ("head_margin_share", "margin_share")):
        if len(done):
            whose = known.loc[done["exam_id"], "patient_id"].to_numpy(dtype=str)
            yield Figure(name, _median, whose, (floats(done[column]),))
        else:
            said = table["reason"].dropna()
            yield Found(name, NOTHING, reason=None if said.empty else str(said.mode()[0]))


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")
