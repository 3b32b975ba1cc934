"""Metrics under many weightings at once: one row of weights per bootstrap resample.

A resample of patients with replacement is a weight per row (how often its patient was drawn), so one sort serves
every resample. The plain metrics are these with every weight 1.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

Weights = Float[np.ndarray, "resample n"]
Labels = Bool[np.ndarray, " n"] | Int[np.ndarray, " n"]
Values = Float[np.ndarray, " resample"]


def share(numerator: Values, denominator: Values) -> Values:
    """Return the quotient, NaN where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


def mean(weights: Weights, values: Bool[np.ndarray, " n"] | Float[np.ndarray, " n"]) -> Values:
    """Return the weighted mean of ``values``, per resample."""
    return share(weights @ values.astype(float), weights.sum(axis=1))


def roc_auc(weights: Weights, y_true: Labels, p: Float[np.ndarray, " n"]) -> Values:
    """Return the area under the ROC curve by Mann-Whitney, ties counting one half, per resample."""
    if np.isnan(p).any() or not p.size:
        return np.full(len(weights), np.nan)
    positive = y_true.astype(bool)
    diseased, healthy = weights[:, positive], _Ranked(weights[:, ~positive], p[~positive])
    wins = healthy.below(p[positive], ties=False) + healthy.below(p[positive], ties=True)
    return share((diseased * wins).sum(axis=1) / 2, diseased.sum(axis=1) * healthy.total)


def roc_auc_change(
    weights: Weights, y_true: Labels, after: Float[np.ndarray, " n"], before: Float[np.ndarray, " n"]
) -> Values:
    """Return the area under the ROC curve of ``after`` minus that of ``before`` on the same cases, per resample."""
    return roc_auc(weights, y_true, after) - roc_auc(weights, y_true, before)


def average_precision(weights: Weights, y_true: Labels, p: Float[np.ndarray, " n"]) -> Values:
    """Return the mean precision over the steps of recall, equal probabilities making one step, per resample."""
    if np.isnan(p).any() or not p.size:
        return np.full(len(weights), np.nan)
    positive = y_true.astype(bool)
    called = [
        ranked.total[:, None] - ranked.below(p[positive], ties=False)
        for ranked in (_Ranked(weights[:, rows], p[rows]) for rows in (positive, ~positive))
    ]
    both = called[0] + called[1]
    precision = np.divide(called[0], both, out=np.zeros_like(both), where=both > 0)
    return share((weights[:, positive] * precision).sum(axis=1), weights[:, positive].sum(axis=1))


class _Ranked:
    """Cases in the order of their probability, with the weight that lies below any value."""

    def __init__(self, weights: Weights, p: Float[np.ndarray, " n"]) -> None:
        order = np.argsort(p, kind="stable")
        self.p = p[order]
        self.cumulated = np.zeros((len(weights), len(p) + 1))
        np.cumsum(weights[:, order], axis=1, out=self.cumulated[:, 1:])
        self.total = self.cumulated[:, -1]

    def below(self, p: Float[np.ndarray, " m"], *, ties: bool) -> Float[np.ndarray, "resample m"]:
        """Return the weight of the cases below each ``p``, with or without those that equal it."""
        return self.cumulated[:, np.searchsorted(self.p, p, side="right" if ties else "left")]


def sensitivity(weights: Weights, y_true: Labels, called: Labels) -> Values:
    """Return the share of the diseased who are called so, per resample."""
    diseased = y_true.astype(bool)
    return share(weights @ (diseased & called.astype(bool)).astype(float), weights @ diseased.astype(float))


def specificity(weights: Weights, y_true: Labels, called: Labels) -> Values:
    """Return the share of the healthy who are called so, per resample."""
    return sensitivity(weights, ~y_true.astype(bool), ~called.astype(bool))


def brier(weights: Weights, y_true: Labels, p: Float[np.ndarray, " n"]) -> Values:
    """Return the mean squared distance of probability to outcome, per resample."""
    return mean(weights, (p - y_true.astype(float)) ** 2)


def accuracy(weights: Weights, y_true: Labels, y_pred: Labels) -> Values:
    """Return the share of equal answers, per resample."""
    return mean(weights, y_true == y_pred)


def confusion_matrix(
    weights: Weights, y_true: Int[np.ndarray, " n"], y_pred: Int[np.ndarray, " n"], grades: int
) -> Float[np.ndarray, "resample grades grades"]:
    """Return the weight of each (true grade, answered grade), per resample."""
    cells = np.zeros((len(y_true), grades * grades))
    cells[np.arange(len(y_true)), y_true * grades + y_pred] = 1
    return (weights @ cells).reshape(len(weights), grades, grades)


def quadratic_weighted_kappa(
    weights: Weights, y_true: Int[np.ndarray, " n"], y_pred: Int[np.ndarray, " n"], grades: int = 5
) -> Values:
    """Return Cohen's kappa with squared grade distances, NaN where chance leaves no disagreement, per resample."""
    observed = confusion_matrix(weights, y_true, y_pred, grades)
    expected = observed.sum(axis=2)[:, :, None] * observed.sum(axis=1)[:, None, :]
    distance = np.subtract.outer(np.arange(grades), np.arange(grades)).astype(float) ** 2
    total = observed.sum(axis=(1, 2))
    return 1 - share((observed * distance).sum(axis=(1, 2)) * total, (expected * distance).sum(axis=(1, 2)))
