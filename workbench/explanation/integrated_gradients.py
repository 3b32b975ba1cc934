"""Integrated gradients (Sundararajan et al. 2017) from a blurred baseline, with as many points as each exam needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from workbench.data.lit_disc import lit_disc
from workbench.explanation.slopes import IMAGES_AT_ONCE, Targets, on_present_eyes, values_and_slopes
from workbench.models.fast import fast_copy
from workbench.models.modes import measuring
from workbench.models.paired import PairedEyeNet
from workbench.models.precision import Precision
from workbench.schema.errors import WorkbenchError

TOLERANCE: Final = 0.05
"""No more points are taken for an exam once its map's sum misses the target's change by no larger a share of it."""

LEAST_CHANGE: Final = 0.05
"""The gap is a share of the target's change, but of no less than this: below it there is little to explain."""

FIRST: Final = 5
"""Points to begin with; each refinement triples them, and those that were there stay.

On 30 EyePACS exams of two trained models that needed fewest evaluations (10 an exam; from nine points on, 17), and the
first five had a cosine of 0.988 or more to 27. With three a sum may come out right by luck while the map does not.
"""


def integrated_gradients(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],
    *,
    steps: int | None = None,
    tolerance: float = TOLERANCE,
    most_steps: int = 81,
    images_at_once: int = IMAGES_AT_ONCE,
    precision: Precision = "fp32",
) -> Float[Tensor, "exam 6 height width"]:
    """Return the attribution of every pixel and channel, in the target's units (they sum to its change).

    The path runs from `blurred_baseline`: *both* eyes without their detail. So a map also tells how much of the
    answer for one eye was read from the other (`checks.ExplanationResult.fellow_share`).

    The midpoint rule: along the path a network of ReLUs has a gradient with jumps, for which rules of higher order
    (Gauss-Legendre, Simpson) were no better. Tripled, its points contain the earlier ones, and only their sum is kept:
    memory does not grow with their number.

    Args:
        model: ``(x, present) -> logits``; held still meanwhile.
        x: in [0, 1].
        present: an absent eye gets zero.
        target: ``logits -> one value per exam``.
        steps: points on the path, the same for every exam; None: as many as each exam needs for ``tolerance``.
        tolerance: the completeness gap at which an exam has enough.
        most_steps: at which it is given up; its map is returned as it is, and its gap tells.
        images_at_once: exams in one pass.
        precision: see `fast_copy`.

    Raises:
        WorkbenchError: fewer than one step.
    """
    return integrated_gradients_of(
        model,
        x,
        present,
        (target,),
        steps=steps,
        tolerance=tolerance,
        most_steps=most_steps,
        images_at_once=images_at_once,
        precision=precision,
    )[0]


def integrated_gradients_of(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    targets: Targets,
    *,
    steps: int | None = None,
    tolerance: float = TOLERANCE,
    most_steps: int = 81,
    images_at_once: int = IMAGES_AT_ONCE,
    precision: Precision = "fp32",
) -> Float[Tensor, "target exam 6 height width"]:
    """Return `integrated_gradients` of several targets, e.g. both eyes'; Args and Raises as there.

    One pass forward serves all of them, until one needs more points than another.
    """
    if (steps if steps is not None else most_steps) < 1:
        raise WorkbenchError(f"integrated gradients: steps is {steps}", "it must be a whole number from 1")
    with measuring(model):
        seen, clean = present.clone(), x.detach().clone()
        net = fast_copy(model, clean, precision)
        path = _Path.between(blurred_baseline(clean, seen), clean, seen, net, images_at_once)
        points = steps if steps is not None else min(FIRST, most_steps)
        everywhere = torch.arange(len(clean), device=clean.device)
        slopes = path.slopes(_midpoints(points), targets, everywhere) / points
        if steps is None:
            path.refine(slopes, targets, tolerance, points, most_steps)
        return torch.stack([on_present_eyes(one, present) for one in path.at_pixels(slopes)])


@dataclass(frozen=True)
class _Path:
    """From the exams without detail to the exams as they are, behind the part of a network that is affine.

    A straight path stays one behind it, and so that part is run and differentiated once and not at every point.

    Attributes:
        baseline: and ``clean``: the path's ends, in pixels.
        end: and ``way`` to it: behind the affine part, ``front``.
        net: the rest: ``(front(x), present) -> logits``.
    """

    baseline: Float[Tensor, "exam 6 height width"]
    clean: Float[Tensor, "exam 6 height width"]
    end: Float[Tensor, "exam image channel height width"]
    way: Float[Tensor, "exam image channel height width"]
    present: Bool[Tensor, "exam 2"]
    front: Callable[[Tensor], Tensor]
    net: Callable[[Tensor, Tensor], Tensor]
    at_once: int

    @classmethod
    def between(cls, baseline: Tensor, clean: Tensor, present: Tensor, net: nn.Module, at_once: int) -> _Path:
        """Take a network apart where its front is known to be affine."""
        front, rest = _apart(net, present)
        with torch.no_grad():
            end = front(clean)
            way = end - front(baseline)
        return cls(baseline, clean, end, way, present, front, rest, at_once)

    def slopes(
        self, places: Sequence[float], targets: Targets, rows: Int64[Tensor, " row"]
    ) -> Float[Tensor, "target row image channel height width"]:
        """Return the targets' gradients of some exams, summed over places on the path; as many in a pass as fit."""
        end, way, present = self.end[rows], self.way[rows], self.present[rows]
        total = end.new_zeros((len(targets), *end.shape))
        together = max(1, self.at_once // len(rows))
        for few in (places[first : first + together] for first in range(0, len(places), together)):
            points = torch.cat([end - (1 - place) * way for place in few])
            slopes = values_and_slopes(self.net, points, present.repeat(len(few), 1), targets, self.at_once)[1]
            total += slopes.reshape(len(targets), len(few), *end.shape).sum(dim=1)
        return total

    def refine(
        self,
        slopes: Float[Tensor, "target exam image channel height width"],
        targets: Targets,
        tolerance: float,
        points: int,
        most: int,
    ) -> None:
        """Take each mean slope, in place, from three times as many points until it adds up, or there are too many.

        Each of an exam's targets has as many as it needs; where all need more, a pass forward serves all.
        """
        changes = self.changes(targets)
        allowed = tolerance * changes.abs().clamp(min=LEAST_CHANGE)
        going = torch.ones_like(changes, dtype=torch.bool)
        while (points := points * 3) <= most and going.any():
            missed = torch.stack([(one * self.way).flatten(1).sum(dim=1) for one in slopes]) - changes
            # `~ <=`, so that what is NaN goes on to the end and no further.
            going &= ~(missed.abs() <= allowed)
            every = going.all(dim=0)
            groups = [
                (range(len(targets)), every),
                *((range(i, i + 1), going[i] & ~every) for i in range(len(targets))),
            ]
            for which, rows in ((which, rows.nonzero()[:, 0]) for which, rows in groups if rows.any()):
                new = self.slopes(_midpoints(points, new=True), [targets[i] for i in which], rows)
                for i, one in zip(which, new, strict=True):
                    slopes[i, rows] = slopes[i, rows] / 3 + one / points

    def changes(self, targets: Targets) -> Float[Tensor, "target exam"]:
        """Return by how much each target changes along the path: what a map must add up to."""

        def answers(points: Tensor, eyes: Tensor) -> Tensor:
            logits = self.net(points, eyes)
            return torch.stack([target(logits) for target in targets])

        with torch.no_grad():
            pieces = zip(*(torch.split(each, self.at_once) for each in (self.end, self.way, self.present)), strict=True)
            return torch.cat([answers(end, eyes) - answers(end - way, eyes) for end, way, eyes in pieces], dim=1)

    def at_pixels(
        self, slopes: Float[Tensor, "target exam image channel height width"]
    ) -> Float[Tensor, "target exam 6 height width"]:
        """Return the pixels' attributions: the mean slopes led back through the affine part, times the pixels' way."""
        pixels = self.clean.clone().requires_grad_()
        made = self.front(pixels)
        led = [torch.autograd.grad(made, pixels, one, retain_graph=True)[0] for one in slopes]
        return torch.stack(led) * (self.clean - self.baseline)


def _apart(
    net: nn.Module, present: Bool[Tensor, "exam 2"]
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
    """Return an affine front of a network on these exams, ``x -> [exam, image, …]``, and what stands behind it.

    A `PairedEyeNet` normalises with constants and a local average: affine. Of another network nothing is known.
    """
    if not isinstance(net, PairedEyeNet):
        return (lambda x: x[:, None]), (lambda images, eyes: net(images[:, 0], eyes))

    def front(x: Tensor) -> Tensor:
        return net.prepare(x, present).reshape(len(x), -1, 6 if net.sees_both_eyes else 3, *x.shape[-2:])

    def behind(images: Tensor, eyes: Tensor) -> Tensor:
        return net.classify(net.pool(net.feature_dropout(net.trunk(images.flatten(0, 1)))), eyes)

    return front, behind


def _midpoints(points: int, *, new: bool = False) -> list[float]:
    """Return the middles of that many equal parts of the path; ``new``: without those of a third as many parts."""
    return [(number + 0.5) / points for number in range(points) if not new or number % 3 != 1]


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
