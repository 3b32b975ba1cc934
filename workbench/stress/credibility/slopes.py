"""Checks 5, 6 and 22: whether there is a gradient, and whether the answer follows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.models.modes import measuring
from workbench.stress.credibility.subject import Subject
from workbench.stress.target import Target

GRID: Final = 4
"""Patches of an eye along a side: each is one direction."""
STEP: Final = 0.25 / 255
"""Either way along a direction: a kink of a ReLU within it is rare, fp32's rounding far below what it changes."""
LOUD: Final = 8 / 255
"""A change that a model whose gradient is zero, but which sees its pixels, answers to."""


@dataclass(frozen=True)
class Slopes:
    """What was found of the gradient of the margin across the referable boundary.

    Attributes:
        faulty: in some named eye it is zero everywhere, or not finite.
        cosine: between its slopes along patches and the finite differences there; NaN where neither moves.
        same_sign: the answer rises where the gradient says so, over all patches together.
        cut: it is zero or missing although the answer changes with the pixels.
    """

    faulty: Bool[Tensor, " exam"]
    cosine: Float[Tensor, " exam"]
    same_sign: Bool[Tensor, " exam"]
    cut: Bool[Tensor, " exam"]


def slopes(subject: Subject) -> Slopes:
    """Return them for each exam, in fp32 at the exam as it is."""
    with measuring(subject.model):
        target = subject.target()
        slope = _gradient(target)
        directions = _patches(slope)
        measured = _differences(target, directions, STEP)
        foretold = torch.einsum("exchw,edxchw->ed", _by_eye(slope), _by_eye(directions))
        cut = (slope == 0).flatten(1).all(dim=1)
        silent = cut.nonzero()[:, 0]
        if silent.numel():  # of an exam that has a gradient nothing is cut
            cut[silent] = (_differences(target.of(silent), directions[silent], LOUD) != 0).any(dim=1)
    length = measured.norm(dim=1) * foretold.norm(dim=1)
    both_flat = (measured.norm(dim=1) == 0) & (foretold.norm(dim=1) == 0)
    cosine = torch.where(both_flat, torch.nan, (measured * foretold).sum(dim=1) / length.clamp(min=1e-30))
    return Slopes(
        faulty=_faulty(slope, target.size > 0),
        cosine=cosine,
        same_sign=both_flat | (measured.sum(dim=1).sign() == foretold.sum(dim=1).sign()),
        cut=cut,
    )


def _gradient(target: Target) -> Float[Tensor, "exam 6 height width"]:
    """Return the margin's gradient as autograd has it, NaN and all; zero where there is none at all."""
    pixels = target.clean.detach().clone().requires_grad_()
    value = target.margin(pixels)
    if not value.requires_grad:
        return torch.zeros_like(pixels)
    (slope,) = torch.autograd.grad(value.sum(), pixels, allow_unused=True)
    return torch.zeros_like(pixels) if slope is None else slope


def _faulty(slope: Tensor, named: Bool[Tensor, "exam 2"]) -> Bool[Tensor, " exam"]:
    """The margin follows the eye that is nearest alone, so a zero counts where it is zero in every named eye."""
    eyes = slope.reshape(len(slope), 2, -1)
    broken = ~torch.isfinite(eyes).all(dim=2)
    flat = (eyes == 0).all(dim=2)
    return (broken & named).any(dim=1) | ((flat | ~named).all(dim=1) & named.any(dim=1))


def _patches(slope: Float[Tensor, "exam 6 height width"]) -> Float[Tensor, "exam patch 6 height width"]:
    """Return per patch of each eye the gradient's own signs within it; plus where it has none."""
    signs = torch.where(torch.nan_to_num(slope) == 0, 1.0, torch.nan_to_num(slope).sign())
    height, width = slope.shape[2:]
    rows = torch.arange(height) * GRID // height
    columns = torch.arange(width) * GRID // width
    place = (rows[:, None] * GRID + columns[None]).expand(6, -1, -1).clone()
    place[3:] += GRID**2
    masks = torch.stack([place == patch for patch in range(2 * GRID**2)]).to(slope)
    return signs[:, None] * masks[None]


def _differences(target: Target, directions: Tensor, step: float) -> Float[Tensor, "exam patch"]:
    """Return the central differences of the margin along each direction."""
    found = []
    for patch in range(directions.shape[1]):
        with torch.no_grad():
            up, down = (target.margin(target.clean + sign * step * directions[:, patch]) for sign in (1.0, -1.0))
        found.append((up - down) / (2 * step))
    return torch.nan_to_num(torch.stack(found, dim=1))


def _by_eye(pixels: Tensor) -> Tensor:
    """Split the channels into eyes, with zeros for a gradient that is not finite."""
    return torch.nan_to_num(pixels).reshape(*pixels.shape[:-3], 2, 3, *pixels.shape[-2:])
