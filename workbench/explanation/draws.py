"""Maps of every draw: what is important whichever draw is taken, apart from what flickers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from workbench.explanation.registry import EXPLANATIONS
from workbench.explanation.shared_trunk import SHARED, DrawsBehindTrunk
from workbench.schema.errors import WorkbenchError
from workbench.schema.maps import FLICKERS, STABLE, TOP

SMOOTHING: Final = 0.01
"""Standard deviation, share of the side, of the blur before pixels are ranked: single pixels of a gradient flicker."""


@dataclass(frozen=True)
class DrawnMaps:
    """One eye's maps over draws.

    Attributes:
        maps: mean over the draws per pixel and channel of both eyes.
        mean: the same, the eye's own; for a method that is linear in the gradient, the map of the mean of the draws'
            targets.
        spread: standard deviation over the draws.
        frequency: share of the draws in which a pixel is important.
    """

    maps: Float[Tensor, "exam 6 height width"]
    mean: Float[Tensor, "exam height width"]
    spread: Float[Tensor, "exam height width"]
    frequency: Float[Tensor, "exam height width"]

    @property
    def stable(self) -> Bool[Tensor, "exam height width"]:
        """Important in nearly every draw."""
        return self.frequency >= STABLE

    @property
    def flickers(self) -> Bool[Tensor, "exam height width"]:
        """Important in some draws and not in others."""
        return (self.frequency >= FLICKERS) & ~self.stable

    @property
    def steadiness(self) -> Float[Tensor, " exam"]:
        """Stable pixels as a share of those that are stable or flicker; NaN where there are none."""
        stable, both = (mask.flatten(1).sum(dim=1).float() for mask in (self.stable, self.stable | self.flickers))
        return stable / torch.where(both > 0, both, torch.nan)


def maps_of_draws(
    drawn: Sequence[nn.Module] | DrawsBehindTrunk,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],
    *,
    eye: int,
    method: str = "grad_cam",
    **options: Any,
) -> DrawnMaps:
    """Explain each draw by itself and say what they agree on.

    Args:
        drawn: one deterministic network per draw, its masks being the draw's own (given: explanation makes no draws);
            or the draws of one exam behind one trunk, for the methods of `SHARED`.
        x: in [0, 1].
        present: which eyes there are; an absent one has zero everywhere.
        target: ``logits -> one value per exam``.
        eye: whose pixels.
        method: a key of `EXPLANATIONS`.
        options: of the method.

    Raises:
        WorkbenchError: fewer than two draws.
    """
    each: Iterable[Tensor]
    if isinstance(drawn, Sequence):
        count, each = len(drawn), (EXPLANATIONS[method](net, x, present, target, **options) for net in drawn)
    else:
        found = SHARED[method](drawn, x, present, target, **options)[:, None]
        count, each = len(found), found
    if count < 2:
        raise WorkbenchError(f"maps of {count} draws", "give at least two, so that they can differ")
    own = slice(3 * eye, 3 * eye + 3)
    total = torch.zeros_like(x)
    squares, counted = (torch.zeros_like(x[:, 0]) for _ in range(2))
    for maps in each:
        heat = maps[:, own].sum(dim=1)
        total, squares, counted = total + maps, squares + heat.square(), counted + important(heat)
    maps = total / count
    mean = maps[:, own].sum(dim=1)
    variance = (squares / count - mean.square()).clamp(min=0)
    return DrawnMaps(maps, mean, variance.sqrt(), counted / count)


def important(heat: Float[Tensor, "exam height width"]) -> Bool[Tensor, "exam height width"]:
    """Return the share `TOP` of pixels with the largest magnitude, a little smoothed; none of a map that is zero."""
    sizes = _smoothed(heat).abs()
    flat = sizes.flatten(1)
    least = flat.topk(max(1, round(TOP * flat.shape[1])), dim=1).values[:, -1]
    return (sizes >= least[:, None, None]) & (sizes > 0)


def _smoothed(heat: Float[Tensor, "exam height width"]) -> Float[Tensor, "exam height width"]:
    deviation = SMOOTHING * heat.shape[-1]
    reach = math.ceil(2.5 * deviation) if deviation >= 0.5 else 0
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).to(heat) / deviation) ** 2)
    taps = taps / taps.sum()
    planes = functional.pad(heat[:, None], (reach,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(planes, taps[None, None, None]), taps[None, None, :, None])[:, 0]
