"""One way to an interval: resample whole patients, since two eyes of one patient are not two witnesses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from workbench.metrics.catalogue import WEIGHTED, Metric

BLOCK: Final = 4_000_000
"""Weights held at once, so that memory does not grow with cases × resamples."""


class Interval(NamedTuple):
    """A value with its percentile interval, the rows and patients behind it, and the resamples that gave no value."""

    value: float
    low: float
    high: float
    n: int
    clusters: int
    undefined: int = 0


def clustered_interval(
    metric: Metric,
    clusters: Shaped[np.ndarray, " n"],
    *arrays: Shaped[np.ndarray, " n ..."],
    resamples: int = 1000,
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

    Field, Welsh 2007, J. R. Statist. Soc. B 69(3): the cluster bootstrap.
    """
    known = _known_rows(arrays, len(clusters))
    kept = tuple(array[known] for array in arrays)
    names, code = np.unique(clusters[known], return_inverse=True)
    value = float(metric(*kept)) if len(code) else float("nan")
    undefined, low, high = 0, float("nan"), float("nan")
    if len(names) > 1:
        values = np.concatenate(list(_resampled(metric, code, len(names), kept, resamples, seed)))
        defined = values[~np.isnan(values)]
        undefined = resamples - len(defined)
        if 2 * len(defined) > resamples:
            low, high = (float(q) for q in np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]))
    return Interval(value, low, high, len(code), len(names), undefined)


def _known_rows(arrays: tuple[Shaped[np.ndarray, " n ..."], ...], n: int) -> Bool[np.ndarray, " n"]:
    known = np.ones(n, dtype=bool)
    for array in arrays:
        if np.issubdtype(array.dtype, np.floating):
            known &= ~np.isnan(array).any(axis=tuple(range(1, array.ndim)))
    return known


def cluster_counts(
    clusters: int, resamples: int, generator: np.random.Generator
) -> Int64[np.ndarray, "resample cluster"]:
    """Return how often each cluster is drawn in each resample."""
    drawn = generator.integers(clusters, size=(resamples, clusters))
    flat = (drawn + clusters * np.arange(resamples)[:, None]).ravel()
    return np.bincount(flat, minlength=resamples * clusters).reshape(resamples, clusters).astype(np.int64)


def _resampled(
    metric: Metric,
    code: Int64[np.ndarray, " n"],
    clusters: int,
    arrays: tuple[Shaped[np.ndarray, " n ..."], ...],
    resamples: int,
    seed: int,
) -> Iterator[Float[np.ndarray, " resample"]]:
    """Yield the metric's values, a block of resamples at a time."""
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK // len(code))
    for first in range(0, resamples, block):
        counts = cluster_counts(clusters, min(block, resamples - first), generator)[:, code]
        if metric in WEIGHTED:
            yield WEIGHTED[metric](counts.astype(float), *arrays)
        else:
            rows = (np.repeat(np.arange(len(code)), times) for times in counts)
            yield np.array([metric(*(array[index] for array in arrays)) for index in rows], dtype=float)
