"""What spoils a photograph, in five severities each (after Hendrycks & Dietterich 2019).

A corruption acts on the model's input pixels, on each named eye by itself, inside the disc of the photograph (JPEG: on
the whole file), and ends in an 8-bit file as a camera's would. An eye that is black throughout, as an absent one is,
stays so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import cv2
import numpy as np
import simplejpeg
import torch
from jaxtyping import Float, Float32, Int64
from skimage.exposure import adjust_gamma
from skimage.util import random_noise
from torch import Tensor

from workbench.data.lit_disc import lit_disc
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import EYES

LEVELS: Final[Mapping[str, tuple[float, ...]]] = {
    # severity:          1      2      3      4      5
    "noise":          (0.01,  0.02,  0.04,  0.06,  0.09),   # standard deviation, of the pixel range
    "defocus":        (0.004, 0.007, 0.011, 0.016, 0.024),  # radius of the blur disc, of the image's side
    "underexposure":  (0.5,   1.0,   1.5,   2.25,  3.0),    # stops of light lost
    "overexposure":   (0.3,   0.6,   0.9,   1.3,   1.8),    # stops of light too many; what exceeds the range is lost
    "jpeg":           (60.0,  40.0,  25.0,  15.0,  10.0),   # quality of the encoder, 4:2:0; its blocks are model pixels
}  # fmt: skip
"""What each severity means."""

GAMMA: Final = 2.2
"""From stored pixel values to light (sRGB, approximately)."""

Image = Float32[np.ndarray, "height width 3"]
Degrade = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def corrupt(
    model: Callable[[Tensor], Tensor],  # noqa: ARG001 - a corruption does not look at the model
    x: Float[Tensor, "exam 6 height width"],
    y: Int64[Tensor, "exam 2"],  # noqa: ARG001 - nor at the truth
    generators: Sequence[torch.Generator],
    *,
    degrade: Degrade,
    levels: tuple[float, ...],
    severity: float,
    eyes: str = "both",
) -> Float[Tensor, "exam 6 height width"]:
    """Return ``x`` with one degradation on the named eyes; severity 0 changes nothing.

    Each exam draws one seed per eye from its own generator, whichever eyes are named, so a batch equals one by one
    and an eye's noise does not depend on the other's.

    Raises:
        WorkbenchError: the severity is not one of 0 to 5.
    """
    if severity not in range(len(levels) + 1):
        raise WorkbenchError(f"severity is {severity:g}", f"it must be 0, or a whole number up to {len(levels)}")
    seeds = [torch.randint(2**63 - 1, (2,), generator=generator).tolist() for generator in generators]
    if severity == 0:
        return x.clone()
    level = levels[int(severity) - 1]
    pixels = x.detach().cpu().numpy().astype(np.float32)
    out = pixels.copy()
    for exam, seed_of in enumerate(seeds):
        for eye, name in enumerate(EYES):
            if eyes in ("both", name):
                image = np.ascontiguousarray(pixels[exam, 3 * eye : 3 * eye + 3].transpose(1, 2, 0))
                rng = np.random.default_rng(seed_of[eye])
                out[exam, 3 * eye : 3 * eye + 3] = _degrade_eye(image, degrade, level, rng).transpose(2, 0, 1)
    return torch.from_numpy(out).to(x)


def _degrade_eye(image: Image, degrade: Degrade, level: float, rng: np.random.Generator) -> Image:
    if not image.any():
        return image
    return (np.rint(np.clip(degrade(image, level, rng), 0, 1) * 255) / 255).astype(np.float32)


def add_noise(image: Image, level: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image with Gaussian sensor noise of standard deviation ``level``."""
    noisy = random_noise(image, mode="gaussian", var=level**2, rng=rng, clip=True)
    return np.where(lit_disc(image)[..., None], noisy, image)


def defocus(image: Image, level: float, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG001
    """Return the image out of focus: averaged over a disc of radius ``level`` × side.

    The field stop lies in the camera and stays sharp: only light from inside the disc is averaged.
    """
    kernel = _disc_kernel(level * image.shape[1])
    inside = lit_disc(image)[..., None].astype(np.float32)
    blurred = cv2.filter2D(image * inside, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    weight = cv2.filter2D(inside, -1, kernel, borderType=cv2.BORDER_CONSTANT)[..., None]
    return np.where(inside > 0, blurred / np.maximum(weight, 1e-6), image)


def _disc_kernel(radius: float, finer: int = 8) -> Float32[np.ndarray, "side side"]:
    """Return a disc of any radius in pixels; each entry is the share of its pixel that the disc covers."""
    half = int(np.ceil(radius))
    centres = (np.arange((2 * half + 1) * finer) + 0.5) / finer - half - 0.5
    covered = (centres[:, None] ** 2 + centres[None, :] ** 2 <= (radius + 0.5) ** 2).astype(np.float32)
    kernel = covered.reshape(2 * half + 1, finer, 2 * half + 1, finer).sum(axis=(1, 3))
    return kernel / kernel.sum()


def expose(image: Image, level: float, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG001
    """Return the image with ``level`` stops more light, lost above the range."""
    light = adjust_gamma(image, GAMMA) * 2.0**level
    return adjust_gamma(np.minimum(light, 1.0), 1 / GAMMA)


def underexpose(image: Image, level: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image with ``level`` stops less light."""
    return expose(image, -level, rng)


def compress(image: Image, level: float, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG001
    """Return the image after a real JPEG encoder and decoder at quality ``level``."""
    pixels = np.ascontiguousarray(np.rint(image * 255), dtype=np.uint8)
    encoded = simplejpeg.encode_jpeg(pixels, quality=int(level), colorspace="RGB", colorsubsampling="420")
    return simplejpeg.decode_jpeg(encoded, colorspace="RGB") / np.float32(255)


CORRUPTIONS: Final[Mapping[str, Callable[..., Tensor]]] = {
    name: partial(corrupt, degrade=degrade, levels=LEVELS[name])
    for name, degrade in {
        "noise": add_noise,
        "defocus": defocus,
        "underexposure": underexpose,
        "overexposure": expose,
        "jpeg": compress,
    }.items()
}
