"""How much light there is, of which colour, and where."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.stress.corruptions.photograph import Photograph, Pixels, step, stored, within_disc

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Of linear red, green and blue (ITU-R BT.709)."""


def expose(photo: Photograph, chance: Tensor, *, stops: float) -> Pixels:  # noqa: ARG001
    """Return the image with ``stops`` more light, lost above the range."""
    return stored(photo.light * 2.0**stops)


def underexpose(photo: Photograph, chance: Tensor, *, stops: float) -> Pixels:
    """Return the image with ``stops`` less light."""
    return expose(photo, chance, stops=-stops)


def illumination(photo: Photograph, chance: Float[Tensor, " 1"], *, stops: float) -> Pixels:
    """Return the image lit from one side: as it was on that side, ``stops`` darker on the other."""
    return stored(photo.light * 2 ** (-stops * (1 - _side(photo, chance[0])) / 2))


def _side(photo: Photograph, turn: Float[Tensor, ""]) -> Float[Tensor, "height width"]:
    """Return 1 at the rim in the direction of ``turn`` (share of a full turn), −1 at the rim across."""
    right, down = photo.disc
    angle = 2 * math.pi * turn
    return (right * torch.cos(angle) + down * torch.sin(angle)).clamp(-1, 1)


def small_pupil(photo: Photograph, chance: Float[Tensor, " 1"], *, shade: float, stops: float) -> Pixels:
    """Return the image through a pupil that is too small: less light, and a shade that closes in from the rim.

    ``shade`` is the share of the radius that it covers, a little more on one side that chance decides.
    """
    right, down = photo.disc
    edge = 1 - shade * (1 + 0.35 * _side(photo, chance[0]))
    passed = step(torch.hypot(right, down) - edge, 0.05 + 0.1 * shade)
    return stored(photo.light * (0.06 + 0.94 * passed) * 2.0**-stops)


def flare(photo: Photograph, chance: Float[Tensor, " 1"], *, strength: float, width: float) -> Pixels:
    """Return the image with a crescent of stray light at the rim, as when the camera is not well placed.

    ``strength`` is its light at the rim, of the range; ``width`` how far it reaches inwards, in radii.
    """
    right, down = photo.disc
    towards = ((1 + _side(photo, chance[0])) / 2) ** 3
    inwards = (1 - torch.hypot(right, down)).clamp(min=0) / width
    warm = torch.tensor([1.0, 0.8, 0.6])[:, None, None]
    return stored(photo.light + strength * towards * torch.exp(-inwards) * warm)


def reflection(photo: Photograph, chance: Float[Tensor, " 2"], *, strength: float, size: float) -> Pixels:
    """Return the image with a pale ghost of the lamp, and a fainter, larger one across the camera's axis.

    ``strength`` is its light at the middle, of the range; ``size`` its radius, in radii of the disc.
    """
    right, down = photo.disc
    at_right, at_down = within_disc(chance, 0.6)
    ghost = step(torch.hypot(right - at_right, down - at_down) - size, size / 3.5)
    across = step(torch.hypot(right + at_right, down + at_down) - 1.6 * size, size / 2)
    pale = torch.tensor([0.75, 0.9, 1.0])[:, None, None]
    return stored(photo.light + strength * (ghost + 0.35 * across) * pale)


def colour_cast(photo: Photograph, chance: Float[Tensor, " 1"], *, stops: float) -> Pixels:
    """Return the image under a lamp of another colour: up to ``stops`` between two colours, as bright as before."""
    angle = 2 * math.pi * chance[0]
    hue = torch.stack([torch.cos(angle - turn * 2 * math.pi / 3) for turn in range(3)])
    light = photo.light * 2 ** (stops / math.sqrt(3) * hue)[:, None, None]
    weights = torch.tensor(LUMINANCE)[:, None, None]
    before, after = (
        (weights * photo.mean_light).sum(),
        (weights * light[:, photo.inside].mean(dim=1)[:, None, None]).sum(),
    )
    return stored(light * before / after)


def gamma(photo: Photograph, chance: Float[Tensor, " 1"], *, exponent: float) -> Pixels:
    """Return the image stored with another tone curve: darker by ``exponent`` or, by a toss of chance, lighter."""
    return photo.image ** (exponent if chance[0] < 0.5 else 1 / exponent)
