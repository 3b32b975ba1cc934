"""Whether acting on the model does more good than acting on everybody or nobody, and what a found case costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from workbench.metrics.bootstrap import RESAMPLES, Interval, clustered_rows, percentile_interval
from workbench.metrics.costs import Costs
from workbench.metrics.resampling import totals
from workbench.metrics.sufficient import Totals, share, tally
from workbench.schema.errors import WorkbenchError

THRESHOLDS: Final = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

Labels = Bool[np.ndarray, " n"] | Int[np.ndarray, " n"]
Counts = Float[np.ndarray, "_ resample"]
Figures = Float[np.ndarray, "figure threshold resample"]


class NetBenefit(NamedTuple):
    """At one threshold: the net benefit of acting on the model, on everybody, and the gain over the better default."""

    threshold: float
    model: Interval
    everybody: Interval
    gain: Interval


class CostOfScreening(NamedTuple):
    """At one threshold: the cost per case found, the share of cases that a human grades, the share of disease found."""

    threshold: float
    cost_per_case_found: Interval
    graded_share: Interval
    found_share: Interval


def decision_curve(
    y_true: Labels,
    p: Float[np.ndarray, " n"],
    patients: Shaped[np.ndarray, " n"],
    thresholds: tuple[float, ...] = THRESHOLDS,
    *,
    resamples: int = RESAMPLES,
    seed: int,
) -> tuple[NetBenefit, ...]:
    """Return the net benefit at each threshold: true positives minus false ones at the threshold's odds, per case.

    Acting on nobody has net benefit 0; the gain is over the better of everybody and nobody, in each resample.

    Args:
        y_true: diseased or not.
        p: the model's probability.
        patients: whose case it is.
        thresholds: the probability from which one would act: its odds are what a false alarm weighs against a case.
        resamples: of patients.
        seed: of the resampling.

    Raises:
        WorkbenchError: a threshold that is not between 0 and 1.

    Vickers, Elkin 2006, Medical Decision Making 26(6).
    """
    _check(thresholds)
    odds = np.array([threshold / (1 - threshold) for threshold in thresholds])[:, None]

    def figures(caught: Counts, alarmed: Counts, sick: Counts, n: Counts) -> Figures:
        model = share(caught - odds * alarmed, np.broadcast_to(n, caught.shape))
        everybody = share(sick - odds * (n - sick), np.broadcast_to(n, caught.shape))
        return np.stack([model, everybody, model - np.maximum(everybody, 0)])

    found = _at_thresholds(figures, y_true, p, np.zeros(len(p), dtype=bool), patients, thresholds, resamples, seed)
    return tuple(NetBenefit(threshold, *one) for threshold, one in zip(thresholds, found, strict=True))


def cost_of_screening(
    y_true: Labels,
    p: Float[np.ndarray, " n"],
    referred: Bool[np.ndarray, " n"],
    patients: Shaped[np.ndarray, " n"],
    costs: Costs,
    thresholds: tuple[float, ...] = THRESHOLDS,
    *,
    resamples: int = RESAMPLES,
    seed: int,
) -> tuple[CostOfScreening, ...]:
    """Return what each found case costs if a human grades whatever is called referable or referred, and is right.

    The cost per case found has no value where none is found.

    Args:
        y_true: diseased or not.
        p: the model's probability.
        referred: cases that go to a human whatever the model says of them.
        patients: whose case it is.
        costs: per photograph, per grade and, where it counts, per missed case.
        thresholds: the probability from which a case is called referable.
        resamples: of patients.
        seed: of the resampling.

    Raises:
        WorkbenchError: a threshold that is not between 0 and 1.
    """
    _check(thresholds)

    def figures(caught: Counts, alarmed: Counts, sick: Counts, n: Counts) -> Figures:
        graded = caught + alarmed
        spent = n * costs.photograph + graded * costs.human_grade + (sick - caught) * costs.missed_case
        return np.stack(
            [
                share(spent, caught),
                share(graded, np.broadcast_to(n, caught.shape)),
                share(caught, np.broadcast_to(sick, caught.shape)),
            ]
        )

    found = _at_thresholds(figures, y_true, p, referred, patients, thresholds, resamples, seed)
    return tuple(CostOfScreening(threshold, *one) for threshold, one in zip(thresholds, found, strict=True))


def _at_thresholds(
    figures: Callable[[Counts, Counts, Counts, Counts], Figures],
    y_true: Labels,
    p: Float[np.ndarray, " n"],
    always: Bool[np.ndarray, " n"],
    patients: Shaped[np.ndarray, " n"],
    thresholds: tuple[float, ...],
    resamples: int,
    seed: int,
) -> list[list[Interval]]:
    """Return for each threshold the interval of each of ``figures`` of (caught, alarmed, all diseased, all)."""
    rows = clustered_rows(patients, p)
    truth = y_true[rows.known].astype(bool)
    order = np.argsort(thresholds)
    passed = np.searchsorted(np.array(thresholds)[order], p[rows.known], side="right")
    passed[always[rows.known]] = len(thresholds)
    sums = tally(2 * passed + truth, 2 * len(thresholds) + 2)

    def values(found: Totals) -> Figures:
        cells = found.astype(np.float64).reshape(-1, 2, found.shape[1])
        above = np.cumsum(cells[::-1], axis=0)[::-1]
        acted = np.empty((len(thresholds), 2, found.shape[1]))
        acted[order] = above[1:]
        return figures(acted[:, 1], acted[:, 0], above[:1, 1], above[:1].sum(axis=1))

    value = values(np.asarray(sums.sum(axis=1), dtype=np.float64)[:, None])[:, :, 0]
    resampled = np.zeros((*value.shape, 0))
    if rows.clusters > 1:
        drawn = totals(sums, rows.code, rows.clusters, resamples, np.random.default_rng(seed))
        resampled = np.concatenate([values(found) for found in drawn], axis=2)
    return [
        [percentile_interval(float(value[kind, place]), resampled[kind, place], rows) for kind in range(len(value))]
        for place in range(len(thresholds))
    ]


def _check(thresholds: tuple[float, ...]) -> None:
    outside = [threshold for threshold in thresholds if not 0 < threshold < 1]
    if outside:
        raise WorkbenchError(f"a threshold of {outside[0]:g}", "thresholds are probabilities between 0 and 1")
