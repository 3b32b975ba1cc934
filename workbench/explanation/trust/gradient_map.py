"""Gradient × input of the referable answer, as an attack that moves the map is handed it (Ghorbani et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.explanation.trust.likeness import cell_means
from workbench.explanation.trust.manipulation import DARKER, moved_share, smoothed
from workbench.models.modes import measuring
from workbench.models.referable import bind_present, referable_log_odds

MapOf = Callable[[Tensor, Tensor], Float[Tensor, "exam 2 height width"]]
"""``(x, present)`` to the map of each eye."""


def gradient_maps(model: nn.Module) -> tuple[MapOf, MapOf]:
    """Return the map of the model itself, and that of the smoothed model as cells, which has a gradient by ``x``.

    Each eye's map explains its own referable log-odds. The smoothed one is read a little darker: at the exam itself its
    likeness to the exam's own map is at its top, and has no slope.
    """
    smooth = smoothed(model)

    def own(x: Tensor, present: Tensor) -> Tensor:
        with measuring(model):
            return _heat(model, x.detach().clone().requires_grad_(), present, further=False).detach()

    def differentiable(x: Tensor, present: Tensor) -> Tensor:
        with measuring(smooth):
            point = x * DARKER if x.requires_grad else x.clone().requires_grad_()
            heat = _heat(smooth, point, present, further=x.requires_grad)
            cells = cell_means(heat.abs().flatten(0, 1))
            return cells.reshape(len(x), 2, *cells.shape[1:])

    return own, differentiable


def _heat(
    model: nn.Module, point: Tensor, present: Bool[Tensor, "exam 2"], *, further: bool
) -> Float[Tensor, "exam 2 height width"]:
    """Return per eye the sum over colours of gradient × input of the eye's own log-odds."""
    odds = referable_log_odds(bind_present(model, present)(point))
    maps = []
    for eye in range(2):
        (slope,) = torch.autograd.grad(odds[:, eye].sum(), point, create_graph=further, retain_graph=True)
        maps.append((slope * point)[:, 3 * eye : 3 * eye + 3].sum(dim=1))
    return torch.stack(maps, dim=1)


def moved_of_eyes(
    first: Float[Tensor, "exam 2 height width"], other: Float[Tensor, "exam 2 height width"]
) -> Float[Tensor, "exam 2"]:
    """Return per eye the share of the map's strongest tenth of cells that is no longer in the strongest tenth."""
    return torch.stack([moved_share(first[:, eye], other[:, eye]) for eye in range(2)], dim=1)
