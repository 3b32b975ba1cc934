"""How little suffices: a minimal-norm attack, and the smallest ε per exam by bisection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.stress.auto_attack.apgd import climb
from workbench.stress.auto_attack.search import Search, gradient, hard_margin, soft_margin
from workbench.stress.auto_attack.steps import ascend, back
from workbench.stress.norms import NORMS
from workbench.stress.target import Target


def shrink(search: Search, steps: int) -> None:
    """Run a fast minimum-norm attack (FMN, Pintor et al. 2021) on the exams that still hold.

    The radius shrinks while the goal is reached and grows while it is not, by a share that falls to nothing: a
    way to the boundary that does not go along the ball's rim, as FAB's does not. What lies inside ε counts.
    """
    rows = search.active()
    if not rows.numel():
        return
    target, norm = search.rough.of(rows), search.target.case.threat.norm
    allowed = (target.size > 0).to(target.clean)
    most = search.target.of(rows).size.amax(dim=1)
    radius = most.clone()
    now = target.clean
    for step in range(steps):
        _, margin, slope = gradient(target, now, hard_margin)
        if step:
            inside = (NORMS[norm](now - target.clean).amax(dim=1) <= most * (1 + 1e-6)).nonzero()[:, 0]
            search.keep(rows[inside], now[inside], margin[inside])
        pace = 0.5 * (1 + math.cos(math.pi * step / steps))
        radius = radius * torch.where(margin > 0, 1 - 0.1 * pace, 1 + 0.1 * pace)
        radius = torch.minimum(radius, 2 * most)
        now = ascend(now, slope, allowed * (pace * 0.5 * most + 0.01 * most)[:, None], norm)
        now = back(now, target.clean, allowed * radius[:, None], norm)


@dataclass(frozen=True)
class Minimal:
    """The smallest strengths that were found to suffice.

    Attributes:
        epsilon: per exam, in the threat's units; 0 where the goal was reached by the exam as it is, inf where the
            threat's own ε does not suffice.
        x: the exam at that strength.
        found: the goal is reached.
    """

    epsilon: Float[Tensor, " exam"]
    x: Float[Tensor, "exam 6 height width"]
    found: Bool[Tensor, " exam"]


def minimal_epsilon(
    target: Target, generators: Sequence[torch.Generator], *, steps: int = 20, halvings: int = 6, fast: bool = True
) -> Minimal:
    """Return the smallest ε per exam by bisection between 0 and the threat's, Auto-PGD at each.

    An upper bound: a stronger attack may need less. It is within ε / 2^halvings of what this attack can do.

    Args:
        target: its ε is the largest that is tried.
        generators: one per exam.
        steps: of the attack at each ε.
        halvings: of the interval.
        fast: see `Search`.
    """
    most = target.case.threat.epsilon
    first = Search(target, stop=True, fast=fast)
    already = first.broken.clone()
    climb(first, soft_margin, generators, steps)
    best, found = first.best, first.broken
    high = torch.where(already, 0.0, torch.where(found, most, math.inf))
    low = torch.zeros_like(high)
    for _ in range(halvings):
        rows = (found & ~already).nonzero()[:, 0]
        if not rows.numel():
            break
        middle = (low[rows] + high[rows]) / 2
        search = Search(replace(target.of(rows), share=middle / most), stop=True, fast=fast)
        climb(search, soft_margin, [generators[row] for row in rows.tolist()], steps)
        high[rows] = torch.where(search.broken, middle, high[rows])
        low[rows] = torch.where(search.broken, low[rows], middle)
        best[rows] = torch.where(search.broken[:, None, None, None], search.best, best[rows])
    return Minimal(high, best, found)
