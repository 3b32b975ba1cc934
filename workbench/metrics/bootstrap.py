"""One way to an interval: resample whole patients, since two eyes of one patient are not two witnesses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from workbench.metrics.catalogue import SUFFICIENT, Metric
from workbench.metrics.resampling import count_tiles, totals
from workbench.metrics.sufficient import change

RESAMPLES: Final = 10_000

Arrays = tuple[Shaped[np.ndarray, " n ..."], ...]


class Interval(NamedTuple):
    """A value with its percentile interval, the rows and patients behind it, and the resamples that gave no value."""

    value: float
    low: float
    high: float
    n: int
    clusters: int
    undefined: int = 0


class PairedDifference(NamedTuple):
    """One model's metric minus another's on the same rows, with its interval and a two-sided bootstrap p-value."""

    difference: Interval
    p_value: float


class Clustered(NamedTuple):
    """The rows that are known, and whose they are: ``code`` counts the clusters from 0."""

    known: Bool[np.ndarray, " n"]
    code: Int64[np.ndarray, " kept"]
    clusters: int


def clustered_interval(
    metric: Metric,
    clusters: Shaped[np.ndarray, " n"],
    *arrays: Shaped[np.ndarray, " n ..."],
    resamples: int = RESAMPLES,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """Return ``metric`` with its percentile interval over resamples of whole clusters (patients), with replacement.

    Rows with a NaN in any array are left out, and ``n`` and ``clusters`` count those that stay. A resample where the
    metric is NaN (say, one class only) is left out and counted in ``undefined``; with fewer than two clusters, or more
    than half the resamples undefined, there is no interval (NaN).

    Args:
        metric: of ``arrays``; those of `METRICS` take every resample in one pass, others are called once for each.
        clusters: whose row it is, any sortable values.
        arrays: what ``metric`` takes.
        resamples: how many.
        seed: of the resampling.
        level: the interval's coverage.

    Field, Welsh 2007, J. R. Statist. Soc. B 69(3): the cluster bootstrap. The percentile interval is kept: it respects
    the metric's range, and bias correction (BCa) needs a jackknife over all patients for next to no change at these n.
    """
    rows = clustered_rows(clusters, *arrays)
    kept = tuple(array[rows.known] for array in arrays)
    value = float(metric(*kept)) if len(rows.code) else float("nan")
    values = _resampled(metric, rows, kept, resamples, seed)
    return percentile_interval(value, values, rows, level)


def paired_difference(
    metric: Metric,
    clusters: Shaped[np.ndarray, " n"],
    first: Arrays,
    second: Arrays,
    *,
    resamples: int = RESAMPLES,
    seed: int,
    level: float = 0.95,
) -> PairedDifference:
    """Return ``metric`` of ``first`` minus that of ``second``, two answers on the same rows of the same patients.

    Both are had under the same resamples. The p-value is twice the smaller share of resamples on either side of no
    difference, one more counted on each so that it is never 0 (Davison, Hinkley 1997, section 4.2).

    Args:
        metric: of the arrays of either.
        clusters: whose row it is.
        first: what ``metric`` takes, as one model answered.
        second: the same, as the other did.
        resamples: how many.
        seed: of the resampling.
        level: the interval's coverage.
    """
    rows = clustered_rows(clusters, *first, *second)
    one, other = (tuple(array[rows.known] for array in arrays) for arrays in (first, second))
    value = float(metric(*one)) - float(metric(*other)) if len(rows.code) else float("nan")
    values = _resampled(metric, rows, one, resamples, seed, other)
    return PairedDifference(percentile_interval(value, values, rows, level), bootstrap_p_value(values))


def bootstrap_p_value(differences: Float[np.ndarray, " resample"]) -> float:
    """Return the two-sided p-value of no difference: how far out 0 lies among the resampled differences."""
    known = differences[~np.isnan(differences)]
    if not known.size:
        return float("nan")
    tail = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (len(known) + 1))


def clustered_rows(clusters: Shaped[np.ndarray, " n"], *arrays: Shaped[np.ndarray, " n ..."]) -> Clustered:
    """Return which rows have no NaN in any array, and the cluster of each of them."""
    known = np.ones(len(clusters), dtype=bool)
    for array in arrays:
        if np.issubdtype(array.dtype, np.floating):
            known &= ~np.isnan(array).any(axis=tuple(range(1, array.ndim)))
    names, code = np.unique(clusters[known], return_inverse=True)
    return Clustered(known, code.astype(np.int64), len(names))


def percentile_interval(
    value: float, values: Float[np.ndarray, " resample"], rows: Clustered, level: float = 0.95
) -> Interval:
    """Return ``value`` with the interval that its resampled ``values`` give, see `clustered_interval`."""
    defined = values[~np.isnan(values)]
    low, high = float("nan"), float("nan")
    if 2 * len(defined) > len(values):
        low, high = (float(q) for q in np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]))
    return Interval(value, low, high, len(rows.code), rows.clusters, len(values) - len(defined))


def _resampled(
    metric: Metric, rows: Clustered, arrays: Arrays, resamples: int, seed: int, other: Arrays | None = None
) -> Float[np.ndarray, " resample"]:
    """Return the metric of each resample, or its difference to that of ``other``; none for fewer than two clusters."""
    if rows.clusters < 2:
        return np.zeros(0)
    generator = np.random.default_rng(seed)
    if metric not in SUFFICIENT:
        return np.concatenate(list(_one_by_one(metric, rows, arrays, resamples, generator, other)))
    reduced = SUFFICIENT[metric](*arrays)
    if other is not None:
        reduced = change(reduced, SUFFICIENT[metric](*other))
    return np.concatenate(
        [reduced.finish(found) for found in totals(reduced.sums, rows.code, rows.clusters, resamples, generator)]
    )


def _one_by_one(
    metric: Metric,
    rows: Clustered,
    arrays: Arrays,
    resamples: int,
    generator: np.random.Generator,
    other: Arrays | None,
) -> Iterator[Float[np.ndarray, " resample"]]:
    """Yield the values of a metric that is no function of sums, calling it once for each resample."""
    every = np.arange(len(rows.code))
    for counts in count_tiles(rows.clusters, resamples, generator):
        drawn = (np.repeat(every, times.astype(np.int64)[rows.code]) for times in counts.T)
        if other is None:
            yield np.array([metric(*(array[index] for array in arrays)) for index in drawn], dtype=float)
        else:
            yield np.array([_change_on(metric, index, arrays, other) for index in drawn], dtype=float)


def _change_on(metric: Metric, index: Int64[np.ndarray, " drawn"], arrays: Arrays, other: Arrays) -> float:
    return metric(*(array[index] for array in arrays)) - metric(*(array[index] for array in other))
