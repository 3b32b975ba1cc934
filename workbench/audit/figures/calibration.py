"""Whether P(referable) comes true, as the model gives it (``of`` = none) and under each calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Shaped

from workbench.audit.figures.figure import NOTHING, Answered, Figure, Found, judged_eyes
from workbench.metrics import bootstrap, brier_parts, calibration, recalibration, referral
from workbench.schema.grades import REFERABLE_GRADE
from workbench.schema.specs import PolicySpec
from workbench.uncertainty.calibration import CALIBRATIONS

OF_BINS: Final[dict[str, Callable[..., float]]] = {
    "expected_calibration_error": brier_parts.binned_calibration_error,
    "brier_reliability": brier_parts.brier_reliability,
    "brier_resolution": brier_parts.brier_resolution,
    "brier_uncertainty": brier_parts.brier_uncertainty,
    "brier_within_bins": brier_parts.brier_within_bins,
}
OF_P: Final[dict[str, Callable[..., float]]] = {
    "brier": calibration.brier,
    "calibration_slope": recalibration.calibration_slope,
    "calibration_intercept": recalibration.calibration_intercept,
    "calibration_in_the_large": recalibration.calibration_in_the_large,
}
BY_CHANCE: Final = "expected_calibration_error_by_chance"
NO_INTERVAL: Final = "no interval: it says itself how far chance reaches"


def calibration_figures(answered: Answered, policy: PolicySpec) -> Iterator[Figure | Found]:
    """Yield how calibrated P(referable) is: under every calibration for the clean exams, the policy's for a stress."""
    refitted = answered.refitted
    if refitted is None:
        return
    clean = answered.measurement.stress is None
    for kind in CALIBRATIONS if clean else dict.fromkeys(("none", policy.calibration)):
        if kind in refitted.reasons:
            for name in (*OF_BINS, *OF_P, "log_loss", BY_CHANCE):
                yield Found(name, NOTHING, of=kind, reason=refitted.reasons[kind])
            continue
        p = refitted.p_referable[kind].ravel()
        judged = judged_eyes(answered) & ~np.isnan(p)
        patients = answered.table["patient_id"].to_numpy(dtype=str)[judged]
        referable = answered.grade.ravel()[judged] >= REFERABLE_GRADE
        yield from _of_kind(kind, patients, referable, p[judged])
        if clean:
            yield from _reliability(kind, patients, referable, p[judged])


def _of_kind(
    kind: str, patients: Shaped[np.ndarray, " n"], referable: Bool[np.ndarray, " n"], p: Float[np.ndarray, " n"]
) -> Iterator[Figure | Found]:
    bins = calibration.equal_mass_bins(p)
    for name, metric in OF_BINS.items():
        yield Figure(name, metric, patients, (referable, p, bins), of=kind)
    for name, metric in OF_P.items():
        yield Figure(name, metric, patients, (referable, p), of=kind)
    yield Figure("log_loss", referral.mean, patients, (calibration.losses(referable, p),), of=kind)
    names, code = np.unique(patients, return_inverse=True)
    if len(names) > 1:
        chance = calibration.calibration_error_by_chance(referable, p, bins, code)
        found = bootstrap.Interval(chance, np.nan, np.nan, len(p), len(names))
        yield Found(BY_CHANCE, found, of=kind, reason=NO_INTERVAL)


def _reliability(
    kind: str, patients: Shaped[np.ndarray, " n"], referable: Bool[np.ndarray, " n"], p: Float[np.ndarray, " n"]
) -> Iterator[Figure]:
    """Yield the observed rate of each bin of equal mass, ``at`` its mean probability."""
    bins = calibration.equal_mass_bins(p)
    for number in np.unique(bins):
        inside = bins == number
        at = float(p[inside].mean())
        yield Figure("reliability_observed", referral.mean, patients[inside], (referable[inside],), at=at, of=kind)
