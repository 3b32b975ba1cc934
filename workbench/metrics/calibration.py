"""Whether a probability of 30 % comes true in 30 %."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from workbench.metrics import sufficient

Labels = Bool[np.ndarray, " n"] | Int[np.ndarray, " n"]

LEAST: Final = 1e-6
"""Nearer to 0 or 1 no probability is taken by its logarithm: tables of them are printed to six decimals."""


class ReliabilityTable(NamedTuple):
    """Per bin, from the lowest probability up: the mean probability, the observed rate, how many cases."""

    mean_p: Float[np.ndarray, " bin"]
    observed: Float[np.ndarray, " bin"]
    n: Int64[np.ndarray, " bin"]


def brier(y_true: Labels, p: Float[np.ndarray, " n"]) -> float:
    """Return the mean squared distance of probability to outcome (Brier 1950)."""
    return sufficient.once(sufficient.brier(y_true, p))


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


def log_loss(y_true: Labels, p: Float[np.ndarray, " n"]) -> float:
    """Return the mean of minus the log of the probability that the outcome was given, in nats; NaN for no cases.

    Good 1952; ``p`` is kept `LEAST` away from 0 and 1.
    """
    return float(losses(y_true, p).mean()) if p.size else float("nan")


def losses(y_true: Labels, p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return each case's log loss, in nats; see `log_loss`."""
    inside = np.clip(p, LEAST, 1 - LEAST)
    return -np.where(y_true.astype(bool), np.log(inside), np.log1p(-inside))


def calibration_error_by_chance(
    y_true: Labels, p: Float[np.ndarray, " n"], bin_of: Int[np.ndarray, " n"], clusters: Int[np.ndarray, " n"]
) -> float:
    """Return the expected calibration error that chance alone gives on these cases, were every bin well calibrated.

    The error of a bin is then a sum over patients with mean 0: of size sqrt(2/pi) times its standard deviation, which
    the patients' own sums give, around their bin's mean (cluster-robust: Liang, Zeger 1986). The error of a model as
    good as this one falls below it about as often as above; compare Bröcker, Smith 2007 (consistency bars).

    Args:
        y_true: what came.
        p: what was said.
        bin_of: the bin of each case, see `equal_mass_bins`.
        clusters: the patient of each case, counted from 0.
    """
    bins = int(bin_of.max()) + 1
    residual = p - y_true
    n = np.bincount(bin_of, minlength=bins)
    centred = residual - (np.bincount(bin_of, weights=residual, minlength=bins) / np.maximum(n, 1))[bin_of]
    cell, place = np.unique(clusters.astype(np.int64) * bins + bin_of, return_inverse=True)
    variance = np.bincount(cell % bins, weights=np.bincount(place, weights=centred) ** 2, minlength=bins)
    patients = np.bincount(cell % bins, minlength=bins)
    spread = np.sqrt(variance * patients / np.maximum(patients - 1, 1))
    return float(np.sqrt(2 / np.pi) * spread.sum() / len(p))
