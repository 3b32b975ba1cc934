"""What the model still gets wrong on the share of exams that it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from workbench.audit.figures.figure import Answered, Figure, exam_arrays
from workbench.metrics import discrimination, referral

CURVE_POINTS: Final = 10


def referral_figures(answered: Answered) -> Iterator[Figure]:
    """Yield the error rate and the AUC of what the model keeps, when the least sure exams are referred first."""
    exams = exam_arrays(answered)
    known = np.flatnonzero(~np.isnan(exams.wrong) & ~np.isnan(exams.score))
    order = known[np.argsort(exams.score[known], kind="stable")]
    curve = referral.referral_curve(referral.mean, exams.score[known], exams.wrong[known], points=CURVE_POINTS)
    for retained, count in zip(curve.retained, curve.n, strict=True):
        kept = order[:count]
        patients = exams.patients[kept]
        truth = exams.referable[kept] == 1
        at = round(float(retained), 6)
        yield Figure("error_rate_at_retained", referral.mean, patients, (exams.wrong[kept],), at=at)
        yield Figure("auc_at_retained", discrimination.roc_auc, patients, (truth, exams.p[kept]), at=at)
