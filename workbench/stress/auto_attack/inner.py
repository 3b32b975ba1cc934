"""The inner maximisation of adversarial training; handed to the training from above, which does not know this room."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from workbench.stress.auto_attack.steps import Exams, PerEye, ascend, back, random_start

Objective = Callable[[Tensor], Float[Tensor, ""]]
"""``x -> loss``, differentiable in the exams."""


def ascent(
    objective: Objective, clean: Exams, size: PerEye, generators: Sequence[Generator], *, steps: int, step_share: float
) -> Exams:
    """Return exams on which ``objective`` is higher, after projected sign steps (Madry et al. 2018).

    It begins at a random point of each eye's ball, for the objective of TRADES has no slope at the exam itself, and
    returns the last iterate, laid out in memory as ``clean`` is. Each eye stays within ``size`` (linf, of the pixel
    range [0, 1]) and in the box; one of size 0 keeps its pixels.
    """
    now = torch.empty_like(clean).copy_(random_start(clean, size, "linf", generators))
    for _ in range(steps):
        pixels = now.detach().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(objective(pixels), pixels)
        slope = torch.nan_to_num(slope, nan=0.0, posinf=0.0, neginf=0.0)
        now = back(ascend(now.detach(), slope, size * step_share, "linf"), clean, size, "linf")
    return now.detach()
