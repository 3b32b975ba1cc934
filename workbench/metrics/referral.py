"""What a referral to a human buys: the three headline rates, and metrics on what the model keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

Known = Bool[np.ndarray, " n"] | Float[np.ndarray, " n"]
"""True/false, or 1.0/0.0 with NaN for unknown."""


class ThreeRates(NamedTuple):
    """The three headline figures, each a share in [0, 1]."""

    error: float
    referral: float
    silent_failure: float


class ReferralCurve(NamedTuple):
    """Per point: the share of scored cases kept by the model, the metric on them, how many they are."""

    retained: Float[np.ndarray, " point"]
    value: Float[np.ndarray, " point"]
    n: Int64[np.ndarray, " point"]


def silent(wrong: Known, referred: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return 1 where wrong and not referred, 0 where not, NaN where unknown whether wrong."""
    return np.where(np.isnan(wrong.astype(float)), np.nan, wrong.astype(float) * ~referred)


def three_rates(wrong: Known, referred: Bool[np.ndarray, " n"]) -> ThreeRates:
    """Return error rate, referral rate and silent failure rate.

    Error and silent failure are shares of the exams whose truth is known; referral is the share of all exams.
    A rate over nothing is NaN.

    >>> three_rates(np.array([1.0, 1.0, 0.0, np.nan]), np.array([True, False, False, True]))
    ThreeRates(error=0.6666666666666666, referral=0.5, silent_failure=0.3333333333333333)
    """
    return ThreeRates(
        _mean_of_known(wrong.astype(float)),
        _mean_of_known(referred.astype(float)),
        _mean_of_known(silent(wrong, referred)),
    )


def mean(values: Known) -> float:
    """Return the mean, e.g. a rate; NaN for nothing or with a NaN in ``values``."""
    return float(values.astype(float).mean()) if values.size else float("nan")


def _mean_of_known(values: Float[np.ndarray, " n"]) -> float:
    return mean(values[~np.isnan(values)])


def referral_curve(
    metric: Callable[..., float],
    score: Float[np.ndarray, " n"],
    *arrays: Shaped[np.ndarray, " n ..."],
    points: int = 21,
) -> ReferralCurve:
    """Return ``metric`` on what is kept when the highest scores are referred first, from nobody referred to almost all.

    Cases of equal score are kept or referred together, so the retained shares are those that ties allow and may be
    fewer than ``points``. A case with a NaN score never ranks: it is left out.

    Args:
        metric: of ``arrays``, e.g. `roc_auc`.
        score: uncertainty; larger is referred sooner.
        arrays: what ``metric`` takes, one entry per case.
        points: retained shares aimed at, evenly spaced in (0, 1].
    """
    ranked = np.flatnonzero(~np.isnan(score))
    order = ranked[np.argsort(score[ranked], kind="stable")]
    ordered = score[order]
    wanted = np.ceil(np.linspace(1, 0, points, endpoint=False) * len(order)).astype(np.int64)
    # A cut through equal scores moves up to the end of their group: they are kept together.
    kept = np.searchsorted(ordered, ordered[wanted[wanted > 0] - 1], side="right")
    n = np.unique(kept)[::-1].astype(np.int64)
    values = [metric(*(array[order[:count]] for array in arrays)) for count in n]
    return ReferralCurve(n / max(len(order), 1), np.asarray(values, dtype=float), n)
