"""The goal *explanation*: the call and the grades stay, and the map, which is handed in from above, moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.models.referable import referable_log_odds
from workbench.stress.goals import Answers, Case

MOVED: Final = 0.5
"""Share of the map's strongest tenth of cells that must have left it, in an eye that may be changed."""
WEIGHT: Final = 5.0
"""Log-odds that a share of 1 stands for, as `goals.SCORE_WEIGHT`."""
ROOM: Final = 0.5
"""How far, in log-odds, an answer may come to turning before the attack draws it back."""


@dataclass(frozen=True)
class Explained:
    """A model's map, for an attacker who would move it.

    Attributes:
        own: ``(x, present) -> "exam 2 height width"``, by which the attack is judged; without a gradient.
        smooth: the same of a smoothed model, on cells, with a gradient where ``x`` has one.
        moved: ``(own map before, after) -> "exam 2"``: which share of its strongest parts has left them.
    """

    own: Callable[[Tensor, Tensor], Tensor]
    smooth: Callable[[Tensor, Tensor], Tensor]
    moved: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class CleanMap:
    """What an exam's map and answers are before anything is moved."""

    own: Float[Tensor, "exam 2 height width"]
    smooth: Float[Tensor, "exam 2 row column"]
    answers: Answers

    def of(self, rows: Tensor) -> CleanMap:
        """Return those of some of the exams."""
        return CleanMap(self.own[rows], self.smooth[rows], self.answers.of(rows))


def clean_map(explained: Explained, x: Tensor, present: Bool[Tensor, "exam 2"], answers: Answers) -> CleanMap:
    """Return the maps of exams as they are."""
    return CleanMap(explained.own(x, present), explained.smooth(x.detach(), present).detach(), answers)


def map_margin(
    explained: Explained, clean: CleanMap, x: Tensor, answers: Answers, case: Case, soft: bool
) -> Float[Tensor, " exam"]:
    """Return the smaller of two: how surely the answers stay, and how far more than `MOVED` of a map has moved.

    The smooth form goes down the likeness of the smoothed map to the clean one, and back where an answer nearly turns.
    """
    movable, stays = case.named & case.present, _stays(answers, clean.answers, case)
    if soft:
        now = explained.smooth(x, case.present)
        alike = torch.nn.functional.cosine_similarity(now.flatten(2), clean.smooth.flatten(2), dim=2)
        return WEIGHT * torch.where(movable, -alike, 0.0).sum(dim=1) + WEIGHT * (stays - ROOM).clamp(max=0.0)
    moved = torch.where(movable, explained.moved(clean.own, explained.own(x, case.present)), 0.0).amax(dim=1)
    return torch.minimum(stays, WEIGHT * (moved - MOVED))


def _stays(answers: Answers, before: Answers, case: Case) -> Float[Tensor, " exam"]:
    """Return how far the exam's call and every present eye's grade are from turning, in log-odds."""
    past, was = ((referable_log_odds(one.logits).amax(dim=1) - case.boundary) for one in (answers, before))
    call = torch.where(was >= 0, past, -past)
    own = torch.nn.functional.one_hot(before.logits.argmax(dim=2), before.logits.shape[2]).bool()
    ahead = answers.logits.masked_fill(~own, -torch.inf).amax(2) - answers.logits.masked_fill(own, -torch.inf).amax(2)
    grade = torch.where(case.present, ahead, torch.inf).amin(dim=1)
    return torch.minimum(call, grade)
