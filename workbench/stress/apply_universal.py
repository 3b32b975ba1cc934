"""The fit of a perturbation that is one for all exams; `apply.apply_stress` adds it to others and judges it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from workbench.models.modes import measuring
from workbench.schema.errors import WorkbenchError
from workbench.schema.seeds import seed_for
from workbench.schema.specs import StressSpec
from workbench.schema.threat import UNIVERSAL
from workbench.stress.apply import EYES_OF, target_of
from workbench.stress.goals import Deployed
from workbench.stress.registry import check_stress
from workbench.stress.target import Target
from workbench.stress.universal import Fit, FittingExams, ascend_together, random_signs

Load = Callable[
    [Sequence[int]],
    tuple[Float[Tensor, "exam 6 height width"], Bool[Tensor, "exam 2"], Int64[Tensor, "exam 2"]],
]
"""Rows → pixels, which eyes there are, true grades."""


def fit_universal(
    model: nn.Module,
    load: Load,
    count: int,
    spec: StressSpec,
    *,
    seed: int,
    threshold: float,
    deployed: Deployed | None = None,
) -> Fit:
    """Return the pattern of a stress of `schema.threat.UNIVERSAL`, fitted on exams that it must not be judged on.

    Args:
        model: ``(x, present) -> logits``; held in eval mode and fp32, and left as it was found.
        load: reads the exams to fit on; never all at once.
        count: how many of them there are.
        spec: the stress; of ``worst_of_one`` each eye's half is fitted by itself.
        seed: of the order of the exams, or of the random signs; an exam's draws have a seed made of it.
        threshold: P(referable) from which an exam is called referable.
        deployed: the stochastic system, see `apply.apply_stress`.

    Raises:
        WorkbenchError: another stress, no exams, or as `apply.apply_stress`.
    """
    check_stress(spec)
    if spec.name not in UNIVERSAL:
        raise WorkbenchError(f"{spec.name} is not fitted", f"fitted are {', '.join(UNIVERSAL)}")
    if count < 1:
        raise WorkbenchError(f"{spec.name}: no exam to fit on", "give it one or more")
    with measuring(model):
        if spec.name == "universal_noise":
            return random_signs(load([0])[0][0], spec.threat.size, seed)
        fits = [_fit_on(model, load, count, spec, eyes, seed, threshold, deployed) for eyes in EYES_OF[spec.eyes]]
    return fits[0] if len(fits) == 1 else _halves(*fits)


def _fit_on(
    model: nn.Module,
    load: Load,
    count: int,
    spec: StressSpec,
    eyes: Literal["both", "OD", "OS"],
    seed: int,
    threshold: float,
    deployed: Deployed | None,
) -> Fit:
    def target(rows: Sequence[int]) -> Target:
        x, present, y = load(rows)
        seeds = [seed_for(seed, "fitted", row) for row in rows]
        return target_of(model, x.float(), present, y, spec, eyes, seeds, threshold, deployed)

    options = {name: value for name, value in spec.options.items() if name != "draws"}
    fit = partial(ascend_together, locked=spec.name == "sensor_locked", seed=seed_for(seed, "order"))
    return fit(FittingExams(count, target, lambda rows: load(rows)[0].float()), **options)  # type: ignore[arg-type]


def _halves(right: Fit, left: Fit) -> Fit:
    """Return the right eye's half of one and the left eye's of the other; which is stronger depends on the exam."""
    return replace(right, pattern=torch.cat([right.pattern[:3], left.pattern[3:]]), success=None, already=None)
