"""Test-time views: the same exam turned, shifted, zoomed and lit a little, never mirrored."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from workbench.models.precision import Precision
from workbench.schema.seeds import seed_for
from workbench.schema.specs import ViewSpec
from workbench.uncertainty.makers import Deterministic
from workbench.uncertainty.mc_dropout import refuse_request

Exams = Float[Tensor, "exam 6 height width"]
Present = Bool[Tensor, "exam 2"]


class Views:
    """Draws from a model without randomness of its own: each draw sees the exam another way (Ayhan, Berens 2018).

    No view mirrors an eye, which would make a right eye a left one. The view of a draw depends on the exam's seed and
    the draw's number alone.

    Args:
        model: ``(x, present) -> logits``.
        spec: how far a view may go.
        precision: see `resolve_precision`.
    """

    def __init__(self, model: nn.Module, spec: ViewSpec | None = None, *, precision: Precision = "fp32") -> None:
        self.spec = spec or ViewSpec()
        self._answer = Deterministic(model, precision=precision)
        self.precision = self._answer.precision

    @property
    def how(self) -> str:
        """Say how far the views go."""
        spec = self.spec
        alike = "both eyes alike" if spec.geometry == "per_exam" else "each eye by itself"
        return (
            f"views: up to {spec.rotation_degrees:g}°, shift {spec.shift:g}, zoom {spec.zoom:g}, "
            f"brightness {spec.brightness:g}, {alike}"
        )

    def logits(self, x: Exams, present: Present) -> Float[Tensor, "exam 2 grade"]:
        """Return the model's logits on the exams as they are, float32."""
        return self._answer.logits(x, present)

    def draws(
        self, x: Exams, present: Present, *, draws: int, seeds: Sequence[int]
    ) -> Float[Tensor, "draw exam 2 grade"]:
        """Return the probabilities of each view, float32, NaN for an absent eye.

        Raises:
            WorkbenchError: see `refuse_request`.
        """
        refuse_request(x, draws, seeds)
        made = [self._answer.logits(view(x, seeds, draw, self.spec), present).softmax(-1) for draw in range(draws)]
        return torch.where(present[None, :, :, None], torch.stack(made), torch.nan)


def view(x: Exams, seeds: Sequence[int], draw: int, spec: ViewSpec) -> Exams:
    """Return the exams as draw number ``draw`` sees them; what lies outside the photograph is black.

    Args:
        x: in [0, 1].
        seeds: one per exam.
        draw: its number.
        spec: how far it may go.
    """
    drawn = torch.stack([_numbers(seed, draw, alike=spec.geometry == "per_exam") for seed in seeds])
    turn, right, down, zoom, light = drawn.flatten(0, 1).unbind(-1)
    angle = math.radians(spec.rotation_degrees) * turn
    scale = (math.log1p(spec.zoom) * zoom).exp()
    shift = 2 * spec.shift * torch.stack([right, down], dim=-1)  # in affine_grid the side is 2 long
    cosine, sine = angle.cos() / scale, angle.sin() / scale
    rows = [torch.stack([cosine, -sine, shift[:, 0]], -1), torch.stack([sine, cosine, shift[:, 1]], -1)]
    eyes = x.reshape(-1, 3, *x.shape[2:])
    grid = functional.affine_grid(torch.stack(rows, 1).to(x), list(eyes.shape), align_corners=False)
    moved = functional.grid_sample(eyes, grid, padding_mode="zeros", align_corners=False)
    lit = moved + (spec.brightness * light).to(x).view(-1, 1, 1, 1) * (moved.amax(1, keepdim=True) > 0)
    seen = lit.clamp(0, 1).reshape(x.shape)
    return seen.contiguous(memory_format=torch.channels_last)


def _numbers(seed: int, draw: int, *, alike: bool) -> Float[Tensor, "2 5"]:
    """Return five numbers in [-1, 1) per eye; the same ones for both where they move alike."""
    generator = torch.Generator().manual_seed(seed_for(seed, "view", draw))
    numbers = 2 * torch.rand((2, 5), generator=generator, dtype=torch.float64) - 1
    return numbers[:1].expand(2, 5) if alike else numbers
