"""What stands in the way: dust and grease on the camera, the patient's lashes."""

from __future__ import annotations

import math
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from workbench.stress.corruptions.photograph import Photograph, Pixels, step, stored, within_disc

SPECKS: Final = 10
"""The most that may lie on the camera."""
LASHES: Final = 7
COARSE: Final = 2
"""Lashes are far out of focus: they are drawn on a picture that is smaller by this."""


def dust(photo: Photograph, chance: Float[Tensor, " 30"], *, count: float, opacity: float) -> Pixels:
    """Return the image through a lens with ``count`` specks that take ``opacity`` of the light.

    They lie at the same place of the sensor in both eyes. A share of a speck is a fainter one.
    """
    right, down = photo.frame
    passed = torch.ones_like(right)
    for speck, (along, around, share) in enumerate(chance.reshape(SPECKS, 3)):
        there = min(max(count - speck, 0.0), 1.0)
        if there == 0:
            break
        at_right, at_down = within_disc(torch.stack([along, around]), 0.8)
        size = 0.02 + 0.05 * share**2
        away = torch.hypot(right - at_right, down - at_down)
        passed = passed * (1 - there * opacity * step(away - size, size / 4))
    return stored(photo.light * passed)


def smear(photo: Photograph, chance: Float[Tensor, " 3"], *, opacity: float, size: float) -> Pixels:
    """Return the image through a smear of grease, at the same place of the sensor in both eyes.

    Under it the image is softened and veiled by ``opacity``; ``size`` is its half length, in half sides of the frame.
    """
    right, down = photo.frame
    at_right, at_down = within_disc(chance[:2], 0.55)
    angle = math.pi * chance[2]
    along = (right - at_right) * torch.cos(angle) + (down - at_down) * torch.sin(angle)
    aside = (down - at_down) * torch.cos(angle) - (right - at_right) * torch.sin(angle)
    streaks = 1 + 0.15 * torch.sin(40 * aside) * torch.exp(-(aside**2))
    there = (step(torch.hypot(along / size, 2 * aside / size) - 1, 0.15) * streaks).clamp(0, 1)
    veil = photo.mean_light.mean() * torch.tensor([1.1, 1.0, 0.9])[:, None, None]
    greasy = (1 - 0.5 * opacity) * photo.softened(0.03, photo.light) + 0.5 * opacity * veil
    return stored(photo.light + opacity * there * (greasy - photo.light))


def eyelash(photo: Photograph, chance: Float[Tensor, " 15"], *, reach: float, opacity: float) -> Pixels:
    """Return the image behind lashes that hang in from above or below, far out of focus.

    ``reach`` is how far the longest comes in, in radii of the disc; ``opacity`` the share of light that it takes.
    """
    right, down = (_coarser(plane) for plane in photo.disc)
    lid = torch.where(chance[0] < 0.5, -1.0, 1.0)
    passed = torch.ones_like(right)
    for lash, (place, bend) in enumerate(chance[1:].reshape(LASHES, 2)):
        foot = (lash + 0.2 + 0.6 * place) / LASHES * 1.3 - 0.65
        tall = reach * (0.65 + 0.35 * math.cos(2.0 * lash))
        rim = lid * torch.sqrt(1 - foot**2)
        inwards = (rim - down) * lid
        aside = right - foot - (bend - 0.5) * 0.8 * inwards.clamp(0, 2) ** 2 - 0.25 * foot * inwards
        width = 0.022 * (1 - 0.6 * (inwards / tall).clamp(0, 1))
        passed = passed * (1 - opacity * step(aside.abs() - width, 0.011) * step(inwards - tall, 0.05))
    fine = functional.interpolate(passed[None, None], size=photo.image.shape[1:], mode="bilinear", align_corners=False)
    return stored(photo.light * fine[0])


def _coarser(plane: Float[Tensor, "height width"]) -> Float[Tensor, "rows columns"]:
    return functional.avg_pool2d(plane[None, None], COARSE)[0, 0]
