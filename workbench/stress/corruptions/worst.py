"""The worst of what chance could decide, within one severity: where the dust lies, which way the eye moves.

A severity says how much there is; the rest (a direction, a place) is luck in a random test. Here it is searched: some
random tries, then steps along the slope of the exam's log-odds, by a faithful copy of the model where there is a faster
one. The best is kept, and held against the first try by the model itself: it is never milder than that, which is what
the plain corruption would have drawn from the same generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from workbench.models.fast import fast_copy
from workbench.models.referable import referable_log_odds
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import REFERABLE_GRADE, UNGRADED
from workbench.stress.corruptions.catalogue import TABLE, Chance, Corruption, check_severity, draw, eight_bit, spoil
from workbench.stress.target import Target

Model = Callable[[Tensor], Tensor]

LONGEST_STEP: Final = 0.1
"""Of the unit cube in which chance draws; halved at each step."""
GRID: Final = 4096
"""The numbers are kept to 1/4096, so that a hair's difference in a slope makes no other picture."""


def worst(
    model: Model,
    x: Float[Tensor, "exam 6 height width"],
    y: Int64[Tensor, "exam 2"],
    generators: Sequence[torch.Generator],
    *,
    corruption: Corruption,
    severity: float,
    eyes: str = "both",
    threshold: float = 0.5,
    tries: int = 6,
    steps: int = 3,
) -> Float[Tensor, "exam 6 height width"]:
    """Return ``x`` under the corruption, as chance would have it that is worst for the exam's call.

    Raises:
        WorkbenchError: a severity that is not from 0 to 5, fewer than one try, a negative number of steps.
    """
    check_severity(severity)
    if tries < 1 or steps < 0:
        raise WorkbenchError(f"tries is {tries}, steps is {steps}", "give one try or more, and no negative steps")
    drawn = [[draw(corruption, generator) for _ in range(tries)] for generator in generators]
    if severity == 0:
        return x.clone()
    rough = _faster(model)
    search = _Search(rough, x, y, threshold, corruption, severity, eyes, truth_by=model)
    with torch.no_grad():
        search.judge([chances[0] for chances in drawn])
        by_chance = search.worst
        for tried in range(1, tries):
            search.judge([chances[tried] for chances in drawn])
    for number in range(steps):
        search.climb(LONGEST_STEP / 2**number)
    return search.worst if rough is model else _worse_of(by_chance, search.worst, model, search)


def _faster(model: Model) -> Model:
    """Return the same question asked of a faithful copy; the model itself where it is about draws or maps."""
    if not isinstance(model, Target) or model.deployed is not None or model.explained is not None:
        return model
    return replace(model, model=fast_copy(model.model, model.clean))


def _worse_of(one: Tensor, other: Tensor, model: Model, search: _Search) -> Float[Tensor, "exam 6 height width"]:
    """Return per exam what is further past the goal by the model itself."""
    with torch.no_grad():
        further = search.past(other, model) > search.past(one, model)
    return torch.where(further[:, None, None, None], other, one)


class _Search:
    """The worst found so far, per exam.

    Attributes:
        worst: the exams under it, as 8-bit files.
        chances: what chance would have to decide for it.
    """

    def __init__(
        self,
        model: Model,
        x: Float[Tensor, "exam 6 height width"],
        y: Int64[Tensor, "exam 2"],
        threshold: float,
        corruption: Corruption,
        severity: float,
        eyes: str,
        truth_by: Model,
    ) -> None:
        self._model, self._clean = model, x
        self._corruption, self._severity, self._eyes = corruption, severity, eyes
        self._boundary = math.log(threshold / (1 - threshold))
        self._referable = _truth_or_call(y, lambda: self._margins(x, truth_by))
        self._furthest = torch.full((len(x),), -torch.inf)
        self.worst, self.chances = x.clone(), list[Chance]()

    def _margins(self, x: Tensor, model: Model) -> Float[Tensor, "exam 2"]:
        return referable_log_odds(model(x)) - self._boundary

    def past(self, x: Tensor, model: Model) -> Float[Tensor, " exam"]:
        """Return how far past the goal each exam is, by this model."""
        return self._past(self._margins(x, model).amax(dim=1))

    def _past(self, margin: Float[Tensor, " exam"]) -> Float[Tensor, " exam"]:
        return torch.where(self._referable, -margin, margin)

    def _spoiled(self, chances: Sequence[Chance]) -> Float[Tensor, "exam 6 height width"]:
        pairs = zip(self._clean, chances, strict=True)
        return torch.stack([spoil(self._corruption, exam, of, self._severity, self._eyes) for exam, of in pairs])

    def judge(self, chances: Sequence[Chance]) -> None:
        """Look at one outcome of chance per exam, as 8-bit files, and keep what is worse than before."""
        spoiled = eight_bit(self._spoiled(chances), self._clean)
        past = self.past(spoiled, self._model)
        better = past > self._furthest
        self._furthest = torch.where(better, past, self._furthest)
        self.worst = torch.where(better[:, None, None, None], spoiled, self.worst)
        known = self.chances or list(chances)
        self.chances = [new if won else old for new, old, won in zip(chances, known, better.tolist(), strict=True)]

    def climb(self, size: float) -> None:
        """Step from the worst along the signs of its slope, around the unit cube, and judge what is there."""
        with torch.enable_grad():
            leaves = [of.numbers.detach().clone().requires_grad_() for of in self.chances]
            chances = [Chance(of.seeds, leaf) for of, leaf in zip(self.chances, leaves, strict=True)]
            past = self._past(torch.logsumexp(self._margins(self._spoiled(chances), self._model), dim=1)).sum()
            slopes = (
                torch.autograd.grad(past, leaves, allow_unused=True) if past.requires_grad else [None] * len(leaves)
            )
        with torch.no_grad():
            pairs = zip(chances, slopes, strict=True)
            self.judge(
                [of if slope is None else Chance(of.seeds, self._moved(of.numbers, slope, size)) for of, slope in pairs]
            )

    def _moved(self, numbers: Float[Tensor, "2 chance"], slope: Float[Tensor, "2 chance"], size: float) -> Tensor:
        if self._corruption.shared:
            slope = slope.sum(dim=0, keepdim=True).expand(2, -1)
        moved = numbers + size * slope.nan_to_num().sign()
        return ((moved * GRID).round() / GRID) % 1.0


def _truth_or_call(y: Int64[Tensor, "exam 2"], margins: Callable[[], Float[Tensor, "exam 2"]]) -> Bool[Tensor, " exam"]:
    """Return whether an exam is referable: the truth, or the clean call where no eye is graded."""
    graded, referable = (y != UNGRADED).any(dim=1), (y >= REFERABLE_GRADE).any(dim=1)
    if graded.all():
        return referable
    with torch.no_grad():
        return torch.where(graded, referable, margins().amax(dim=1) >= 0)


WORST: Final[Mapping[str, Callable[..., Tensor]]] = {
    f"worst_{name}": partial(worst, corruption=corruption) for name, corruption in TABLE.items() if corruption.chance
}
"""The worst case of every corruption in which something is left to chance."""
