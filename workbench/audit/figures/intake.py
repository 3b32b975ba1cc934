"""How many photographs are flagged before they are graded, and whether a score tells stressed from clean ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from workbench.audit.figures.figure import Answered, Figure
from workbench.metrics import discrimination, referral
from workbench.uncertainty.decisions import worst


def intake_figures(answered: Answered, clean: Answered) -> Iterator[Figure]:
    """Yield what is flagged, per exam; under a stress also how well each score tells it from the same exams clean.

    An exam is flagged when one of its photographs is; one without a photograph does not count.
    """
    patients = answered.decisions["patient_id"].to_numpy(dtype=str)
    shown = answered.present.any(axis=1)
    if answered.turned is not None and answered.measurement.stress is None:
        flagged = np.where(shown, answered.turned.any(axis=1), np.nan)
        yield Figure("intake_flagged_rate", referral.mean, patients, (flagged,))
    if answered.unlike is None:
        return
    known = ~np.isnan(worst(answered.answers["energy"]))
    flagged = np.where(known, answered.answers["unlike_training"].any(axis=1), np.nan)
    yield Figure("unlike_training_rate", referral.mean, patients, (flagged,))
    for name, cutoff in answered.unlike.items():
        above = np.where(known, worst(answered.answers[name]) > cutoff, np.nan)
        yield Figure("unlike_training_rate", referral.mean, patients, (above,), of=name)
        if answered.measurement.stress is not None:
            yield _told_from_clean(answered, clean, name)


def _told_from_clean(answered: Answered, clean: Answered, name: str) -> Figure:
    same = clean.decisions["exam_id"].isin(answered.decisions["exam_id"]).to_numpy(dtype=bool)
    after, before = worst(answered.answers[name]), worst(clean.answers[name])[same]
    both = ~np.isnan(after) & ~np.isnan(before)
    patients = answered.decisions["patient_id"].to_numpy(dtype=str)[both]
    stressed: Float[np.ndarray, " n"] = np.concatenate([after[both], before[both]])
    truth = np.repeat([True, False], int(both.sum()))
    return Figure("told_from_clean_auc", discrimination.roc_auc, np.tile(patients, 2), (truth, stressed), of=name)
