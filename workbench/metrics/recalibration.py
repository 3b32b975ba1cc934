"""Calibration slope and intercept: the logistic line that would set a probability right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.special import expit, logit

from workbench.metrics.calibration import LEAST
from workbench.metrics.sufficient import Sufficient, Totals, Values

Labels = Bool[np.ndarray, " n"] | Int[np.ndarray, " n"]
Probabilities = Float[np.ndarray, " n"]
Cases = Float[np.ndarray, "level resample"]

STEPS: Final = 60
"""Newton steps at most; a line that exists is found in about eight."""
LEAP: Final = 4.0
"""The farthest that one step may move any log-odds: far from the goal Newton's steps are too long."""
LEVELS: Final = 200
"""More different log-odds than this are shared among so many levels for the resamples, never for the value itself."""


class Line(NamedTuple):
    """logit P(outcome) = intercept + slope × logit p; slope 1 and intercept 0 is calibrated, slope < 1 too extreme.

    NaN where there is no such line: one class only, or a probability that parts the classes without a tie.
    """

    slope: float
    intercept: float


def calibration_line(y_true: Labels, p: Probabilities) -> Line:
    """Return the logistic regression of the outcome on logit p, by maximum likelihood and without penalty.

    Cox 1958, Biometrika 45; Van Calster et al. 2019, BMC Medicine 17:230. ``p`` is kept `LEAST` away from 0 and 1.
    """
    intercept, slope = _exact(y_true, p, free=True)
    return Line(slope, intercept)


def calibration_slope(y_true: Labels, p: Probabilities) -> float:
    """Return the slope of `calibration_line`: below 1 the probabilities are too extreme."""
    return calibration_line(y_true, p).slope


def calibration_intercept(y_true: Labels, p: Probabilities) -> float:
    """Return the intercept of `calibration_line`, beside its slope."""
    return calibration_line(y_true, p).intercept


def calibration_in_the_large(y_true: Labels, p: Probabilities) -> float:
    """Return the intercept with the slope held at 1: above 0 the outcome is commoner than was said; NaN for one class.

    Van Calster et al. 2019, BMC Medicine 17:230.
    """
    return _exact(y_true, p, free=False)[0]


def log_odds(p: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Return log p/(1 - p), with p kept `LEAST` away from 0 and 1."""
    return logit(np.clip(p, LEAST, 1 - LEAST))


def _exact(y_true: Labels, p: Probabilities, *, free: bool) -> tuple[float, float]:
    if not len(p):
        return float("nan"), float("nan")
    levels, place = np.unique(log_odds(p), return_inverse=True)
    ill = np.bincount(place, weights=y_true.astype(float), minlength=len(levels))
    both = np.bincount(place, minlength=len(levels))
    intercept, slope = _climb(levels, ill[:, None], (both - ill)[:, None], (0.0, 1.0), free=free)
    return float(intercept[0]), float(slope[0])


def _climb(
    x: Float[np.ndarray, " level"], ill: Cases, well: Cases, start: tuple[float, float], *, free: bool
) -> tuple[Values, Values]:
    """Return intercept and slope of greatest likelihood, per resample, by Newton's steps; NaN where there is none.

    Args:
        x: log-odds.
        ill: how many cases of each log-odds have the outcome.
        well: how many have not.
        start: intercept and slope to begin from.
        free: whether the slope is found too, or stays as it starts.
    """
    resamples = ill.shape[1]
    found = np.full((2, resamples), np.nan)
    active = np.flatnonzero(_overlap(x, ill, well) if free else (ill.sum(axis=0) > 0) & (well.sum(axis=0) > 0))
    theta = np.tile(np.array(start)[:, None], (1, len(active)))
    ends = np.array([x.min(), x.max()])
    ill, all_cases = ill[:, active], ill[:, active] + well[:, active]
    for _ in range(STEPS):
        q = expit(theta[0] + np.outer(x, theta[1]))
        off, spread = ill - all_cases * q, all_cases * q * (1 - q)
        step = _step(np.stack([off.sum(axis=0), x @ off]), [x**power @ spread for power in range(3)], free)
        reach = np.abs(step[0] + np.outer(ends, step[1])).max(axis=0)
        theta = theta + step * np.minimum(1, LEAP / np.maximum(reach, LEAP))
        done = reach < 1e-9
        found[:, active[done]] = theta[:, done]
        going = ~done & np.isfinite(reach)
        active, theta, ill, all_cases = active[going], theta[:, going], ill[:, going], all_cases[:, going]
        if not active.size:
            break
    return found[0], found[1]


def _step(
    score: Float[np.ndarray, "2 resample"], information: list[Values], free: bool
) -> Float[np.ndarray, "2 resample"]:
    """Return Newton's step: the score divided by the information, whose entries are Σ spread × x⁰, x¹, x²."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if not free:
            return np.stack([score[0] / information[0], np.zeros_like(score[0])])
        determinant = information[0] * information[2] - information[1] ** 2
        across = information[2] * score[0] - information[1] * score[1]
        along = information[0] * score[1] - information[1] * score[0]
        return np.stack([across, along]) / determinant


def _overlap(x: Float[np.ndarray, " level"], ill: Cases, well: Cases) -> Bool[np.ndarray, " resample"]:
    """Return whether the classes overlap in ``x``: else the slope has no finite value (Albert, Anderson 1984)."""
    lowest = [np.where(cases > 0, x[:, None], np.inf).min(axis=0) for cases in (ill, well)]
    highest = [np.where(cases > 0, x[:, None], -np.inf).max(axis=0) for cases in (ill, well)]
    return (lowest[0] < highest[1]) & (lowest[1] < highest[0])


def _in_one_pass(y_true: Labels, p: Probabilities, *, free: bool, term: int) -> Sufficient:
    """Return one coefficient of the line, each resample's climbed to from that of all the data.

    Where there are more than `LEVELS` log-odds, each is shared between the two nearest of so many even levels so that
    their sum stays: what is lost is the curvature between two levels, less than a thousandth of the slope. So an
    interval costs the same for 1,000 eyes and for 50,000.
    """
    start, x, n = _exact(y_true, p, free=free), log_odds(p), len(p)
    if np.isnan(start[0]):
        return Sufficient(sparse.csr_array((1, n)), lambda totals: np.full(totals.shape[1], np.nan))
    levels = np.unique(x)
    if len(levels) > LEVELS:
        levels = np.linspace(x.min(), x.max(), LEVELS)
    count = len(levels)
    below = np.searchsorted(levels, x, side="right") - 1
    above = np.minimum(below + 1, count - 1)
    upper = np.where(above > below, (x - levels[below]) / np.where(above > below, levels[above] - levels[below], 1), 0)
    rows = np.concatenate([below, above]) + np.tile(np.where(y_true, 0, count), 2)
    shares = np.concatenate([1 - upper, upper])
    sums = sparse.csr_array((shares, (rows, np.tile(np.arange(n), 2))), shape=(2 * count, n))
    sums.eliminate_zeros()

    def finish(totals: Totals) -> Values:
        wide = totals.astype(np.float64)
        return _climb(levels, wide[:count], wide[count:], start, free=free)[term]

    return Sufficient(sums, finish)


IN_ONE_PASS: Final[dict[Callable[..., float], Callable[..., Sufficient]]] = {
    calibration_intercept: lambda y, p: _in_one_pass(y, p, free=True, term=0),
    calibration_slope: lambda y, p: _in_one_pass(y, p, free=True, term=1),
    calibration_in_the_large: lambda y, p: _in_one_pass(y, p, free=False, term=0),
}
"""Every resample of these in one pass."""
