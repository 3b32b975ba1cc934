"""Square: random search with squares, by scores alone (Andriushchenko et al. 2020); no gradient is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from workbench.schema.errors import WorkbenchError
from workbench.stress.auto_attack.search import Exams, Search
from workbench.stress.target import Target

FIRST_SHARE: Final = 0.8
"""Share of an eye's pixels that the first square covers."""
HALVINGS: Final = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""At which of 10 000 tries the share halves."""


def square(
    target: Target,
    generators: Sequence[torch.Generator],
    *,
    tries: int = 500,
    stop: bool = True,
) -> Exams:
    """Return the best exam of a random search: squares of ±ε, one eye at a time, kept where the margin rises.

    Margins are compared in fp32: a square moves them by less than bf16 rounds.

    Raises:
        WorkbenchError: tries < 1, or a norm other than linf.
    """
    refuse_square(target.case.threat.norm)
    if tries < 1:
        raise WorkbenchError(f"square: tries is {tries}", "it must be a whole number from 1")
    search = Search(target, stop=stop, fast=False)
    search_squares(search, generators, tries)
    return search.best


def refuse_square(norm: str) -> None:
    """Refuse a norm in which no square is known.

    Raises:
        WorkbenchError: it is not linf.
    """
    if norm != "linf":
        raise WorkbenchError(f"square cannot be bound by {norm}", "choose linf")


def search_squares(search: Search, generators: Sequence[torch.Generator], tries: int) -> None:
    """Run the search on the exams that still hold; `Search` keeps what is found."""
    rows = search.active()
    if not rows.numel():
        return
    target = search.target.of(rows)
    bound = target.size.repeat_interleave(3, dim=1)[:, :, None, None]
    now = _stripes(target.clean, bound, [generators[row] for row in rows.tolist()])
    top = torch.full((len(rows),), -math.inf).to(now)
    for step in range(tries + 1):
        if step:
            proposed = _squares(now, target, bound, [generators[row] for row in rows.tolist()], step, tries)
        else:
            proposed = now
        with torch.no_grad():
            margin = target.margin(proposed)
        better = margin > top
        top = torch.where(better, margin, top)
        now = torch.where(better[:, None, None, None], proposed, now)
        broken = search.keep(rows, proposed, margin)
        if search.stop and broken.any():
            kept = (~broken).nonzero()[:, 0]
            rows, target, now, top, bound = rows[kept], target.of(kept), now[kept], top[kept], bound[kept]
        if not rows.numel():
            return


def _stripes(clean: Exams, bound: Tensor, generators: Sequence[torch.Generator]) -> Exams:
    width = clean.shape[3]
    signs = torch.stack([torch.randint(0, 2, (6, 1, width), generator=generator) for generator in generators])
    return (clean + bound * (2 * signs - 1).to(clean)).clamp(0.0, 1.0)


def _squares(
    now: Exams, target: Target, bound: Tensor, generators: Sequence[torch.Generator], step: int, tries: int
) -> Exams:
    height, width = now.shape[2:]
    share = FIRST_SHARE / 2 ** sum(step / tries * 10_000 > halving for halving in HALVINGS)
    side = max(1, min(round(math.sqrt(share * height * width)), height - 1, width - 1))
    proposed = now.clone()
    movable = target.size > 0
    for exam, generator in enumerate(generators):
        eyes = movable[exam].nonzero()[:, 0]
        eye = int(eyes[int(torch.randint(0, len(eyes), (), generator=generator))])
        top = int(torch.randint(0, height - side + 1, (), generator=generator))
        left = int(torch.randint(0, width - side + 1, (), generator=generator))
        signs = 2.0 * torch.randint(0, 2, (3, 1, 1), generator=generator) - 1
        place = exam, slice(3 * eye, 3 * eye + 3), slice(top, top + side), slice(left, left + side)
        proposed[place] = (target.clean[place] + bound[exam, 3 * eye] * signs.to(now)).clamp(0.0, 1.0)
    return proposed
