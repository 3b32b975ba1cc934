"""Whether a map stays where the exam hardly changes, and whether it foretells how the answer responds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from workbench.explanation.trust.faithfulness import Answer

RADIUS: Final = 2 / 255
"""How far a pixel is moved: about the noise of a camera's sensor in good light."""


def jittered(
    x: Float[Tensor, "exam 6 height width"], seeds: Sequence[int], radius: float = RADIUS
) -> Float[Tensor, "exam 6 height width"]:
    """Return the exams with uniform noise of up to ``radius`` on every pixel, by each exam's own seed."""
    noise = torch.stack([torch.rand(x.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    moved = x + radius * (2 * noise - 1).to(x)
    return moved.clamp(0, 1)


def relative_change(
    maps: Float[Tensor, "exam 6 height width"], moved: Float[Tensor, "exam 6 height width"]
) -> Float[Tensor, " exam"]:
    """Return ‖moved − map‖ ÷ ‖map‖; its largest value over some moves is max-sensitivity (Yeh et al. 2019)."""
    size = maps.flatten(1).norm(dim=1)
    return (moved - maps).flatten(1).norm(dim=1) / size.clamp(min=torch.finfo(maps.dtype).tiny)


def infidelity(
    answer: Answer,
    x: Float[Tensor, "exam 6 height width"],
    maps: Float[Tensor, "exam 6 height width"],
    seeds: Sequence[int],
    *,
    moves: int = 8,
    deviation: float = RADIUS,
) -> Float[Tensor, " exam"]:
    """Return the share of the answer's response to small noise that the map, read as a gradient, does not foretell.

    Infidelity (Yeh et al. 2019) is E[(Iᵀ·map − (f(x) − f(x − I)))²] over noise I; it is taken after the best scale of
    the map (their equation 9), and as a share of E[(f(x) − f(x − I))²]: 0 for a map that is the gradient of a linear
    answer, 1 for one that foretells nothing. Maps that are multiplied by the input (integrated gradients) are no
    gradients, and are not meant to do well here; the number is comparable among methods only.

    Args:
        answer: ``x -> the explained number``.
        x: in [0, 1].
        maps: of ``x``.
        seeds: one per exam.
        moves: how many.
        deviation: of the Gaussian noise, of the pixel range.
    """
    foretold, found = [], []
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    with torch.no_grad():
        before = answer(x).double()
        for _ in range(moves):
            noise = torch.stack([torch.randn(x.shape[1:], generator=generator) for generator in generators])
            noise = (deviation * noise).to(x)
            foretold.append((noise * maps).flatten(1).double().sum(dim=1))
            found.append(before - answer(x - noise).double())
    predicted, actual = torch.stack(foretold), torch.stack(found)
    scale = (predicted * actual).sum(dim=0) / (predicted**2).sum(dim=0).clamp(min=1e-300)
    left = ((scale * predicted - actual) ** 2).sum(dim=0)
    whole = (actual**2).sum(dim=0)
    return torch.where(whole > 0, left / whole.clamp(min=1e-300), float("nan")).to(x.dtype)


@dataclass(frozen=True)
class Rephotograph:
    """A second photograph of the same eyes: held a little otherwise, a little brighter or darker; per exam.

    Attributes:
        x: the exams on it; black where the first did not reach.
        affine: where each of its pixels lay on the first, as `torch.nn.functional.affine_grid` takes it.
    """

    x: Float[Tensor, "exam 6 height width"]
    affine: Float[Tensor, "exam 2 3"]

    def lay_back(self, heat: Float[Tensor, "exam height width"]) -> Float[Tensor, "exam height width"]:
        """Return a map of the second photograph as it lies on the first."""
        square = torch.zeros((len(heat), 3, 3), dtype=torch.float64)
        square[:, :2], square[:, 2, 2] = self.affine.double(), 1.0
        return _warped(heat[:, None], torch.linalg.inv(square)[:, :2].to(heat))[:, 0]


DEGREES: Final = 3.0
SHIFT: Final = 0.02
LIGHT: Final = 0.05


def rephotographed(x: Float[Tensor, "exam 6 height width"], seeds: Sequence[int]) -> Rephotograph:
    """Return a second, simulated photograph: turned by up to 3°, shifted by up to 2 % of the side, 5 % in light."""
    drawn = torch.stack([torch.rand(4, generator=torch.Generator().manual_seed(seed)) for seed in seeds]) * 2 - 1
    angle, (right, down) = torch.deg2rad(DEGREES * drawn[:, 0]), 2 * SHIFT * drawn[:, 1:3].T
    rows = [torch.stack([angle.cos(), -angle.sin(), right], 1), torch.stack([angle.sin(), angle.cos(), down], 1)]
    affine = torch.stack(rows, dim=1).to(x)
    light = (1 + LIGHT * drawn[:, 3]).to(x)[:, None, None, None]
    return Rephotograph((_warped(x, affine) * light).clamp(0, 1), affine)


def _warped(images: Tensor, affine: Float[Tensor, "exam 2 3"]) -> Tensor:
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
