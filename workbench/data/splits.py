"""Train, validation and test, by patient."""

from __future__ import annotations

import pandas as pd

from workbench.schema.grades import UNGRADED
from workbench.schema.manifest import SPLITS
from workbench.schema.seeds import seed_for


def split_by_patient(
    manifest: pd.DataFrame, fractions: tuple[float, float, float] = (0.7, 0.1, 0.2), seed: int = 0
) -> pd.Series:
    """Return each row's split; all of a patient's photographs get the same one.

    Patients are put in order by the worse eye's grade and, within a grade, by a hash of the seed and the patient's
    name; each then goes to the split that is furthest behind its share. So every grade is shared out almost exactly,
    however rare, and the order of the rows does not matter.

    Args:
        manifest: with ``patient_id`` and ``icdr_grade``; a patient without any grade is a stratum of its own.
        fractions: shares of train, validation and test; they sum to 1.
        seed: another seed gives another split.
    """
    worse = manifest.groupby("patient_id")["icdr_grade"].max().fillna(UNGRADED)
    order = sorted(worse.index, key=lambda patient: (int(worse[patient]), seed_for(seed, str(patient), "split")))
    counts = [0] * len(SPLITS)
    split_of: dict[str, str] = {}
    for place, patient in enumerate(order, start=1):
        behind = [fraction * place - count for fraction, count in zip(fractions, counts, strict=True)]
        chosen = max((index for index in range(len(SPLITS)) if fractions[index] > 0), key=behind.__getitem__)
        counts[chosen] += 1
        split_of[patient] = SPLITS[chosen]
    return manifest["patient_id"].map(split_of).astype("string")


def complete_splits(manifest: pd.DataFrame, fractions: tuple[float, float, float], seed: int) -> pd.Series:
    """Return the splits that the manifest states, completed by patient: first from the patient's other rows."""
    stated = manifest["split"].astype("string")
    of_patient = stated.groupby(manifest["patient_id"]).transform("first").astype("string")
    complete = stated.fillna(of_patient)
    open_rows = complete.isna()
    if open_rows.any():
        complete = complete.where(~open_rows, split_by_patient(manifest[open_rows], fractions, seed))
    return complete.astype("string")
