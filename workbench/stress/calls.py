"""How a stressed exam is called: by the model in fp32, or by a faithful copy far enough from the threshold."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.models.fast import doubtful
from workbench.models.modes import measuring
from workbench.models.referable import bind_present, referable_log_odds

Answer = Callable[[nn.Module, Float[Tensor, "exam 6 height width"], Bool[Tensor, "exam 2"]], Tensor]
"""``(net, x, present) -> logits``: one pass of the model or of a copy of it, by a caller who has more use for it."""


def calls(logits: Float[Tensor, "exam 2 grade"], threshold: float) -> Bool[Tensor, " exam"]:
    """Return whether each exam is called referable: P(referable) of its worse eye reaches the threshold."""
    return torch.sigmoid(referable_log_odds(logits)).amax(dim=1) >= threshold


def clean_answers(
    model: nn.Module, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]
) -> Float[Tensor, "exam 2 grade"]:
    """Return the logits of the model held still and in fp32: what every stress of these exams is judged against."""
    with measuring(model), torch.no_grad():
        return bind_present(model, present.clone())(x.detach().float().clone())


def stressed_answers(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    *,
    threshold: float,
    copy: nn.Module | None = None,
    answer: Answer | None = None,
) -> Float[Tensor, "exam 2 grade"]:
    """Return the logits of stressed exams, whose calls are the model's own in fp32.

    A faithful copy is asked where one is given, and the model itself answers again for each exam that comes near the
    threshold, or whose answer is not finite.

    Args:
        model: ``(x, present) -> logits``.
        x: in [0, 1].
        present: which eyes there are.
        threshold: P(referable) from which an exam is called referable.
        copy: see `workbench.models.fast`.
        answer: makes the passes; None: they are the net's own.
    """
    ask = _plainly if answer is None else answer
    with measuring(model), torch.no_grad():
        logits = bind_present(partial(ask, model if copy is None else copy), present)(x)
        if copy is not None:
            near = doubtful(logits, threshold)
            if near.any():
                logits[near] = bind_present(partial(ask, model), present[near])(x[near])
        return logits


def _plainly(net: nn.Module, x: Tensor, present: Tensor) -> Tensor:
    logits: Tensor = net(x, present)
    return logits
