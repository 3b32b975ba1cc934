"""The framework's own check of a stress: no attack reports its own success."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from workbench.models.modes import measuring
from workbench.models.referable import bind_present, referable_log_odds
from workbench.schema.errors import WorkbenchError
from workbench.schema.specs import StressSpec
from workbench.stress.attacks import ATTACKS, named_pixels
from workbench.stress.registry import bind

ROUNDING: Final = 1e-6
"""How far a pixel may pass its bound before it counts: float32 rounding of x ± ε, 1/4000 of a grey level."""


@dataclass(frozen=True)
class StressResult:
    """What a stress did to some exams, as the framework saw it.

    Attributes:
        x: the stressed exams, inside the box and the budget.
        linf: largest change of a pixel per eye, OD then OS, of the pixel range.
        within_budget: what the stress returned kept to its budget: ε (attacks) or the whole range (corruptions) on the
            named present eyes, nothing elsewhere. Where it did not, ``x`` was put back and ``notes`` says so.
        in_box: what the stress returned was finite and in [0, 1]; else as above.
        flipped: the deterministic call (P(referable) of the worse present eye ≥ threshold, in fp32) differs from the
            clean exam's.
        survives_8bit: it still does after the pixels are rounded to 8 bits.
        notes: one text per exam, empty where all is well.
    """

    x: Float[Tensor, "exam 6 height width"]
    linf: Float[Tensor, "exam 2"]
    within_budget: Bool[Tensor, " exam"]
    in_box: Bool[Tensor, " exam"]
    flipped: Bool[Tensor, " exam"]
    survives_8bit: Bool[Tensor, " exam"]
    notes: tuple[str, ...]


def apply_stress(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    y: Int64[Tensor, "exam 2"],
    spec: StressSpec,
    seeds: Sequence[int],
    *,
    threshold: float,
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

    Raises:
        WorkbenchError: an unknown stress or option, a strength out of range, not one seed per exam.
    """
    if len(seeds) != len(x):
        raise WorkbenchError(f"{len(seeds)} seeds for {len(x)} exams", "give one seed per exam")
    stress = bind(spec, threshold=threshold)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    with measuring(model):
        # Copies, because tensors made under inference_mode cannot take part in a backward pass.
        clean, present, y = x.detach().float().clone(), present.clone(), y.clone()
        bound = bind_present(model, present)
        raw = stress(bound, clean.clone(), y, generators).detach()
        budget = budget_of(spec, present, clean)
        stressed, in_box, within_budget = put_back(raw, clean, budget)
        with torch.no_grad():
            called = _calls(bound, clean, threshold)
            flipped = _calls(bound, stressed, threshold) != called
            survives = _still_flipped(model, stressed, present, flipped, called, threshold)
    return StressResult(
        x=stressed,
        linf=per_eye_linf(stressed - clean),
        within_budget=within_budget,
        in_box=in_box,
        flipped=flipped,
        survives_8bit=survives,
        notes=_notes(in_box, within_budget),
    )


def budget_of(
    spec: StressSpec, present: Bool[Tensor, "exam 2"], x: Float[Tensor, "exam 6 height width"]
) -> Float[Tensor, "exam 6 1 1"]:
    """Return the largest change that each channel may show: none on an unnamed or absent eye."""
    size = spec.strength / 255 if spec.name in ATTACKS else 1.0
    allowed = present.repeat_interleave(3, dim=1)[:, :, None, None] & named_pixels(spec.eyes, x)
    return torch.where(allowed, size, 0.0).to(x)


def put_back(
    raw: Float[Tensor, "exam 6 height width"],
    clean: Float[Tensor, "exam 6 height width"],
    budget: Float[Tensor, "exam 6 1 1"],
) -> tuple[Float[Tensor, "exam 6 height width"], Bool[Tensor, " exam"], Bool[Tensor, " exam"]]:
    """Return ``raw`` inside the box and the budget (clean where not finite), and per exam whether it was in each."""
    finite = torch.isfinite(raw)
    in_box = (finite & (raw >= -ROUNDING) & (raw <= 1 + ROUNDING)).flatten(1).all(dim=1)
    kept = torch.where(finite, raw, clean)
    within_budget = ((kept - clean).abs() <= budget + ROUNDING).flatten(1).all(dim=1)
    lowest, highest = (clean - budget).clamp(min=0.0), (clean + budget).clamp(max=1.0)
    return torch.minimum(torch.maximum(kept, lowest), highest), in_box, within_budget


def per_eye_linf(change: Float[Tensor, "exam 6 height width"]) -> Float[Tensor, "exam 2"]:
    """Return the largest absolute change of a pixel, per eye."""
    return change.abs().reshape(len(change), 2, -1).amax(dim=2)


def _calls(bound: Callable[[Tensor], Tensor], x: Tensor, threshold: float) -> Bool[Tensor, " exam"]:
    return torch.sigmoid(referable_log_odds(bound(x))).amax(dim=1) >= threshold


def _still_flipped(
    model: nn.Module, x: Tensor, present: Tensor, flipped: Tensor, called: Tensor, threshold: float
) -> Bool[Tensor, " exam"]:
    saved = torch.round(x * 255) / 255
    again = flipped & (saved != x).flatten(1).any(dim=1)
    survives = flipped.clone()
    if again.any():
        survives[again] = _calls(bind_present(model, present[again]), saved[again], threshold) != called[again]
    return survives


def _notes(in_box: Bool[Tensor, " exam"], within_budget: Bool[Tensor, " exam"]) -> tuple[str, ...]:
    said = {True: "", False: "the stress left the pixel range"}, {True: "", False: "the stress left its budget"}
    pairs = zip(in_box.tolist(), within_budget.tolist(), strict=True)
    faults = ([text for text in (said[0][box], said[1][budget]) if text] for box, budget in pairs)
    return tuple("; ".join(found) + ("; put back" if found else "") for found in faults)
