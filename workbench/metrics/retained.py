"""What the model still gets wrong on the share of cases that it keeps, when the least sure are referred to a human.

Every curve is had with a pointwise band over resamples of whole patients. In each resample the cut is found anew: the
surest cases that make up the share. Cases of equal score go or stay together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped
from scipy import sparse

from workbench.metrics import sufficient
from workbench.metrics.bootstrap import (
    RESAMPLES,
    Clustered,
    Interval,
    bootstrap_p_value,
    clustered_rows,
    percentile_interval,
)
from workbench.metrics.resampling import totals
from workbench.metrics.sufficient import Totals, share, tally

SHARES: Final = tuple(round(1 - 0.05 * step, 2) for step in range(20))
"""Retained shares from all to a twentieth."""

Points = Float[np.ndarray, "point resample"]


@dataclass(frozen=True)
class ScoredCases:
    """Cases that the model answered, whose truth is known and whose score ranks: see `scored_cases`."""

    y_true: Bool[np.ndarray, " n"]
    p: Float[np.ndarray, " n"]
    called: Bool[np.ndarray, " n"]
    score: Float[np.ndarray, " n"]
    patients: Shaped[np.ndarray, " n"]

    @property
    def wrong(self) -> Bool[np.ndarray, " n"]:
        """Which are called differently from the truth."""
        return self.called != self.y_true


def scored_cases(
    y_true: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"],
    p: Float[np.ndarray, " n"],
    score: Float[np.ndarray, " n"],
    patients: Shaped[np.ndarray, " n"],
    threshold: float,
) -> ScoredCases:
    """Return the cases without a NaN: no truth, no answer or no score never ranks.

    Args:
        y_true: referable (1.0), not (0.0) or unknown (NaN).
        p: P(referable).
        score: uncertainty; larger is referred sooner.
        patients: whose case it is.
        threshold: P(referable) from which a case is called referable.
    """
    known = ~(np.isnan(y_true.astype(float)) | np.isnan(p) | np.isnan(score))
    truth, probability = y_true[known].astype(bool), p[known]
    return ScoredCases(truth, probability, probability >= threshold, score[known], patients[known])


class Point(NamedTuple):
    """One point of a curve.

    ``retained`` is the share that is kept, as ties allow, and ``n`` how many cases that is; ``change`` is the value
    minus that of all cases under the same resample: what the score gains over referring as many at random.
    """

    retained: float
    n: int
    value: Interval
    change: Interval
    p_value: float


CURVES: Final = ("error_rate", "sensitivity", "specificity", "roc_auc")


def retained_curves(
    cases: ScoredCases,
    shares: tuple[float, ...] = SHARES,
    *,
    resamples: int = RESAMPLES,
    seed: int,
    level: float = 0.95,
) -> dict[str, tuple[Point, ...]]:
    """Return the curves of `CURVES` over the retained shares, the first of which should be 1.

    Sensitivity and specificity are those of the kept cases at the model's threshold. Referring at random leaves every
    one of them as it is on all cases, in expectation; so the change at a share is the gain over random.

    Leibig et al. 2017, Scientific Reports 7:17816.
    """
    rows = clustered_rows(cases.patients)
    kept = _Kept(cases, shares)
    drawn = totals(kept.sums, rows.code, rows.clusters, resamples, np.random.default_rng(seed))
    resampled = np.concatenate([kept.values(found) for found in drawn], axis=2) if rows.clusters > 1 else None
    once = kept.values(np.asarray(kept.sums.sum(axis=1), dtype=np.float64)[:, None])[:, :, 0]
    n = kept.cut(np.bincount(kept.group, minlength=kept.groups).astype(float)[:, None])[1][:, 0].astype(np.int64)
    none = np.zeros((len(CURVES), len(shares), 0))
    values = none if resampled is None else resampled
    return {
        name: tuple(
            _point(int(n[place]), once[number, [place, 0]], values[number][[place, 0]], rows, level)
            for place in range(len(shares))
        )
        for number, name in enumerate(CURVES)
    }


def _point(
    n: int,
    here_and_all: Float[np.ndarray, " two"],
    resampled: Float[np.ndarray, "two resample"],
    rows: Clustered,
    level: float,
) -> Point:
    total = len(rows.code)
    change = resampled[0] - resampled[1]
    return Point(
        retained=n / max(total, 1),
        n=n,
        value=percentile_interval(float(here_and_all[0]), resampled[0], rows, level)._replace(n=n),
        change=percentile_interval(float(here_and_all[0] - here_and_all[1]), change, rows, level)._replace(n=n),
        p_value=bootstrap_p_value(change),
    )


class _Kept:
    """The curves as a function of how often each row is drawn.

    Statistics: per level of the score, from the surest up, the cases of each (truth, call); then every row by itself,
    since the area under the ROC curve of the kept needs to know which rows they are.
    """

    def __init__(self, cases: ScoredCases, shares: tuple[float, ...]) -> None:
        levels, self.group = np.unique(cases.score, return_inverse=True)
        self.groups, self.shares = len(levels), np.array(shares)
        cell = 2 * cases.y_true + cases.called
        alone = sparse.eye_array(len(cases.p), format="csr")
        self.sums = sparse.csr_array(sparse.vstack([tally(4 * self.group + cell, 4 * self.groups), alone]))
        self.roc_auc = sufficient.roc_auc(cases.y_true, cases.p)
        self.auc_sums = self.roc_auc.sums.astype(np.float32)

    def cut(self, cases: Totals) -> tuple[Int64[np.ndarray, "point resample"], Points]:
        """Return the last level that is kept at each share, and how many cases that keeps."""
        kept = np.ascontiguousarray(np.cumsum(cases, axis=0).T)
        # Rounded, so that 0.2 × 5 cases is one case and not a hair more.
        wanted = np.ceil(np.round(self.shares[:, None] * kept[:, -1], 9))
        last = np.stack([np.searchsorted(one, want) for one, want in zip(kept, wanted.T, strict=True)], axis=1)
        return last, np.take_along_axis(kept.T, last, axis=0)

    def values(self, found: Totals) -> Float[np.ndarray, "curve point resample"]:
        """Return the curves of `CURVES` for a tile of resamples."""
        split = 4 * self.groups
        cells = found[:split].astype(np.float64).reshape(self.groups, 4, -1)
        last, n = self.cut(cells.sum(axis=1))
        well_kept, well_called, sick_missed, sick_called = (
            np.take_along_axis(np.cumsum(cells[:, cell], axis=0), last, axis=0) for cell in range(4)
        )
        curves = [
            share(well_called + sick_missed, n),
            share(sick_called, sick_called + sick_missed),
            share(well_kept, well_kept + well_called),
            self._auc(found[split:], last),
        ]
        return np.stack(curves)

    def _auc(self, rows: Totals, last: Int64[np.ndarray, "point resample"]) -> Points:
        group = self.group.astype(np.int32)[:, None]
        weights = rows.astype(self.auc_sums.dtype, copy=False)
        return np.stack(
            [self.roc_auc.finish(self.auc_sums @ (weights * (group <= one))) for one in last.astype(np.int32)]
        )


class Baseline(NamedTuple):
    """Per retained share: what to expect, and the 95 % range of single random orders (NaN where there is none)."""

    value: Float[np.ndarray, " point"]
    low: Float[np.ndarray, " point"]
    high: Float[np.ndarray, " point"]


def random_baseline(
    cases: ScoredCases, shares: tuple[float, ...] = SHARES, *, permutations: int = 1000, seed: int
) -> dict[str, Baseline]:
    """Return what referring at random leaves: in expectation the figure of all cases; the range by permutations.

    The range is that of one random order of these cases, so it says what an uninformative score could look like here.
    """
    generator = np.random.default_rng(seed)
    n, auc = len(cases.p), sufficient.roc_auc(cases.y_true, cases.p)
    kept = np.ceil(np.round(np.array(shares) * n, 9))
    cell = 2 * cases.y_true + cases.called
    blocks = []
    for first in range(0, permutations, width := max(1, 2**21 // max(n, 1))):
        orders = generator.random((min(width, permutations - first), n)).argsort(axis=1).argsort(axis=1).T
        weights = [(orders < count).astype(np.float64) for count in kept]
        blocks.append(np.stack([_figures(tally(cell, 4) @ one, auc.finish(auc.sums @ one)) for one in weights], axis=1))
    found = np.concatenate(blocks, axis=2)
    every = _figures(np.bincount(cell, minlength=4)[:, None].astype(float), np.array([sufficient.once(auc)]))
    return {
        name: Baseline(
            np.full(len(shares), every[number, 0]),
            *(_quantile(found[number], share_below) for share_below in (0.025, 0.975)),
        )
        for number, name in enumerate(CURVES)
    }


def oracle_baseline(cases: ScoredCases, shares: tuple[float, ...] = SHARES) -> dict[str, Baseline]:
    """Return what a score would leave that refers every wrong case before any right one, in random order among them."""
    wrong, n = cases.wrong, len(cases.p)
    auc = sufficient.roc_auc(cases.y_true, cases.p)
    referred = n - np.ceil(np.round(np.array(shares) * n, 9))
    errors = int(wrong.sum())
    # Each wrong case is kept with the same chance, and so is each right one: a case counts as much as its chance.
    of_wrong = np.clip(1 - referred / max(errors, 1), 0, 1)
    of_right = np.clip(1 - (referred - errors) / max(n - errors, 1), 0, 1)
    weights = np.where(wrong[:, None], of_wrong, of_right)
    figures = _figures(tally(2 * cases.y_true + cases.called, 4) @ weights, auc.finish(auc.sums @ weights))
    none = np.full(len(shares), np.nan)
    return {name: Baseline(figures[number], none, none) for number, name in enumerate(CURVES)}


def _figures(cells: Float[np.ndarray, "4 any"], auc: Float[np.ndarray, " any"]) -> Float[np.ndarray, "curve any"]:
    well_kept, well_called, sick_missed, sick_called = cells
    return np.stack(
        [
            share(well_called + sick_missed, cells.sum(axis=0)),
            share(sick_called, sick_called + sick_missed),
            share(well_kept, well_kept + well_called),
            auc,
        ]
    )


def _quantile(values: Float[np.ndarray, "point permutation"], below: float) -> Float[np.ndarray, " point"]:
    known = [row[~np.isnan(row)] for row in values]
    return np.array([np.quantile(row, below) if row.size else np.nan for row in known])
