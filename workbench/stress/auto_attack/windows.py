"""Square's windows in l2 (Andriushchenko et al. 2020): their shape η, and how one takes over what another gives up."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

LEAST_SIDE: Final = 3
"""Pixels of the smallest window: η has a middle and a rim."""
TINY: Final = 1e-10

Window = tuple[slice, slice]


@lru_cache(maxsize=256)
def eta(side: int, *, turned: bool = False) -> Float[Tensor, "side side"]:
    """Return the window of the paper, of length 1: two rectangles of opposite sign that fall off from their middles.

    Args:
        side: pixels.
        turned: the rectangles lie beside each other, not one above the other.
    """
    upper = side // 2
    shape = torch.cat([_hill(upper, side), -_hill(side - upper, side)])
    shape = shape / torch.linalg.vector_norm(shape)
    return shape.T.contiguous() if turned else shape


def _hill(height: int, width: int) -> Float[Tensor, "height width"]:
    """Return rectangles laid over each other, each a pixel wider all around and lower by 1/k², of length 1."""
    hill = torch.zeros(height, width)
    middle, centre = height // 2, width // 2
    for k in range(max(middle, centre) + 1):
        hill[max(middle - k, 0) : middle + k + 1, max(centre - k, 0) : centre + k + 1] += 1 / (k + 1) ** 2
    return hill / torch.linalg.vector_norm(hill).clamp(min=TINY)


def move_windows(
    change: Float[Tensor, "3 height width"],
    epsilon: float,
    taken: Window,
    given: Window,
    window: Float[Tensor, "3 side side"],
) -> Float[Tensor, "3 height width"]:
    """Return the change with ``given`` emptied, and ``taken`` turned towards ``window`` with the length of both.

    What the box has cut off from ε goes there too, in equal parts of the three colours, so the whole has length ε.
    """
    outside = change.clone()
    outside[:, *taken] = 0.0
    outside[:, *given] = 0.0
    of_both = (change - outside).square().sum(dim=(1, 2), keepdim=True)
    unused = (epsilon**2 - change.square().sum()).clamp(min=0.0)
    before = change[:, *taken]
    turned = window + before / (_length(before) + TINY)
    moved = outside
    moved[:, *taken] = turned / _length(turned).clamp(min=TINY) * (of_both + unused / 3).sqrt()
    return moved * (epsilon / torch.linalg.vector_norm(moved).clamp(min=TINY))


def _length(values: Float[Tensor, "3 height width"]) -> Float[Tensor, "3 1 1"]:
    return torch.linalg.vector_norm(values, dim=(1, 2), keepdim=True)
