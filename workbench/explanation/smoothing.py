"""Gradient methods that average over a neighbourhood or over baselines; seeded, the same for an exam in any batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.explanation.integrated_gradients import blurred_baseline
from workbench.explanation.slopes import IMAGES_AT_ONCE, on_present_eyes, value_and_slope
from workbench.models.fast import fast_copy
from workbench.models.modes import measuring
from workbench.models.precision import Precision
from workbench.schema.errors import WorkbenchError

BLURS = (0.02, 0.04, 0.06, 0.09, 0.13)
"""Strengths of the blurs that stand for a distribution of baselines, shares of the width."""


def smooth_grad(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],
    *,
    samples: int = 16,
    deviation: float = 0.05,
    seed: int = 0,
    images_at_once: int = IMAGES_AT_ONCE,
    precision: Precision = "fp32",
) -> Float[Tensor, "exam 6 height width"]:
    """Return the mean gradient of the target in noise around the exam (Smilkov et al. 2017), per unit of a pixel.

    Args:
        model: ``(x, present) -> logits``; held still meanwhile.
        x: in [0, 1].
        present: an absent eye gets zero.
        target: ``logits -> one value per exam``.
        samples: noisy copies; the noise is the same for every exam.
        deviation: of the noise, of the pixel range.
        seed: of the noise.
        images_at_once: exams in one pass.
        precision: see `fast_copy`.

    Raises:
        WorkbenchError: fewer than one sample.
    """
    _refuse_none(samples, "smooth_grad")
    generator = torch.Generator().manual_seed(seed)
    with measuring(model):
        clean, seen = x.detach().clone(), present.clone()
        net = fast_copy(model, clean, precision)
        total = torch.zeros_like(clean)
        for _ in range(samples):
            noise = torch.randn(clean.shape[1:], generator=generator).to(clean) * deviation
            total += value_and_slope(net, clean + noise, seen, target, images_at_once)[1]
        return on_present_eyes(total / samples, seen)


def expected_gradients(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],
    *,
    samples: int = 25,
    seed: int = 0,
    images_at_once: int = IMAGES_AT_ONCE,
    precision: Precision = "fp32",
) -> Float[Tensor, "exam 6 height width"]:
    """Return integrated gradients averaged over baselines (Erion et al. 2021; GradientSHAP of Lundberg and Lee 2017).

    The baselines are the exam's own blurs (`BLURS`), so no other patient's photograph stands behind a map. Each
    baseline is used equally often, at random places of an even grid along its path.

    Args:
        model: ``(x, present) -> logits``; held still meanwhile.
        x: in [0, 1].
        present: an absent eye gets zero.
        target: ``logits -> one value per exam``.
        samples: points; a multiple of the number of baselines uses each equally often.
        seed: of the places.
        images_at_once: exams in one pass.
        precision: see `fast_copy`.

    Raises:
        WorkbenchError: fewer than one sample.
    """
    _refuse_none(samples, "expected_gradients")
    generator = torch.Generator().manual_seed(seed)
    with measuring(model):
        clean, seen = x.detach().clone(), present.clone()
        net = fast_copy(model, clean, precision)
        ways = [clean - blurred_baseline(clean, seen, sigma) for sigma in BLURS[:samples]]
        places = (torch.arange(samples) + torch.rand(samples, generator=generator)) / samples
        total = torch.zeros_like(clean)
        for number, place in enumerate(places.tolist()):
            way = ways[number % len(ways)]
            point = clean - (1 - place) * way
            total += value_and_slope(net, point, seen, target, images_at_once)[1] * way
        return on_present_eyes(total / samples, seen)


def _refuse_none(samples: int, method: str) -> None:
    if samples < 1:
        raise WorkbenchError(f"{method}: samples is {samples}", "it must be a whole number from 1")
