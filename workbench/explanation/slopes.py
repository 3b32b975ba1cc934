"""Gradients of a target at the exams, a few images at a time: what gradient methods are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Targets = Sequence[Callable[[Tensor], Tensor]]
"""Each ``logits -> one value per exam``, which must depend on that exam alone."""

IMAGES_AT_ONCE: Final = 8
"""Exams in one pass: memory grows with it and not with the number of steps; few are faster than all."""


def value_and_slope(
    model: Callable[[Tensor, Tensor], Tensor],
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],
    images_at_once: int = IMAGES_AT_ONCE,
) -> tuple[Float[Tensor, " exam"], Float[Tensor, "exam 6 height width"]]:
    """Return the target of every exam and its gradient by the exam's own pixels; zero where nothing depends on them."""
    values, slopes = values_and_slopes(model, x, present, (target,), images_at_once)
    return values[0], slopes[0]


def values_and_slopes(
    model: Callable[[Tensor, Tensor], Tensor],
    x: Float[Tensor, "exam ..."],
    present: Bool[Tensor, "exam 2"],
    targets: Targets,
    images_at_once: int = IMAGES_AT_ONCE,
) -> tuple[Float[Tensor, "target exam"], Float[Tensor, "target exam ..."]]:
    """Return the same for several targets: one pass forward serves all."""
    values, slopes = [], []
    for few, eyes in zip(torch.split(x, images_at_once), torch.split(present, images_at_once), strict=True):
        point = few.detach().clone().requires_grad_()
        logits = model(point, eyes)
        asked = [target(logits) for target in targets]
        values.append(torch.stack([value.detach() for value in asked]))
        slopes.append(slopes_at(point, asked))
    return torch.cat(values, dim=1), torch.cat(slopes, dim=1)


def slopes_at(point: Float[Tensor, "*shape"], asked: Sequence[Float[Tensor, " exam"]]) -> Float[Tensor, target * shape]:
    """Return the gradient of each value by ``point``; zero where it does not depend on it."""
    slopes = []
    for place, value in enumerate(asked):
        slope = None
        if value.requires_grad:
            again = place < len(asked) - 1
            (slope,) = torch.autograd.grad(value.sum(), point, allow_unused=True, retain_graph=again)
        slopes.append(torch.zeros_like(point) if slope is None else slope.to(point.dtype))
    return torch.stack(slopes)


def on_present_eyes(
    maps: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]
) -> Float[Tensor, "exam 6 height width"]:
    """Return the maps with zero on every absent eye, whatever a model makes of its pixels."""
    return torch.where(present.repeat_interleave(3, dim=1)[:, :, None, None], maps, torch.zeros_like(maps))
