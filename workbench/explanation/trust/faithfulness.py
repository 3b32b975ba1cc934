"""Whether the answer changes when what a map calls important is taken away, more than for a random map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from workbench.explanation.integrated_gradients import blurred_baseline
from workbench.explanation.trust.influence import eye_only
from workbench.explanation.trust.likeness import cell_means

Answer = Callable[[Tensor], Float[Tensor, " exam"]]
"""``x -> the explained number of each exam``, presence bound."""

SHARES: Final = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Shares of the eye's cells that are taken away, the most important first."""

LEAST_CHANGE: Final = 0.05
"""Where taking the whole eye's detail away changes P(referable) by less, there is nothing to tell maps apart by."""

NOISE: Final = 0.01
"""Deviation of the noise that ROAD adds to what it fills in, of the pixel range."""


@dataclass(frozen=True)
class Faithfulness:
    """How much better than random rankings a map finds what the answer rests on, per exam.

    Each gain is the mean over `SHARES` of the answer's change by the map's ranking minus that by random rankings, as a
    share of ``change``, which is the answer's when the eye's detail is all gone: 0 is chance. NaN where that change is
    below `LEAST_CHANGE`. Over several exams, weigh each by ``|change|``: the mean of the shares themselves is ruled by
    those exams where hardly anything was at stake.
    """

    deletion_gain: Float[Tensor, " exam"]
    insertion_gain: Float[Tensor, " exam"]
    change: Float[Tensor, " exam"]


def faithfulness(
    answer: Answer,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    heat: Float[Tensor, "exam height width"],
    eye: Literal[0, 1],
    seeds: Sequence[int],
    *,
    shares: Sequence[float] = SHARES,
    randoms: int = 3,
) -> Faithfulness:
    """Delete and insert the explained eye cell by cell in the map's order, and in ``randoms`` random ones.

    What is deleted becomes `emptied`: blurred inside the disc, one colour outside. Where the whole eye *lowers* the
    answer, the cells that speak most against it go first. The other eye stays as it is.

    Args:
        answer: ``x -> the explained number``.
        x: in [0, 1].
        present: which eyes were photographed.
        heat: the explained eye's map.
        eye: 0 for OD, 1 for OS.
        seeds: one per exam, of its random rankings.
        shares: of the cells.
        randoms: how many random rankings.

    Petsiuk et al. 2018 (deletion, insertion), on cells in place of pixels so that a coarse and a fine map are judged
    alike.
    """
    empty = emptied(x, present, eye)
    with torch.no_grad():
        change = answer(x) - answer(empty)
    rankings = [ranking(heat, change), *_random_rankings(heat, seeds, randoms)]
    deletion, insertion = [], []
    for order in rankings:
        taken = [_pixels(order < share, x) for share in shares]
        deletion.append(_mean_answer(answer, [_blend(x, empty, chosen, eye) for chosen in taken]))
        insertion.append(_mean_answer(answer, [_blend(empty, x, chosen, eye) for chosen in taken]))
    known = change.abs() >= LEAST_CHANGE
    deletion_gain = (torch.stack(deletion[1:]).mean(dim=0) - deletion[0]) / change
    insertion_gain = (insertion[0] - torch.stack(insertion[1:]).mean(dim=0)) / change
    nothing = torch.full_like(change, float("nan"))
    return Faithfulness(torch.where(known, deletion_gain, nothing), torch.where(known, insertion_gain, nothing), change)


def emptied(
    x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"], eye: Literal[0, 1]
) -> Float[Tensor, "exam 6 height width"]:
    """Return the exams with one eye's detail gone: blurred inside the disc, one colour outside it."""
    alone = torch.zeros_like(present)
    alone[:, eye] = present[:, eye]
    blank = eye_only(blurred_baseline(x, alone))
    own = torch.zeros(6, dtype=torch.bool, device=x.device)
    own[3 * eye : 3 * eye + 3] = True
    return torch.where(own[:, None, None], blank, x)


def ranking(
    heat: Float[Tensor, "exam height width"], change: Float[Tensor, " exam"]
) -> Float[Tensor, "exam row column"]:
    """Return each cell's place from 0 (goes first) to 1, by the map's evidence for the change that is explained."""
    evidence = cell_means(heat) * torch.where(change < 0, -1.0, 1.0).to(heat)[:, None, None]
    return _places(evidence)


def _places(evidence: Float[Tensor, "exam row column"]) -> Float[Tensor, "exam row column"]:
    flat = evidence.flatten(1)
    places = flat.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (places / flat.shape[1]).reshape(evidence.shape)


def _random_rankings(
    heat: Float[Tensor, "exam height width"], seeds: Sequence[int], randoms: int
) -> list[Float[Tensor, "exam row column"]]:
    shape = cell_means(heat[:1]).shape[1:]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    drawn = [torch.stack([torch.rand(shape, generator=generator) for generator in generators]) for _ in range(randoms)]
    return [_places(values.to(heat)) for values in drawn]


def _pixels(cells: Bool[Tensor, "exam row column"], x: Tensor) -> Bool[Tensor, "exam height width"]:
    return F.interpolate(cells[:, None].to(x.dtype), size=tuple(x.shape[-2:]), mode="nearest-exact")[:, 0] > 0.5


def _blend(
    x: Float[Tensor, "exam 6 height width"],
    other: Float[Tensor, "exam 6 height width"],
    taken: Bool[Tensor, "exam height width"],
    eye: Literal[0, 1],
) -> Float[Tensor, "exam 6 height width"]:
    mask = torch.zeros_like(x, dtype=torch.bool)
    mask[:, 3 * eye : 3 * eye + 3] = taken[:, None]
    return torch.where(mask, other, x)


def _mean_answer(answer: Answer, changed: Sequence[Tensor]) -> Float[Tensor, " exam"]:
    with torch.no_grad():
        return torch.stack([answer(x) for x in changed]).mean(dim=0)


ROAD_SHARES: Final = (0.1, 0.3)


def road_gain(
    answer: Answer,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    heat: Float[Tensor, "exam height width"],
    eye: Literal[0, 1],
    seeds: Sequence[int],
    *,
    shares: Sequence[float] = ROAD_SHARES,
) -> Float[Tensor, " exam"]:
    """Return the gain of deletion over a random ranking when what goes is filled in from around it, not blurred.

    Noisy linear imputation leaves no outline from which the model could read *where* something was taken away (Rong et
    al. 2022). Units and NaN as in `Faithfulness`.
    """
    with torch.no_grad():
        change = answer(x) - answer(emptied(x, present, eye))
    orders = (ranking(heat, change), _random_rankings(heat, seeds, 1)[0])
    means = []
    for order in orders:
        filled = [_filled(x, _pixels(order < share, x), eye, seeds) for share in shares]
        means.append(_mean_answer(answer, filled))
    nothing = torch.full_like(change, float("nan"))
    return torch.where(change.abs() >= LEAST_CHANGE, (means[1] - means[0]) / change, nothing)


def _filled(x: Tensor, taken: Bool[Tensor, "exam height width"], eye: Literal[0, 1], seeds: Sequence[int]) -> Tensor:
    filled = x.clone()
    own = slice(3 * eye, 3 * eye + 3)
    for place, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        image = linear_imputation(x[place, own].cpu().numpy(), taken[place].cpu().numpy())
        noise = NOISE * torch.randn(image.shape, generator=generator)
        new = torch.from_numpy(image).to(x) + noise.to(x) * taken[place]
        filled[place, own] = new.clamp(0, 1)
    return filled


NEIGHBOURS: Final = (
    ((-1, 0), 1 / 6), ((1, 0), 1 / 6), ((0, -1), 1 / 6), ((0, 1), 1 / 6),
    ((-1, -1), 1 / 12), ((-1, 1), 1 / 12), ((1, -1), 1 / 12), ((1, 1), 1 / 12),
)  # fmt: skip
"""Weights of the pixels around one: those across a corner count half (Rong et al. 2022)."""


def linear_imputation(
    image: Float[np.ndarray, "channel height width"], taken: Bool[np.ndarray, "height width"]
) -> Float[np.ndarray, "channel height width"]:
    """Return ``image`` with every taken pixel the weighted mean of its neighbours, taken or not, all solved at once."""
    count = int(taken.sum())
    if count == 0 or count == taken.size:
        return image.copy()
    index: Int64[np.ndarray, "height width"] = np.full(taken.shape, -1, dtype=np.int64)
    index[taken] = np.arange(count)
    padded = np.pad(index, 1, constant_values=-2)
    rows, columns = np.nonzero(taken)
    matrix, known, weights = [], np.zeros((count, len(image))), np.zeros(count)
    for (down, right), weight in NEIGHBOURS:
        beside = padded[rows + down + 1, columns + right + 1]
        weights += weight * (beside != -2)
        unknown, given = beside >= 0, beside == -1
        matrix.append((np.flatnonzero(unknown), beside[unknown], np.full(int(unknown.sum()), -weight)))
        known[given] += weight * image[:, rows[given] + down, columns[given] + right].T
    here = (np.arange(count), np.arange(count), weights)
    entries = [np.concatenate(parts) for parts in zip(*matrix, here, strict=True)]
    system = scipy.sparse.csc_matrix((entries[2], (entries[0], entries[1])), shape=(count, count))
    filled = image.copy()
    filled[:, taken] = scipy.sparse.linalg.splu(system).solve(known).T.astype(image.dtype)
    return filled
