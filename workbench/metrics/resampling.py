"""How often each patient is drawn, for many resamples at once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int64, Integer, UInt32
from scipy import sparse

TILE: Final = 2**20
"""Counts that are drawn at once; the resamples in a tile follow from it, so it belongs to what a seed means."""
NARROW, WIDE = 16, 512
KINDS: Final = 512
"""Patients who add the same to every statistic are drawn as one kind when there are at most so many kinds."""
EXACT_IN_FLOAT32: Final = 2**22
SHORTFALL: Final = 5.0
"""Standard deviations by which the first draw falls short on average, so that it next to never draws too many."""

STEPS: Final = 64
UNSETTLED: Final = np.uint32(0xFFFFFFFF)

Counts = Float32[np.ndarray, "cluster resample"]


def count_tiles(clusters: int, resamples: int, generator: np.random.Generator) -> Iterator[Counts]:
    """Yield how often each cluster is drawn in each resample, a tile of resamples at a time.

    Each resample draws as many clusters as there are, with replacement: multinomial counts. They are had as independent
    Poisson counts of a slightly smaller rate, filled up by single draws: given their sum, such counts are multinomial,
    and so is their sum with more multinomial draws. That takes four random bits per count instead of a bounded draw.
    """
    width = int(np.clip(TILE // clusters // NARROW * NARROW, NARROW, WIDE))
    # In steps, so that few tables are ever made.
    law = _four_counts(max(0, int(STEPS * (1 - SHORTFALL / np.sqrt(clusters)))))
    every = np.ones(clusters, dtype=np.float32)
    for first in range(0, resamples, width):
        counts = _poisson(law, clusters, width, generator)
        # A product with ones is the quick sum; of whole numbers it is exact in float32 up to 16 million patients.
        while ((short := clusters - every @ counts) < 0).any():
            counts[:, short < 0] = _poisson(law, clusters, int((short < 0).sum()), generator)
        columns = np.repeat(np.arange(width), short.astype(np.int64))
        drawn = generator.integers(clusters, size=len(columns))
        np.add.at(counts.reshape(-1), drawn * width + columns, np.float32(1))
        yield counts[:, : resamples - first]


class _FourCounts(NamedTuple):
    """The law of four independent Poisson counts: outcomes from the likeliest on, and what 16 bits say of them."""

    cumulative: Float[np.ndarray, " outcome"]
    outcome: UInt32[np.ndarray, " outcome"]
    table: UInt32[np.ndarray, " word"]


@lru_cache(maxsize=STEPS)
def _four_counts(step: int) -> _FourCounts:
    """Return the law for the rate ``step / STEPS``; counts above 15 (chance below 1e-13) are left out."""
    rate, count = step / STEPS, np.arange(16)
    one = np.exp(-rate) * np.cumprod(np.append(1.0, rate / count[1:]))
    chance = np.einsum("a,b,c,d->abcd", one, one, one, one).ravel()
    order = np.argsort(-chance, kind="stable")
    four = np.moveaxis(np.indices((16,) * 4, dtype=np.uint8), 0, -1).reshape(-1, 4)
    outcome = np.ascontiguousarray(four).view(np.uint32).ravel()[order]
    cumulative = np.cumsum(chance[order])
    edges = np.arange(2**16 + 1) / 2**16
    low = np.searchsorted(cumulative, edges[:-1], side="right").clip(max=2**16 - 1)
    high = np.searchsorted(cumulative, edges[1:], side="left").clip(max=2**16 - 1)
    return _FourCounts(cumulative, outcome, np.where(low == high, outcome[low], UNSETTLED).astype(np.uint32))


def _poisson(law: _FourCounts, clusters: int, width: int, generator: np.random.Generator) -> Counts:
    """Return Poisson counts, four from 16 random bits by inversion; where 16 do not settle it, from 53 more."""
    fours = -(-clusters * width // 4)
    bits = generator.bit_generator.random_raw(fours // 4 + 1).view(np.uint16)[:fours]
    drawn = law.table.take(bits)
    unsettled = np.flatnonzero(drawn == UNSETTLED)
    uniform = (bits[unsettled] + generator.random(len(unsettled))) / 2**16
    found = np.searchsorted(law.cumulative, uniform, side="right").clip(max=2**16 - 1)
    drawn[unsettled] = law.outcome[found]
    return drawn.view(np.uint8)[: clusters * width].reshape(clusters, width).astype(np.float32)


def totals(
    sums: sparse.csr_array,
    code: Int64[np.ndarray, " n"],
    clusters: int,
    resamples: int,
    generator: np.random.Generator,
) -> Iterator[Float[np.ndarray, "statistic resample"]]:
    """Yield the total of each statistic in each resample of clusters, a tile of resamples at a time.

    Args:
        sums: what each row adds to each statistic, see `workbench.metrics.sufficient`.
        code: the cluster of each row, from 0.
        clusters: how many.
        resamples: how many.
        generator: of the draws.
    """
    members = sparse.csr_array((np.ones(len(code)), (np.arange(len(code)), code)), shape=(len(code), clusters))
    per_cluster = sparse.csr_array(sums @ members)
    kinds = _kinds(per_cluster)
    if kinds is not None:
        per_kind, multiplicity = kinds
        for counts in kind_counts(multiplicity, resamples, generator):
            yield per_kind @ counts
        return
    whole = per_cluster.nnz == 0 or bool((per_cluster.data == np.rint(per_cluster.data)).all())
    # Whole numbers below 2^24 are exact in float32; a resample is never so much larger than the data.
    exact = whole and np.abs(per_cluster.data).sum() < EXACT_IN_FLOAT32
    per_cluster = per_cluster.astype(np.float32 if exact else np.float64)
    for drawn in count_tiles(clusters, resamples, generator):
        yield per_cluster @ drawn.astype(per_cluster.dtype, copy=False)


def kind_counts(
    multiplicity: Integer[np.ndarray, " kind"], resamples: int, generator: np.random.Generator
) -> Iterator[Float[np.ndarray, "kind resample"]]:
    """Yield how often a cluster of each kind is drawn, where ``multiplicity`` clusters are of it: multinomial."""
    clusters = int(multiplicity.sum())
    for first in range(0, resamples, WIDE):
        width = min(WIDE, resamples - first)
        yield generator.multinomial(clusters, multiplicity / clusters, size=width).T.astype(np.float64)


def _kinds(
    per_cluster: sparse.csr_array,
) -> tuple[Float[np.ndarray, "statistic kind"], Int64[np.ndarray, " kind"]] | None:
    """Return the different clusters and how many there are of each; None where that spares little."""
    statistics, clusters = per_cluster.shape
    if statistics > 64:
        return None
    dense = np.ascontiguousarray(per_cluster.toarray().T)
    rows = dense.view(np.dtype((np.void, dense.itemsize * statistics))).ravel()
    _, first, multiplicity = np.unique(rows, return_index=True, return_counts=True)
    if len(first) > min(KINDS, clusters // 2):
        return None
    return dense[first].T.copy(), multiplicity.astype(np.int64)
