"""Metrics as sums over rows: all that a resample of patients can change is how often each row counts.

`Sufficient.sums` holds what each row adds to each statistic; a resample multiplies it by how often the row was drawn,
and `Sufficient.finish` makes the metric's value of the totals. So one sort, or one table, serves every resample, and
the plain metric is the same with every row counted once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int64
from scipy import sparse

Labels = Bool[np.ndarray, " n"] | Int[np.ndarray, " n"]
Totals = Float[np.ndarray, "statistic resample"]
Values = Float[np.ndarray, " resample"]


class Sufficient(NamedTuple):
    """A metric of some rows: what each adds to each statistic (statistic × row), and what the totals make."""

    sums: sparse.csr_array
    finish: Callable[[Totals], Values]


def once(metric: Sufficient) -> float:
    """Return the metric of the rows as they are, every one counted once."""
    totals = np.asarray(metric.sums.sum(axis=1), dtype=np.float64)
    return float(metric.finish(totals[:, None])[0])


def share(numerator: Float[np.ndarray, "*any"], denominator: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Return the quotient in float64, NaN where there is nothing to divide by."""
    over, under = numerator.astype(np.float64), denominator.astype(np.float64)
    return np.divide(over, under, out=np.full(over.shape, np.nan), where=under > 0)


def change(after: Sufficient, before: Sufficient) -> Sufficient:
    """Return a metric of some rows minus another of the same rows, both under the same resample."""
    sums, split = sparse.csr_array(sparse.vstack([after.sums, before.sums])), after.sums.shape[0]
    return Sufficient(sums, lambda totals: after.finish(totals[:split]) - before.finish(totals[split:]))


def mean(values: Bool[np.ndarray, " n"] | Float[np.ndarray, " n"]) -> Sufficient:
    """Return the mean of ``values``."""
    return quotient(values.astype(float), np.ones(len(values)))


def sensitivity(y_true: Labels, called: Labels) -> Sufficient:
    """Return the share of the diseased who are called so."""
    diseased = y_true.astype(bool)
    return quotient((diseased & called.astype(bool)).astype(float), diseased.astype(float))


def specificity(y_true: Labels, called: Labels) -> Sufficient:
    """Return the share of the healthy who are called so."""
    return sensitivity(~y_true.astype(bool), ~called.astype(bool))


def brier(y_true: Labels, p: Float[np.ndarray, " n"]) -> Sufficient:
    """Return the mean squared distance of probability to outcome."""
    return mean((p - y_true.astype(float)) ** 2)


def accuracy(y_true: Labels, y_pred: Labels) -> Sufficient:
    """Return the share of equal answers."""
    return mean(y_true == y_pred)


def quotient(numerator: Float[np.ndarray, " n"], denominator: Float[np.ndarray, " n"]) -> Sufficient:
    """Return the sum of one column over that of another."""
    sums = sparse.csr_array(np.stack([numerator, denominator]))
    return Sufficient(sums, lambda totals: share(totals[0], totals[1]))


def quadratic_weighted_kappa(
    y_true: Int[np.ndarray, " n"], y_pred: Int[np.ndarray, " n"], grades: int = 5
) -> Sufficient:
    """Return Cohen's kappa with squared grade distances, NaN where chance leaves no disagreement."""
    distance = np.subtract.outer(np.arange(grades), np.arange(grades)).astype(float) ** 2

    def finish(totals: Totals) -> Values:
        observed = totals.astype(np.float64).reshape(grades, grades, -1)
        total = observed.sum(axis=(0, 1))
        found = np.einsum("tgr,tg->r", observed, distance)
        by_chance = np.einsum("tr,gr,tg->r", observed.sum(axis=1), observed.sum(axis=0), distance)
        return 1 - share(found * total, by_chance)

    return Sufficient(tally(y_true * grades + y_pred, grades * grades), finish)


def roc_auc(y_true: Labels, p: Float[np.ndarray, " n"]) -> Sufficient:
    """Return the area under the ROC curve by Mann-Whitney, ties counting one half.

    Neighbours in ``p`` that no case of the other class parts are one statistic: they win and lose together.
    """
    if np.isnan(p).any() or not p.size:
        return _undefined(len(p))
    positive = y_true.astype(bool)
    ladder = _Ladder(p, positive)
    healthy, diseased = _runs(ladder.healthy, ladder.diseased), _runs(ladder.diseased, ladder.healthy)
    statistic = np.where(positive, diseased[ladder.level] + healthy.max() + 1, healthy[ladder.level])
    split = int(healthy.max()) + 1
    first = np.flatnonzero(np.diff(diseased, prepend=-1) > 0)
    below = healthy[first] + 1 - ladder.healthy[first]
    through = healthy[first] + 1

    def finish(totals: Totals) -> Values:
        cumulated = _cumulated(totals[:split])
        wins = cumulated[below] + cumulated[through]
        sick = totals[split:].astype(np.float64)
        return share(np.einsum("gr,gr->r", sick, wins) / 2, sick.sum(axis=0) * cumulated[-1])

    return Sufficient(tally(statistic, split + int(diseased.max()) + 1), finish)


def roc_auc_change(y_true: Labels, after: Float[np.ndarray, " n"], before: Float[np.ndarray, " n"]) -> Sufficient:
    """Return the area under the ROC curve of ``after`` minus that of ``before`` on the same cases."""
    return change(roc_auc(y_true, after), roc_auc(y_true, before))


def average_precision(y_true: Labels, p: Float[np.ndarray, " n"]) -> Sufficient:
    """Return the mean precision over the steps of recall, equal probabilities making one step."""
    if np.isnan(p).any() or not p.size:
        return _undefined(len(p))
    positive = y_true.astype(bool)
    ladder = _Ladder(p, positive)
    healthy, diseased = _runs(ladder.healthy, ladder.diseased), np.cumsum(ladder.diseased) - 1
    split = int(healthy.max()) + 1
    statistic = np.where(positive, diseased[ladder.level] + split, healthy[ladder.level])
    first = np.flatnonzero(ladder.diseased)
    below = healthy[first] + 1 - ladder.healthy[first]

    def finish(totals: Totals) -> Values:
        sick = totals[split:].astype(np.float64)
        well = _cumulated(totals[:split])
        called = sick.sum(axis=0) - _cumulated(sick)[:-1]
        both = called + well[-1] - well[below]
        precision = np.divide(called, both, out=np.zeros_like(both), where=both > 0)
        return share((sick * precision).sum(axis=0), sick.sum(axis=0))

    return Sufficient(tally(statistic, split + len(first)), finish)


class _Ladder:
    """The different probabilities from the lowest up: which one each row has, and who stands on it."""

    def __init__(self, p: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> None:
        levels, self.level = np.unique(p, return_inverse=True)
        self.diseased = np.bincount(self.level[positive], minlength=len(levels)) > 0
        self.healthy = np.bincount(self.level[~positive], minlength=len(levels)) > 0


def _runs(own: Bool[np.ndarray, " level"], other: Bool[np.ndarray, " level"]) -> Int64[np.ndarray, " level"]:
    """Return for each level the number of the last run of ``own`` up to it, -1 for none; ``other`` ends a run."""
    levels = np.flatnonzero(own)
    others = np.append(0, np.cumsum(other))
    parted = np.ones(len(levels), dtype=bool)
    # A level of both classes parts its neighbours on either side.
    parted[1:] = others[levels[1:] + 1] > others[levels[:-1]]
    starts = np.zeros(len(own), dtype=np.int64)
    starts[levels] = parted
    return np.cumsum(starts) - 1


def _cumulated(totals: Totals) -> Float[np.ndarray, "before resample"]:
    """Return the sums over the statistics before each, and over all, in float64: exact for whole numbers."""
    cumulated = np.zeros((len(totals) + 1, totals.shape[1]))
    np.cumsum(totals, axis=0, out=cumulated[1:])
    return cumulated


def tally(statistic: Int[np.ndarray, " n"], statistics: int) -> sparse.csr_array:
    """Return sums that count the rows of each statistic."""
    ones, rows = np.ones(len(statistic)), np.arange(len(statistic))
    return sparse.csr_array((ones, (statistic, rows)), shape=(statistics, len(statistic)))


def _undefined(n: int) -> Sufficient:
    return Sufficient(sparse.csr_array((1, n)), lambda totals: np.full(totals.shape[1], np.nan))
