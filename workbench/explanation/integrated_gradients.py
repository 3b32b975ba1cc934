"""Integrated gradients (Sundararajan et al. 2017) from a blurred baseline, with as many points as each exam needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

CELLS: Final = 8
"""Equal parts of the path to begin with, a point at each end of each.

On 8 EyePACS exams (both eyes) of a trained ResNet-18 the map of these nine points had a cosine of 0.989 or more to that
of 128. With four parts a sum may come out right by luck while the map does not (0.963).
"""

HALVED: Final = 2
"""Parts that are halved at a time, until the map adds up."""


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

    The path is cut into parts, and each part's sum is kept by the trapezoid rule: along the path a network of ReLUs has
    a gradient with jumps, for which rules of higher order (Gauss-Legendre, Simpson) were no better. Wherever its
    gradient is known the target is, so it is known by how much each part misses. As long as the whole does, the two
    parts that miss most in its direction are cut twice as finely: the points that were there stay, and of all of them
    only the sum is kept, so memory does not grow with their number.

    Args:
        model: ``(x, present) -> logits``; held still meanwhile.
        x: in [0, 1].
        present: an absent eye gets zero.
        target: ``logits -> one value per exam``.
        steps: points in the middles of as many parts, the same for every exam; None: as many points as each exam needs
            for ``tolerance``, nine or more.
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

    One pass forward serves all of them, as long as they have the same points.
    """
    if (steps if steps is not None else most_steps) < 1:
        raise WorkbenchError(f"integrated gradients: steps is {steps}", "it must be a whole number from 1")
    with measuring(model):
        seen, clean = present.clone(), x.detach().clone()
        net = fast_copy(model, clean, precision)
        if steps is None and most_steps <= CELLS:
            steps = most_steps
        together = len(clean) if steps is not None else max(1, images_at_once // 2)
        found = []
        for few, eyes in zip(torch.split(clean, together), torch.split(seen, together), strict=True):
            path = _Path.between(blurred_baseline(few, eyes), few, eyes, net, images_at_once)
            slopes = path.mean(targets, steps) if steps is not None else path.adding_up(targets, tolerance, most_steps)
            found.append(path.at_pixels(slopes))
        return torch.stack([on_present_eyes(one, present) for one in torch.cat(found, dim=1)])


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

    def mean(self, targets: Targets, steps: int) -> Float[Tensor, "target exam image channel height width"]:
        """Return the targets' mean gradients in the middles of equal parts of the path."""
        total = self.end.new_zeros((len(targets), *self.end.shape))
        for _, _, slopes in self._passes([(number + 0.5) / steps for number in range(steps)], targets):
            total += slopes / steps
        return total

    def adding_up(
        self, targets: Targets, tolerance: float, most: int
    ) -> Float[Tensor, "target exam image channel height width"]:
        """Return the targets' mean gradients from as many points as each exam and target needs."""
        sums = self.end.new_zeros((CELLS, len(targets), *self.end.shape))
        heights = self.end.new_zeros((CELLS + 1, len(targets), len(self.end)))
        for number, values, slopes in self._passes([number / CELLS for number in range(CELLS + 1)], targets):
            heights[number] = values
            for cell in range(max(number - 1, 0), min(number + 1, CELLS)):
                sums[cell] += slopes / (2 * CELLS)
        rises = heights.diff(dim=0)
        misses = rises - torch.stack([(one * self.way).flatten(2).sum(dim=2) for one in sums])
        allowed = tolerance * (heights[-1] - heights[0]).abs().clamp(min=LEAST_CHANGE)
        panels = torch.ones_like(misses, dtype=torch.int64)
        while True:
            missed = misses.sum(dim=0)
            worst = (misses * missed.sign()).nan_to_num(nan=torch.inf).topk(HALVED, dim=0).indices
            affordable = panels.sum(dim=0) + 1 + panels.gather(0, worst).sum(dim=0) <= most
            going = ~(missed.abs() <= allowed) & affordable  # `~ <=`, so that what is NaN goes on to the end
            if not going.any():
                return sums.sum(dim=0)
            chosen = torch.zeros_like(panels, dtype=torch.bool).scatter_(0, worst, going.expand(HALVED, -1, -1))
            parts = [(cell, target, exam) for cell, target, exam in chosen.nonzero().tolist()]
            self._halve(sums, panels, parts, targets)
            for part in parts:
                misses[part] = rises[part] - (sums[part] * self.way[part[2]]).sum()

    def _halve(
        self,
        sums: Float[Tensor, "cell target exam image channel height width"],
        panels: Int64[Tensor, "cell target exam"],
        parts: Sequence[tuple[int, int, int]],
        targets: Targets,
    ) -> None:
        """Put a point into the middle of every panel of some parts: twice as many, half as wide."""
        points: list[tuple[tuple[int, int, int], float]] = []
        for part in parts:
            count = int(panels[part])
            points += [(part, (part[0] + (number + 0.5) / count) / CELLS) for number in range(count)]
            sums[part] /= 2
            panels[part] *= 2
        for first in range(0, len(points), self.at_once):
            few = points[first : first + self.at_once]
            asked = torch.tensor([target for (_, target, _), _ in few], device=self.end.device)
            exams = [exam for (_, _, exam), _ in few]
            short = self.end.new_tensor([1 - place for _, place in few]).view(-1, 1, 1, 1, 1)

            def own(logits: Tensor, asked: Tensor = asked) -> Tensor:
                return torch.stack([target(logits) for target in targets]).gather(0, asked[None])[0]

            at = self.end[exams] - short * self.way[exams]
            slopes = values_and_slopes(self.net, at, self.present[exams], (own,), self.at_once)[1][0]
            for (part, _), slope in zip(few, slopes, strict=True):
                sums[part] += slope / (CELLS * int(panels[part]))

    def _passes(self, places: Sequence[float], targets: Targets) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the number of each place on the path, the targets there and their gradients; few places in a pass."""
        exams, together = len(self.end), max(1, self.at_once // len(self.end))
        for first in range(0, len(places), together):
            few = places[first : first + together]
            points = torch.cat([self.end - (1 - place) * self.way for place in few])
            values, slopes = values_and_slopes(
                self.net, points, self.present.repeat(len(few), 1), targets, self.at_once
            )
            pairs = zip(torch.split(values, exams, dim=1), torch.split(slopes, exams, dim=1), strict=True)
            yield from ((first + number, *pair) for number, pair in enumerate(pairs))

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
