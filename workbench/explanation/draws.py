"""Maps of every draw: what is important whichever draw is taken, apart from what flickers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.explanation.registry import EXPLANATIONS
from workbench.schema.errors import WorkbenchError

TOP: Final = 0.1
"""A pixel counts as important in a draw if it is among this share of the eye's pixels with the largest |map|."""

STABLE: Final = 0.9
"""Stable: important in at least this share of the draws. Draws that know nothing of each other would agree in `TOP`."""

FLICKERS: Final = 0.2
"""Flickers: important in at least this share of the draws, and not stable."""


@dataclass(frozen=True)
class DrawnMaps:
    """One eye's maps over draws.

    Attributes:
        mean: over the draws; for a method that is linear in the gradient, the map of the mean of the draws' targets.
        spread: standard deviation over the draws.
        frequency: share of the draws in which a pixel is important.
    """

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
    drawn: Sequence[nn.Module],
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
        drawn: one deterministic network per draw, its masks being the draw's own (given: explanation makes no draws).
        x: in [0, 1].
        present: which eyes there are; an absent one has zero everywhere.
        target: ``logits -> one value per exam``.
        eye: whose pixels.
        method: a key of `EXPLANATIONS`.
        options: of the method.

    Raises:
        WorkbenchError: fewer than two draws.
    """
    if len(drawn) < 2:
        raise WorkbenchError(f"maps of {len(drawn)} draws", "give at least two, so that they can differ")
    own = slice(3 * eye, 3 * eye + 3)
    total, squares, counted = (torch.zeros_like(x[:, 0]) for _ in range(3))
    for net in drawn:
        heat = EXPLANATIONS[method](net, x, present, target, **options)[:, own].sum(dim=1)
        total, squares, counted = total + heat, squares + heat.square(), counted + important(heat)
    mean = total / len(drawn)
    variance = (squares / len(drawn) - mean.square()).clamp(min=0)
    return DrawnMaps(mean, variance.sqrt(), counted / len(drawn))


def important(heat: Float[Tensor, "exam height width"]) -> Bool[Tensor, "exam height width"]:
    """Return the share `TOP` of pixels with the largest magnitude; none of a map that is zero there."""
    sizes = heat.abs().flatten(1)
    least = sizes.topk(max(1, round(TOP * sizes.shape[1])), dim=1).values[:, -1]
    return (heat.abs() >= least[:, None, None]) & (heat != 0)
