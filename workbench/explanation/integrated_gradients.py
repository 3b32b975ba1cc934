"""Integrated gradients (Sundararajan et al. 2017) through Captum, from a blurred baseline."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from captum.attr import IntegratedGradients
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.data.lit_disc import lit_disc
from workbench.models.modes import measuring
from workbench.schema.errors import WorkbenchError


def integrated_gradients(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],
    *,
    steps: int = 24,
    images_at_once: int = 8,
) -> Float[Tensor, "exam 6 height width"]:
    """Return the attribution of every pixel and channel, in the target's units (they sum to its change).

    The path runs from `blurred_baseline`: *both* eyes without their detail. So a map also tells how much of the
    answer for one eye was read from the other (`checks.ExplanationResult.fellow_share`).

    Args:
        model: ``(x, present) -> logits``; held still meanwhile.
        x: in [0, 1].
        present: an absent eye gets zero.
        target: ``logits -> one value per exam``.
        steps: points on the path (Gauss–Legendre).
        images_at_once: exams in one pass; memory grows with it, and few are faster than all.

    Raises:
        WorkbenchError: fewer than one step.
    """
    if steps < 1:
        raise WorkbenchError(f"integrated gradients: steps is {steps}", "it must be a whole number from 1")
    with measuring(model):
        seen, clean = present.clone(), x.detach().clone()
        attribution = IntegratedGradients(lambda pixels, eyes: target(model(pixels, eyes))).attribute(
            clean.requires_grad_(),
            baselines=blurred_baseline(clean.detach(), seen),
            additional_forward_args=(seen,),
            n_steps=steps,
            internal_batch_size=max(images_at_once, len(x)),
        )
    return attribution.detach().to(x.dtype)


def blurred_baseline(
    x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"], sigma: float = 0.06
) -> Float[Tensor, "exam 6 height width"]:
    """Return both eyes without detail: inside the disc a Gaussian blur (``sigma`` × width), elsewhere unchanged.

    A black baseline would be blind to what is dark, and haemorrhages and microaneurysms are: their pixels hardly
    differ from black. Blurred, an eye keeps its colour, light and disc, and loses vessels and lesions, bright and
    dark. Only light from inside the disc is averaged, so the rim is no edge that the model must explain.
    An absent eye stays as it is.
    """
    eyes = x.reshape(-1, 3, *x.shape[-2:])
    seen = present.flatten().tolist()
    images = eyes.detach().cpu().numpy().transpose(0, 2, 3, 1)
    # Two pixels of rim stay: half lit, they would differ from any blur, and the map would be a ring.
    rim = np.ones((5, 5), np.uint8)
    discs = [
        (cv2.erode(lit_disc(np.ascontiguousarray(image)).astype(np.uint8), rim) > 0) & shown
        for image, shown in zip(images, seen, strict=True)
    ]
    inside = torch.from_numpy(np.stack(discs)[:, None]).to(x.device)
    kernel = _gaussian(sigma * x.shape[-1]).to(x)
    blurred = _blur(eyes * inside, kernel) / _blur(inside.to(x.dtype), kernel).clamp(min=1e-6)
    return torch.where(inside, blurred, eyes).reshape(x.shape)


def _gaussian(sigma: float) -> Float[Tensor, " tap"]:
    half = max(1, round(3 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-half, half + 1) / sigma) ** 2)
    return taps / taps.sum()


def _blur(
    images: Float[Tensor, "image channel height width"], kernel: Float[Tensor, " tap"]
) -> Float[Tensor, "image channel height width"]:
    half = len(kernel) // 2
    planes = images.flatten(0, 1)[:, None]
    planes = F.conv2d(planes, kernel[None, None, None, :], padding=(0, half))
    planes = F.conv2d(planes, kernel[None, None, :, None], padding=(half, 0))
    return planes.reshape(images.shape)
