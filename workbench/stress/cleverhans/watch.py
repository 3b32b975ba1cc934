"""What CleverHans is given as its model: two logits of one exam's goal, and a memory of the best iterate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.schema.errors import WorkbenchError
from workbench.stress.norms import NORMS, project
from workbench.stress.target import Target, check_gradient

AT_ONCE: Final = 32
"""Pictures in one pass of the model: SPSA and HopSkipJump ask for hundreds of them."""

INSIDE: Final = 1 - 1e-4
"""Share of a budget that is a sum over pixels, so that their rounding does not pass it."""


class OutOfQueriesError(Exception):
    """The attack has looked at as many pictures as it may; CleverHans' loops have no other end in places."""


class Watch:
    """``pictures -> two logits`` of one exam: 'not reached' is always 0, 'reached' is the margin past the goal.

    Whatever norm and goal the target has, CleverHans sees the class 0 to be left. An eye that may not be changed keeps
    its clean pixels, so nothing is gained by moving it.

    Attributes:
        best: the picture to return; the clean one until a better one was seen.

    Args:
        target: one exam.
        minimal: remember the nearest picture that reaches the goal, as the attack looks for it; else every picture is
            brought into the budget before it is answered, and the one furthest past the goal is remembered.
        labels: answer only whether the goal is reached, to an attack that must not see more.
        queries: pictures that may be looked at; None: any number.
    """

    def __init__(
        self, target: Target, *, minimal: bool = False, labels: bool = False, queries: int | None = None
    ) -> None:
        self._target, self._minimal, self._labels, self._left = target, minimal, labels, queries
        self._may = (target.size > 0).repeat_interleave(3, dim=1)[:, :, None, None]
        self.best = target.clean.clone()
        with torch.no_grad():
            start = float(target.margin(target.clean))
        self.reached = start > 0
        self._least = 0.0 if self.reached else float("inf")
        self._furthest = start

    def __call__(self, pictures: Float[Tensor, "picture 6 height width"]) -> Float[Tensor, "picture 2"]:
        """Return the logits of 'not reached' and 'reached', having remembered what is best.

        Raises:
            OutOfQueriesError: more pictures than may be looked at.
            WorkbenchError: the attack wants a gradient, and the model has none.
        """
        if self._left is not None:
            self._left -= len(pictures)
            if self._left < 0:
                raise OutOfQueriesError
        margins = torch.cat([self._answer(some) for some in torch.split(pictures, AT_ONCE)])
        if torch.is_grad_enabled() and pictures.requires_grad:
            check_gradient(margins)
        if self._labels:
            margins = torch.where(margins > 0, 1.0, -1.0)
        return torch.stack([torch.zeros_like(margins), margins], dim=1)

    def _answer(self, pictures: Tensor) -> Float[Tensor, " picture"]:
        many = self._target.of(torch.zeros(len(pictures), dtype=torch.long))
        moved = torch.where(self._may, pictures.clamp(0.0, 1.0), self._target.clean)
        if not self._minimal:
            moved = self._target.clean + project(moved - self._target.clean, many.size, self._target.case.threat.norm)
        soft: Tensor = many.margin(moved, soft=True)
        with torch.no_grad():
            self._remember(moved.detach(), many.margin(moved.detach()))
        return soft

    def _remember(self, pictures: Tensor, margins: Tensor) -> None:
        if not self._minimal:
            place = int(torch.nan_to_num(margins, nan=-torch.inf).argmax())
            if margins[place] > self._furthest:
                self._furthest, self.best = float(margins[place]), pictures[place : place + 1].clone()
            return
        size = NORMS[self._target.case.threat.norm](pictures - self._target.clean).amax(dim=1)
        size = torch.where(margins > 0, size, torch.inf)
        place = int(size.argmin())
        if size[place] < self._least:
            self._least, self.best, self.reached = float(size[place]), pictures[place : place + 1].clone(), True


def exam_by_exam(
    model: Callable[[Tensor], Tensor],
    generators: Sequence[torch.Generator],
    attack: Callable[[Target], Tensor],
) -> Float[Tensor, "exam 6 height width"]:
    """Return what ``attack`` makes of each exam by itself, under random numbers from its own generator.

    CleverHans draws from the global generator, and its constants and stopping rules leak from one exam of a batch to
    another. What is returned lies inside the budget; an exam for which the nearest picture found lies outside is cut
    back to it, and judged as it then is.

    Raises:
        WorkbenchError: not one generator per exam, or the model is no `Target`.
    """
    if not isinstance(model, Target):
        raise WorkbenchError(
            "this attack was given a bare model", "call it through workbench.stress.apply.apply_stress"
        )
    clean = model.clean
    if len(generators) != len(clean):
        raise WorkbenchError(f"{len(generators)} generators for {len(clean)} exams", "give one generator per exam")
    found = []
    for exam, generator in enumerate(generators):
        target = model.of(torch.tensor([exam]))
        seed = int(torch.randint(2**63 - 1, (1,), generator=generator))
        if not (target.size > 0).any():
            found.append(target.clean)
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = attack(target).detach()
        size = target.size if target.case.threat.norm == "linf" else INSIDE * target.size
        found.append(target.clean + project(made - target.clean, size, target.case.threat.norm))
    return torch.cat(found)


def at_least(attack: str, **options: tuple[int | float, int | float]) -> None:
    """Refuse an option below its least value, before CleverHans asserts without a message, or after the work.

    Raises:
        WorkbenchError: names the option, the value and the least one.
    """
    for name, (value, least) in options.items():
        if not value >= least:
            raise WorkbenchError(f"{attack}: {name} is {value:g}", f"it must be at least {least:g}")
