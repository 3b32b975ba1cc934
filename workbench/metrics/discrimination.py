"""How well a probability tells the diseased from the healthy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from workbench.metrics import sufficient

Labels = Bool[np.ndarray, " n"] | Int[np.ndarray, " n"]


def roc_auc(y_true: Labels, p: Float[np.ndarray, " n"]) -> float:
    """Return the area under the ROC curve; NaN with one class only or with a NaN in ``p``.

    It is the chance that a diseased case has the higher probability, ties counting one half (Hanley, McNeil 1982).

    >>> roc_auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    return sufficient.once(sufficient.roc_auc(y_true, p))


def roc_auc_change(y_true: Labels, after: Float[np.ndarray, " n"], before: Float[np.ndarray, " n"]) -> float:
    """Return the area under the ROC curve of ``after`` minus that of ``before``, on the same cases."""
    return sufficient.once(sufficient.roc_auc_change(y_true, after, before))


def average_precision(y_true: Labels, p: Float[np.ndarray, " n"]) -> float:
    """Return the precision averaged over the steps of recall; NaN without a positive or with a NaN in ``p``."""
    return sufficient.once(sufficient.average_precision(y_true, p))


def sensitivity(y_true: Labels, called: Labels) -> float:
    """Return the share of the diseased who are called so; NaN where nobody is diseased."""
    return sufficient.once(sufficient.sensitivity(y_true, called))


def specificity(y_true: Labels, called: Labels) -> float:
    """Return the share of the healthy who are called so; NaN where nobody is healthy."""
    return sufficient.once(sufficient.specificity(y_true, called))
