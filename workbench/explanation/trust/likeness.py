"""How alike two maps of the same eye are, at the scale that a reader sees."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float
from torch import Tensor

CELLS: Final = 32
"""Maps are compared and ranked on so many cells a side: a reader sees regions, and single pixels flicker."""

WINDOW: Final = 11
DEVIATION: Final = 1.5
STABILISERS: Final = (0.01**2, 0.03**2)


def cell_means(heat: Float[Tensor, "exam height width"], cells: int = CELLS) -> Float[Tensor, "exam row column"]:
    """Return the mean of each cell; a map with fewer pixels than cells stays as it is."""
    height, width = heat.shape[1:]
    return F.adaptive_avg_pool2d(heat[:, None], (min(cells, height), min(cells, width)))[:, 0]


def disc_cells(height: int, width: int, cells: int = CELLS) -> Bool[Tensor, "row column"]:
    """Return the cells that lie more than half inside the disc of a prepared photograph."""
    return cell_means(inside_disc(height, width)[None].float(), cells)[0] > 0.5


def inside_disc(height: int, width: int) -> Bool[Tensor, "height width"]:
    """Return the circle that touches the square's sides: preparation puts the eye's disc just within it.

    It is told by the geometry and not by the pixels, which a mark in a corner could change.
    """
    y, x = torch.arange(height) + 0.5 - height / 2, torch.arange(width) + 0.5 - width / 2
    return (2 * y / height)[:, None] ** 2 + (2 * x / width)[None, :] ** 2 <= 1


def rank_correlation(
    one: Float[Tensor, "exam height width"], other: Float[Tensor, "exam height width"]
) -> Float[Tensor, " exam"]:
    """Return Spearman's correlation of the two maps' strength (|map|) over the cells inside the disc.

    0 where either says nothing, that is, holds the same value everywhere.
    """
    inside = disc_cells(*one.shape[1:]).to(one.device)
    ranks = [_ranks(cell_means(heat.abs())[:, inside]) for heat in (one, other)]
    centred = [rank - rank.mean(dim=1, keepdim=True) for rank in ranks]
    spread = centred[0].norm(dim=1) * centred[1].norm(dim=1)
    return torch.where(spread > 0, (centred[0] * centred[1]).sum(dim=1) / spread.clamp(min=1e-12), 0.0).to(one.dtype)


def _ranks(values: Float[Tensor, "exam n"]) -> Float[Tensor, "exam n"]:
    """Return the ranks, equal values sharing their mean rank, in double precision: a thousand squares add up."""
    below = torch.searchsorted(values.sort(dim=1).values, values.contiguous(), right=False)
    upto = torch.searchsorted(values.sort(dim=1).values, values.contiguous(), right=True)
    return (below + upto).double() / 2


def structural_similarity(
    one: Float[Tensor, "exam height width"], other: Float[Tensor, "exam height width"]
) -> Float[Tensor, " exam"]:
    """Return the mean structural similarity of the two maps' strength, each as a share of its largest value.

    A Gaussian window of 11 × 11 with a deviation of 1.5, no padding (Wang et al. 2004). Adebayo et al. (2018) compare
    maps by it; unlike ranks it is swayed by what both leave empty, so it leans high.
    """
    first, second = (_as_share(heat.abs())[:, None] for heat in (one, other))
    kernel = _window().to(first)
    mean_1, mean_2 = F.conv2d(first, kernel), F.conv2d(second, kernel)
    variance_1 = F.conv2d(first**2, kernel) - mean_1**2
    variance_2 = F.conv2d(second**2, kernel) - mean_2**2
    covariance = F.conv2d(first * second, kernel) - mean_1 * mean_2
    light, contrast = STABILISERS
    above = (2 * mean_1 * mean_2 + light) * (2 * covariance + contrast)
    below = (mean_1**2 + mean_2**2 + light) * (variance_1 + variance_2 + contrast)
    return (above / below).flatten(1).mean(dim=1)


def _as_share(heat: Float[Tensor, "exam height width"]) -> Float[Tensor, "exam height width"]:
    return heat / heat.flatten(1).amax(dim=1).clamp(min=torch.finfo(heat.dtype).tiny)[:, None, None]


def _window() -> Float[Tensor, "1 1 tap tap"]:
    tap = torch.exp(-0.5 * ((torch.arange(WINDOW) - WINDOW // 2) / DEVIATION) ** 2)
    return (tap[:, None] * tap[None, :] / tap.sum() ** 2)[None, None]


def outside_share(heat: Float[Tensor, "exam height width"]) -> Float[Tensor, " exam"]:
    """Return the share of the map's strength that lies outside the disc, where no eye is; 0 for a zero map."""
    return _share_where(heat, ~inside_disc(*heat.shape[1:]))


RIM: Final = 0.92
"""Beyond this share of the radius lies the photograph's border."""


def border_share(heat: Float[Tensor, "exam height width"]) -> Float[Tensor, " exam"]:
    """Return the share of the map's strength on the disc's rim, the outer 8 % of its radius; 0 for a zero map."""
    height, width = heat.shape[1:]
    y, x = torch.arange(height) + 0.5 - height / 2, torch.arange(width) + 0.5 - width / 2
    far = (2 * y / height)[:, None] ** 2 + (2 * x / width)[None, :] ** 2
    return _share_where(heat, (far > RIM**2) & (far <= 1))


def _share_where(heat: Float[Tensor, "exam height width"], where: Bool[Tensor, "height width"]) -> Tensor:
    strength = heat.abs()
    inside = (strength * where.to(heat)).flatten(1).sum(dim=1)
    return inside / strength.flatten(1).sum(dim=1).clamp(min=torch.finfo(heat.dtype).tiny)
