"""Somebody else's network in our shape: both eyes in, one row of grade logits per eye out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, no_type_check

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import GRADES, REFERABLE_GRADE

IMPOSSIBLE: Final = -1e4
"""Logit of a grade that a binary network never answers: its probability is 0, and nothing becomes infinite."""


class PairedFromSingle(nn.Module):
    """Wrap a network of one eye (3 channels) or of a pair (6 channels) as ``(x, present) -> logits[exam, 2, grade]``.

    A network with one or two outputs is binary: its answer stands as 'no DR' against 'moderate NPDR', the first
    referable grade, so that P(referable) is its own probability. Of a tuple or list of answers (MONAI's ViT, auxiliary
    heads) the first counts. An absent eye is replaced by the mean colour. `torch.fx` can trace it where it can trace
    the network.

    Args:
        module: of 3 channels, answering per photograph, or of 6 (OD RGB then OS RGB), answering OD's outputs then OS's.
        grades: how many grades there are.
        outputs: how many numbers the network answers per eye; None: what its last linear layer says.
        mean: subtracted from each colour, in [0, 1].
        std: divides it after.

    Raises:
        WorkbenchError: another number of channels, or of outputs than 1, 2 or ``grades``.
    """

    def __init__(
        self,
        module: nn.Module,
        grades: int = len(GRADES),
        *,
        outputs: int | None = None,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        channels = _input_channels(module)
        if channels not in (3, 6):
            raise WorkbenchError(f"a network of {channels} channels", "give one of 3 (an eye) or 6 (OD then OS)")
        self.module = module
        self.grades = grades
        self.sees_both_eyes = channels == 6
        self.outputs = outputs or _last_outputs(module) // (2 if self.sees_both_eyes else 1)
        if self.outputs not in (1, 2, grades):
            raise WorkbenchError(
                f"a network of {self.outputs} outputs per eye", f"give one of 1 or 2 (binary) or {grades} (grades)"
            )
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @no_type_check  # torch.fx traces this with proxies, which the shape checks of the tests would refuse
    def forward(
        self, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]
    ) -> Float[Tensor, "exam 2 grade"]:
        """Return the logits of each eye's grade; ``x`` in [0, 1], OD RGB then OS RGB."""
        eyes = (x.unflatten(1, (2, 3)) - self.mean) / self.std
        eyes = torch.where(present.unflatten(1, (2, 1, 1, 1)), eyes, 0.0)
        if self.sees_both_eyes:
            answer = _first(self.module(eyes.flatten(1, 2))).flatten(1).unflatten(1, (2, self.outputs))
        else:
            answer = _first(self.module(eyes.flatten(0, 1))).flatten(1).unflatten(0, (-1, 2))
        return self._as_grades(answer)

    @no_type_check
    def _as_grades(self, answer: Tensor) -> Tensor:
        if self.outputs == self.grades:
            return answer
        referable = answer[..., -1:] if self.outputs == 1 else answer[..., 1:] - answer[..., :1]
        never = torch.zeros_like(referable) + IMPOSSIBLE
        columns = [never] * self.grades
        columns[0], columns[REFERABLE_GRADE] = torch.zeros_like(referable), referable
        return torch.cat(columns, dim=-1)


def _first(answer: Any) -> Any:
    return answer[0] if isinstance(answer, tuple | list) else answer


def _input_channels(module: nn.Module) -> int:
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            return part.in_channels
    raise WorkbenchError(f"no two-dimensional convolution in {type(module).__name__}", "give a network of photographs")


def _last_outputs(module: nn.Module) -> int:
    linear = [part.out_features for part in module.modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise WorkbenchError(f"no linear layer in {type(module).__name__}", "say outputs=…")
    return linear[-1]
