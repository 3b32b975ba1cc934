"""Whether a probability of 30 % comes true in 30 %."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from workbench.metrics import weighted
from workbench.metrics.discrimination import once

Labels = Bool[np.ndarray, " n"] | Int[np.ndarray, " n"]


class ReliabilityTable(NamedTuple):
    """Per bin, from the lowest probability up: the mean probability, the observed rate, how many cases."""

    mean_p: Float[np.ndarray, " bin"]
    observed: Float[np.ndarray, " bin"]
    n: Int64[np.ndarray, " bin"]


def brier(y_true: Labels, p: Float[np.ndarray, " n"]) -> float:
    """Return the mean squared distance of probability to outcome (Brier 1950)."""
    return float(weighted.brier(once(len(p)), y_true, p)[0])


def reliability_table(y_true: Labels, p: Float[np.ndarray, " n"], bins: int = 10) -> ReliabilityTable:
    """Return mean probability against observed rate in bins of equal mass; cases with a NaN probability are left out.

    A case falls into the bin of its mid-rank, so equal probabilities share a bin and the order of the cases does not
    matter; a bin that ties leave empty is absent.
    """
    known = ~np.isnan(p)
    truth, probability = y_true[known].astype(float), p[known]
    bin_of = equal_mass_bins(probability, bins)
    n = np.bincount(bin_of, minlength=bins)
    used = n > 0
    mean_p = np.bincount(bin_of, weights=probability, minlength=bins)[used] / n[used]
    observed = np.bincount(bin_of, weights=truth, minlength=bins)[used] / n[used]
    return ReliabilityTable(mean_p, observed, n[used].astype(np.int64))


def equal_mass_bins(p: Float[np.ndarray, " n"], bins: int = 10) -> Int64[np.ndarray, " n"]:
    """Return the bin of each probability, none of them NaN: by its mid-rank, so that equal ones share a bin."""
    _, group, count = np.unique(p, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - count / 2
    return np.floor(bins * middle[group] / max(len(p), 1)).astype(np.int64)


def expected_calibration_error(y_true: Labels, p: Float[np.ndarray, " n"], bins: int = 10) -> float:
    """Return the mean distance of probability to observed rate over bins of equal mass; NaN for no cases.

    Naeini et al. 2015, with equal-mass bins (Nguyen, O'Connor 2015) since most probabilities lie near zero.
    """
    table = reliability_table(y_true, p, bins)
    total = int(table.n.sum())
    return float((table.n * np.abs(table.mean_p - table.observed)).sum() / total) if total else float("nan")
