"""The framework's own check of a mix-up of an exam: as `apply` does, the answer is judged again from the pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.schema.specs import StressSpec
from workbench.stress.apply import StressResult
from workbench.stress.calls import Answer, calls, clean_answers, stressed_answers
from workbench.stress.exam import EXAM_STRESSES, Eyes, Pixels, Rearranged, check_exam_stress, chosen_eyes
from workbench.stress.norms import linf
from workbench.stress.target import check_pixels


def apply_exam_stress(
    model: nn.Module,
    x: Pixels,
    present: Eyes,
    spec: StressSpec,
    seeds: Sequence[int],
    *,
    threshold: float,
    others: Pixels | None = None,
    clean_logits: Float[Tensor, "exam 2 grade"] | None = None,
    answer: Answer | None = None,
    copy: nn.Module | None = None,
) -> tuple[StressResult, Rearranged]:
    """Return what a mix-up did to some exams, and whether the deterministic call differs from the clean one.

    Args:
        model: ``(x, present) -> logits``; held in eval mode and fp32, and left as it was found.
        x: in [0, 1].
        present: which eyes were photographed.
        spec: the mix-up.
        seeds: one per exam; they decide which eye, where none is named.
        threshold: P(referable) from which an exam is called referable.
        others: another patient's exam for each, zero where none was found.
        clean_logits: the model's answers to ``x`` in fp32, where they are known.
        answer: as of `apply_stress`.
        copy: of the model, which is asked first, see `stressed_answers`.

    Raises:
        WorkbenchError: a strength other than 0 and 1, an option, pixels outside [0, 1].
    """
    check_exam_stress(spec)
    check_pixels(x)
    chosen = chosen_eyes(spec, seeds)
    mixed = Rearranged(x.clone(), present.clone(), ("",) * len(x))
    if spec.strength:
        mixed = EXAM_STRESSES[spec.name](x, present, chosen, others)
    before = clean_answers(model, x, present) if clean_logits is None else clean_logits
    after = stressed_answers(model, mixed.x, mixed.present, threshold=threshold, copy=copy, answer=answer)
    flipped = calls(before, threshold) != calls(after, threshold)
    kept, change = torch.ones_like(flipped), linf(mixed.x - x)
    result = StressResult(
        x=mixed.x,
        linf=change,
        within_budget=kept,
        in_box=kept,
        flipped=flipped,
        survives_8bit=flipped,
        notes=("",) * len(x),
        distance=change,
        success=flipped,
        already=~kept,
        applicable=torch.tensor([not why for why in mixed.not_applicable], dtype=torch.bool),
    )
    return result, mixed
