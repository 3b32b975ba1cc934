"""Square: random search with squares, by scores alone (Andriushchenko et al. 2020); no gradient is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.schema.errors import WorkbenchError
from workbench.schema.threat import Norm
from workbench.stress.auto_attack.search import Exams, Search
from workbench.stress.auto_attack.windows import LEAST_SIDE, eta, move_windows
from workbench.stress.norms import NORMS
from workbench.stress.target import Target

FIRST_SHARE: Final[Mapping[Norm, float]] = {"linf": 0.8, "l2": 0.1}
"""Share of an eye's pixels that the first square covers, as in the paper's experiments."""
SQUARE_NORMS: Final = tuple(FIRST_SHARE)
TILES: Final = 5
"""In l2: windows beside each other that the search begins with, along a side."""
HALVINGS: Final = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""At which of 10 000 tries the share halves."""

LOOKED_AT_FROM: Final = 0.1
"""Share of its tries after which the pace of a search is judged."""
PATIENCE: Final = 2.0
"""An exam is given up where it would not get there at so many times the pace so far.

A search slows down: 13 EyePACS exams that hold under a trained ResNet-18, each at ε of 0.4 and 1/255 with 400 tries,
came to at most 0.57 of what their first tenth promised, and to 0.65 of what their first quarter did.
"""
AHEAD: Final = 2.0
"""How much further than the squares the gradient must have come for that, ..."""
WORTH: Final = 0.1
"""... and over which share of the way: else it may be masked, and squares are what is left."""


def square(
    target: Target,
    generators: Sequence[torch.Generator],
    *,
    tries: int = 500,
    stop: bool = True,
) -> Exams:
    """Return the best exam of a random search, one eye at a time, kept where the margin rises.

    In linf squares of ±ε; in l2 windows of the paper's η, that take over what another window gives up. Margins are
    compared by a copy in fp32: a square moves them by less than bf16 rounds.

    Raises:
        WorkbenchError: tries < 1, or a norm other than linf and l2.
    """
    refuse_square(target.case.threat.norm)
    if tries < 1:
        raise WorkbenchError(f"square: tries is {tries}", "it must be a whole number from 1")
    search = Search(target, stop=stop, fast=True, precision="fp32")
    search_squares(search, generators, tries)
    return search.best


def refuse_square(norm: str) -> None:
    """Refuse a norm in which no square is known.

    Raises:
        WorkbenchError: it is neither linf nor l2.
    """
    if norm not in SQUARE_NORMS:
        raise WorkbenchError(f"square cannot be bound by {norm}", f"choose {' or '.join(SQUARE_NORMS)}")


def search_squares(
    search: Search,
    generators: Sequence[torch.Generator],
    tries: int,
    *,
    clean: Float[Tensor, " exam"] | None = None,
) -> None:
    """Run the search on the exams that still hold; `Search` keeps what is found.

    Args:
        search: what is known of the exams.
        generators: one per exam.
        tries: squares per exam.
        clean: the margins of the exams as they were, where others have searched before: an exam that they brought
            further than squares do is given up once squares cannot get there at their pace.
    """
    rows = search.active()
    if not rows.numel():
        return
    target = search.rough.of(rows)
    begin, move = MOVES[target.case.threat.norm]
    bound = target.size.repeat_interleave(3, dim=1)[:, :, None, None]
    now = begin(target.clean, bound, [generators[row] for row in rows.tolist()])
    top = first = torch.full((len(rows),), -math.inf).to(now)
    known = None if clean is None else (clean, search.furthest.clone())
    for step in range(tries + 1):
        own = [generators[row] for row in rows.tolist()]
        proposed = move(now, target, bound, own, step / tries) if step else now
        with torch.no_grad():
            margin = target.margin(proposed)
        better = margin > top
        top = torch.where(better, margin, top)
        now = torch.where(better[:, None, None, None], proposed, now)
        first = top if step == 0 else first
        left = search.keep(rows, proposed, margin)
        if known is not None and step >= LOOKED_AT_FROM * tries:
            left = left | _hopeless(first, top, step / tries, *(margins[rows] for margins in known))
        if search.stop and left.any():
            kept = (~left).nonzero()[:, 0]
            rows, target, now, bound = rows[kept], target.of(kept), now[kept], bound[kept]
            first, top = first[kept], top[kept]
        if not rows.numel():
            return


def _hopeless(first: Tensor, top: Tensor, done: float, clean: Tensor, led: Tensor) -> Bool[Tensor, " exam"]:
    """Return which searches will not get there: at their pace, where the gradient did better than squares."""
    slow = first + PATIENCE * (top - first) / done < 0
    return slow & (led - clean >= torch.maximum(AHEAD * (top - clean), -WORTH * clean))


def _stripes(clean: Exams, bound: Tensor, generators: Sequence[torch.Generator]) -> Exams:
    width = clean.shape[3]
    signs = torch.stack([torch.randint(0, 2, (6, 1, width), generator=generator) for generator in generators])
    return (clean + bound * (2 * signs - 1).to(clean)).clamp(0.0, 1.0)


def _squares(now: Exams, target: Target, bound: Tensor, generators: Sequence[torch.Generator], done: float) -> Exams:
    side = _side(now, FIRST_SHARE["linf"], done)
    proposed = now.clone()
    for exam, generator in enumerate(generators):
        eye = _eye(target, exam, generator)
        rows, columns = _place(now, side, generator)
        signs = _signs(generator)
        place = exam, slice(3 * eye, 3 * eye + 3), rows, columns
        proposed[place] = (target.clean[place] + bound[exam, 3 * eye] * signs.to(now)).clamp(0.0, 1.0)
    return proposed


def _tiles(clean: Exams, bound: Tensor, generators: Sequence[torch.Generator]) -> Exams:
    """Return the exams with windows of η beside each other, of either sign in each colour, at the full ε per eye."""
    height, width = clean.shape[2:]
    side = max(1, min(height, width) // TILES)
    change = torch.zeros_like(clean)
    for exam, generator in enumerate(generators):
        for eye in (slice(0, 3), slice(3, 6)):
            for top in range((height - TILES * side) // 2 if height >= TILES else 0, height - side + 1, side):
                for left in range((width - TILES * side) // 2 if width >= TILES else 0, width - side + 1, side):
                    window = _signs(generator) * eta(side, turned=_coin(generator))
                    change[exam, eye, top : top + side, left : left + side] = window.to(clean)
    length = NORMS["l2"](change).repeat_interleave(3, dim=1)[:, :, None, None]
    return (clean + bound * change / length).clamp(0.0, 1.0)


def _windows(now: Exams, target: Target, bound: Tensor, generators: Sequence[torch.Generator], done: float) -> Exams:
    side = _side(now, FIRST_SHARE["l2"], done)
    side = max(side, min(LEAST_SIDE, *now.shape[2:]))
    side += int(side % 2 == 0 and side < min(now.shape[2:]))
    proposed = now.clone()
    for exam, generator in enumerate(generators):
        eye = _eye(target, exam, generator)
        colours = exam, slice(3 * eye, 3 * eye + 3)
        taken, given = _place(now, side, generator), _place(now, side, generator)
        window = _signs(generator) * eta(side, turned=_coin(generator))
        change = now[colours] - target.clean[colours]
        moved = move_windows(change, float(bound[exam, 3 * eye]), taken, given, window.to(now))
        proposed[colours] = (target.clean[colours] + moved).clamp(0.0, 1.0)
    return proposed


def _side(now: Exams, first_share: float, done: float) -> int:
    height, width = now.shape[2:]
    share = first_share / 2 ** sum(done * 10_000 > halving for halving in HALVINGS)
    return max(1, min(round(math.sqrt(share * height * width)), height - 1, width - 1))


def _eye(target: Target, exam: int, generator: torch.Generator) -> int:
    eyes = (target.size[exam] > 0).nonzero()[:, 0]
    return int(eyes[int(torch.randint(0, len(eyes), (), generator=generator))])


def _place(now: Exams, side: int, generator: torch.Generator) -> tuple[slice, slice]:
    height, width = now.shape[2:]
    top = int(torch.randint(0, height - side + 1, (), generator=generator))
    left = int(torch.randint(0, width - side + 1, (), generator=generator))
    return slice(top, top + side), slice(left, left + side)


def _signs(generator: torch.Generator) -> Float[Tensor, "3 1 1"]:
    return 2.0 * torch.randint(0, 2, (3, 1, 1), generator=generator) - 1


def _coin(generator: torch.Generator) -> bool:
    return bool(torch.randint(0, 2, (), generator=generator))


Begin = Callable[[Exams, Tensor, Sequence[torch.Generator]], Exams]
Move = Callable[[Exams, Target, Tensor, Sequence[torch.Generator], float], Exams]
MOVES: Final[Mapping[Norm, tuple[Begin, Move]]] = {"linf": (_stripes, _squares), "l2": (_tiles, _windows)}
"""What the search begins with, and how it moves on, by norm."""
