"""Attacks through CleverHans 4.0, aimed at the decision: across the referable boundary of an exam.

CleverHans is given ``x -> two logits per exam`` (not referable, referable) and the exam's true status. Its faults are
met here: `y` is always given (without one it works on its own guess), x is fp32 (in bf16 its PGD left the ball), its
random start is off (it draws from the global generator), what it takes is validated first, what it returns is detached,
and the best iterate is kept where it would return the last. `apply.apply_stress` freezes the model around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import torch
from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from workbench.models.referable import referable_log_odds
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import EYES, REFERABLE_GRADE, UNGRADED
from workbench.stress.target import check_gradient, check_pixels

Model = Callable[[Tensor], Tensor]


def fgsm(
    model: Model,
    x: Float[Tensor, "exam 6 height width"],
    y: Int64[Tensor, "exam 2"],
    generators: Sequence[torch.Generator],
    *,
    epsilon: float,
    eyes: str = "both",
    threshold: float = 0.5,
) -> Float[Tensor, "exam 6 height width"]:
    """Return x + ε·sign(gradient of the loss), one step (Goodfellow et al. 2015); ``epsilon`` in 1/255.

    Raises:
        WorkbenchError: ε outside 0 to 255, pixels outside [0, 1], not one generator per exam.
    """
    _check(x, generators, epsilon)
    crossing = Crossing(model, x, y, named_pixels(eyes, x), threshold)
    return fast_gradient_method(
        crossing, x, epsilon / 255, np.inf, clip_min=0.0, clip_max=1.0, y=crossing.label
    ).detach()


def pgd(
    model: Model,
    x: Float[Tensor, "exam 6 height width"],
    y: Int64[Tensor, "exam 2"],
    generators: Sequence[torch.Generator],
    *,
    epsilon: float,
    eyes: str = "both",
    threshold: float = 0.5,
    steps: int = 10,
    step_share: float = 0.25,
) -> Float[Tensor, "exam 6 height width"]:
    """Return the best of ``steps`` projected gradient steps of ε·``step_share`` (Madry et al. 2018).

    It pushes on after the call has flipped, so that strength curves and *confident* errors are seen: how far the
    exam's log-odds can be moved, not only whether. The start is the exam itself, so nothing is drawn.

    Raises:
        WorkbenchError: ε outside 0 to 255, pixels outside [0, 1], steps < 1, a step share outside (0, 1].
    """
    _check(x, generators, epsilon)
    if steps < 1:
        raise WorkbenchError(f"pgd: steps is {steps}", "it must be a whole number from 1")
    if not 0 < step_share <= 1:
        raise WorkbenchError(f"pgd: step_share is {step_share:g}", "a step is a share of epsilon, above 0 and up to 1")
    crossing = Crossing(model, x, y, named_pixels(eyes, x), threshold)
    size = epsilon / 255
    last = projected_gradient_descent(
        crossing,
        x,
        size,
        size * step_share,
        steps,
        np.inf,
        clip_min=0.0,
        clip_max=1.0,
        y=crossing.label,
        rand_init=False,
        sanity_checks=False,
    )
    with torch.no_grad():
        crossing(last)
    return crossing.best


class Crossing:
    """The objective: push the exam's P(referable) over the threshold, away from the truth.

    Called with x by CleverHans, it answers two logits per exam whose cross-entropy rises towards the wrong call, and
    remembers the best iterate that it was shown. The exam's log-odds are those of the worse present eye; their smooth
    maximum (logsumexp) is followed, because the maximum's own gradient moves one eye only, and a referable exam is
    crossed only when *both* eyes fall below the threshold. The log-odds are divided by their own size (a constant for
    the gradient, so its sign stands): the cross-entropy then never saturates, however sure the model is.

    Attributes:
        label: the status to leave, 1 referable: the truth, or the model's clean call where no eye is graded.
        best: per exam, the iterate furthest on the wrong side; the clean exam before any is better.
    """

    def __init__(
        self,
        model: Model,
        x: Float[Tensor, "exam 6 height width"],
        y: Int64[Tensor, "exam 2"],
        movable: Bool[Tensor, "#exam 6 1 1"],
        threshold: float,
    ) -> None:
        self._model, self._clean, self._movable = model, x, movable
        self._boundary = math.log(threshold / (1 - threshold))
        self.best = x.clone()
        with torch.no_grad():
            margin = referable_log_odds(model(x)).amax(dim=1) - self._boundary
        graded = (y != UNGRADED).any(dim=1)
        self.label = torch.where(graded, (y >= REFERABLE_GRADE).any(dim=1), margin >= 0).long()
        self._furthest = self._past(margin)

    def __call__(self, x: Float[Tensor, "exam 6 height width"]) -> Float[Tensor, "exam 2"]:
        """Return (0, the scaled log-odds) per exam.

        Raises:
            WorkbenchError: a gradient is wanted, and the model has none.
        """
        moved = torch.where(self._movable, x, self._clean)
        margins = referable_log_odds(self._model(moved)) - self._boundary
        worse = margins.detach().amax(dim=1)
        self._remember(moved.detach(), worse)
        scale = worse.abs().clamp(min=1.0)[:, None]
        smooth = torch.logsumexp(margins / scale, dim=1)
        if torch.is_grad_enabled() and x.requires_grad:
            check_gradient(smooth)
        return torch.stack([torch.zeros_like(smooth), smooth], dim=1)

    def _past(self, margin: Float[Tensor, " exam"]) -> Float[Tensor, " exam"]:
        return torch.where(self.label == 1, -margin, margin)

    def _remember(self, x: Float[Tensor, "exam 6 height width"], margin: Float[Tensor, " exam"]) -> None:
        past = self._past(margin)
        better = past > self._furthest
        self._furthest = torch.where(better, past, self._furthest)
        self.best = torch.where(better[:, None, None, None], x, self.best)


def named_pixels(eyes: str, x: Float[Tensor, "exam 6 height width"]) -> Bool[Tensor, "1 6 1 1"]:
    """Return which channels belong to the named eyes."""
    named = torch.tensor([eyes in ("both", eye) for eye in EYES], device=x.device)
    return named.repeat_interleave(3)[None, :, None, None]


def _check(x: Tensor, generators: Sequence[torch.Generator], epsilon: float) -> None:
    if not 0 <= epsilon <= 255:
        raise WorkbenchError(f"epsilon is {epsilon:g}", "give it in 1/255 of the pixel range, 0 to 255")
    if x.dtype != torch.float32:
        raise WorkbenchError(f"x is {x.dtype}", "an attack works in float32; use autocast inside the model")
    check_pixels(x)
    if len(generators) != len(x):
        raise WorkbenchError(f"{len(generators)} generators for {len(x)} exams", "give one generator per exam")


CLEVERHANS: Final[Mapping[str, Callable[..., Tensor]]] = {"cleverhans_fgsm": fgsm, "cleverhans_pgd": pgd}
"""CleverHans' own loops, beside ours: across the boundary in linf only."""
