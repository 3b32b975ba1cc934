"""One perturbation for all exams: fitted on some exams, added as it is to others.

`universal` may be any picture of six channels. `sensor_locked` is one pattern of three channels, at the same pixel of
both eyes: what lies on the camera stays where it is when the patient turns to the other eye, disease does not. The
same pixel is that of the photographs *as they are given to the model*, cropped to the field and scaled, before the
model mirrors the left eye where it does (`Architecture.mirror_os`). The crop follows the field's edge, which the
camera's mask draws, so a place in it is a place on the sensor but for the crop's own scatter.

One pattern cannot go both ways: with the goal *cross* it goes where more of the exams are to be moved, which among
mostly healthy patients are false alarms. Missed disease is asked for by *downgrade*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.models.fast import fast_copy
from workbench.schema.errors import WorkbenchError
from workbench.schema.seeds import seed_for
from workbench.stress.auto_attack.search import Exams, gradient, soft_margin
from workbench.stress.auto_attack.steps import spread
from workbench.stress.goals import not_applicable
from workbench.stress.target import Target

Picture = Float[Tensor, "6 height width"]

MOMENTUM: Final = 0.75
FIRST_STEP: Final = 0.25
"""Share of ε of the first step; it falls evenly to nothing."""
LEAST_WAY: Final = 2.0
"""How far all steps together reach at the least, in ε: few steps are longer ones."""
ENOUGH: Final = 4.0
"""A margin from which an exam no longer pulls, so that a few that are easily moved do not decide (Shafahi's β)."""


@dataclass(frozen=True)
class FittingExams:
    """Exams to fit on, read batch by batch, so that they are never held all at once.

    Attributes:
        count: how many.
        target: rows → the target of those exams.
        pixels: rows → the same exams' pixels alone.
    """

    count: int
    target: Callable[[Sequence[int]], Target]
    pixels: Callable[[Sequence[int]], Exams]


@dataclass(frozen=True)
class Fit:
    """A pattern, and what it does to the exams that it was fitted on.

    Attributes:
        pattern: what is added to an exam, of the pixel range [0, 1].
        exams: on which it was fitted, those that the goal applies to; 0: on none.
        success: share of them on which it is reached; None where not known.
        already: the same share of the exams as they are.
    """

    pattern: Picture
    exams: int = 0
    success: float | None = None
    already: float | None = None


def add_pattern(target: Target, _: Sequence[torch.Generator]) -> Exams:
    """Return the exams with the target's pattern in each eye that may be changed.

    Raises:
        WorkbenchError: a budget, and no pattern.
    """
    if not target.size.any():
        return target.clean
    if target.pattern is None:
        raise WorkbenchError("no pattern is given", "fit one on other exams: stress.apply_universal.fit_universal")
    return _with(target, target.pattern)


def random_signs(like: Picture, size: float, seed: int) -> Fit:
    """Return a pattern of ±``size``, each sign by lot: the floor of what one picture for all exams does."""
    generator = torch.Generator().manual_seed(seed_for(seed, "universal noise"))
    signs = 2.0 * torch.randint(0, 2, like.shape, generator=generator) - 1
    return Fit(size * signs.to(like))


def ascend_together(
    exams: FittingExams, locked: bool, seed: int, *, passes: int = 5, batch: int = 16, fast: bool = True
) -> Fit:
    """Return the pattern that sign-gradient ascent finds of the goal's smooth margin, averaged over the exams.

    Shafahi et al. 2020, *Universal Adversarial Training*, algorithm 1, with momentum and a falling step; instead of
    the cross-entropy, the margin, which does not saturate, clipped as theirs at `ENOUGH`. Moosavi-Dezfooli et al. 2017
    asked first whether one perturbation moves most images.

    Args:
        exams: to fit on.
        locked: the same three channels in both eyes.
        seed: of the order of the exams.
        passes: over all exams.
        batch: exams behind one step.
        fast: directions from a faithful copy in bf16 where there is one; what is reported is fp32.

    Raises:
        WorkbenchError: passes or batch < 1, no exams that the goal applies to, a model without a gradient.
    """
    for name, value in (("passes", passes), ("batch", batch), ("exams to fit on", exams.count)):
        if value < 1:
            raise WorkbenchError(f"{name}: {value}", "it must be a whole number from 1")
    generator = torch.Generator().manual_seed(seed)
    batches, aimed = _aimed(exams, torch.randperm(exams.count, generator=generator).tolist(), batch)
    if not any(one.size.any() for one in aimed):
        return _fit(exams, batches, aimed, torch.zeros_like(exams.pixels(batches[0])[0]))
    rough = _fast(aimed[0], exams.pixels(batches[0])) if fast else aimed[0]
    pattern = torch.zeros_like(exams.pixels(batches[0])[0])
    speed, size, total = torch.zeros_like(pattern), aimed[0].case.threat.size, passes * len(batches)
    first_step = max(FIRST_STEP, 2 * LEAST_WAY / (total + 1))
    for step in range(total):
        if step % len(batches) == 0:
            turn = torch.randperm(len(batches), generator=generator).tolist()
        place = turn[step % len(batches)]
        target = replace(aimed[place], model=rough.model, clean=exams.pixels(batches[place]))
        speed = MOMENTUM * speed + _common_slope(target, pattern, locked)
        pattern = pattern + first_step * (1 - step / total) * size * speed.sign()
        pattern = pattern.clamp(-size, size)
    return _fit(exams, batches, aimed, pattern)


def _with(target: Target, pattern: Picture) -> Exams:
    """Return the exams with the pattern, inside the box and each eye's budget."""
    bound = spread(target.size)
    change = torch.minimum(torch.maximum(pattern.expand_as(target.clean), -bound), bound)
    return (target.clean + change).clamp(0.0, 1.0)


def _common_slope(target: Target, pattern: Picture, locked: bool) -> Picture:
    """Return the slope of the mean margin in the pattern; where the box cuts it off, as if it did not."""
    slope = gradient(target, _with(target, pattern), _clipped_margin)[2]
    mean = (spread((target.size > 0).to(slope)) * slope).mean(dim=0)
    return mean.reshape(2, 3, *mean.shape[1:]).sum(dim=0).repeat(2, 1, 1) if locked else mean


def _clipped_margin(target: Target, x: Exams) -> Float[Tensor, " exam"]:
    return soft_margin(target, x).clamp(max=ENOUGH)


def _without_pixels(target: Target) -> Target:
    return replace(target, clean=target.clean[..., :0, :0].clone())


def _aimed(exams: FittingExams, order: list[int], batch: int) -> tuple[list[list[int]], list[Target]]:
    """Return the exams that the goal applies to in batches, and the target of each batch, without pixels."""
    batches = [order[first : first + batch] for first in range(0, len(order), batch)]
    aimed = [_without_pixels(exams.target(rows)) for rows in batches]
    told = [why for one in aimed for why in not_applicable(one.case)]
    kept = [row for row, why in zip(order, told, strict=True) if not why]
    if not kept:
        raise WorkbenchError(f"no exam to fit on: {told[0]}", "give other exams, or another aim")
    return (batches, aimed) if len(kept) == len(order) else _aimed(exams, kept, batch)


def _fast(target: Target, x: Exams) -> Target:
    if target.deployed is not None:
        return target
    return replace(target, model=fast_copy(target.model, x))


def _fit(exams: FittingExams, batches: list[list[int]], aimed: list[Target], pattern: Picture) -> Fit:
    """Return the pattern and how often it reaches the goal on the exams that it was fitted on."""
    reached = already = 0
    for rows, one in zip(batches, aimed, strict=True):
        target = replace(one, clean=exams.pixels(rows))
        with torch.no_grad():
            reached += int((target.margin(_with(target, pattern)) > 0).sum())
            already += int((target.margin_of_clean() > 0).sum())
    count = sum(map(len, batches))
    return Fit(pattern, count, reached / count, already / count)
