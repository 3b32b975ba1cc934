"""How far an eye was changed, in each norm, and the way back into a budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.schema.threat import Norm

Change = Float[Tensor, "exam 6 height width"]
PerEye = Float[Tensor, "exam 2"]

ROUNDING: Final = 1e-6
"""How far a pixel may pass its bound before it counts: float32 rounding of x ± ε, 1/4000 of a grey level."""

SLACK: Final = 1e-5
"""The same for a sum over the pixels of an eye, as a share of ε."""


def linf(change: Change) -> PerEye:
    """Return the largest absolute change of a pixel, per eye."""
    return _eyes(change).abs().amax(dim=2)


def l2(change: Change) -> PerEye:
    """Return the root of the sum of squared changes, per eye."""
    return torch.linalg.vector_norm(_eyes(change), dim=2)


def l1(change: Change) -> PerEye:
    """Return the sum of absolute changes, per eye."""
    return _eyes(change).abs().sum(dim=2)


def l0(change: Change) -> PerEye:
    """Return how many pixels changed in any colour, per eye."""
    return (_colours(change) != 0).any(dim=2).flatten(2).sum(dim=2).to(change.dtype)


NORMS: Final[dict[Norm, Callable[[Change], PerEye]]] = {"linf": linf, "l2": l2, "l1": l1, "l0": l0}
"""Every norm by its name."""


def within(change: Change, size: PerEye, norm: Norm) -> Bool[Tensor, "exam 2"]:
    """Return whether each eye's change keeps to its budget, but for rounding."""
    return NORMS[norm](change) <= size + (ROUNDING if norm == "linf" else SLACK * size)


def project(change: Change, size: PerEye, norm: Norm) -> Change:
    """Return the change inside each eye's budget: a change that is inside already, as it is; none where ``size`` is 0.

    linf, l2: the nearest point of the ball; l1: the change scaled down (Duchi's nearest point would set most of a
    photograph's pixels to zero); l0: the pixels of the largest change. No pixel's change grows or turns its sign, so
    what was in the box stays in it.
    """
    if norm == "linf":
        bound = size.repeat_interleave(3, dim=1)[:, :, None, None]
        return torch.minimum(torch.maximum(change, -bound), bound)
    if norm == "l0":
        return _largest_pixels(change, size)
    length = NORMS[norm](change)
    share = torch.where(length > size, size / length.clamp(min=torch.finfo(change.dtype).tiny), 1.0)
    return change * share.repeat_interleave(3, dim=1)[:, :, None, None]


def _largest_pixels(change: Change, size: PerEye) -> Change:
    strength = _colours(change).abs().amax(dim=2).flatten(2)
    order = strength.argsort(dim=2, descending=True, stable=True)
    places = torch.arange(order.shape[2], device=change.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(2, order, places)
    kept = (rank < size.floor()[:, :, None]).reshape(len(change), 2, *change.shape[2:])
    return torch.where(kept.repeat_interleave(3, dim=1), change, 0.0)


def _eyes(change: Change) -> Float[Tensor, "exam 2 value"]:
    return change.reshape(len(change), 2, -1)


def _colours(change: Change) -> Float[Tensor, "exam 2 3 height width"]:
    return change.reshape(len(change), 2, 3, *change.shape[2:])
