"""What stands in the columns of outputs and labels: checked, normalised where it may be, and counted. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float

from workbench.audit.predictions_lacks import TOP_GRADE
from workbench.audit.predictions_table import Sheet, numbers
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import GRADES
from workbench.schema.manifest import QUALITIES
from workbench.schema.model_card import Outputs

KINDS: Final[dict[Outputs, tuple[tuple[str, ...], ...]]] = {
    "grades": (tuple(f"p{grade}" for grade in range(len(GRADES))),),
    "binary": (("p0", "p1"), ("p",)),
    "expected_grade": (("expected_grade",),),
}
"""Each kind of output with the columns that hold it."""
FAR_OFF: Final = 1.0
"""An expected grade further outside the scale than this is no grade at all."""
QUALITY: Final = {"0": "good", "1": "usable", "2": "reject", **{name: name for name in QUALITIES}}
"""EyeQ's numbers (Fu et al. 2019), and our words."""
ATTRIBUTES: Final = ("camera", "site", "sex", "split", "dataset", "dataset_version", "label_source", "sha256")


@dataclass(frozen=True)
class Values:
    """The outputs, row by row as the five columns of a draw, and what was done to them.

    ``largest_deviation`` is that of a row's sum from 1, over all; ``clipped`` counts expected grades outside 0 to 4.
    """

    outputs: Outputs
    p: Float[np.ndarray, "row 5"]
    normalised: int
    largest_deviation: float
    clipped: int


def read_values(sheet: Sheet, wanted: Outputs | None, tolerance: float) -> Values:
    """Return the outputs of a sheet.

    Args:
        sheet: of outputs.
        wanted: their kind; None: told by the columns.
        tolerance: a row of probabilities whose sum differs from 1 by more is normalised and counted.

    Raises:
        WorkbenchError: no outputs or several kinds; a value that is no number, negative, or no probability.
    """
    outputs, columns = _find(sheet, wanted)
    found = np.stack([numbers(sheet, name).to_numpy() for name in columns], axis=1)
    _refuse_no_numbers(sheet, columns, found)
    if outputs == "expected_grade":
        return _expected(sheet, found[:, 0])
    below = pd.Series((found < 0).any(axis=1), index=sheet.table.index)
    sheet.refuse(below, "a negative probability", "give probabilities, not logits")
    if len(columns) == 1:
        above = pd.Series(found[:, 0] > 1, index=sheet.table.index)
        sheet.refuse(above, "a P(referable) above 1", "give a probability between 0 and 1")
        return Values("binary", _two_columns(found[:, 0]), 0, 0.0, 0)
    sums = found.sum(axis=1)
    sheet.refuse(pd.Series(sums == 0, index=sheet.table.index), "probabilities that are all 0", "take these rows out")
    off = np.abs(sums - 1)
    uneven = off > tolerance
    p = np.where(uneven[:, None], found / sums[:, None], found)
    wide = p if outputs == "grades" else _two_columns(p[:, 1], p[:, 0])
    return Values(outputs, wide, int(uneven.sum()), float(off.max()), 0)


def _find(sheet: Sheet, wanted: Outputs | None) -> tuple[Outputs, tuple[str, ...]]:
    """Return the kind of the outputs and their columns."""
    numbered = [name for name in (f"p{number}" for number in range(100)) if sheet.has(name)]
    there: dict[Outputs, tuple[str, ...]] = {}
    for kind, choices in KINDS.items():
        for columns in choices:
            whole = columns[0] != "p0" or len(columns) == len(numbered)
            if kind not in there and whole and sheet.has(*columns):
                there[kind] = columns
    if wanted is not None and wanted in there:
        return wanted, there[wanted]
    if len(there) == 1 and wanted is None:
        return next(iter(there.items()))
    have = ", ".join(map(str, sheet.table.columns))
    if len(there) > 1 and wanted is None:
        names = " and ".join(there)
        raise WorkbenchError(f"{sheet.file} has columns of {names}", f"choose one: outputs={next(iter(there))}")
    asked = f" of {wanted}" if wanted else ""
    remedy = "give p0 to p4 (ICDR grades), p0 and p1 or p (P(referable)), or expected_grade; see --column"
    raise WorkbenchError(f"{sheet.file} has no columns{asked} that could be outputs; it has {have}", remedy)


def _refuse_no_numbers(sheet: Sheet, columns: tuple[str, ...], found: Float[np.ndarray, "row column"]) -> None:
    unknown = ~np.isfinite(found)
    if not unknown.any():
        return
    row, column = (int(place[0]) for place in np.nonzero(unknown))
    value = sheet.table[columns[column]].iloc[row]
    named = "is empty" if pd.isna(value) else f"is {str(value)[:20]!r}"
    wrong = pd.Series(unknown.any(axis=1), index=sheet.table.index)
    remedy = "an eye without an answer has no row (see --missing count)"
    sheet.refuse(wrong, f"an output that is no number (first: {columns[column]} {named})", remedy)


def _two_columns(
    referable: Float[np.ndarray, " row"], healthy: Float[np.ndarray, " row"] | None = None
) -> Float[np.ndarray, "row 5"]:
    """Return P(referable) as a draw: all of it at grade 2, the rest at grade 0, see `predictions_lacks.settle`."""
    wide = np.zeros((len(referable), len(GRADES)))
    wide[:, 0] = 1 - referable if healthy is None else healthy
    wide[:, 2] = referable
    return wide


def _expected(sheet: Sheet, grade: Float[np.ndarray, " row"]) -> Values:
    far = (grade < -FAR_OFF) | (grade > TOP_GRADE + FAR_OFF)
    wrong = pd.Series(far, index=sheet.table.index)
    sheet.refuse(wrong, "an expected grade far outside 0 to 4", "give it on the ICDR scale")
    clipped = int(((grade < 0) | (grade > TOP_GRADE)).sum())
    return Values("expected_grade", _two_columns(np.clip(grade, 0, TOP_GRADE) / TOP_GRADE), 0, 0.0, clipped)


def read_labels(sheet: Sheet) -> pd.DataFrame:
    """Return the labels with the manifest's columns; what a sheet does not hold is null.

    Raises:
        WorkbenchError: no column of grades; a grade, quality or age that is none.
    """
    if not sheet.has("level"):
        have = ", ".join(map(str, sheet.table.columns))
        raise WorkbenchError(
            f"{sheet.file} has no column level; it has {have}", "name the true grade: --column level=NAME"
        )
    labels = sheet.table[["exam_id", "patient_id", "eye"]].copy()
    labels["icdr_grade"] = _whole(sheet, "level", len(GRADES) - 1, "a level that is no grade from 0 to 4")
    labels["dme"] = _whole(sheet, "dme", 2, "a dme that is not 0, 1 or 2") if sheet.has("dme") else pd.NA
    labels["quality"] = _quality(sheet)
    labels["age"] = _age(sheet)
    for name in ATTRIBUTES:
        labels[name] = sheet.table[name].astype("string").str.strip() if sheet.has(name) else pd.NA
    return labels


def _whole(sheet: Sheet, name: str, largest: int, what: str) -> pd.Series:
    found = numbers(sheet, name)
    wrong = sheet.table[name].notna() & ~found.isin(range(largest + 1))
    sheet.refuse(wrong, what, "mend these labels; an eye without a grade is left empty")
    return found.astype("Int64")


def _quality(sheet: Sheet) -> pd.Series:
    if not sheet.has("quality"):
        return pd.Series(pd.NA, index=sheet.table.index, dtype="string")
    plain = sheet.table["quality"].astype("string").str.strip().str.lower().str.replace(r"\.0$", "", regex=True)
    words = plain.map(QUALITY).astype("string")
    wrong = plain.notna() & words.isna()
    sheet.refuse(wrong, "an unknown quality", f"it must be one of {', '.join(QUALITY)}")
    return words


def _age(sheet: Sheet) -> pd.Series:
    if not sheet.has("age"):
        return pd.Series(np.nan, index=sheet.table.index)
    found = numbers(sheet, "age")
    sheet.refuse(sheet.table["age"].notna() & ~found.between(0, 130), "an age that is none", "give years, or nothing")
    return found
