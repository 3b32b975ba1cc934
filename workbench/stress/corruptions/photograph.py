"""One eye's photograph as a corruption sees it: pixels, the disc in it, places in it, and its light."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from workbench.data.lit_disc import lit_disc

GAMMA: Final = 2.2
"""From stored pixel values to light (sRGB, approximately)."""
DARKEST: Final = 1e-6
"""Of the light: below it a pixel is stored as black, and the slope of the gamma is without bound."""

Pixels = Float[Tensor, "3 height width"]
Plane = Float[Tensor, "height width"]


@dataclass(frozen=True)
class Photograph:
    """What a corruption is given.

    Attributes:
        image: RGB in [0, 1].
        seed: of what chance decides pixel by pixel; the few numbers that can be searched are given apart.
    """

    image: Pixels
    seed: int

    @cached_property
    def inside(self) -> Bool[Tensor, "height width"]:
        """The disc, its caps perhaps cut off."""
        channels_last = np.ascontiguousarray(self.image.permute(1, 2, 0).numpy())
        return torch.from_numpy(lit_disc(channels_last))

    @cached_property
    def light(self) -> Pixels:
        """The light that the pixels stand for, in [0, 1]."""
        return self.image**GAMMA

    @cached_property
    def frame(self) -> tuple[Plane, Plane]:
        """How far right and down of the frame's middle each pixel is, in half sides: fixed to the sensor."""
        height, width = self.image.shape[1:]
        down, right = ((torch.arange(count) + 0.5) * 2 / count - 1 for count in (height, width))
        return right[None].expand(height, width), down[:, None].expand(height, width)

    @cached_property
    def disc(self) -> tuple[Plane, Plane]:
        """How far right and down of the disc's middle each pixel is, in radii of the disc."""
        centres, half = [], 0.0
        for axis in (0, 1):
            lit = self.inside.any(dim=axis).nonzero()
            first, last = (int(lit[0]), int(lit[-1])) if len(lit) else (0, self.inside.shape[1 - axis] - 1)
            centres.append((first + last) / 2)
            half = max(half, (last - first + 1) / 2)
        height, width = self.image.shape[1:]
        right, down = ((torch.arange(n) - centre) / half for n, centre in zip((width, height), centres, strict=True))
        return right[None].expand(height, width), down[:, None].expand(height, width)

    @cached_property
    def mean_light(self) -> Float[Tensor, "3 1 1"]:
        """The mean light inside the disc, per colour."""
        return self.light[:, self.inside].mean(dim=1)[:, None, None]

    def rng(self) -> np.random.Generator:
        """Return a fresh generator of this photograph's own noise."""
        return np.random.default_rng(self.seed)

    def averaged(self, kernel: Float[Tensor, "side side"], values: Pixels | None = None) -> Pixels:
        """Return ``values`` (the stored pixels, if not given) averaged over the kernel, from inside the disc only.

        The field stop lies in the camera and stays sharp: what is outside it gives no light to the inside.
        """
        planes = torch.cat([self.image if values is None else values, torch.ones_like(self.image[:1])])
        planes = (planes * self.inside)[:, None]
        half = len(kernel) // 2
        sums = functional.conv2d(planes, kernel.flip(0, 1)[None, None], padding=half)[:, 0]
        return sums[:3] / sums[3:].clamp(min=1e-6)

    def softened(self, sigma: float, values: Pixels | None = None) -> Pixels:
        """Return ``values`` after a Gaussian blur of ``sigma`` (share of the side), from inside the disc only.

        A wide blur is made on a smaller picture: nothing finer is left in it.
        """
        planes = torch.cat([self.image if values is None else values, torch.ones_like(self.image[:1])])
        planes = (planes * self.inside)[None]
        side = self.image.shape[-1]
        smaller = max(1, int(sigma * side / 4))
        small = functional.avg_pool2d(planes, smaller, ceil_mode=True, count_include_pad=False)
        kernel = gaussian(sigma * side / smaller)
        half = len(kernel) // 2
        small = functional.conv2d(small.transpose(0, 1), kernel[None, None, :, None], padding=(half, 0))
        small = functional.conv2d(small, kernel[None, None, None], padding=(0, half)).transpose(0, 1)
        sums = functional.interpolate(small, size=self.image.shape[1:], mode="bilinear", align_corners=False)[0]
        return sums[:3] / sums[3:].clamp(min=1e-6)


def stored(light: Pixels) -> Pixels:
    """Return the pixel values that a camera stores for ``light``; what exceeds the range is lost."""
    return light.clamp(DARKEST, 1.0) ** (1 / GAMMA)


def gaussian(sigma: float) -> Float[Tensor, " side"]:
    """Return a Gaussian of ``sigma`` pixels, cut off at three sigmas; its sum is 1."""
    half = max(1, math.ceil(3 * sigma))
    values = torch.exp(-0.5 * (torch.arange(-half, half + 1) / max(sigma, 1e-3)) ** 2)
    return values / values.sum()


def step(distance: Tensor, softness: float | Tensor) -> Tensor:
    """Return 1 where ``distance`` is far below 0, 0 far above, smooth in between."""
    return torch.sigmoid(-distance / softness)


def within_disc(chance: Float[Tensor, "... 2"], reach: float) -> tuple[Tensor, Tensor]:
    """Return a place for two numbers in [0, 1), spread evenly over a disc of radius ``reach``."""
    radius = reach * chance[..., 0].clamp(1e-4, 1.0).sqrt()
    angle = 2 * math.pi * chance[..., 1]
    return radius * torch.cos(angle), radius * torch.sin(angle)
