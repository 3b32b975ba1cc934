"""Auto-PGD: a step size that halves by itself (Croce, Hein 2020, *Reliable evaluation of adversarial robustness*)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from workbench.schema.errors import WorkbenchError
from workbench.stress.auto_attack.search import Exams, Loss, Search, gradient, soft_margin
from workbench.stress.auto_attack.steps import ascend, back, random_start, refuse_norm
from workbench.stress.target import Target

MOMENTUM = 0.75
FIRST_DENSITY = 0.2
"""Share of an eye's values that the first steps in l1 move."""
LOOK = 0.04
"""Share of the steps after which the sparsity is looked at."""
SPARSER, SHORTER, LEAST_STEP = 0.95, 1.5, 0.1
"""In l1 (Croce, Hein 2021): what counts as sparser; by what the step is divided where it is not; its least share."""
RISES = 0.75
"""Share of steps in which the loss must rise, or the step size is halved."""


def apgd(
    target: Target,
    generators: Sequence[torch.Generator],
    *,
    steps: int = 100,
    restarts: int = 1,
    stop: bool = True,
    fast: bool = True,
) -> Exams:
    """Return the best iterate of Auto-PGD on the goal's smooth margin, from random starts.

    In l1 it is the sparse one of Croce, Hein 2021, *Mind the box: l1-APGD*.

    Raises:
        WorkbenchError: steps or restarts < 1, a norm without a step.
    """
    refuse_norm("apgd", target.case.threat.norm)
    if steps < 1 or restarts < 1:
        name, value = ("steps", steps) if steps < 1 else ("restarts", restarts)
        raise WorkbenchError(f"apgd: {name} is {value}", "it must be a whole number from 1")
    search = Search(target, stop=stop, fast=fast)
    for _ in range(restarts):
        climb(search, soft_margin, generators, steps)
    return search.best


def checkpoints(steps: int) -> Iterator[int]:
    """Yield the steps at which the step size is looked at: 22 % in, then ever shorter, at least 6 % apart."""
    share, before = 0.22, 0.0
    while share <= 1:
        yield math.ceil(round(share * steps, 6))
        share, before = share + max(share - before - 0.03, 0.06), share


@dataclass
class _State:
    """Per exam under attack: where it is, and what the step rule remembers."""

    rows: Int64[Tensor, " row"]
    now: Exams
    before: Exams
    slope: Exams
    loss: Float[Tensor, " row"]
    top: Float[Tensor, " row"]
    top_x: Exams
    top_slope: Exams
    share: Float[Tensor, " row"]
    rises: Float[Tensor, " row"]
    top_then: Float[Tensor, " row"]
    halved: Tensor
    density: Float[Tensor, "row 2"]
    changed_then: Float[Tensor, "row 2"]

    def of(self, kept: Tensor) -> _State:
        return _State(**{field.name: getattr(self, field.name)[kept] for field in fields(self)})


def climb(search: Search, loss: Loss, generators: Sequence[torch.Generator], steps: int) -> None:
    """Run Auto-PGD once on the exams that still hold; `Search` keeps what is found."""
    rows = search.active()
    if not rows.numel():
        return
    target, norm = search.rough.of(rows), search.target.case.threat.norm
    now = random_start(target.clean, target.size, norm, [generators[row] for row in rows.tolist()])
    value, margin, slope = gradient(target, now, loss)
    search.keep(rows, now, margin)
    none, share = torch.zeros_like(value), torch.full_like(value, 1.0 if norm == "l1" else 2.0)
    density, all_values = (torch.full_like(target.size, of) for of in (FIRST_DENSITY, target.clean[0].numel() // 2))
    state = _State(
        rows, now, now, slope, value, value, now, slope, share, none, value, none.bool(), density, all_values
    )
    often = max(1, int(LOOK * steps))
    looked_at, last_look = set(range(often, steps, often) if norm == "l1" else checkpoints(steps)), 0
    for step in range(1, steps + 1):
        if search.stop:
            kept = (~search.broken[state.rows]).nonzero()[:, 0]
            if len(kept) < len(state.rows):
                state, target = state.of(kept), target.of(kept)
        if not len(state.rows):
            return
        _step(search, state, target, loss, 1.0 if step == 1 else MOMENTUM)
        if step in looked_at:
            if norm == "l1":
                _look_at_sparsity(state, target)
            else:
                _look(state, step - last_look)
            last_look = step


def _step(search: Search, state: _State, target: Target, loss: Loss, momentum: float) -> None:
    norm, size = target.case.threat.norm, target.size
    ahead = ascend(state.now, state.slope, state.share[:, None] * size, norm, state.density)
    ahead = back(ahead, target.clean, size, norm)
    if norm != "l1":
        ahead = state.now + momentum * (ahead - state.now) + (1 - momentum) * (state.now - state.before)
        ahead = back(ahead, target.clean, size, norm)
    state.before, state.now = state.now, ahead
    value, margin, state.slope = gradient(target, state.now, loss)
    search.keep(state.rows, state.now, margin)
    state.rises += value > state.loss
    state.loss = value
    higher = value > state.top
    state.top = torch.where(higher, value, state.top)
    state.top_x = torch.where(higher[:, None, None, None], state.now, state.top_x)
    state.top_slope = torch.where(higher[:, None, None, None], state.slope, state.top_slope)


def _look(state: _State, steps: int) -> None:
    """Halve the step where the loss rose too rarely or its top has not moved, and go on from the top."""
    stuck = ~state.halved & (state.top <= state.top_then)
    halve = (state.rises < RISES * steps) | stuck
    state.share = torch.where(halve, state.share / 2, state.share)
    there = halve[:, None, None, None]
    state.now = torch.where(there, state.top_x, state.now)
    state.before = torch.where(there, state.top_x, state.before)
    state.slope = torch.where(there, state.top_slope, state.slope)
    state.loss = torch.where(halve, state.top, state.loss)
    state.halved, state.top_then, state.rises = halve, state.top.clone(), torch.zeros_like(state.rises)


def _look_at_sparsity(state: _State, target: Target) -> None:
    """Move fewer values, as many as the top changes; long steps again, from the top, where it has become sparser."""
    changed = (state.top_x != target.clean).reshape(len(state.rows), 2, -1)
    count = changed.sum(dim=2).to(state.density)
    sparser = (count < SPARSER * state.changed_then).any(dim=1)
    state.density = count / changed.shape[2] / SHORTER
    state.share = torch.where(sparser, 1.0, (state.share / SHORTER).clamp(min=LEAST_STEP))
    there = sparser[:, None, None, None]
    state.now = torch.where(there, state.top_x, state.now)
    state.slope = torch.where(there, state.top_slope, state.slope)
    state.loss = torch.where(sparser, state.top, state.loss)
    state.changed_then = count
