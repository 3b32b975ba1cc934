"""What the camera and its file do: noise, compression, too few pixels, a crop beside the disc."""

from __future__ import annotations

import math

import cv2
import numpy as np
import simplejpeg
import torch
from jaxtyping import Float, Float32
from skimage.util import random_noise
from torch import Tensor
from torch.nn import functional

from workbench.stress.corruptions.photograph import Photograph, Pixels, stored


def noise(photo: Photograph, chance: Tensor, *, deviation: float) -> Pixels:  # noqa: ARG001
    """Return the image with Gaussian noise of one standard ``deviation``, of the pixel range, everywhere."""
    noisy = random_noise(_channels_last(photo), mode="gaussian", var=deviation**2, rng=photo.rng(), clip=True)
    return _channels_first(noisy)


def sensor_noise(photo: Photograph, chance: Tensor, *, shot: float, read: float) -> Pixels:  # noqa: ARG001
    """Return the image as a sensor counts it: Poisson photons and Gaussian read-out, before the tone curve.

    ``shot`` is the relative deviation of white's count, so white is 1/shot² photons; ``read`` that of the read-out.
    """
    rng, photons = photo.rng(), 1 / shot**2
    light = photo.light.numpy()
    counted = rng.poisson(light * photons) / photons + rng.normal(0, read, light.shape)
    return stored(torch.from_numpy(counted.astype(np.float32)))


def compress(photo: Photograph, chance: Tensor, *, quality: float) -> Pixels:  # noqa: ARG001
    """Return the image after a real JPEG encoder and decoder at ``quality``, 4:2:0."""
    pixels = np.ascontiguousarray(np.rint(_channels_last(photo) * 255), dtype=np.uint8)
    encoded = simplejpeg.encode_jpeg(pixels, quality=int(quality), colorspace="RGB", colorsubsampling="420")
    return _channels_first(simplejpeg.decode_jpeg(encoded, colorspace="RGB") / np.float32(255))


def downscale(photo: Photograph, chance: Tensor, *, factor: float) -> Pixels:  # noqa: ARG001
    """Return the image after a picture ``factor`` times smaller: what is finer is gone."""
    height, width = photo.image.shape[1:]
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    image = cv2.resize(_channels_last(photo), small, interpolation=cv2.INTER_AREA)
    return _channels_first(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC))


def off_centre(photo: Photograph, chance: Float[Tensor, " 1"], *, shift: float) -> Pixels:
    """Return the image of a crop beside the disc, by ``shift`` × side: a part is lost, black is let in across."""
    angle = 2 * math.pi * chance[0]
    move = 2 * shift * torch.stack([torch.cos(angle), torch.sin(angle)])
    theta = torch.cat([torch.eye(2), move[:, None]], dim=1)[None]
    grid = functional.affine_grid(theta, [1, *photo.image.shape], align_corners=False)
    return functional.grid_sample(photo.image[None], grid, padding_mode="zeros", align_corners=False)[0]


def _channels_last(photo: Photograph) -> Float32[np.ndarray, "height width 3"]:
    return np.ascontiguousarray(photo.image.permute(1, 2, 0).numpy())


def _channels_first(image: Float[np.ndarray, "height width 3"]) -> Pixels:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))
