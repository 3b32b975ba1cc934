"""Every explanation by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from torch import Tensor

from workbench.explanation.floors import edges, random_map
from workbench.explanation.grad_cam import grad_cam
from workbench.explanation.integrated_gradients import integrated_gradients

EXPLANATIONS: Final[Mapping[str, Callable[..., Tensor]]] = {
    "integrated_gradients": integrated_gradients,
    "grad_cam": grad_cam,
    "random": random_map,
    "edges": edges,
}
"""``(model, x, present, target, **options) -> Float[Tensor, "exam 6 height width"]``."""
