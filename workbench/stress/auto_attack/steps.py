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

STEPPED: Final = ("linf", "l2", "l1")
"""Norms in which our attacks can step."""

DENSITY: Final = 0.01
"""Share of an eye's values that a step in l1 moves, where it is not told (SLIDE, Tramèr, Boneh 2019)."""

HALVINGS: Final = 16
"""Of the interval in which the threshold of the projection onto the l1 ball lies."""


def refuse_norm(name: str, norm: Norm) -> None:
    """Refuse a norm in which no step is known.

    Raises:
        WorkbenchError: it is none of `STEPPED`.
    """
    if norm not in STEPPED:
        raise WorkbenchError(f"{name} cannot be bound by {norm}", f"choose {' or '.join(STEPPED)}")


def ascend(x: Exams, slope: Exams, step: PerEye, norm: Norm, density: PerEye | None = None) -> Exams:
    """Return x moved by ``step`` per eye along the steepest ascent.

    The sign (linf), the unit vector (l2), the sign of the steepest values that the box lets move (l1): ``density`` is
    their share of an eye's values, all moved alike (Croce, Hein 2021, *Mind the box*).
    """
    if norm == "linf":
        return x + spread(step) * slope.sign()
    if norm == "l1":
        moved = _steepest(x, slope, torch.full_like(step, DENSITY) if density is None else density)
        return x + spread(step / NORMS["l1"](moved).clamp(min=1.0)) * moved
    length = NORMS["l2"](slope).clamp(min=torch.finfo(slope.dtype).tiny)
    return x + spread(step / length) * slope


def back(x: Exams, clean: Exams, size: PerEye, norm: Norm) -> Exams:
    """Return x in the ball around ``clean`` and in the box; in l1 the nearest point of both (Croce, Hein 2021)."""
    if norm == "linf":
        bound = spread(size)
        return torch.minimum(torch.maximum(x, clean - bound), clean + bound).clamp(0.0, 1.0)
    if norm == "l1":
        return clean + _nearest(x - clean, clean, size)
    return clean + project(x.clamp(0.0, 1.0) - clean, size, norm)


def _steepest(x: Exams, slope: Exams, density: PerEye) -> Exams:
    """Return the sign of the slope's steepest values per eye, zero elsewhere and where the box is in the way."""
    stuck = ((slope > 0) & (x >= 1)) | ((slope < 0) & (x <= 0))
    strength = torch.where(stuck, 0.0, slope.abs()).reshape(len(x), 2, -1)
    count = (density * strength.shape[2]).round().long().clamp(1, strength.shape[2])
    largest = strength.topk(int(count.max()), dim=2).values
    least = largest.gather(2, count[..., None] - 1)
    return ((strength >= least) & (strength > 0)).reshape(x.shape) * slope.sign()


def _nearest(change: Exams, clean: Exams, size: PerEye) -> Exams:
    """Return the change of the l1 ball and the box that is nearest: each value shrunk by one threshold, then clipped.

    The threshold is found by bisection, and what is left over ε is scaled away, which stays in the box.
    """
    strength, sign = change.abs(), change.sign()
    low, high = torch.zeros_like(size), strength.reshape(len(change), 2, -1).amax(dim=2)

    def shrunk(by: PerEye) -> Exams:
        return ((strength - spread(by)).clamp(min=0.0) * sign + clean).clamp(0.0, 1.0) - clean

    outside = NORMS["l1"](shrunk(low)) > size
    high = torch.where(outside, high, 0.0)
    for _ in range(HALVINGS if outside.any() else 0):
        middle = (low + high) / 2
        above = NORMS["l1"](shrunk(middle)) > size
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return project(shrunk(high), size, "l1")


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
