"""Who makes draws: MC-dropout, ensembles, checkpoints, views; all behind one interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.models.modes import evaluation
from workbench.models.precision import Precision, autocast, resolve_precision
from workbench.schema.errors import WorkbenchError
from workbench.schema.seeds import seed_for
from workbench.uncertainty.mc_dropout import refuse_request
from workbench.uncertainty.seeded_dropout import DropoutOff

Exams = Float[Tensor, "exam 6 height width"]
Present = Bool[Tensor, "exam 2"]


@runtime_checkable
class DrawMaker(Protocol):
    """Turns exams into draws; an exam's draws depend on the exam and its seed alone."""

    @property
    def how(self) -> str:
        """Say in a line how draws are made."""

    def logits(self, x: Exams, present: Present) -> Float[Tensor, "exam 2 grade"]:
        """Return the logits of the answer without randomness, float32."""

    def draws(
        self, x: Exams, present: Present, *, draws: int, seeds: Sequence[int]
    ) -> Float[Tensor, "draw exam 2 grade"]:
        """Return probabilities, float32, NaN for an absent eye; one seed per exam."""


class Deterministic:
    """A model as it is: every draw is its one answer. What an ensemble without dropout is made of.

    Args:
        model: ``(x, present) -> logits``.
        precision: see `resolve_precision`.
    """

    how = "one answer"

    def __init__(self, model: nn.Module, *, precision: Precision = "fp32") -> None:
        self.model = model
        self.device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self.precision = resolve_precision(precision, self.device)

    def logits(self, x: Exams, present: Present) -> Float[Tensor, "exam 2 grade"]:
        """Return the model's logits, float32."""
        with evaluation(self.model), torch.inference_mode(), autocast(self.precision, self.device), DropoutOff():
            logits: Tensor = self.model(x, present)
        return logits.to(torch.float32, copy=True)

    def draws(
        self, x: Exams, present: Present, *, draws: int, seeds: Sequence[int]
    ) -> Float[Tensor, "draw exam 2 grade"]:
        """Return the one answer as every draw.

        Raises:
            WorkbenchError: see `refuse_request`.
        """
        refuse_request(x, draws, seeds)
        answer = torch.where(present[:, :, None], self.logits(x, present).softmax(-1), torch.nan)
        return answer.expand(draws, *answer.shape).clone()


class Ensemble:
    """Several makers as one (Lakshminarayanan et al. 2017): draw d is member d mod M's own draw number d div M.

    With deterministic members and as many draws as members it is a deep ensemble, with `StochasticPredictor`s each
    member contributes MC-dropout draws. A member's masks are its own: its seed is made of the exam's and its number.

    Args:
        members: at least two.

    Raises:
        WorkbenchError: fewer than two members.
    """

    def __init__(self, members: Sequence[DrawMaker]) -> None:
        if len(members) < 2:
            raise WorkbenchError(f"an ensemble of {len(members)} members", "name at least two models")
        self.members = tuple(members)

    @property
    def how(self) -> str:
        """Say of how many members, and how they draw."""
        ways = ", ".join(dict.fromkeys(member.how for member in self.members))
        return f"ensemble of {len(self.members)} ({ways})"

    def logits(self, x: Exams, present: Present) -> Float[Tensor, "exam 2 grade"]:
        """Return the logarithm of the members' mean probabilities: its softmax is that mean."""
        logs = torch.stack([member.logits(x, present).log_softmax(-1) for member in self.members])
        return logs.logsumexp(0) - float(torch.tensor(len(logs)).log())

    def draws(
        self, x: Exams, present: Present, *, draws: int, seeds: Sequence[int]
    ) -> Float[Tensor, "draw exam 2 grade"]:
        """Return the members' draws in turn.

        Raises:
            WorkbenchError: see `refuse_request`, or what a member refuses.
        """
        refuse_request(x, draws, seeds)
        made: list[Tensor | None] = [None] * draws
        for number, member in enumerate(self.members):
            own = list(range(number, draws, len(self.members)))
            if own:
                seeded = [seed_for(seed, "member", number) for seed in seeds]
                drawn = member.draws(x, present, draws=len(own), seeds=seeded)
                for place, draw in zip(own, drawn, strict=True):
                    made[place] = draw
        return torch.stack([draw for draw in made if draw is not None])


class MixtureNet(nn.Module):
    """The ensemble's answer as one network, e.g. for an attack: the logarithm of the members' mean probabilities."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(
        self, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]
    ) -> Float[Tensor, "exam 2 grade"]:
        """Return logits whose softmax is the mean of the members' softmax."""
        logs = torch.stack([member(x, present).log_softmax(-1) for member in self.members])
        return logs.logsumexp(0) - float(torch.tensor(len(logs)).log())
