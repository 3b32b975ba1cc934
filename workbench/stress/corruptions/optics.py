"""What the way of the light does to it: focus, movement, a clouded lens."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from workbench.stress.corruptions.photograph import Photograph, Pixels, stored, within_disc


def defocus(photo: Photograph, chance: Tensor, *, radius: float) -> Pixels:  # noqa: ARG001
    """Return the image out of focus: averaged over a disc of ``radius`` × side."""
    kernel = disc_kernel(radius * photo.image.shape[2])
    image = np.ascontiguousarray(photo.image.permute(1, 2, 0).numpy())
    inside = photo.inside.numpy()[..., None].astype(np.float32)
    blurred = cv2.filter2D(image * inside, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    weight = cv2.filter2D(inside, -1, kernel, borderType=cv2.BORDER_CONSTANT)[..., None]
    return torch.from_numpy(blurred / np.maximum(weight, 1e-6)).permute(2, 0, 1)


def disc_kernel(radius: float, finer: int = 8) -> Float32[np.ndarray, "side side"]:
    """Return a disc of any radius in pixels; each entry is the share of its pixel that the disc covers."""
    half = int(np.ceil(radius))
    centres = (np.arange((2 * half + 1) * finer) + 0.5) / finer - half - 0.5
    covered = (centres[:, None] ** 2 + centres[None, :] ** 2 <= (radius + 0.5) ** 2).astype(np.float32)
    kernel = covered.reshape(2 * half + 1, finer, 2 * half + 1, finer).sum(axis=(1, 3))
    return kernel / kernel.sum()


def motion(photo: Photograph, chance: Float[Tensor, " 1"], *, length: float) -> Pixels:
    """Return the image of an eye that moved by ``length`` × side while the shutter was open, in any direction."""
    return photo.averaged(line_kernel(length * photo.image.shape[2], math.pi * chance[0]))


def line_kernel(length: float, angle: Float[Tensor, ""]) -> Float[Tensor, "side side"]:
    """Return a line of ``length`` pixels through the middle, one pixel wide; differentiable in its ``angle``."""
    half = math.ceil(length / 2 + 0.5)
    down, right = torch.meshgrid(*[torch.arange(-half, half + 1.0)] * 2, indexing="ij")
    along = right * torch.cos(angle) + down * torch.sin(angle)
    aside = down * torch.cos(angle) - right * torch.sin(angle)
    kernel = (length / 2 + 0.5 - along.abs()).clamp(0, 1) * (1 - aside.abs()).clamp(0, 1)
    return kernel / kernel.sum()


def haze(photo: Photograph, chance: Float[Tensor, " 2"], *, opacity: float, blur: float) -> Pixels:
    """Return the image seen through a clouded lens, densest at a place that chance decides.

    ``opacity`` is the share of the light that is scattered, a little less away from the densest place. Scattered light
    comes back as a veil from everywhere around, yellowed by the lens; the rest is softened by ``blur`` × side.
    """
    right, down = photo.disc
    at_right, at_down = within_disc(chance, 0.6)
    dense = torch.exp(-((right - at_right) ** 2 + (down - at_down) ** 2) / 0.5)
    scattered = opacity * (0.8 + 0.2 * dense)
    around = photo.softened(0.2, photo.light)
    grey = (around.mean(dim=0, keepdim=True) + photo.mean_light.mean()) / 2
    yellowed = grey * torch.tensor([1.15, 1.0, 0.7])[:, None, None]
    veil = 0.5 * around + 0.5 * yellowed
    return stored((1 - scattered) * photo.softened(blur, photo.light) + scattered * veil)
