"""The three headline rates: what is wrong, what is referred to a human, what fails in silence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

Known = Bool[np.ndarray, " n"] | Float[np.ndarray, " n"]
"""True/false, or 1.0/0.0 with NaN for unknown."""


class ThreeRates(NamedTuple):
    """The three headline figures, each a share in [0, 1]."""

    error: float
    referral: float
    silent_failure: float


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
