"""Checks 7 to 13, 18, 19 and 24: whether the white-box attack is as strong as it should be, exam by exam."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.models.modes import measuring
from workbench.schema.seeds import seed_for
from workbench.schema.specs import StressSpec
from workbench.schema.threat import Aim
from workbench.stress.apply import StressResult, apply_stress
from workbench.stress.auto_attack.descent import pgd
from workbench.stress.credibility.subject import PerExam, Subject, reached
from workbench.stress.credibility.surrogate import smooth_copy
from workbench.stress.target import Target

RUNGS: Final = (1 / 16, 1 / 4, 1.0, 4.0)
"""Shares of the attack's ε, from small to large; the whole pixel range comes last."""
FULL: Final = 255.0
NOISES: Final = 20
"""Pictures of random noise per exam."""

Facts = dict[str, list[object]]
"""Column → one value per exam."""


def of_descents(subject: Subject, once: StressResult, classes: int) -> Facts:
    """Return what each attack did to each exam; the exams have a gradient.

    Args:
        subject: the exams.
        once: what the attack under examination made of them, pushed on as far as it goes.
        classes: that the model tells apart.
    """
    most_severe = Aim(goal="targeted", target_grade=classes - 1)
    twice = _harder(subject, subject.epsilon)
    found: dict[str, Tensor] = {
        "already": once.already,
        "fgsm": subject.under("fgsm").success,
        "pgd": once.success,
        "pgd_more": twice,
        "within_budget": once.within_budget & once.in_box,
        "untargeted": _aimed(subject, Aim(goal="untargeted")),
        "targeted": _aimed(subject, most_severe),
        "unbounded": _unbounded(subject),
    }
    facts: Facts = {name: list(values.tolist()) for name, values in found.items()}
    flipped, kept = once.flipped.tolist(), once.survives_8bit.tolist()
    lasts = subject.epsilon >= 1
    facts["survives_8bit"] = [saved if was and lasts else None for was, saved in zip(flipped, kept, strict=True)]
    climbed, tells = ladder(subject, once.success), trace(subject)
    facts |= {name: list(values.tolist()) for name, values in tells.items()}
    facts["ladder_epsilon"] = [list(climbed) for _ in range(len(subject))]
    facts["ladder"] = [list(column) for column in zip(*(one.tolist() for one in climbed.values()), strict=True)]
    return facts | without_gradient(subject, holding(climbed), twice)


def _aimed(subject: Subject, aim: Aim) -> PerExam:
    return subject.under("pgd", aim=aim, steps=subject.steps, stop=True).success


def _harder(subject: Subject, epsilon: float) -> PerExam:
    """Return what twice the steps and a second, random start break."""
    return subject.under("pgd", epsilon, steps=2 * subject.steps, restarts=2, stop=True).success


def _unbounded(subject: Subject) -> PerExam:
    """Return what a long search over the whole range breaks."""
    return subject.under("apgd", FULL, steps=5 * subject.steps, stop=True).success


def ladder(subject: Subject, broken: PerExam) -> dict[float, PerExam]:
    """Return ε → what the attack breaks there, up to the whole pixel range; at the attack's own ε, ``broken``."""
    rungs = sorted({min(share * subject.epsilon, FULL) for share in RUNGS} | {FULL})
    found = {subject.epsilon: broken}
    for rung in rungs:
        if rung not in found:
            found[rung] = subject.under("pgd", rung, steps=subject.steps, stop=True).success
    return {rung: found[rung] for rung in rungs}


def holding(climbed: dict[float, PerExam]) -> Float[Tensor, " exam"]:
    """Return per exam the largest ε below the whole range at which it holds; NaN: it breaks at each."""
    held = torch.full((len(climbed[FULL]),), torch.nan, dtype=torch.float64)
    for epsilon, broken in sorted(climbed.items()):
        if epsilon < FULL:
            held = torch.where(broken, held, epsilon)
    return held


def without_gradient(subject: Subject, at: Float[Tensor, " exam"], twice: PerExam | None) -> Facts:
    """Return what a gradient is not needed for, each exam at the largest ε at which the descent had not broken it.

    Where the black box, random noise or a transferred attack breaks what the harder descent does not, the gradient is
    not to be trusted.

    Args:
        subject: the exams.
        at: that ε of each exam; NaN: it has none, and its facts are null.
        twice: what the harder descent broke at the attack's own ε; None: there is nothing to descend along.
    """
    names = ("holds", "square", "label_only", "noise", "transfer")
    facts: Facts = {name: [None] * len(subject) for name in names}
    facts["held_epsilon"] = [None if value != value else value for value in at.tolist()]
    for epsilon in sorted({value for value in at.tolist() if value == value}):
        rows = (at == epsilon).nonzero()[:, 0]
        some = replace(subject.of(rows), epsilon=epsilon)
        tried = {
            "holds": ~_even_so(some, None if twice is None else twice[rows], known=epsilon == subject.epsilon),
            "square": some.under("square", aim=Aim(knowledge="scores"), tries=some.tries).success,
            "label_only": some.under("rays", aim=Aim(knowledge="labels"), queries=some.queries).success,
            "noise": random_noise(some),
        }
        if twice is not None or some.surrogate is not None:  # a copy of a model without a gradient has none either
            tried["transfer"] = transferred(some)
        for name, values in tried.items():
            for row, value in zip(rows.tolist(), values.tolist(), strict=True):
                facts[name][row] = value
    return facts


def _even_so(some: Subject, twice: PerExam | None, *, known: bool) -> PerExam:
    """Return what is broken there with twice the effort, which is ``twice`` where ``known``; without one, the wrong."""
    if twice is None:
        return some.under("pgd", 0.0).success
    return twice if known else _harder(some, some.epsilon)


def random_noise(subject: Subject) -> PerExam:
    """Return which exams any of a few pictures of ±ε, drawn by lot, breaks."""
    with measuring(subject.model):
        target = subject.target()
        bound = target.size.repeat_interleave(3, dim=1)[:, :, None, None]
        broken = torch.zeros(len(subject), dtype=torch.bool)
        lots = [torch.Generator().manual_seed(seed_for(seed, "noise in the ball")) for seed in subject.seeds]
        for _ in range(NOISES):
            signs = torch.stack([torch.randint(0, 2, subject.x.shape[1:], generator=lot) for lot in lots])
            broken |= reached(target, (subject.x + bound * (2 * signs - 1)).clamp(0.0, 1.0))
    return broken


def transferred(subject: Subject) -> PerExam:
    """Return which exams the same attack breaks when it is made on the surrogate."""
    surrogate = subject.surrogate or smooth_copy(subject.model, subject.seeds[0])
    spec = StressSpec(name="pgd", strength=subject.epsilon, eyes=subject.eyes, options={"steps": subject.steps})
    made = apply_stress(
        surrogate, subject.x, subject.present, subject.y, spec, subject.seeds, threshold=subject.threshold
    )
    with measuring(subject.model):
        return reached(subject.target(), made.x)


@dataclass(frozen=True)
class _Logged(Target):
    """A target that writes down each margin that it is asked for, but for the smooth ones."""

    log: list[Tensor] = field(default_factory=list)

    def margin(self, x: Float[Tensor, "exam 6 height width"], *, soft: bool = False) -> Float[Tensor, " exam"]:
        value = super().margin(x, soft=soft)
        if not soft:
            self.log.append(value.detach())
        return value


def trace(subject: Subject) -> dict[str, Tensor]:
    """Return in which share of its steps the attack rose, and whether what it returns is its best iterate."""
    with measuring(subject.model):
        plain = subject.target()
        logged = _Logged(**{name: getattr(plain, name) for name in Target.__dataclass_fields__}, log=[])
        may = (logged.size > 0).any(dim=1)
        generators = [torch.Generator().manual_seed(seed) for seed in subject.seeds]
        returned = pgd(logged, generators, steps=subject.steps, stop=False, fast=False)
        iterates = torch.stack(logged.log[1:])
        with torch.no_grad():
            last, before = plain.margin(returned), logged.log[0]
    best = before.clone()
    best[may] = torch.maximum(best[may], iterates.amax(dim=0))
    rises = torch.zeros(len(subject))
    rises[may] = (iterates[1:] > iterates[:-1]).float().mean(dim=0)
    return {"pgd_rises": rises, "best_kept": last >= best - 1e-3 * best.abs().clamp(min=1.0)}
