"""Maps that know nothing of the model: what any explanation must beat (Adebayo et al. 2018)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

GREY = (0.299, 0.587, 0.114)


def random_map(
    model: nn.Module,  # noqa: ARG001  # the contract of every explanation
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],  # noqa: ARG001
    *,
    grid: int = 16,
    seed: int = 0,
) -> Float[Tensor, "exam 6 height width"]:
    """Return smooth noise in [0, 1), another for each exam, the same for the same pixels; zero on an absent eye.

    Args:
        model: not looked at.
        x: in [0, 1]; seeds the noise.
        present: which eyes there are.
        target: not looked at.
        grid: cells per side; noise of single pixels would be too easy to beat.
        seed: another makes another map.
    """
    maps = []
    for exam in x.detach().cpu():
        digest = hashlib.blake2b(exam.contiguous().numpy().tobytes(), digest_size=7, key=str(seed).encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        maps.append(torch.rand((2, grid, grid), generator=generator))
    fine = functional.interpolate(torch.stack(maps), tuple(x.shape[-2:]), mode="bilinear").to(x)
    return _on_channels(fine, present)


def edges(
    model: nn.Module,  # noqa: ARG001
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],  # noqa: ARG001
) -> Float[Tensor, "exam 6 height width"]:
    """Return how steep the brightness is (Sobel), the same on an eye's three channels; zero on an absent eye."""
    grey = (x.detach().reshape(len(x), 2, 3, *x.shape[-2:]) * torch.tensor(GREY).to(x)[:, None, None]).sum(dim=2)
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(x) / 8
    kernels = torch.stack([across, across.T])[:, None]
    wide = functional.pad(grey.flatten(0, 1)[:, None], (1, 1, 1, 1), mode="replicate")
    steep = functional.conv2d(wide, kernels).square().sum(dim=1).sqrt()
    return _on_channels(steep.reshape(len(x), 2, *x.shape[-2:]), present)


def _on_channels(
    eyes: Float[Tensor, "exam 2 height width"], present: Bool[Tensor, "exam 2"]
) -> Float[Tensor, "exam 6 height width"]:
    shown = torch.where(present[:, :, None, None], eyes, torch.zeros_like(eyes))
    return shown.repeat_interleave(3, dim=1) / 3
