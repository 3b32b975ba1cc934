"""How little suffices: a minimal-norm attack, and the smallest ε per exam by bisection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from workbench.stress.auto_attack.apgd import climb
from workbench.stress.auto_attack.descent import descend
from workbench.stress.auto_attack.search import Search, gradient, hard_margin, soft_margin
from workbench.stress.auto_attack.steps import ascend, back
from workbench.stress.norms import NORMS
from workbench.stress.target import Target

STEP_SHARE: Final = 0.25
"""Of the descent's steps, as of `descent.pgd`."""
CLOSER: Final = 6
"""Halvings of the way back to the exam, once something broke it: each costs a pass forwards."""


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
    """Return the smallest ε per exam by bisection; at each, PGD from the exam itself, then Auto-PGD where it holds.

    What breaks an exam is a bound by its own distance, and is drawn back towards the exam as far as it still breaks:
    the next ε is half of that. An upper bound: a stronger attack may need less. It is within first bound / 2^halvings
    of what these attacks can do.

    Args:
        target: its ε is the largest that is tried.
        generators: one per exam.
        steps: of each attack at each ε.
        halvings: of the interval.
        fast: see `Search`.
    """
    every = torch.arange(len(target.clean), device=target.clean.device)
    most = target.case.threat.epsilon
    first = Search(target, stop=True, fast=fast)
    already = first.broken.clone()
    _attack(first, generators, steps)
    best, found = first.best.clone(), first.broken.clone()
    high = torch.full_like(first.furthest, math.inf).masked_fill(already, 0.0)
    low = torch.zeros_like(high)
    _draw_back(target, every[found & ~already], best, high)
    for _ in range(halvings):
        rows = every[found & ~already]
        if not rows.numel():
            break
        middle = (low[rows] + high[rows]) / 2
        search = Search(replace(target.of(rows), share=middle / most), stop=True, fast=fast)
        _attack(search, [generators[row] for row in rows.tolist()], steps)
        low[rows] = torch.where(search.broken, low[rows], middle)
        best[rows[search.broken]] = search.best[search.broken]
        _draw_back(target, rows[search.broken], best, high)
    return Minimal(high, best, found)


def _attack(search: Search, generators: Sequence[torch.Generator], steps: int) -> None:
    descend(search, None, steps, STEP_SHARE)
    climb(search, soft_margin, generators, steps)


def _draw_back(target: Target, rows: Int64[Tensor, " row"], best: Tensor, high: Float[Tensor, " exam"]) -> None:
    """Put what broke some exams as near to them as it still does along the line, and note how far that is."""
    if not rows.numel():
        return
    some = target.of(rows)
    change = best[rows] - some.clean
    least, share = torch.zeros(len(rows)).to(change), torch.ones(len(rows)).to(change)
    for _ in range(CLOSER):
        middle = (least + share) / 2
        with torch.no_grad():
            breaks = some.margin(some.clean + middle[:, None, None, None] * change) > SURE
        least, share = torch.where(breaks, least, middle), torch.where(breaks, middle, share)
    drawn = some.clean + share[:, None, None, None] * change
    best[rows] = torch.where((share < 1)[:, None, None, None], drawn, best[rows])
    norm = target.case.threat.norm
    high[rows] = NORMS[norm](best[rows] - some.clean).amax(dim=1) * (255 if norm == "linf" else 1)


SURE: Final = 1e-4
"""How far past the goal, in log-odds, what is drawn back must lie: it is read again in other batches."""
