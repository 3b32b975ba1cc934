"""Gradients of a target at the exams, a few images at a time: what gradient methods are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

IMAGES_AT_ONCE: Final = 8
"""Exams in one pass: memory grows with it and not with the number of steps; few are faster than all."""


def value_and_slope(
    model: Callable[[Tensor, Tensor], Tensor],
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],
    images_at_once: int = IMAGES_AT_ONCE,
) -> tuple[Float[Tensor, " exam"], Float[Tensor, "exam 6 height width"]]:
    """Return the target of every exam and its gradient by the exam's own pixels; zero where nothing depends on them.

    An exam's target must depend on that exam alone.
    """
    values, slopes = [], []
    for few, eyes in zip(torch.split(x, images_at_once), torch.split(present, images_at_once), strict=True):
        point = few.detach().clone().requires_grad_()
        value = target(model(point, eyes))
        slope = None
        if value.requires_grad:
            (slope,) = torch.autograd.grad(value.sum(), point, allow_unused=True)
        values.append(value.detach())
        slopes.append(torch.zeros_like(few) if slope is None else slope.to(few.dtype))
    return torch.cat(values), torch.cat(slopes)


def on_present_eyes(
    maps: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]
) -> Float[Tensor, "exam 6 height width"]:
    """Return the maps with zero on every absent eye, whatever a model makes of its pixels."""
    return torch.where(present.repeat_interleave(3, dim=1)[:, :, None, None], maps, torch.zeros_like(maps))
