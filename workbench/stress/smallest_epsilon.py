"""The smallest ε that turns each call, as an audit measures it: found, put back into its ε, read again in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from workbench.models.modes import measuring
from workbench.schema.specs import SmallestSpec, StressSpec
from workbench.schema.threat import Aim
from workbench.stress.apply import EYES_OF, judge_of, put_back, target_of
from workbench.stress.auto_attack.minimal_norm import minimal_epsilon
from workbench.stress.calls import clean_answers
from workbench.stress.goals import not_applicable
from workbench.stress.norms import NORMS
from workbench.stress.target import Target


@dataclass(frozen=True)
class Smallest:
    """What was found for one exam.

    Attributes:
        epsilon: the smallest that turns its call, in the norm's units; 0 where it is wrong already, None where the
            largest tried does not suffice.
        already: the exam is wrong as it is.
        distance: how far OD and OS were moved, in the same units.
        survives_8bit: the call is still turned after the pixels are rounded to 8 bits; None where none was turned.
        not_applicable: why nothing could be tried; empty where it was.
        confirmed: the pixels found, put back into their own ε, turn the call when they are read again.
    """

    epsilon: float | None
    already: bool
    distance: tuple[float, float]
    survives_8bit: bool | None
    not_applicable: str
    confirmed: bool


def smallest_epsilon(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    y: Int64[Tensor, "exam 2"],
    spec: SmallestSpec,
    seeds: Sequence[int],
    *,
    threshold: float,
) -> list[Smallest]:
    """Return the smallest ε at which each exam's deterministic call leaves the truth, or the model's own clean call.

    All exams are searched at once, each at its own ε. Of `worst_of_one` the eye that needs less is kept.

    Args:
        model: ``(x, present) -> logits``; it is held in eval mode and fp32, and left as it was found.
        x: in [0, 1], OD RGB then OS RGB.
        present: which eyes were photographed.
        y: true grades, −1 where there is none.
        spec: norm, largest ε, eyes and effort.
        seeds: one per exam.
        threshold: P(referable) from which an exam is called referable.
    """
    stress = StressSpec(name="apgd", strength=spec.largest, eyes=spec.eyes, aim=Aim.model_validate({"norm": spec.norm}))
    with measuring(model):
        clean, present, y = x.detach().float().clone(), present.clone(), y.clone()
        before = clean_answers(model, clean, present)
        tries = []
        for eyes in EYES_OF[spec.eyes]:
            target = target_of(model, clean, present, y, stress, eyes, seeds, threshold, None, before)
            generators = [torch.Generator().manual_seed(seed) for seed in seeds]
            found = minimal_epsilon(target, generators, steps=spec.steps, halvings=spec.halvings)
            tries.append(_read_again(judge_of(target, seeds), found.epsilon, found.x))
    return [min(of_exam, key=_order) for of_exam in zip(*tries, strict=True)]


def _order(found: Smallest) -> tuple[bool, float]:
    return bool(found.not_applicable), float("inf") if found.epsilon is None else found.epsilon


def _read_again(judge: Target, epsilon: Float[Tensor, " exam"], x: Tensor) -> list[Smallest]:
    """Return what was found, each exam judged from its pixels alone."""
    threat = judge.case.threat
    found = torch.isfinite(epsilon)
    share = torch.where(found, epsilon, 0.0) / threat.epsilon
    size = replace(judge, share=share).size
    inside = put_back(x, judge.clean, size, threat.norm)[0]
    with torch.no_grad():
        turned = judge.margin(inside) > 0
        saved = judge.margin(torch.round(inside * 255) / 255) > 0
    distance = NORMS[threat.norm](inside - judge.clean) * (255 if threat.norm == "linf" else 1)
    return [
        Smallest(
            epsilon=float(epsilon[exam]) if found[exam] else None,
            already=bool(found[exam] & (epsilon[exam] == 0)),
            distance=(float(distance[exam, 0]), float(distance[exam, 1])),
            survives_8bit=bool(saved[exam]) if found[exam] else None,
            not_applicable=why_not,
            confirmed=bool(turned[exam] == found[exam]),
        )
        for exam, why_not in enumerate(not_applicable(judge.case))
    ]
