"""FGSM and PGD of our own: the same steps as the papers', on the exams that still hold, the best iterate kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from workbench.schema.errors import WorkbenchError
from workbench.stress.auto_attack.search import Exams, Search, gradient, soft_margin
from workbench.stress.auto_attack.steps import ascend, back, random_start, refuse_norm
from workbench.stress.target import Target


def fgsm(target: Target, _: Sequence[torch.Generator], *, fast: bool = False) -> Exams:
    """Return one step of ε up the goal's slope: its sign in linf (Goodfellow et al. 2015), see `steps.ascend`.

    Raises:
        WorkbenchError: a norm without a step.
    """
    refuse_norm("fgsm", target.case.threat.norm)
    search = Search(target, stop=False, fast=fast)
    rows = search.active()
    if rows.numel():
        moved = search.rough.of(rows)
        slope = gradient(moved, moved.clean, soft_margin)[2]
        norm = moved.case.threat.norm
        search.best[rows] = back(ascend(moved.clean, slope, moved.size, norm), moved.clean, moved.size, norm)
    return search.best


def pgd(
    target: Target,
    generators: Sequence[torch.Generator],
    *,
    steps: int = 10,
    step_share: float = 0.25,
    stop: bool = False,
    fast: bool = True,
    restarts: int = 1,
) -> Exams:
    """Return the best of ``steps`` projected gradient steps of ε·``step_share`` (Madry et al. 2018; l1: SLIDE's).

    Without ``stop`` it pushes on after the goal is reached, so that strength curves and *confident* errors are seen.
    The first start is the exam itself; each further restart begins at a random point of the ball.

    Raises:
        WorkbenchError: steps or restarts < 1, a step share outside (0, 1], a norm without a step.
    """
    refuse_norm("pgd", target.case.threat.norm)
    if steps < 1 or restarts < 1:
        name, value = ("steps", steps) if steps < 1 else ("restarts", restarts)
        raise WorkbenchError(f"pgd: {name} is {value}", "it must be a whole number from 1")
    if not 0 < step_share <= 1:
        raise WorkbenchError(f"pgd: step_share is {step_share:g}", "a step is a share of epsilon, above 0 and up to 1")
    search = Search(target, stop=stop, fast=fast)
    for restart in range(restarts):
        descend(search, generators if restart else None, steps, step_share)
    return search.best


def descend(search: Search, generators: Sequence[torch.Generator] | None, steps: int, step_share: float) -> None:
    """Run projected gradient steps on the exams that still hold, from a random point, or from the exam without any."""
    rows = search.active()
    if not rows.numel():  # an earlier start broke every exam
        return
    target, norm = search.rough.of(rows), search.target.case.threat.norm
    now = target.clean
    if generators is not None:
        now = random_start(now, target.size, norm, [generators[row] for row in rows.tolist()])
    for step in range(steps + 1):
        if not rows.numel():
            return
        if step == steps:
            with torch.no_grad():
                search.keep(rows, now, target.margin(now))
            return
        _, margin, slope = gradient(target, now, soft_margin)
        broken = search.keep(rows, now, margin)
        now = back(ascend(now, slope, target.size * step_share, norm), target.clean, target.size, norm)
        if search.stop and broken.any():
            kept = (~broken).nonzero()[:, 0]
            rows, target, now = rows[kept], target.of(kept), now[kept]
