"""How well readers agree with each other: Cohen's, Fleiss' and weighted kappa, Krippendorff's alpha.

Each is a function of a table that is a sum over cases, see `workbench.metrics.sufficient`. A case is what was graded
(an eye), a rating an integer category, `MISSING` where a reader did not grade it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from workbench.metrics.sufficient import Sufficient, Totals, Values, share
from workbench.schema.errors import WorkbenchError

Ratings = Int[np.ndarray, "case reader"]
Grades = Int[np.ndarray, " case"]
Distances = Float[np.ndarray, "category category"]
Scheme = Literal["none", "linear", "quadratic"]
Level = Literal["nominal", "ordinal", "interval"]

MISSING: Final = -1
"""Stands for 'this reader gave no grade to this case'."""


def _steps(categories: int) -> Distances:
    return np.abs(np.subtract.outer(np.arange(categories), np.arange(categories))).astype(float)


SCHEMES: Final[dict[str, Callable[[int], Distances]]] = {
    "none": lambda categories: (_steps(categories) > 0).astype(float),
    "linear": _steps,
    "quadratic": lambda categories: _steps(categories) ** 2,
}
"""How much a disagreement of two categories counts: all alike, by distance, or by its square."""


def cohen_kappa(first: Grades, second: Grades, categories: int = 5, scheme: Scheme = "none") -> Sufficient:
    """Return Cohen's kappa of two readers of the same cases; NaN where chance alone leaves no disagreement.

    Raises:
        WorkbenchError: a grade outside 0 to ``categories`` - 1.

    Cohen 1960, Educational and Psychological Measurement 20(1); weighted: Cohen 1968, Psychological Bulletin 70(4).
    """
    _check(np.stack([first, second]), categories, lowest=0)
    distance, cells = SCHEMES[scheme](categories), categories * categories
    rows = np.arange(len(first))
    sums = sparse.csr_array((np.ones(len(first)), (first * categories + second, rows)), shape=(cells, len(first)))

    def finish(totals: Totals) -> Values:
        observed = totals.astype(np.float64).reshape(categories, categories, -1)
        found = np.einsum("fsr,fs->r", observed, distance)
        by_chance = np.einsum("fr,sr,fs->r", observed.sum(axis=1), observed.sum(axis=0), distance)
        return 1 - share(found * observed.sum(axis=(0, 1)), by_chance)

    return Sufficient(sums, finish)


def fleiss_kappa(ratings: Ratings, categories: int = 5) -> Sufficient:
    """Return Fleiss' kappa of many readers; NaN where all give one and the same grade to all, or nobody graded twice.

    A case counts when it has two ratings or more; the readers of a case may differ from case to case.

    Raises:
        WorkbenchError: a grade outside 0 to ``categories`` - 1 that is not `MISSING`.

    Fleiss 1971, Psychological Bulletin 76(5).
    """
    counts = _pairable_counts(ratings, categories)
    raters = counts.sum(axis=1)
    agreed = (counts * (counts - 1)).sum(axis=1) / np.maximum(raters * (raters - 1), 1)
    sums = sparse.csr_array(np.concatenate([counts.T, agreed[None], (raters > 1).astype(float)[None]]))

    def finish(totals: Totals) -> Values:
        used, agreement, cases = totals[:categories], totals[categories], totals[categories + 1]
        by_chance = share((used.astype(np.float64) ** 2).sum(axis=0), used.sum(axis=0).astype(np.float64) ** 2)
        left = np.where(by_chance < 1 - 1e-12, 1 - by_chance, 0.0)
        return share(share(agreement, cases) - by_chance, left)

    return Sufficient(sums, finish)


def krippendorff_alpha(ratings: Ratings, categories: int = 5, level: Level = "ordinal") -> Sufficient:
    """Return Krippendorff's alpha of any number of readers, any of whom may have left out cases.

    NaN where no case was graded twice, or every rating is the same.

    Args:
        ratings: `MISSING` where there is none.
        categories: how many grades there are.
        level: what the distance of two grades is.

    Raises:
        WorkbenchError: a grade outside 0 to ``categories`` - 1 that is not `MISSING`.

    Krippendorff 2011, Computing Krippendorff's alpha-reliability; 2004, Content Analysis, chapter 11.
    """
    counts = _pairable_counts(ratings, categories)
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(categories)
    pairs /= np.maximum(counts.sum(axis=1) - 1, 1)[:, None, None]
    sums = sparse.csr_array(pairs.reshape(len(pairs), categories * categories).T)

    def finish(totals: Totals) -> Values:
        coincidences = totals.astype(np.float64).reshape(categories, categories, -1)
        used = coincidences.sum(axis=1)
        distance, n = _squared_distance(used, level), used.sum(axis=0)
        chance = used[:, None] * used[None, :] - used[:, None] * np.eye(categories)[:, :, None]
        found = (coincidences * distance).sum(axis=(0, 1)) * (n - 1)
        return 1 - share(found, (chance * distance).sum(axis=(0, 1)))

    return Sufficient(sums, finish)


def _squared_distance(
    used: Float[np.ndarray, "category resample"], level: Level
) -> Float[np.ndarray, "category category resample"]:
    if level == "ordinal":
        # The ratings that lie between two grades, the two themselves by half (Krippendorff 2011, section E).
        middle = np.cumsum(used, axis=0) - used / 2
        return (middle[:, None] - middle[None, :]) ** 2
    distance = SCHEMES["none" if level == "nominal" else "quadratic"](len(used))
    return np.repeat(distance[:, :, None], used.shape[1], axis=2)


def _pairable_counts(ratings: Ratings, categories: int) -> Float[np.ndarray, "case category"]:
    """Return how many readers gave each category; none for a case with fewer than two ratings."""
    _check(ratings, categories, lowest=MISSING)
    counts = (ratings[:, :, None] == np.arange(categories)).sum(axis=1).astype(float)
    return np.where(counts.sum(axis=1, keepdims=True) > 1, counts, 0.0)


def _check(ratings: Int[np.ndarray, "*any"], categories: int, *, lowest: int) -> None:
    wrong = ratings[(ratings < lowest) | (ratings >= categories)]
    if wrong.size:
        raise WorkbenchError(
            f"a rating of {int(wrong.flat[0])}", f"ratings are 0 to {categories - 1}, {MISSING} for none"
        )
