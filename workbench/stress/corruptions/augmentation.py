"""Corruptions as a random view of training exams; handed to the training from above, which does not know this room."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from workbench.schema.errors import WorkbenchError
from workbench.stress.corruptions.catalogue import TABLE, check_severity, draw, eight_bit, spoil

Spoil = Callable[[Tensor, Generator], Tensor]
"""``(x, generator) -> x'``: exams in [0, 1], some of them spoiled."""


def random_corruption(names: Sequence[str], *, severest: float = 3.0, share: float = 0.5) -> Spoil:
    """Return a view that spoils a ``share`` of the exams, each by one of ``names`` at any severity up to ``severest``.

    An eye that is black throughout, as an absent one is, stays so. Everything that is random comes from the generator.

    Raises:
        WorkbenchError: no name or an unknown one, a severity that is not from 0 to 5, a share outside [0, 1].
    """
    check_severity(severest)
    unknown = [name for name in names if name not in TABLE]
    if unknown or not names:
        given = repr(unknown[0]) if unknown else "none"
        raise WorkbenchError(f"corruption for the training: {given}", f"known are {', '.join(TABLE)}")
    if not 0 <= share <= 1:
        raise WorkbenchError(f"share is {share:g}", "it must lie in [0, 1]")

    def view(x: Float[Tensor, "exam 6 height width"], generator: Generator) -> Float[Tensor, "exam 6 height width"]:
        exams = x.detach().float().cpu()
        return eight_bit(torch.stack([_perhaps(exam, generator) for exam in exams]), exams).to(x)

    def _perhaps(exam: Tensor, generator: Generator) -> Tensor:
        chosen, which, severity = torch.rand(3, generator=generator).tolist()
        corruption = TABLE[names[int(which * len(names))]]
        chance = draw(corruption, generator)
        return spoil(corruption, exam, chance, severity * severest) if chosen < share else exam

    return view
