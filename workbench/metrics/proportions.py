"""Shares of cases: intervals without resampling, and the test of two answers on the same cases."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped
from scipy.special import bdtr, betaincinv, ndtr, ndtri


def binomial_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper, Pearson 1934, Biometrika 26(4)).

    >>> [round(bound, 3) for bound in binomial_interval(0, 20)]
    [0.0, 0.168]
    """
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, 1 - tail))
    return low, high


def wilson_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a share (Wilson 1927, J. Am. Statist. Assoc. 22(158)); NaN of nothing.

    >>> [round(bound, 4) for bound in wilson_interval(81, 263)]
    [0.2553, 0.3662]
    """
    if not n:
        return float("nan"), float("nan")
    z = float(ndtri((1 + level) / 2))
    centre, spread = hits + z**2 / 2, z * np.sqrt(hits * (n - hits) / n + z**2 / 4)
    return max(0.0, float((centre - spread) / (n + z**2))), min(1.0, float((centre + spread) / (n + z**2)))


class McNemar(NamedTuple):
    """Cases that only the first, and only the second, answered rightly, and the p-value of no difference."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(
    first_right: Bool[np.ndarray, " n"],
    second_right: Bool[np.ndarray, " n"],
    clusters: Shaped[np.ndarray, " n"] | None = None,
) -> McNemar:
    """Return the test of two answers on the same cases, e.g. two models' sensitivity on the diseased.

    Without clusters, exact: the cases that only one of them answered rightly are tossed coins. With clusters (two eyes
    of a patient), by the sum of each patient's differences over its root mean square (Obuchowski 1998, Statistics in
    Medicine 17(13)), for many patients.

    McNemar 1947, Psychometrika 12(2).
    """
    difference = first_right.astype(int) - second_right.astype(int)
    one, other = int((difference > 0).sum()), int((difference < 0).sum())
    if clusters is None:
        return McNemar(one, other, min(1.0, 2 * float(bdtr(min(one, other), one + other, 0.5))))
    code = np.unique(clusters, return_inverse=True)[1]
    per_patient = np.bincount(code, weights=difference)
    spread = float(np.sqrt((per_patient**2).sum()))
    z = float(per_patient.sum()) / spread if spread > 0 else 0.0
    return McNemar(one, other, float(2 * ndtr(-abs(z))))
