"""How mild a corruption need be to flip a call, from the parts of the severity searches. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from workbench.audit import schemas
from workbench.audit.figures.figure import Figure, floats
from workbench.audit.figures.rows import row_of
from workbench.audit.results import Run
from workbench.audit.run_manifest import MeasurementSpec

LEVELS: Final = (1.0, 2.0, 3.0, 4.0, 5.0)


def mildest_rows(run: Run, *, resamples: int) -> pd.DataFrame:
    """Return the rows of every severity search of a run, with patient-clustered intervals."""
    eyes = run.eyes()
    patients = dict(zip(eyes["exam_id"], eyes["patient_id"], strict=True))
    rows = [
        row_of(run.manifest, measurement, figure, resamples)
        for measurement in run.manifest.measurements
        if measurement.kind == "mildest"
        for figure in _figures(run, measurement, patients)
    ]
    return pd.DataFrame(rows, columns=schemas.ROWS_SCHEMA.names)


def _figures(run: Run, measurement: MeasurementSpec, patients: dict[str, str]) -> Iterator[Figure]:
    exams = run.exams_of(measurement)
    whose = exams.index.map(patients).to_numpy(dtype=str)
    severity, accepted = floats(exams["severity"]), exams["accepted"].to_numpy(dtype=bool)
    for level in LEVELS:
        flipped = severity <= level
        yield Figure("flipped_up_to", _share, whose, (flipped.astype(float),), at=level, of="any quality")
        yield Figure("flipped_up_to", _share, whose, ((flipped & accepted).astype(float),), at=level, of="accepted")
    known = ~np.isnan(severity)
    steady = floats(exams["steady"])[known]
    yield Figure("flips_back_share", _share, whose[known], (1 - steady,))


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
