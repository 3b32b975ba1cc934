"""Areas under ROC curves with their covariance and no resampling: one area, or two on the same cases."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

Labels = Bool[np.ndarray, " n"] | Int[np.ndarray, " n"]


class AucEstimate(NamedTuple):
    """An area with its standard error and interval, and the diseased and healthy cases behind it."""

    auc: float
    standard_error: float
    low: float
    high: float
    diseased: int
    healthy: int


class AucComparison(NamedTuple):
    """One area minus another on the same cases: standard error, interval, z and two-sided p-value."""

    difference: float
    standard_error: float
    low: float
    high: float
    z: float
    p_value: float


class AucCovariance(NamedTuple):
    """Several areas on the same cases, and the covariance of their estimates; NaN where there is none."""

    auc: Float[np.ndarray, " score"]
    covariance: Float[np.ndarray, "score score"]


def auc_interval(
    y_true: Labels,
    p: Float[np.ndarray, " n"],
    clusters: Shaped[np.ndarray, " n"] | None = None,
    *,
    level: float = 0.95,
    logit: bool = True,
) -> AucEstimate:
    """Return the area under the ROC curve with DeLong's interval.

    Args:
        y_true: diseased or not.
        p: any score, larger for the diseased.
        clusters: whose case it is, where a patient has several; None: every case is a patient of its own.
        level: the interval's coverage.
        logit: set the interval up on the scale of the log odds, so that it stays in (0, 1); there is none for an area
            of 0 or 1.

    DeLong, DeLong, Clarke-Pearson 1988, Biometrics 44(3); with clusters: Obuchowski 1997, Biometrics 53(2).
    """
    found = auc_covariance(y_true, p, clusters=clusters)
    auc, error = float(found.auc[0]), float(np.sqrt(found.covariance[0, 0]))
    reach = float(ndtri((1 + level) / 2)) * error
    low, high = auc - reach, auc + reach
    if logit and 0 < auc < 1:
        middle, reach = np.log(auc / (1 - auc)), reach / (auc * (1 - auc))
        low, high = (float(1 / (1 + np.exp(-(middle + side * reach)))) for side in (-1, 1))
    elif logit:
        low = high = float("nan")
    sick = int(y_true.astype(bool).sum())
    return AucEstimate(auc, error, low, high, sick, len(y_true) - sick)


def compare_aucs(
    y_true: Labels,
    first: Float[np.ndarray, " n"],
    second: Float[np.ndarray, " n"],
    clusters: Shaped[np.ndarray, " n"] | None = None,
    *,
    level: float = 0.95,
) -> AucComparison:
    """Return the area of ``first`` minus that of ``second`` on the same cases, with DeLong's test of no difference.

    Scores that rank all pairs alike differ by 0 with certainty: standard error 0, p-value 1.

    DeLong, DeLong, Clarke-Pearson 1988, Biometrics 44(3); with clusters: Obuchowski 1997, Biometrics 53(2).
    """
    found = auc_covariance(y_true, first, second, clusters=clusters)
    contrast = np.array([1.0, -1.0])
    difference = float(found.auc @ contrast)
    variance = float(contrast @ found.covariance @ contrast)
    # Equal rankings have no variance, which rounding leaves a hair off zero.
    error = 0.0 if abs(variance) < 1e-15 else float(np.sqrt(variance))
    reach = float(ndtri((1 + level) / 2)) * error
    z = 0.0 if error == 0 else difference / error
    return AucComparison(difference, error, difference - reach, difference + reach, z, float(2 * ndtr(-abs(z))))


def auc_covariance(
    y_true: Labels, *scores: Float[np.ndarray, " n"], clusters: Shaped[np.ndarray, " n"] | None = None
) -> AucCovariance:
    """Return the area of each score and the covariance of the areas, in O(n log n).

    NaN covariance with fewer than two clusters that hold a diseased case, or a healthy one; NaN with one class only or
    with a NaN in a score.

    Sun, Xu 2014, IEEE Signal Processing Letters 21(11): mid-ranks instead of pairs.
    """
    positive = y_true.astype(bool)
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n or any(np.isnan(score).any() for score in scores):
        return AucCovariance(np.full(len(scores), np.nan), np.full((len(scores), len(scores)), np.nan))
    placed = np.stack([placements(positive, score) for score in scores])
    auc = placed[:, positive].mean(axis=1)
    code = np.arange(len(positive)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    size = int(code.max()) + 1
    centred = placed - auc[:, None]
    sick, well = (
        np.stack([np.bincount(code, weights=np.where(group, row, 0.0), minlength=size) for row in centred])
        for group in (positive, ~positive)
    )
    with_sick, with_well = (len(np.unique(code[group])) for group in (positive, ~positive))
    if min(with_sick, with_well) < 2:
        return AucCovariance(auc, np.full((len(scores), len(scores)), np.nan))
    own = with_sick / (with_sick - 1) * sick @ sick.T / m**2 + with_well / (with_well - 1) * well @ well.T / n**2
    between = size / (size - 1) * sick @ well.T / (m * n)
    return AucCovariance(auc, own + between + between.T)


def placements(positive: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the share of the other class that each case is ranked right against, ties counting one half."""
    among_all, found = rankdata(score), np.empty(len(score))
    m, n = int(positive.sum()), int((~positive).sum())
    found[positive] = (among_all[positive] - rankdata(score[positive])) / n
    found[~positive] = 1 - (among_all[~positive] - rankdata(score[~positive])) / m
    return found
