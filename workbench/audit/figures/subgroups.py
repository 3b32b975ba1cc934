"""The same rates for each camera, site, sex, age, quality and grade."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from workbench.audit.figures.figure import Answered, Figure, exam_arrays
from workbench.audit.figures.rates import rates
from workbench.schema.grades import UNGRADED

AGE_BANDS: Final = (
    (0, 40, "under 40"),
    (40, 50, "40-49"),
    (50, 60, "50-59"),
    (60, 70, "60-69"),
    (70, 200, "70 and over"),
)
QUALITY_ORDER: Final = ("good", "usable", "reject")


def subgroups(answered: Answered) -> Iterator[Figure]:
    """Yield the three rates and the AUC of each subgroup."""
    exams = exam_arrays(answered)
    for subgroup, mask in exam_subgroups(answered.table, answered.grade):
        yield from rates(exams, subgroup, mask)


def exam_subgroups(
    table: pd.DataFrame, grade: Int[np.ndarray, "exam 2"]
) -> Iterator[tuple[str, Bool[np.ndarray, " exam"]]]:
    """Yield each subgroup of exams, e.g. ``camera=TRC-NW6``; an attribute that nobody has yields none.

    The quality of an exam is that of its worse eye; so is its grade.
    """
    first = table.iloc[::2]
    columns: dict[str, list[str | None]] = {
        name: [None if pd.isna(value) else str(value) for value in first[name]] for name in ("camera", "site", "sex")
    }
    columns["age"] = [_age_band(value) for value in first["age"]]
    quality = table["quality"].map({name: rank for rank, name in enumerate(QUALITY_ORDER)}).astype("Float64")
    worst_quality = np.fmax(*quality.to_numpy(dtype=float, na_value=np.nan).reshape(-1, 2).T)
    columns["quality"] = [None if np.isnan(rank) else QUALITY_ORDER[int(rank)] for rank in worst_quality]
    columns["grade"] = [None if value == UNGRADED else str(value) for value in grade.max(axis=1)]
    for name, values in columns.items():
        for value in sorted({value for value in values if value is not None}):
            yield f"{name}={value}", np.array([one == value for one in values], dtype=bool)


def _age_band(age: Any) -> str | None:
    if pd.isna(age):
        return None
    return next((name for low, high, name in AGE_BANDS if low <= float(age) < high), None)
