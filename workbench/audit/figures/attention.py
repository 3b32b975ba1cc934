"""The figures of where maps lie: per method and floor, kind of mark and source, with patient-clustered intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from workbench.audit.figures.figure import Figure
from workbench.metrics import referral

MEANS: Final = {
    "map_energy": "energy",
    "map_average_precision": "average_precision",
    "map_overlap": "overlap",
    "map_pointing": "pointing",
}
"""Name of a row → the column whose mean over eyes it is."""


def attention_figures(table: pd.DataFrame, patients: dict[str, str]) -> dict[str, list[Figure]]:
    """Return method or floor → its figures.

    Args:
        table: the rows of `ATTENTION_SCHEMA`.
        patients: exam → patient.
    """
    found: dict[str, list[Figure]] = {}
    for (method, source, kind), group in table.groupby(["method", "source", "kind"], sort=False):
        whose = group["exam_id"].map(patients).to_numpy(dtype=str)
        of = str(kind) if source == "field" else f"{source} {kind}"
        found.setdefault(str(method), []).extend(_figures(group, whose, of))
    return found


def _figures(group: pd.DataFrame, patients: np.ndarray, of: str) -> Iterator[Figure]:
    for name, column in MEANS.items():
        values = group[column].to_numpy(dtype=float, na_value=np.nan)
        if not np.isnan(values).all():
            yield Figure(name, referral.mean, patients, (values,), of=of)
    energy, area = (group[name].to_numpy(dtype=float, na_value=np.nan) for name in ("energy", "area"))
    yield Figure("map_energy_over_area", referral.mean, patients, (energy / np.maximum(area, 1e-9),), of=of)
    counts = group[["lesions", "looked_at"]].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    if np.nansum(counts[:, 0]) > 0:
        # One entry per lesion, so that a patient counts with every lesion it has.
        known = ~np.isnan(counts[:, 0])
        lesions, reached = counts[known].astype(int).T
        per_lesion = np.concatenate(
            [np.repeat([1.0, 0.0], [yes, all_ - yes]) for all_, yes in zip(lesions, reached, strict=True)]
        )
        yield Figure("map_looked_at", referral.mean, np.repeat(patients[known], lesions), (per_lesion,), of=of)
