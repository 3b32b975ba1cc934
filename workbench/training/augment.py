"""Random views of a batch of exams, on the batch's tensors; laterality stays true."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn import functional

from workbench.data.exams import ExamBatch
from workbench.training.config import AugmentSection


def augment(batch: ExamBatch, settings: AugmentSection, generator: Generator) -> ExamBatch:
    """Return another view of each exam; pixels stay in [0, 1], grades and presence go with their eyes."""
    if settings.exchange_eyes:
        batch = exchange_eyes(batch, _uniform(generator, len(batch.x)) < 0.5)
    eyes = batch.x.reshape(-1, 3, *batch.x.shape[2:])
    eyes = _move(eyes, settings, generator)
    eyes = _recolour(eyes, settings, generator)
    return replace(batch, x=eyes.reshape(batch.x.shape))


def exchange_eyes(batch: ExamBatch, chosen: Bool[Tensor, " exam"]) -> ExamBatch:
    """Mirror the chosen exams left to right and let OD and OS change places.

    A mirrored right eye is a left eye to anyone who looks, so it must also be called one; its grade goes with it.
    """
    mirrored = torch.cat([batch.x[:, 3:], batch.x[:, :3]], dim=1).flip(-1)
    chosen = chosen.to(batch.x.device)
    return replace(
        batch,
        x=torch.where(chosen[:, None, None, None], mirrored, batch.x),
        present=torch.where(chosen[:, None], batch.present.flip(1), batch.present),
        grade=torch.where(chosen[:, None], batch.grade.flip(1), batch.grade),
    )


def drop_eyes(batch: ExamBatch, probability: float, generator: Generator) -> ExamBatch:
    """Let a share of the complete exams lose one eye at random, so that a missing eye is nothing new to the model."""
    chance, which = _uniform(generator, len(batch.x)), _uniform(generator, len(batch.x)) < 0.5
    lost = torch.stack([which, ~which], dim=1) & (chance < probability)[:, None]
    lost = lost.to(batch.x.device) & batch.present.all(dim=1, keepdim=True)
    return replace(batch, present=batch.present & ~lost)


def _move(eyes: Float[Tensor, "eye 3 height width"], settings: AugmentSection, generator: Generator) -> Tensor:
    """Rotate, scale, shift and flip by one bilinear sampling."""

    def draw() -> Tensor:
        if settings.geometry == "per_eye":
            return _uniform(generator, len(eyes))
        return _uniform(generator, len(eyes) // 2).repeat_interleave(2)

    angle = (2 * draw() - 1) * math.radians(settings.rotation_degrees)
    zoom = 1 / (1 + (2 * draw() - 1) * settings.scale)
    right, down = (2 * draw() - 1) * 2 * settings.shift, (2 * draw() - 1) * 2 * settings.shift
    flip = torch.where(draw() < 0.5, -1.0, 1.0) if settings.vertical_flip else torch.ones(len(eyes))
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [torch.stack([cosine, -sine * flip, right], dim=1), torch.stack([sine, cosine * flip, down], dim=1)]
    theta = torch.stack(rows, dim=1).to(eyes.device)
    grid = functional.affine_grid(theta, list(eyes.shape), align_corners=False)
    return functional.grid_sample(eyes, grid, padding_mode="border", align_corners=False)


def _recolour(eyes: Float[Tensor, "eye 3 height width"], settings: AugmentSection, generator: Generator) -> Tensor:
    """Change contrast, the balance of the colours and the brightness, each eye by itself."""
    alike, first, second = (_uniform(generator, len(eyes), count, 1, 1) for count in (1, 3, 3))
    gain = (1 + (2 * alike - 1) * settings.contrast) * (1 + (2 * first - 1) * settings.colour)
    offset = 0.5 - 0.5 * gain + (2 * second - 1) * settings.brightness
    return torch.addcmul(offset.to(eyes.device), eyes, gain.to(eyes.device)).clamp_(0, 1)


def _uniform(generator: Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator)
