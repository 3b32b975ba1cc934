"""One step of steepest ascent in a norm, and random starts in its ball."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.schema.errors import WorkbenchError
from workbench.schema.threat import Norm
from workbench.stress.norms import NORMS, project

Exams = Float[Tensor, "exam 6 height width"]
PerEye = Float[Tensor, "exam 2"]

STEPPED: Final = ("linf", "l2")
"""Norms in which our attacks can step."""


def refuse_norm(name: str, norm: Norm) -> None:
    """Refuse a norm in which no step is known.

    Raises:
        WorkbenchError: it is neither linf nor l2.
    """
    if norm not in STEPPED:
        raise WorkbenchError(f"{name} cannot be bound by {norm}", f"choose {' or '.join(STEPPED)}")


def ascend(x: Exams, slope: Exams, step: PerEye, norm: Norm) -> Exams:
    """Return x moved by ``step`` per eye along the steepest ascent: the sign (linf), the unit vector (l2)."""
    if norm == "linf":
        return x + spread(step) * slope.sign()
    length = NORMS["l2"](slope).clamp(min=torch.finfo(slope.dtype).tiny)
    return x + spread(step / length) * slope


def back(x: Exams, clean: Exams, size: PerEye, norm: Norm) -> Exams:
    """Return x in the ball around ``clean`` and in the box."""
    if norm == "linf":
        bound = spread(size)
        return torch.minimum(torch.maximum(x, clean - bound), clean + bound).clamp(0.0, 1.0)
    return clean + project(x.clamp(0.0, 1.0) - clean, size, norm)


def random_start(clean: Exams, size: PerEye, norm: Norm, generators: Sequence[torch.Generator]) -> Exams:
    """Return a random point of each exam's ball, drawn from the exam's own generator."""
    shape = clean.shape[1:]
    if norm == "linf":
        noise = torch.stack([2 * torch.rand(shape, generator=generator) - 1 for generator in generators])
    else:
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        noise = noise / spread(NORMS["l2"](noise))
    return back(clean + spread(size) * noise.to(clean), clean, size, norm)


def spread(per_eye: PerEye) -> Float[Tensor, "exam 6 1 1"]:
    """Return a value per eye as one per channel."""
    return per_eye.repeat_interleave(3, dim=1)[:, :, None, None]
