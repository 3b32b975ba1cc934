"""What the training minimises: grades, their order, and the question of referral."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from workbench.models.referable import referable_log_odds
from workbench.schema.grades import REFERABLE_GRADE
from workbench.training.config import LossSection


def class_weights(grades: Int64[Tensor, "exam 2"], count: int, power: float) -> Float[Tensor, " grade"]:
    """Return (1 / frequency) ** ``power`` per grade, scaled so that the graded eyes weigh 1 on average."""
    counts = torch.bincount(grades[grades >= 0], minlength=count).double()
    weights = counts.clamp(min=1) ** -power
    return (weights * counts.sum() / (weights * counts).sum()).float()


def ranked_probability_score(logits: Float[Tensor, "eye grade"], grade: Int64[Tensor, " eye"]) -> Float[Tensor, " eye"]:
    """Return Σ over k of (P(grade ≤ k) − [grade ≤ k])²: a far miss costs more than a near one (Epstein 1969)."""
    levels = torch.arange(logits.shape[-1] - 1, device=logits.device)
    reached = (grade[:, None] <= levels).to(logits.dtype)
    return (logits.softmax(-1).cumsum(-1)[:, :-1] - reached).square().sum(-1)


def grading_loss(
    logits: Float[Tensor, "exam 2 grade"],
    grade: Int64[Tensor, "exam 2"],
    weights: Float[Tensor, " grade"],
    settings: LossSection,
) -> Float[Tensor, ""]:
    """Return the mean loss of the eyes that have a grade; ``grade`` is −1 where an eye must not count.

    Cross-entropy of the grades, weighted by class, plus the binary cross-entropy of referable (grade ≥ 2) against
    not, plus the ranked probability score. Without a graded eye it is zero.
    """
    known = (grade >= 0).flatten()
    flat, target = logits.float().flatten(0, 1), grade.flatten().clamp(min=0)
    weight = weights[target] * known
    each = functional.cross_entropy(flat, target, label_smoothing=settings.label_smoothing, reduction="none")
    loss = _mean(each, weight)
    if settings.referable_weight:
        referable = (target >= REFERABLE_GRADE).to(flat.dtype)
        odds = referable_log_odds(logits.float()).flatten()
        each = functional.binary_cross_entropy_with_logits(odds, referable, reduction="none")
        loss = loss + settings.referable_weight * _mean(each, known.to(flat.dtype))
    if settings.ordinal_weight:
        loss = loss + settings.ordinal_weight * _mean(ranked_probability_score(flat, target), weight)
    return loss


def _mean(values: Float[Tensor, " eye"], weight: Float[Tensor, " eye"]) -> Float[Tensor, ""]:
    return (values * weight).sum() / weight.sum().clamp(min=torch.finfo(values.dtype).tiny)
