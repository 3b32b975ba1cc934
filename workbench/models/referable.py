"""P(referable) of an eye as log-odds, where nothing saturates; the worse present eye speaks for the exam."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import REFERABLE_GRADE

ABSENT = 1e4
"""An absent eye's log-odds of *not* being referable: it never is the worse one, and its gradient is zero."""


def referable_log_odds(logits: Float[Tensor, "exam 2 grade"]) -> Float[Tensor, "exam 2"]:
    """Return log P(referable) − log P(not referable) per eye: P(referable) = Σ p(grade ≥ 2) = sigmoid of it.

    Raises:
        WorkbenchError: the model has no referable grade.
    """
    if logits.shape[-1] <= REFERABLE_GRADE:
        raise WorkbenchError(f"the model answers {logits.shape[-1]} grades", "wrap it into the five ICDR grades")
    healthy, referable = logits[..., :REFERABLE_GRADE], logits[..., REFERABLE_GRADE:]
    return torch.logsumexp(referable, dim=-1) - torch.logsumexp(healthy, dim=-1)


def bind_present(
    model: Callable[[Tensor, Tensor], Tensor], present: Bool[Tensor, "exam 2"]
) -> Callable[[Tensor], Tensor]:
    """Return ``x -> logits`` with ``present`` bound; an absent eye answers 'no DR' with certainty and no gradient."""
    pixels = present.repeat_interleave(3, dim=1)[:, :, None, None]

    def bound(x: Float[Tensor, "exam 6 height width"]) -> Float[Tensor, "exam 2 grade"]:
        logits = model(torch.where(pixels, x, x.detach()), present)
        absent = torch.full_like(logits, -ABSENT)
        absent[..., 0] = 0.0
        return torch.where(present[..., None], logits, absent)

    return bound
