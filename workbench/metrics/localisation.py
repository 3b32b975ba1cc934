"""How well a map, or a detector's probabilities, lie on marked pixels; pure functions of two arrays of one shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage

LEVELS: Final = 4096
"""Scores are compared at so many levels between their least and largest: millions of pixels need no sorting."""

TOP: Final = 0.05
"""A lesion is *looked at* when the hottest twentieth of the field reaches it."""


def curve_of(
    score: Shaped[np.ndarray, "*pixel"], marked: Bool[np.ndarray, "*pixel"]
) -> tuple[Float[np.ndarray, " level"], Float[np.ndarray, " level"], Float[np.ndarray, " level"]]:
    """Return cut-offs from the highest down, and the marked and all pixels that reach each of them."""
    values = np.asarray(score, dtype=np.float64).ravel()
    least, largest = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    scale = (LEVELS - 1) / (largest - least) if largest > least else 0.0
    level = np.rint((values - least) * scale).astype(np.int64)
    every = np.bincount(level, minlength=LEVELS)[::-1].cumsum()
    hits = np.bincount(level[marked.ravel()], minlength=LEVELS)[::-1].cumsum()
    cutoffs = least + (np.arange(LEVELS)[::-1] - 0.5) / scale if scale else np.full(LEVELS, least)
    return cutoffs, hits.astype(float), every.astype(float)


def average_precision(score: Shaped[np.ndarray, "*pixel"], marked: Bool[np.ndarray, "*pixel"]) -> float:
    """Return the area under the precision-recall curve as average precision; NaN where nothing is marked.

    A score without information gives the share of marked pixels.
    """
    _, hits, every = curve_of(score, marked)
    if not hits[-1]:
        return float("nan")
    precision = hits / np.maximum(every, 1)
    return float((np.diff(hits, prepend=0.0) * precision).sum() / hits[-1])


def best_threshold(score: Shaped[np.ndarray, "*pixel"], marked: Bool[np.ndarray, "*pixel"]) -> float:
    """Return the cut-off of the best F1 (Dice) over all pixels; 0.5 where nothing is marked."""
    cutoffs, hits, every = curve_of(score, marked)
    if not hits[-1]:
        return 0.5
    return float(np.clip(cutoffs[int((2 * hits / (every + hits[-1])).argmax())], 1e-3, 1.0))


def energy_share(heat: Shaped[np.ndarray, "*pixel"], where: Bool[np.ndarray, "*pixel"]) -> float:
    """Return the share of the positive heat that lies there; NaN for a map without any (Wang et al. 2020)."""
    positive = np.maximum(np.asarray(heat, dtype=np.float64), 0)
    total = positive.sum()
    return float(positive[where].sum() / total) if total > 0 else float("nan")


def pointing_hit(
    heat: Shaped[np.ndarray, "height width"], marked: Bool[np.ndarray, "height width"], tolerance: float = 0.0
) -> float:
    """Return 1 where the hottest pixel lies within ``tolerance`` pixels of a marked one, else 0 (Zhang et al. 2018).

    NaN where nothing is marked or nothing is hot.
    """
    if not marked.any() or not heat.max() > 0:
        return float("nan")
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    reach = int(np.ceil(tolerance))
    rows = slice(max(0, int(row) - reach), int(row) + reach + 1)
    columns = slice(max(0, int(column) - reach), int(column) + reach + 1)
    y, x = np.nonzero(marked[rows, columns])
    away = np.hypot(y + rows.start - row, x + columns.start - column)
    return float(bool((away <= tolerance).any()))


def gain_over_all(gain: Float[np.ndarray, " eye"], change: Float[np.ndarray, " eye"]) -> float:
    """Return what a map's ranking gains over chance in all eyes together: Σ gain · |change| / Σ |change|.

    The mean of the gains would be ruled by those eyes in which hardly anything was at stake; NaN where nothing was.

    Args:
        gain: of each eye, as a share of its change.
        change: of the explained number, when the eye's detail is all gone.
    """
    weight = np.abs(change)
    return float((gain * weight).sum() / weight.sum()) if weight.sum() > 0 else float("nan")


def overlap_at_equal_area(heat: Shaped[np.ndarray, "*pixel"], marked: Bool[np.ndarray, "*pixel"]) -> float:
    """Return intersection over union of the marked pixels and as many of the hottest ones; NaN where none is marked.

    So no method is favoured by a threshold of its own.
    """
    count = int(marked.sum())
    if not count:
        return float("nan")
    hottest = np.argpartition(np.asarray(heat).ravel(), -count)[-count:]
    shared = int(marked.ravel()[hottest].sum())
    return shared / (2 * count - shared)


@dataclass(frozen=True)
class Reached:
    """How many lesions there are, and how many the hottest `TOP` of the field reaches."""

    lesions: int
    looked_at: int


def lesions_reached(
    heat: Shaped[np.ndarray, "height width"],
    marked: Bool[np.ndarray, "height width"],
    field: Bool[np.ndarray, "height width"],
) -> Reached:
    """Count lesions (8-connected) and those with a pixel among the hottest `TOP` of the field's."""
    pieces, count = ndimage.label(marked, structure=np.ones((3, 3)))
    inside = heat[field]
    if not count or not inside.size:
        return Reached(int(count), 0)
    cutoff = np.quantile(inside, 1 - TOP)
    hot = (heat >= cutoff) & (heat > 0)
    return Reached(int(count), len(set(np.unique(pieces[hot & marked]).tolist()) - {0}))


@dataclass(frozen=True)
class FreeResponse:
    """Detections of one photograph against its marks: their scores, whether each hits, and how many marks there are."""

    scores: Float[np.ndarray, " detection"]
    hits: Bool[np.ndarray, " detection"]
    best: Float[np.ndarray, " lesion"]
    """Per lesion, the highest score of a detection that touches it; −inf where none does."""


def free_response(
    p: Float[np.ndarray, "height width"], marked: Bool[np.ndarray, "height width"], *, floor: float, tolerance: int = 2
) -> FreeResponse:
    """Match pieces of ``p ≥ floor`` with lesions: a hit lies within ``tolerance`` pixels of a marked one.

    A piece scores its highest probability; lesions are 8-connected.
    """
    pieces, count = ndimage.label(p >= floor, structure=np.ones((3, 3)))
    lesions, marks = ndimage.label(marked, structure=np.ones((3, 3)))
    near = ndimage.binary_dilation(marked, iterations=tolerance) if tolerance else marked
    numbers = np.arange(1, count + 1)
    scores = np.asarray(ndimage.maximum(p, pieces, numbers), dtype=float).reshape(-1)
    hits = np.asarray(ndimage.maximum(near, pieces, numbers)).astype(bool).reshape(-1)
    score_of = np.concatenate([[-np.inf], scores])[pieces]
    reach = ndimage.maximum_filter(score_of, size=2 * tolerance + 1) if tolerance else score_of
    best = np.asarray(ndimage.maximum(reach, lesions, np.arange(1, marks + 1)), dtype=float).reshape(-1)
    return FreeResponse(scores, hits, best)


def sensitivity_at(responses: list[FreeResponse], false_positives: float) -> float:
    """Return the share of all lesions found at the lowest cut-off with at most so many false positives a photograph.

    NaN where there is no lesion at all.
    """
    best = np.concatenate([one.best for one in responses]) if responses else np.empty(0)
    if not len(best):
        return float("nan")
    wrong = np.sort(np.concatenate([one.scores[~one.hits] for one in responses]))[::-1]
    allowed = int(np.floor(false_positives * len(responses)))
    cutoff = wrong[allowed] if len(wrong) > allowed else -np.inf
    return float(((best > cutoff) & np.isfinite(best)).mean())
