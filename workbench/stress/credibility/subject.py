"""What is examined: a model, some exams, and the attack whose figures are to be believed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from workbench.schema.seeds import seed_for
from workbench.schema.specs import FIRST_AIM, StressSpec
from workbench.schema.threat import OF_THE_REFERRAL, Aim, Eyes
from workbench.stress.apply import StressResult, apply_stress
from workbench.stress.goals import Deployed
from workbench.stress.target import Target, aim_at, is_random, own_draws

PerExam = Bool[Tensor, " exam"]


@dataclass(frozen=True)
class Subject:
    """The exams under examination.

    Attributes:
        model: ``(x, present) -> logits``, as it is attacked.
        x: in [0, 1].
        present: which eyes there are.
        y: true grades, −1 where there is none.
        seeds: one per exam.
        threshold: P(referable) from which an exam is called referable.
        epsilon: of the attack, linf in 1/255.
        steps: of its descent.
        eyes: that it may change.
        tries: of the attack by scores.
        queries: of the attack by labels.
        deployed: the stochastic system; None where the model makes no draws that have a gradient.
        surrogate: the model that a transferred attack is made on; None: a smooth copy of this one.
    """

    model: nn.Module = field(repr=False)
    x: Float[Tensor, "exam 6 height width"] = field(repr=False)
    present: Bool[Tensor, "exam 2"]
    y: Int64[Tensor, "exam 2"]
    seeds: tuple[int, ...]
    threshold: float
    epsilon: float
    steps: int = 10
    eyes: Eyes = "both"
    tries: int = 200
    queries: int = 400
    deployed: Deployed | None = None
    surrogate: nn.Module | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.x)

    def of(self, rows: Int64[Tensor, " row"]) -> Subject:
        """Return the same for some of the exams."""
        seeds = tuple(self.seeds[row] for row in rows.tolist())
        return replace(self, x=self.x[rows], present=self.present[rows], y=self.y[rows], seeds=seeds)

    def under(
        self, name: str, epsilon: float | None = None, *, aim: Aim = FIRST_AIM, **options: float | int | bool
    ) -> StressResult:
        """Return what the framework saw of an attack on these exams; ``draws`` among the options attacks the draws."""
        strength = self.epsilon if epsilon is None else epsilon
        spec = StressSpec(name=name, strength=min(strength, 255.0), eyes=self.eyes, options=options, aim=aim)
        about_draws = bool(options.get("draws")) or aim.goal in OF_THE_REFERRAL
        more: dict[str, Any] = {"deployed": self.deployed} if about_draws and self.deployed is not None else {}
        return apply_stress(
            self.model, self.x, self.present, self.y, spec, self.seeds, threshold=self.threshold, **more
        )

    def target(self, aim: Aim = FIRST_AIM, deployed: Deployed | None = None, draws: int = 16) -> Target:
        """Return these exams as an attack is given them; a model that is random by itself, by its own draws."""
        eyes: Literal["both", "OD", "OS"] = "both" if self.eyes == "worst_of_one" else self.eyes
        threat = StressSpec(name="pgd", strength=self.epsilon, eyes=eyes, aim=aim).threat
        if deployed is None and is_random(self.model, self.x, self.present):
            deployed = own_draws(self.model)
        seeds = [seed_for(seed, "attacked draws") for seed in self.seeds]
        return aim_at(
            self.model, self.x, self.present, self.y, threat, seeds,
            threshold=self.threshold, deployed=deployed, draws=draws,
        )  # fmt: skip


def reached(target: Target, x: Float[Tensor, "exam 6 height width"]) -> PerExam:
    """Return on which exams the goal is reached at ``x``."""
    with torch.no_grad():
        return target.margin(x) > 0
