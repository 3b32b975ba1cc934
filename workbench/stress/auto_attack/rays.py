"""RayS: a search over directions by the calls alone (Chen, Gu 2020, *RayS: a ray searching method*); linf."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.schema.errors import WorkbenchError
from workbench.stress.auto_attack.search import Exams, Search
from workbench.stress.target import Target

CLOSER: Final = 10
"""Halvings of a radius: to a thousandth of the way."""


def rays(target: Target, _: Sequence[torch.Generator], *, queries: int = 400, stop: bool = True) -> Exams:
    """Return the nearest exam found along rays of ±1 per pixel, of which blocks are turned, ever smaller ones.

    A block stays turned where the exam breaks nearer than before. Only whether the goal is reached is asked for;
    nothing is drawn by lot. ``queries`` bounds the pictures that are looked at per exam. A faithful copy of the model
    is asked; what breaks inside ε counts only where the model itself says so.

    Raises:
        WorkbenchError: queries < 1, or a norm other than linf.
    """
    if target.case.threat.norm != "linf":
        raise WorkbenchError(f"rays cannot be bound by {target.case.threat.norm}", "choose linf")
    if queries < 1:
        raise WorkbenchError(f"rays: queries is {queries}", "it must be a whole number from 1")
    search = Search(target, stop=stop, fast=stop)
    rows = search.active()
    if rows.numel():
        _Rays(search, rows, queries).run()
    return search.best


class _Rays:
    """The state of the search: a direction and the radius at which it breaks, per exam."""

    def __init__(self, search: Search, rows: Tensor, queries: int) -> None:
        self.search, self.rows, self.target = search, rows, search.rough.of(rows)
        self.may = (self.target.size > 0).repeat_interleave(3, dim=1)[:, :, None, None].expand_as(self.target.clean)
        self.signs = torch.ones_like(self.target.clean)
        self.radius = torch.full((len(rows),), torch.inf)
        self.left = torch.full((len(rows),), queries)

    def run(self) -> None:
        everyone = torch.ones(len(self.rows), dtype=torch.bool)
        self._try(self.signs, everyone)
        for turned in self._blocks():
            going = (self.left > 0) & ~(self.search.broken[self.rows] & self.search.stop)
            if not going.any():
                return
            self._try(torch.where(turned, -self.signs, self.signs), going)

    def _blocks(self) -> Iterator[Bool[Tensor, "exam 6 height width"]]:
        """Yield what is turned next: the picture, its halves, quarters and so on, row by row of each colour."""
        count = self.target.clean[0].numel()
        place = torch.arange(count).reshape(self.target.clean.shape[1:])
        blocks = 1
        while blocks <= count:
            for block in range(blocks):
                yield ((place * blocks // count) == block)[None]
            blocks *= 2

    def _try(self, signs: Tensor, going: Bool[Tensor, " exam"]) -> None:
        """Keep the new directions of the exams that break along them at the radius at hand, and come closer."""
        reach = self.radius.clamp(max=1.0)
        better = self._breaks(signs, reach, going)
        low, high = torch.zeros_like(reach), reach
        self.signs = torch.where(better[:, None, None, None], signs, self.signs)
        for _ in range(CLOSER):
            asked = better & (self.left > 0)
            if not asked.any():
                break
            middle = (low + high) / 2
            broken = self._breaks(self.signs, middle, asked)
            high, low = torch.where(broken, middle, high), torch.where(broken | ~asked, low, middle)
        self.radius = torch.where(better, high, self.radius)

    def _breaks(self, signs: Tensor, radius: Float[Tensor, " exam"], asked: Bool[Tensor, " exam"]) -> Tensor:
        """Return which of the asked exams are broken at a radius along a direction; what lies inside ε is kept."""
        chosen = asked.nonzero()[:, 0]
        answer = torch.zeros(len(asked), dtype=torch.bool)
        if not chosen.numel():
            return answer
        some = self.target.of(chosen)
        moved = some.clean + radius[chosen, None, None, None] * signs[chosen]
        x = torch.where(self.may[chosen], moved.clamp(0.0, 1.0), some.clean)
        with torch.no_grad():
            margin = some.margin(x)
        answer[chosen] = margin > 0
        self.left[chosen] -= 1
        inside = ((margin > 0) & (radius[chosen] <= some.size.amax(dim=1))).nonzero()[:, 0]
        if inside.numel():
            # Who sees calls alone cannot tell which exam went furthest: without ``stop`` the first one found is kept.
            told = margin[inside] if self.search.stop else torch.ones(len(inside))
            self.search.keep(self.rows[chosen[inside]], x[inside], told)
        return answer
