"""From many draws to one row of probabilities per eye."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Float

Draws = Float[np.ndarray, "draw exam 2 grade"]
Pooled = Float[np.ndarray, "exam 2 grade"]


def mean(draws: Draws) -> Pooled:
    """Return the arithmetic mean over the draws: the linear opinion pool; NaN for an absent eye."""
    return draws.mean(axis=0, dtype=np.float64)


def log_mean(draws: Draws) -> Pooled:
    """Return the geometric mean over the draws, scaled to sum 1: the logarithmic opinion pool; NaN for an absent eye.

    Its most probable grade is what is called 'log-max' (the largest mean log probability): geometric pooling.

    A grade that every draw excludes keeps probability 0; where each grade is excluded by some draw, smallest float64
    probabilities stand in for the zeros.

    Genest, Zidek 1986, Statistical Science 1(1).
    """
    logs = np.log(np.maximum(draws.astype(np.float64), np.finfo(np.float64).tiny)).mean(axis=0)
    powers = np.where((draws > 0).any(axis=0) | np.isnan(logs), np.exp(logs - logs.max(axis=-1, keepdims=True)), 0.0)
    return powers / powers.sum(axis=-1, keepdims=True)


def median(draws: Draws) -> Pooled:
    """Return each grade's median over the draws, scaled to sum 1; NaN for an absent eye.

    Where every median is 0 (no grade is likely in half of the draws) there is nothing to scale: the mean stands in.
    """
    middle = np.median(draws.astype(np.float64), axis=0)
    total = middle.sum(axis=-1, keepdims=True)
    return np.where(total == 0, mean(draws), np.divide(middle, total, out=middle, where=total != 0))


def majority(draws: Draws) -> Pooled:
    """Return the share of draws whose most probable grade is each grade; NaN for an absent eye.

    Equally probable grades share their draw's vote.
    """
    top = (draws == draws.max(axis=-1, keepdims=True)).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return (top / top.sum(axis=-1, keepdims=True)).mean(axis=0)


POOLINGS: Final[dict[str, Callable[[Draws], Pooled]]] = {
    "mean": mean,
    "log_mean": log_mean,
    "median": median,
    "majority": majority,
}
"""The names that a policy may hold."""
