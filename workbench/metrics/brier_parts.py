"""The parts of the Brier score and the calibration error, over bins that are given.

A bin is an argument, not found anew: so each is a function of sums per bin, and every resample of patients is had in
one pass over the same bins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from workbench.metrics.sufficient import Sufficient, Totals, Values, once, share

Labels = Bool[np.ndarray, " n"] | Int[np.ndarray, " n"]
Probabilities = Float[np.ndarray, " n"]
Bins = Int[np.ndarray, " n"]
PerBin = Float[np.ndarray, "bin resample"]


class _Totals(NamedTuple):
    """Per bin and resample: how many, the sums of p, of y, of p² and of p y; ``all`` is how many in all bins."""

    n: PerBin
    p: PerBin
    y: PerBin
    pp: PerBin
    py: PerBin

    @property
    def all(self) -> Values:
        return self.n.sum(axis=0)


def binned_calibration_error(y_true: Labels, p: Probabilities, bin_of: Bins) -> float:
    """Return the mean distance of mean probability to observed rate over the given bins (ECE, Naeini et al. 2015)."""
    return once(_binned(y_true, p, bin_of, _error))


def brier_reliability(y_true: Labels, p: Probabilities, bin_of: Bins) -> float:
    """Return the mean squared distance of mean probability to observed rate over bins: 0 is well calibrated.

    Brier score = reliability - resolution + uncertainty + within-bin part, exactly (Murphy 1973, J. Appl. Meteor. 12;
    the last by Stephenson, Coelho, Jolliffe 2008, Weather and Forecasting 23).
    """
    return once(_binned(y_true, p, bin_of, _reliability))


def brier_resolution(y_true: Labels, p: Probabilities, bin_of: Bins) -> float:
    """Return the mean squared distance of the bins' observed rates to the overall rate: larger is better."""
    return once(_binned(y_true, p, bin_of, _resolution))


def brier_uncertainty(y_true: Labels, p: Probabilities, bin_of: Bins) -> float:
    """Return the variance of the outcome: the Brier score of always saying the overall rate."""
    return once(_binned(y_true, p, bin_of, _uncertainty))


def brier_within_bins(y_true: Labels, p: Probabilities, bin_of: Bins) -> float:
    """Return what is lost between the bins: variance of p within them minus twice its covariance with the outcome.

    Stephenson, Coelho, Jolliffe 2008. Negative where p tells cases apart within a bin.
    """
    return once(_binned(y_true, p, bin_of, _within))


def _binned(y_true: Labels, p: Probabilities, bin_of: Bins, part: Callable[[_Totals], Values]) -> Sufficient:
    bins, n = int(bin_of.max()) + 1 if len(bin_of) else 1, len(p)
    y = y_true.astype(float)
    values = np.concatenate([np.ones(n), p, y, p * p, p * y])
    rows = np.concatenate([bin_of + bins * number for number in range(5)])
    sums = sparse.csr_array((values, (rows, np.tile(np.arange(n), 5))), shape=(5 * bins, n))

    def finish(totals: Totals) -> Values:
        return part(_Totals(*totals.astype(np.float64).reshape(5, bins, -1)))

    return Sufficient(sums, finish)


def _per(numerator: PerBin, n: PerBin) -> PerBin:
    """Return the quotient, 0 for a bin that a resample leaves empty."""
    return np.divide(numerator, n, out=np.zeros_like(numerator), where=n > 0)


def _error(totals: _Totals) -> Values:
    return share(np.abs(totals.p - totals.y).sum(axis=0), totals.all)


def _reliability(totals: _Totals) -> Values:
    return share(_per((totals.p - totals.y) ** 2, totals.n).sum(axis=0), totals.all)


def _resolution(totals: _Totals) -> Values:
    return share(_per(totals.y**2, totals.n).sum(axis=0), totals.all) - share(totals.y.sum(axis=0), totals.all) ** 2


def _uncertainty(totals: _Totals) -> Values:
    rate = share(totals.y.sum(axis=0), totals.all)
    return rate * (1 - rate)


def _within(totals: _Totals) -> Values:
    variance = totals.pp - _per(totals.p**2, totals.n)
    covariance = totals.py - _per(totals.p * totals.y, totals.n)
    return share((variance - 2 * covariance).sum(axis=0), totals.all)


IN_ONE_PASS: Final[dict[Callable[..., float], Callable[..., Sufficient]]] = {
    binned_calibration_error: lambda y, p, bin_of: _binned(y, p, bin_of, _error),
    brier_reliability: lambda y, p, bin_of: _binned(y, p, bin_of, _reliability),
    brier_resolution: lambda y, p, bin_of: _binned(y, p, bin_of, _resolution),
    brier_uncertainty: lambda y, p, bin_of: _binned(y, p, bin_of, _uncertainty),
    brier_within_bins: lambda y, p, bin_of: _binned(y, p, bin_of, _within),
}
"""Every resample of these in one pass."""
