"""How the two eyes of a patient hang together: in the model's answers, and in the disease itself.

A model may answer one eye by what it sees in the other. It then couples the eyes more than disease does, and calls a
healthy eye diseased because its fellow is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from workbench.metrics import sufficient
from workbench.metrics.sufficient import Sufficient, Totals, Values, once, share

Numbers = Float[np.ndarray, " pair"] | Int[np.ndarray, " pair"] | Bool[np.ndarray, " pair"]
Grades = Int[np.ndarray, " pair"]
Known = Bool[np.ndarray, " n"]


def correlation(right: Numbers, left: Numbers) -> float:
    """Return Pearson's correlation of the two eyes; NaN where either has one value only.

    Of two yes-or-no answers it is the phi coefficient.
    """
    return once(_correlation(right, left))


def rank_correlation(right: Numbers, left: Numbers) -> float:
    """Return Spearman's correlation of the two eyes, equal values sharing their mean rank (Spearman 1904)."""
    return once(_rank_correlation(right, left))


def excess_correlation(right: Numbers, left: Numbers, true_right: Numbers, true_left: Numbers) -> float:
    """Return Pearson's correlation of the answers to the two eyes minus that of the truth."""
    return once(_excess_correlation(right, left, true_right, true_left))


def excess_rank_correlation(right: Numbers, left: Numbers, true_right: Numbers, true_left: Numbers) -> float:
    """Return Spearman's correlation of the answers to the two eyes minus that of the truth."""
    return once(_excess_rank_correlation(right, left, true_right, true_left))


def excess_kappa(right: Grades, left: Grades, true_right: Grades, true_left: Grades) -> float:
    """Return the quadratic weighted kappa between the eyes' answered grades minus that between their true grades."""
    return once(_excess_kappa(right, left, true_right, true_left))


def rate_difference(called: Known, fellow: Known, stratum: Int[np.ndarray, " n"]) -> float:
    """Return how much oftener an eye is called where ``fellow`` holds than where not, within equal strata.

    The Mantel-Haenszel risk difference (Greenland, Robins 1985, Biometrics 41); with one stratum it is the plain
    difference of two shares. NaN where no stratum holds both kinds.

    >>> called, fellow = np.array([True, False, False, False]), np.array([True, True, False, False])
    >>> rate_difference(called, fellow, np.zeros(4, dtype=int))
    0.5

    Args:
        called: of each eye.
        fellow: what is true of its fellow.
        stratum: 0, 1, …; what the eye is compared within, e.g. its own grade.
    """
    return once(_rate_difference(called, fellow, stratum))


def worse_eye_ranked(p: Float[np.ndarray, "pair 2"], grade: Int[np.ndarray, "pair 2"]) -> Float[np.ndarray, " pair"]:
    """Return 1 where the eye of the higher grade has the higher ``p``, 0 where the lower, one half where equal.

    NaN where the grades are equal, or a ``p`` is unknown.
    """
    sign = np.sign(p[:, 0] - p[:, 1]) * np.sign(grade[:, 0] - grade[:, 1])
    return np.where(grade[:, 0] == grade[:, 1], np.nan, (sign + 1) / 2)


def _correlation(right: Numbers, left: Numbers) -> Sufficient:
    x, y = (_standardised(values) for values in (right, left))
    sums = sparse.csr_array(np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y]))

    def finish(totals: Totals) -> Values:
        n, sum_x, sum_y, xx, yy, xy = totals.astype(np.float64)
        return _quotient(n * xy - sum_x * sum_y, n * xx - sum_x**2, n * yy - sum_y**2, n * n)

    return Sufficient(sums, finish)


def _standardised(values: Numbers) -> Float[np.ndarray, " pair"]:
    """Return the values with mean 0 and spread 1, so that little is lost when products of totals are subtracted."""
    centred = values - values.mean() if len(values) else values.astype(float)
    spread = centred.std() if len(values) else 0.0
    return centred / spread if spread > 0 else centred.astype(float)


def _quotient(covariance: Values, variance_x: Values, variance_y: Values, scale: Values) -> Values:
    """Return the correlation; a variance that is only rounding counts as none."""
    least = 1e-12 * scale
    spread = np.where((variance_x > least) & (variance_y > least), variance_x, 0.0) * np.maximum(variance_y, 0.0)
    return share(covariance, np.sqrt(spread))


def _rank_correlation(right: Numbers, left: Numbers) -> Sufficient:
    """Pairs of equal values are one statistic; ranks are had anew from the totals, since a resample changes them."""
    pairs, which = np.unique(np.stack([right, left]).astype(float), axis=1, return_inverse=True)
    levels = [np.unique(values, return_inverse=True)[1] for values in pairs]
    rows = np.arange(len(right))
    sums = sparse.csr_array((np.ones(len(rows)), (which.ravel(), rows)), shape=(pairs.shape[1], len(rows)))

    def finish(totals: Totals) -> Values:
        weight = totals.astype(np.float64)
        n = weight.sum(axis=0)
        x, y = (_mid_ranks(weight, level) - (n + 1) / 2 for level in levels)
        xy, xx, yy = (np.einsum("pr,pr,pr->r", weight, one, other) for one, other in ((x, y), (x, x), (y, y)))
        return _quotient(xy, xx, yy, np.ones_like(n))

    return Sufficient(sums, finish)


def _mid_ranks(
    weight: Float[np.ndarray, "pair resample"], level: Int[np.ndarray, " pair"]
) -> Float[np.ndarray, "pair resample"]:
    """Return the mean rank of each pair's value among all, counted as often as they were drawn."""
    if not len(level):
        return weight
    members = sparse.csr_array(
        (np.ones(len(level)), (level, np.arange(len(level)))), shape=(level.max() + 1, len(level))
    )
    at = members @ weight
    below = np.cumsum(at, axis=0) - at
    return (below + (at + 1) / 2)[level]


def _excess_correlation(right: Numbers, left: Numbers, true_right: Numbers, true_left: Numbers) -> Sufficient:
    return sufficient.change(_correlation(right, left), _correlation(true_right, true_left))


def _excess_rank_correlation(right: Numbers, left: Numbers, true_right: Numbers, true_left: Numbers) -> Sufficient:
    return sufficient.change(_rank_correlation(right, left), _rank_correlation(true_right, true_left))


def _excess_kappa(right: Grades, left: Grades, true_right: Grades, true_left: Grades) -> Sufficient:
    answered = sufficient.quadratic_weighted_kappa(right, left)
    return sufficient.change(answered, sufficient.quadratic_weighted_kappa(true_right, true_left))


def _rate_difference(called: Known, fellow: Known, stratum: Int[np.ndarray, " n"]) -> Sufficient:
    kinds = int(stratum.max()) + 1 if len(stratum) else 1
    cell = 4 * stratum + 2 * fellow + called
    rows = np.arange(len(called))
    sums = sparse.csr_array((np.ones(len(rows)), (cell, rows)), shape=(4 * kinds, len(rows)))

    def finish(totals: Totals) -> Values:
        count = totals.astype(np.float64).reshape(kinds, 2, 2, -1)  # stratum × fellow × called
        without, beside = count.sum(axis=2)[:, 0], count.sum(axis=2)[:, 1]
        weight = np.nan_to_num(share(without * beside, without + beside))
        risen = np.nan_to_num(share(count[:, 1, 1], beside)) - np.nan_to_num(share(count[:, 0, 1], without))
        return share((weight * risen).sum(axis=0), weight.sum(axis=0))

    return Sufficient(sums, finish)


IN_ONE_PASS: Final[dict[Callable[..., float], Callable[..., Sufficient]]] = {
    correlation: _correlation,
    rank_correlation: _rank_correlation,
    excess_correlation: _excess_correlation,
    excess_rank_correlation: _excess_rank_correlation,
    excess_kappa: _excess_kappa,
    rate_difference: _rate_difference,
}
"""Those that take every resample in one pass, see `workbench.metrics.sufficient`."""
