"""Adversarial training: PGD (Madry et al. 2018) and TRADES (Zhang et al. 2019) on the eyes that are there.

The attack sees the model as it will be used: evaluation mode, that is running statistics in the normalisations and no
dropout, its parameters frozen. The step that learns from it is taken in training mode, so that batch normalisation
learns the statistics of what it is trained on: with PGD of attacked exams, with TRADES of clean and attacked ones in
turn. Both passes of TRADES have the same dropout: their divergence is what the attack did and not what chance did, else
it would teach the draws of MC-dropout to agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from workbench.models.modes import evaluation, frozen
from workbench.schema.grades import EYES
from workbench.schema.seeds import seed_for
from workbench.training.config import AdversarialSection
from workbench.training.defence import Ascend

Exams = Float[Tensor, "exam 6 height width"]


@dataclass(frozen=True)
class Task:
    """Some exams, and what is asked of the model there.

    Attributes:
        graded: which eyes are there and have a grade; the others count nowhere.
        answer: ``x -> logits`` of the model, in the mode that it has at the time.
        loss: of logits, against the grades of these exams.
    """

    x: Exams
    present: Bool[Tensor, "exam 2"]
    graded: Bool[Tensor, "exam 2"]
    answer: Callable[[Exams], Float[Tensor, "exam 2 grade"]]
    loss: Callable[[Float[Tensor, "exam 2 grade"]], Float[Tensor, ""]]


@dataclass(frozen=True)
class Adversary:
    """Who attacks the exams of each step."""

    settings: AdversarialSection
    ascend: Ascend

    def loss(self, model: nn.Module, task: Task, seed: int, epochs_done: float) -> Float[Tensor, ""]:
        """Return what a step minimises; with an epsilon of 0 it is the ordinary loss, to the last bit."""
        epsilon = epsilon_at(self.settings, epochs_done)
        attacked = self.attack(model, task, seed, epsilon) if epsilon else task.x
        torch.manual_seed(seed)
        if self.settings.method == "pgd" or not epsilon:
            return task.loss(task.answer(attacked))
        clean = task.answer(task.x)
        torch.manual_seed(seed)
        return task.loss(clean) + self.settings.beta * divergence(clean, task.answer(attacked), task.graded)

    def attack(self, model: nn.Module, task: Task, seed: int, epsilon: float) -> Exams:
        """Return the exams as ``epsilon`` (1/255) of attack leaves them; each exam's random numbers are its own."""
        generators = [Generator().manual_seed(seed_for(seed, "attack", row)) for row in range(len(task.x))]
        size = reach(task.present, self.settings.eyes, generators) * (epsilon / 255)
        with evaluation(model), frozen(model):
            return self.ascend(self._objective(task), task.x, size, generators)

    def _objective(self, task: Task) -> Callable[[Exams], Float[Tensor, ""]]:
        if self.settings.method == "pgd":
            return lambda x: task.loss(task.answer(x))
        with torch.no_grad():
            clean = task.answer(task.x)
        far = partial(divergence, clean, graded=task.graded)
        return lambda x: far(task.answer(x))


def epsilon_at(settings: AdversarialSection, epochs_done: float) -> float:
    """Return epsilon, in 1/255: it rises evenly over the epochs of the warm-up."""
    rising = settings.warm_up_epochs
    return settings.epsilon * (min(1.0, epochs_done / rising) if rising else 1.0)


def reach(present: Bool[Tensor, "exam 2"], eyes: str, generators: list[Generator]) -> Float[Tensor, "exam 2"]:
    """Return 1 where an eye may be attacked; never one that is not there. ``random_one`` is one of those that are."""
    if eyes == "both":
        return present.float()
    if eyes == "random_one":
        left = torch.tensor([bool(torch.rand((), generator=one) < 0.5) for one in generators], device=present.device)
        left = torch.where(present.all(dim=1), left, present[:, 1])
        return (present & torch.stack([~left, left], dim=1)).float()
    named = torch.tensor([name == eyes for name in EYES], device=present.device)
    return (present & named).float()


def divergence(
    clean: Float[Tensor, "exam 2 grade"], attacked: Float[Tensor, "exam 2 grade"], graded: Bool[Tensor, "exam 2"]
) -> Float[Tensor, ""]:
    """Return the mean over the graded eyes of KL(p(clean) ‖ p(attacked)); 0 without one. Slopes go both ways."""
    ours, theirs = clean.float().log_softmax(-1), attacked.float().log_softmax(-1)
    each = (ours.exp() * (ours - theirs)).sum(-1)
    return (each * graded).sum() / graded.sum().clamp(min=1)
