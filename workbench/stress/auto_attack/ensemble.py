"""AutoAttack's idea on our objective: several attacks that fail for different reasons, on the exams that still hold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import REFERABLE_GRADE
from workbench.stress.auto_attack.apgd import climb
from workbench.stress.auto_attack.minimal_norm import shrink
from workbench.stress.auto_attack.search import Exams, Loss, Search, hard_margin, has_gradient, soft_margin
from workbench.stress.auto_attack.square import SQUARE_NORMS, refuse_square, search_squares
from workbench.stress.auto_attack.steps import refuse_norm
from workbench.stress.target import Target

TARGETS: Final = 3
"""Ways across that the targeted attack tries, the likeliest first; they share the steps of one attack.

Of 154 exams under four trained models, at strengths that break four in ten, none held out against both margins and fell
to a way by itself.
"""


def auto_attack(
    target: Target,
    generators: Sequence[torch.Generator],
    *,
    steps: int = 100,
    tries: int = 1000,
    stop: bool = True,
    fast: bool = True,
) -> Exams:
    """Return what the strongest of five attacks finds (after Croce, Hein 2020).

    Auto-PGD on the smooth margin, on the margin itself, and targeted; a minimal-norm attack; Square, of ``tries``
    squares or as few as show that it will not get there.
    Where the attacker sees scores alone, or the model has no gradient, it is Square alone. Square is linf and l2 alone.
    On draws it pushes on whatever ``stop`` says: what has just crossed on the draws it sees falls back on others.

    Raises:
        WorkbenchError: steps or tries < 1, a norm without a step, or without a square where there is no gradient.
    """
    threat = target.case.threat
    refuse_norm("auto_attack", threat.norm)
    if steps < 1 or tries < 1:
        name, value = ("steps", steps) if steps < 1 else ("tries", tries)
        raise WorkbenchError(f"auto_attack: {name} is {value}", "it must be a whole number from 1")
    search = Search(target, stop=stop and target.deployed is None, fast=fast)
    clean = search.furthest.clone()
    if threat.knowledge == "gradients" and has_gradient(search):
        climb(search, soft_margin, generators, steps)
        climb(search, hard_margin, generators, steps)
        for loss in _towards(search):
            climb(search, loss, generators, math.ceil(steps / TARGETS))
        shrink(search, steps)
    elif search.active().numel():
        refuse_square(threat.norm)
    if threat.norm in SQUARE_NORMS:
        search.go_on_in("fp32")
        search_squares(search, generators, tries, clean=clean)
    return search.best


def _towards(search: Search) -> Iterator[Loss]:
    """Yield a loss per way across the referable boundary, the exam's own likeliest first."""
    if search.target.case.threat.goal != "cross":
        return
    for rank in range(TARGETS):
        yield partial(_way_across, rank=rank)


def _way_across(target: Target, x: Exams, *, rank: int) -> Float[Tensor, " exam"]:
    """Return how far the exam's way number ``rank`` is gone.

    A healthy exam is crossed by one eye taking one referable grade, a referable one by both taking one healthy one.
    """
    answers = target.answers(x) if target.known is None else target.known
    logits = answers.logits
    sick, well = logits[..., REFERABLE_GRADE:], logits[..., :REFERABLE_GRADE]
    up = torch.where(target.present[..., None], sick - torch.logsumexp(well, -1, keepdim=True), -1e4).flatten(1)
    down = torch.where(target.present[..., None], well - torch.logsumexp(sick, -1, keepdim=True), 1e4).amin(dim=1)
    ways = torch.where((target.case.label == 1)[:, None], _padded(down, up.shape[1]), up)
    order = ways.detach().argsort(dim=1, descending=True, stable=True)
    possible = (ways.detach() > -1e3).sum(dim=1).clamp(min=1)
    chosen = order.gather(1, (rank % possible)[:, None])
    return ways.gather(1, chosen)[:, 0]


def _padded(ways: Tensor, count: int) -> Tensor:
    return torch.cat([ways, ways.new_full((len(ways), count - ways.shape[1]), -1e4)], dim=1)
