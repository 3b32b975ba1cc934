"""The framework's own check of a stress: no attack reports its own success."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from workbench.models.modes import measuring
from workbench.models.referable import bind_present
from workbench.schema.errors import WorkbenchError
from workbench.schema.seeds import seed_for
from workbench.schema.specs import StressSpec
from workbench.schema.threat import OF_THE_REFERRAL, Norm
from workbench.stress.calls import Answer, calls, clean_answers, stressed_answers
from workbench.stress.goals import Answers, Deployed, not_applicable
from workbench.stress.map_goal import Explained
from workbench.stress.norms import NORMS, ROUNDING, linf, project, within
from workbench.stress.registry import ATTACKS, bind
from workbench.stress.target import EOT_DRAWS, Target, aim_at, is_random, own_draws

EYES_OF: Final[dict[str, tuple[Literal["both", "OD", "OS"], ...]]] = {
    "both": ("both",),
    "OD": ("OD",),
    "OS": ("OS",),
    "worst_of_one": ("OD", "OS"),
}
"""Which eyes are stressed at once; where there are two tries, the stronger one is kept per exam."""


@dataclass(frozen=True)
class StressResult:
    """What a stress did to some exams, as the framework saw it.

    Attributes:
        x: the stressed exams, inside the box and the budget.
        linf: largest change of a pixel per eye, OD then OS, of the pixel range.
        within_budget: what the stress returned kept to its budget: ε in the threat's norm (attacks) or the whole range
            (corruptions) on the named present eyes, nothing elsewhere. Where it did not, ``x`` was put back and
            ``notes`` says so.
        in_box: what the stress returned was finite and in [0, 1]; else as above.
        flipped: the deterministic call (P(referable) of the worse present eye ≥ threshold, in fp32) differs from the
            clean exam's.
        survives_8bit: it still does after the pixels are rounded to 8 bits.
        notes: one text per exam, empty where all is well.
        distance: the change per eye in the threat's norm and its units.
        success: the threat's goal is reached, judged in fp32 from the pixels alone; of the stochastic system on fresh
            draws that the attack did not see.
        already: the goal was reached by the exam as it is.
        applicable: the goal can be wanted of the exam; else ``notes`` says why not, and it was not attacked.
    """

    x: Float[Tensor, "exam 6 height width"]
    linf: Float[Tensor, "exam 2"]
    within_budget: Bool[Tensor, " exam"]
    in_box: Bool[Tensor, " exam"]
    flipped: Bool[Tensor, " exam"]
    survives_8bit: Bool[Tensor, " exam"]
    notes: tuple[str, ...]
    distance: Float[Tensor, "exam 2"]
    success: Bool[Tensor, " exam"]
    already: Bool[Tensor, " exam"]
    applicable: Bool[Tensor, " exam"]


def apply_stress(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    y: Int64[Tensor, "exam 2"],
    spec: StressSpec,
    seeds: Sequence[int],
    *,
    threshold: float,
    deployed: Deployed | None = None,
    pattern: Float[Tensor, "6 height width"] | None = None,
    clean_logits: Float[Tensor, "exam 2 grade"] | None = None,
    explained: Explained | None = None,
    answer: Answer | None = None,
    copy: nn.Module | None = None,
) -> StressResult:
    """Stress the exams, put what comes back into the box and the budget, and judge it again from its pixels.

    Args:
        model: ``(x, present) -> logits``; it is held in eval mode and fp32, and left as it was found.
        x: in [0, 1], OD RGB then OS RGB.
        present: which eyes were photographed; an absent eye is never changed.
        y: true grades, −1 where there is none.
        spec: the stress.
        seeds: one per exam (`schema.seeds.seed_for`).
        threshold: P(referable) from which an exam is called referable.
        deployed: the stochastic system and its referral rule; it is attacked where the goal is about the referral, or
            where the stress's option ``draws`` asks for it.
        pattern: of a stress that is one perturbation for all exams, see `apply_universal.fit_universal`.
        clean_logits: the model's answers to ``x`` in fp32, where they are known (`clean_answers`).
        explained: the model's map, for the goal *explanation*.
        answer: makes the pass over the stressed exams, for a caller who has more use for it.
        copy: of the model, which judges a corruption in its place, see `stressed_answers`; an attack is judged by the
            model itself.

    Raises:
        WorkbenchError: an unknown stress or option, a strength out of range, not one seed per exam, a goal that needs
            what is not given.
    """
    if len(seeds) != len(x):
        raise WorkbenchError(f"{len(seeds)} seeds for {len(x)} exams", "give one seed per exam")
    bind(spec, threshold=threshold)  # a mistake is told before anything is computed
    with measuring(model):
        # Copies, because tensors made under inference_mode cannot take part in a backward pass.
        clean, present, y = x.detach().float().clone(), present.clone(), y.clone()
        before = clean_answers(model, clean, present) if clean_logits is None else clean_logits
        best: _Try | None = None
        for eyes in EYES_OF[spec.eyes]:
            target = target_of(model, clean, present, y, spec, eyes, seeds, threshold, deployed, before, explained)
            target = replace(target, pattern=pattern)
            found = _try(target, spec.model_copy(update={"eyes": eyes}), y, seeds, threshold, answer, copy)
            best = found if best is None else _stronger(best, found)
        assert best is not None
        return _judged(model, best, before, spec, present, threshold)


@dataclass(frozen=True)
class _Try:
    """What came of stressing one choice of eyes, put back and judged."""

    clean: Tensor
    x: Tensor
    in_box: Tensor
    within_budget: Tensor
    logits: Tensor
    margin: Tensor
    before: Tensor
    why_not: tuple[str, ...]


def target_of(
    model: nn.Module,
    clean: Tensor,
    present: Tensor,
    y: Tensor,
    spec: StressSpec,
    eyes: Literal["both", "OD", "OS"],
    seeds: Sequence[int],
    threshold: float,
    deployed: Deployed | None,
    clean_logits: Tensor | None = None,
    explained: Explained | None = None,
) -> Target:
    """Return what a stress is aimed at on one choice of eyes; arguments as of `apply_stress`."""
    threat = spec.threat.model_copy(update={"eyes": eyes})
    draws = spec.options.get("draws", 0)
    aims_at_draws = bool(draws) or threat.goal in OF_THE_REFERRAL
    if deployed is None and spec.name in ATTACKS and is_random(model, clean, present):
        deployed, aims_at_draws = own_draws(model), True
    if draws and deployed is None:
        raise WorkbenchError(f"{spec.name}: draws is {draws}, but no maker of draws is given", "leave draws out")
    return aim_at(
        model,
        clean,
        present,
        y,
        threat,
        [seed_for(seed, "attacked draws") for seed in seeds],
        threshold=threshold,
        deployed=deployed if aims_at_draws else None,
        draws=int(draws) or EOT_DRAWS,
        clean_logits=clean_logits,
        explained=explained,
    )


def _try(
    target: Target,
    spec: StressSpec,
    y: Tensor,
    seeds: Sequence[int],
    threshold: float,
    answer: Answer | None,
    copy: nn.Module | None,
) -> _Try:
    stress = bind(spec, threshold=threshold)
    clean, is_attack = target.clean, spec.name in ATTACKS
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    raw = stress(target, clean.clone(), y, generators).detach()
    why_not = not_applicable(target.case) if is_attack else ("",) * len(clean)
    applicable = torch.tensor([not why for why in why_not], dtype=torch.bool, device=clean.device)
    raw = torch.where(applicable[:, None, None, None], raw, clean)
    allowed = target.case.named & target.present
    size = target.size if is_attack else allowed.to(clean)
    norm: Norm = spec.aim.norm if is_attack else "linf"
    stressed, in_box, within_budget = put_back(raw, clean, size, norm)
    if spec.aim.eight_bit:
        stressed = as_8_bit(stressed, clean, size, norm)
    judge = judge_of(target, seeds)
    logits = stressed_answers(
        target.model,
        stressed,
        target.present,
        threshold=threshold,
        copy=None if is_attack else copy,
        answer=answer,
    )
    with torch.no_grad():
        answered = judge if judge.deployed is not None else replace(judge, known=Answers(logits))
        margin, before = answered.margin(stressed), judge.margin_of_clean()
    return _Try(clean, stressed, in_box, within_budget, logits, margin, before, why_not)


def judge_of(target: Target, seeds: Sequence[int]) -> Target:
    """Return the target that judges: where there are draws, on others than the attack saw, as many as decide."""
    if target.deployed is None:
        return target
    fresh = tuple(seed_for(seed, "judged draws") for seed in seeds)
    return replace(target, seeds=fresh, draws=target.deployed.count, known_clean=None)


def _stronger(one: _Try, other: _Try) -> _Try:
    """Return, per exam, the try that went further past the goal; one that may not be tried never does."""
    may_not = torch.tensor([bool(why) for why in other.why_not]), torch.tensor([bool(why) for why in one.why_not])
    takes = ~may_not[0] & (may_not[1] | (other.margin > one.margin))

    def of_each(name: str) -> Tensor:
        first: Tensor = getattr(one, name)
        return torch.where(takes.reshape(-1, *[1] * (first.dim() - 1)), getattr(other, name), first)

    why_not = tuple(b if taken else a for a, b, taken in zip(one.why_not, other.why_not, takes.tolist(), strict=True))
    names = ("x", "in_box", "within_budget", "logits", "margin", "before")
    return _Try(one.clean, **{name: of_each(name) for name in names}, why_not=why_not)


def _judged(
    model: nn.Module, tried: _Try, before: Tensor, spec: StressSpec, present: Tensor, threshold: float
) -> StressResult:
    with torch.no_grad():
        called = calls(before, threshold)
        flipped = calls(tried.logits, threshold) != called
        survives = _still_flipped(model, tried.x, present, flipped, called, threshold)
    change = tried.x - tried.clean
    applicable = torch.tensor([not why for why in tried.why_not], dtype=torch.bool)
    return StressResult(
        x=tried.x,
        linf=linf(change),
        within_budget=tried.within_budget,
        in_box=tried.in_box,
        flipped=flipped,
        survives_8bit=survives,
        notes=_notes(tried),
        distance=NORMS[spec.aim.norm](change) * (255 if spec.aim.norm == "linf" else 1),
        success=(tried.margin > 0) & applicable,
        already=(tried.before > 0) & applicable,
        applicable=applicable,
    )


def put_back(
    raw: Float[Tensor, "exam 6 height width"],
    clean: Float[Tensor, "exam 6 height width"],
    size: Float[Tensor, "exam 2"],
    norm: Norm = "linf",
) -> tuple[Float[Tensor, "exam 6 height width"], Bool[Tensor, " exam"], Bool[Tensor, " exam"]]:
    """Return ``raw`` inside the box and the budget (clean where not finite), and per exam whether it was in each.

    Args:
        raw: what a stress returned.
        clean: what it was given.
        size: how far each eye may be changed, in pixels of the range [0, 1]; 0: not at all.
        norm: by which.
    """
    finite = torch.isfinite(raw)
    in_box = (finite & (raw >= -ROUNDING) & (raw <= 1 + ROUNDING)).flatten(1).all(dim=1)
    kept = torch.where(finite, raw, clean)
    within_budget = within(kept - clean, size, norm).all(dim=1)
    boxed = kept.clamp(0.0, 1.0)
    if norm == "linf":  # x ± ε at once, so that an attack that keeps to it is given back to the bit
        bound = size.repeat_interleave(3, dim=1)[:, :, None, None]
        return torch.minimum(torch.maximum(boxed, clean - bound), clean + bound), in_box, within_budget
    outside = ~within(boxed - clean, size, norm)
    back = clean + project(boxed - clean, size, norm)
    return torch.where(outside.repeat_interleave(3, dim=1)[:, :, None, None], back, boxed), in_box, within_budget


def as_8_bit(
    x: Float[Tensor, "exam 6 height width"],
    clean: Float[Tensor, "exam 6 height width"],
    size: Float[Tensor, "exam 2"],
    norm: Norm,
) -> Float[Tensor, "exam 6 height width"]:
    """Return the picture as 8 bits hold it, inside the budget: rounded, or where that leaves it, towards the clean."""
    nearest = torch.round(x * 255) / 255
    levels = (x - clean) * 255
    shorter = clean + torch.trunc(levels + levels.sign() * 1e-3) / 255
    eyes = within(nearest - clean, size, norm).repeat_interleave(3, dim=1)[:, :, None, None]
    return torch.where(eyes, nearest, shorter)


def _still_flipped(
    model: nn.Module, x: Tensor, present: Tensor, flipped: Tensor, called: Tensor, threshold: float
) -> Bool[Tensor, " exam"]:
    saved = torch.round(x * 255) / 255
    again = flipped & (saved != x).flatten(1).any(dim=1)
    survives = flipped.clone()
    if again.any():
        logits = bind_present(model, present[again])(saved[again])
        survives[again] = calls(logits, threshold) != called[again]
    return survives


def _notes(tried: _Try) -> tuple[str, ...]:
    left = zip(tried.in_box.tolist(), tried.within_budget.tolist(), tried.why_not, strict=True)
    return tuple(_note(*told) for told in left)


def _note(in_box: bool, within_budget: bool, why_not: str) -> str:
    faults = ["the stress left the pixel range"] if not in_box else []
    faults += ["the stress left its budget"] if not within_budget else []
    if why_not:
        return f"not applicable: {why_not}"
    return "; ".join(faults) + ("; put back" if faults else "")
