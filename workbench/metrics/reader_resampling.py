"""Intervals for readers' figures: whole patients drawn again, and, where readers are pooled, whole readers too.

All figures of one table of reads are had under the same resamples, in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int64, Shaped
from scipy import sparse

from workbench.metrics.bootstrap import Clustered, Interval, percentile_interval
from workbench.metrics.resampling import count_tiles, totals
from workbench.metrics.sufficient import Sufficient, Totals, Values

RESAMPLES: Final = 2_000

Tile = Float[np.ndarray, "metric _"]
"""Each metric's value in some of the resamples."""

PATIENTS: Final = "patients drawn with replacement, 95 % percentile interval"
BOTH: Final = "readers and patients both drawn with replacement, 95 % percentile interval"
"""How an interval was made, in words for the page."""


@dataclass(frozen=True)
class Stack:
    """Many metrics of the same rows, whose totals are had together."""

    metrics: tuple[Sufficient, ...]

    @property
    def sums(self) -> sparse.csr_array:
        """What each row adds to each statistic of each metric."""
        return sparse.csr_array(sparse.vstack([metric.sums for metric in self.metrics]))

    def finish(self, found: Totals) -> Float[np.ndarray, "metric resample"]:
        """Return each metric's value of its part of the totals."""
        ends = np.cumsum([metric.sums.shape[0] for metric in self.metrics])
        parts = np.split(found, ends[:-1])
        return np.stack([metric.finish(part) for metric, part in zip(self.metrics, parts, strict=True)])


def combined(parts: Sequence[Sufficient], combine: Callable[..., Values]) -> Sufficient:
    """Return a metric made of others of the same rows; ``combine`` takes their values, one array each."""
    stack = Stack(tuple(parts))
    return Sufficient(stack.sums, lambda found: combine(*stack.finish(found)))


def patient_intervals(
    metrics: Mapping[str, Sufficient], patient: Shaped[np.ndarray, " n"], *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """Return each metric with its interval over resamples of whole patients: for the readers as they are.

    Field, Welsh 2007, J. R. Statist. Soc. B 69(3): the cluster bootstrap.
    """
    names, code = np.unique(patient, return_inverse=True)
    rows = Clustered(np.ones(len(code), dtype=bool), code.astype(np.int64), len(names))
    stack = Stack(tuple(metrics.values()))
    found: list[Tile] = []
    if rows.clusters > 1:
        generator = np.random.default_rng(seed)
        drawn = totals(stack.sums, rows.code, rows.clusters, resamples, generator)
        found = [stack.finish(tile) for tile in drawn]
    return _intervals(metrics, stack, found, rows)


def reader_and_patient_intervals(
    metrics: Mapping[str, Sufficient],
    reader: Shaped[np.ndarray, " n"],
    patient: Shaped[np.ndarray, " n"],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """Return each metric with its interval over resamples of readers and, independently, of patients.

    A read counts as often as its reader was drawn, times as often as its patient was. The interval speaks for other
    readers and other patients, and is rather too wide than too narrow (Owen 2007, Annals of Applied Statistics 1(2):
    the pigeonhole bootstrap). There is none for fewer than two readers or patients.
    """
    readers, reader_code = np.unique(reader, return_inverse=True)
    names, code = np.unique(patient, return_inverse=True)
    rows = Clustered(np.ones(len(code), dtype=bool), code.astype(np.int64), len(names))
    stack = Stack(tuple(metrics.values()))
    found: list[Tile] = []
    if rows.clusters > 1 and len(readers) > 1:
        sums = stack.sums
        weights = _weights(reader_code.astype(np.int64), len(readers), rows, resamples, np.random.default_rng(seed))
        found = [stack.finish(sums @ weight) for weight in weights]
    return _intervals(metrics, stack, found, rows)


def _weights(
    reader: Int64[np.ndarray, " n"], readers: int, rows: Clustered, resamples: int, generator: np.random.Generator
) -> Iterator[Float[np.ndarray, "n resample"]]:
    of_readers = np.concatenate(list(count_tiles(readers, resamples, generator)), axis=1)[:, :resamples]
    first = 0
    for of_patients in count_tiles(rows.clusters, resamples, generator):
        tile = of_readers[:, first : first + of_patients.shape[1]]
        yield (of_patients[rows.code] * tile[reader]).astype(np.float64)
        first += of_patients.shape[1]


def _intervals(
    metrics: Mapping[str, Sufficient],
    stack: Stack,
    found: list[Tile],
    rows: Clustered,
) -> dict[str, Interval]:
    whole = np.asarray(stack.sums.sum(axis=1), dtype=np.float64)[:, None]
    values = stack.finish(whole)[:, 0]
    resampled = np.concatenate(found, axis=1) if found else np.zeros((len(values), 0))
    return {
        name: percentile_interval(float(value), drawn, rows)
        for name, value, drawn in zip(metrics, values, resampled, strict=True)
    }


def median(values: Float[np.ndarray, " n"]) -> Sufficient:
    """Return the median of ``values``, the mean of the two in the middle where there are two; NaN for none."""
    levels, level = np.unique(values, return_inverse=True)
    tally = sparse.csr_array(
        (np.ones(len(values)), (level, np.arange(len(values)))), shape=(max(len(levels), 1), len(values))
    )

    def finish(found: Totals) -> Values:
        if not len(levels):
            return np.full(found.shape[1], np.nan)
        cumulated = np.cumsum(found, axis=0)
        half, last = cumulated[-1] / 2, len(levels) - 1
        low, high = (cumulated < half).sum(axis=0), (cumulated <= half).sum(axis=0)
        middle = (levels[np.minimum(low, last)] + levels[np.minimum(high, last)]) / 2
        return np.where(cumulated[-1] > 0, middle, np.nan)

    return Sufficient(tally, finish)
