"""What stands before the first dropout, by a faithful copy of the model: batch norms folded, channels last, bf16."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.models.fast import fast_copy
from workbench.models.modes import evaluation
from workbench.uncertainty.engine import fingerprint
from workbench.uncertainty.split import Frontier, Split, SplitError


class FoldedTrunk(nn.Module):
    """A model's copy in bf16, cut where the model is; as a module it answers as the copy does, without draws.

    What an answer was made of is kept until the next one: whoever draws from the same exams then need not pass them
    again.

    Args:
        model: ``(x, present) -> logits``, with no random modules but dropout.
        x: exams; their size is what counts.

    Raises:
        SplitError: the copy cannot be cut, or bf16 does not stay true in it.
    """

    name = "a folded copy in bf16"
    precision: Literal["fp32", "bf16"] = "bf16"

    def __init__(self, model: nn.Module, x: Float[Tensor, "exam 6 height width"]) -> None:
        super().__init__()
        self._of, self._state = (model,), fingerprint(model)  # in a tuple: the model is no part of its copy
        self.copy = fast_copy(model, x, "bf16", reading=None)
        if not _in_bf16(self.copy):
            raise SplitError("bf16 does not stay true in it")
        with evaluation(self.copy):
            self._halves = Split(self.copy)
        self._like = x[:1].detach()
        self._answered: tuple[Tensor, Tensor, Frontier] | None = None

    def forward(
        self, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]
    ) -> Float[Tensor, "exam 2 grade"]:
        """Return the logits."""
        frontier = self._halves.trunk(x, present)
        self._answered = None if torch.is_grad_enabled() else (x, present, frontier)
        return self._halves.tail(frontier, 1)

    def crossing(self, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]) -> tuple[Tensor, ...]:
        """Return the tensors that the stochastic part reads."""
        if self._answered is not None and not torch.is_grad_enabled():  # what is kept has no gradient
            pixels, eyes, frontier = self._answered
            if torch.equal(pixels, x) and torch.equal(eyes, present):
                return tuple(frontier.values.values())
        with torch.autocast(x.device.type, enabled=False):
            return self._halves.crossing(x, present)

    @cached_property
    def is_differentiable(self) -> bool:
        """Whether the copy's gradient by the pixels is the model's, see `fast_copy`."""
        return _in_bf16(fast_copy(self._of[0], self._like, "bf16"))

    def is_stale(self, trunk: nn.Module) -> bool:  # noqa: ARG002
        """Return whether a weight has changed since."""
        return self._state != fingerprint(self._of[0])

    def renewed(self, trunk: nn.Module, x: Tensor, present: Tensor) -> FoldedTrunk | None:  # noqa: ARG002
        """Copy again; None where bf16 does not stay true with the new weights."""
        try:
            return FoldedTrunk(self._of[0], x)
        except SplitError:
            return None


def _in_bf16(net: nn.Module) -> bool:
    return any(parameter.dtype == torch.bfloat16 for parameter in net.parameters())
