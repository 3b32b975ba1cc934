"""What every attack of this folder shares: who still holds, the best iterate of each exam, and the check in fp32."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from workbench.models.fast import fast_copy
from workbench.models.precision import Precision
from workbench.stress.goals import not_applicable
from workbench.stress.target import Target, check_gradient

Exams = Float[Tensor, "exam 6 height width"]
Loss = Callable[[Target, Exams], Float[Tensor, " exam"]]
"""Higher is nearer to the goal; differentiable in the exams."""


def soft_margin(target: Target, x: Exams) -> Float[Tensor, " exam"]:
    """Return the goal's smooth margin: what the cross-entropy rises with, but it never saturates."""
    return target.margin(x, soft=True)


def hard_margin(target: Target, x: Exams) -> Float[Tensor, " exam"]:
    """Return the goal's margin: the part that is nearest, alone; safe with two grades as with five."""
    return target.margin(x)


class Search:
    """The state of an attack on some exams.

    Args:
        target: exams, model and goal.
        stop: an exam that is broken, or was wrong already, leaves the batch; else it is pushed on, as far as it goes.
        fast: find directions with a faithful copy where there is one; whether an exam is broken says the model itself.
        precision: of that copy.

    Attributes:
        best: per exam the furthest iterate so far; with ``stop`` the one that broke it.
        broken: the goal is reached, by the model itself in fp32.
    """

    def __init__(self, target: Target, *, stop: bool, fast: bool, precision: Precision = "auto") -> None:
        self.target, self.stop = target, stop
        self.best = target.clean.clone()
        with torch.no_grad():
            self.furthest = target.margin_of_clean()
        self.broken = self.furthest > 0
        may = torch.tensor([not why for why in not_applicable(target.case)], device=target.clean.device)
        self.may_move = may & (target.size > 0).any(dim=1)
        self._copies = fast and target.deployed is None and target.explained is None
        self.go_on_in(precision)

    def go_on_in(self, precision: Precision) -> None:
        """Find directions with a copy in ``precision`` from here on; what another one claimed is no longer refused."""
        self.rough = self.target
        if self._copies and self.active().numel():
            self.rough = replace(self.target, model=fast_copy(self.target.model, self.target.clean, precision))
        self._refused = torch.full_like(self.furthest, -math.inf)

    @property
    def is_rough(self) -> bool:
        """Whether directions come from another arithmetic than the model's own."""
        return self.rough.model is not self.target.model

    def active(self) -> Int64[Tensor, " row"]:
        """Return the exams still under attack."""
        return (self.may_move & ~(self.broken & self.stop)).nonzero()[:, 0]

    def keep(self, rows: Int64[Tensor, " row"], x: Exams, margin: Float[Tensor, " row"]) -> Bool[Tensor, " row"]:
        """Keep what is further than before, check in fp32 what would be broken; return which of ``rows`` are broken."""
        margin = margin.detach()
        if self.is_rough:
            margin = self._checked(rows, x, margin)
        better = margin > self.furthest[rows]
        self.furthest[rows[better]] = margin[better]
        self.best[rows[better]] = x[better]
        self.broken[rows] |= margin > 0
        return self.broken[rows]

    def _checked(self, rows: Int64[Tensor, " row"], x: Exams, margin: Float[Tensor, " row"]) -> Float[Tensor, " row"]:
        """Return the margins, read in fp32 where one claims a break; a claim no better than a refused one is none.

        An exam that is broken already and far past the goal is only pushed on: that needs no second look.
        """
        claims = (margin > -CLAIM) & ~(self.broken[rows] & (margin > SURE))
        stale = claims & (margin <= self._refused[rows])
        told = torch.where(stale, -math.inf, margin)
        fresh = (claims & ~stale).nonzero()[:, 0]
        if fresh.numel():
            with torch.no_grad():
                told[fresh] = self.target.of(rows[fresh]).margin(x[fresh])
            refused = fresh[told[fresh] <= 0]
            self._refused[rows[refused]] = margin[refused]
        return told


CLAIM = 0.02
"""How near to the goal, in log-odds, a margin in bf16 is read again in fp32."""
SURE = 1.0
"""A margin in bf16 above which the goal is reached in fp32 too: far more than a faithful copy may err."""


def gradient(target: Target, x: Exams, loss: Loss) -> tuple[Float[Tensor, " exam"], Float[Tensor, " exam"], Exams]:
    """Return the loss, the goal's margin and the loss's gradient; a gradient that is not finite is none."""
    pixels = x.detach().requires_grad_()
    with torch.enable_grad():
        answered = target.answered(pixels)
        value = loss(answered, pixels)
        check_gradient(value)
        margin = value if loss is hard_margin else answered.margin(pixels)
        (slope,) = torch.autograd.grad(value.sum(), pixels)
    return value.detach(), margin.detach(), torch.nan_to_num(slope, nan=0.0, posinf=0.0, neginf=0.0)


def has_gradient(search: Search) -> bool:
    """Return whether the exams under attack have a gradient at all."""
    rows = search.active()[:1]
    if not rows.numel():
        return False
    target = search.target.of(rows)
    with torch.enable_grad():
        return bool(target.margin(target.clean.clone().requires_grad_(), soft=True).requires_grad)
