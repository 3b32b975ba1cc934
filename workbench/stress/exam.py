"""What goes wrong with an exam as a whole: eyes filed under each other's name, another patient's eye, a missing eye.

The pixels stay as they were; what changes is whose they are and which there are. So these are no ``(model, x, y,
generators) -> x'``: they answer which eyes are left, and to which exams they do not apply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import EYES
from workbench.schema.specs import StressSpec

Pixels = Float[Tensor, "exam 6 height width"]
Eyes = Bool[Tensor, "exam 2"]


@dataclass(frozen=True)
class Rearranged:
    """Exams after a mix-up.

    Attributes:
        x: their pixels, zero where an eye is not present.
        present: which eyes there are now.
        not_applicable: per exam, why nothing was done to it; empty where it was.
    """

    x: Pixels
    present: Eyes
    not_applicable: tuple[str, ...]


def swapped_eyes(x: Pixels, present: Eyes, chosen: Eyes, others: Pixels | None) -> Rearranged:  # noqa: ARG001
    """Return the exams with the two photographs filed under each other's name; grades stay where they were."""
    both = present.all(dim=1)
    swapped = torch.cat([x[:, 3:], x[:, :3]], dim=1)
    return Rearranged(_where(both, swapped, x), present, _reasons(both, "only one eye was photographed"))


def missing_eye(x: Pixels, present: Eyes, chosen: Eyes, others: Pixels | None) -> Rearranged:  # noqa: ARG001
    """Return the exams without the chosen eye."""
    both = present.all(dim=1)
    left = torch.where(both[:, None], present & ~chosen, present)
    pixels = torch.where(left.repeat_interleave(3, dim=1)[:, :, None, None], x, 0.0)
    return Rearranged(pixels, left, _reasons(both, "only one eye was photographed"))


def wrong_eye(x: Pixels, present: Eyes, chosen: Eyes, others: Pixels | None) -> Rearranged:
    """Return the exams with another patient's photograph, of the same side, in the place of the chosen eye."""
    if others is None:
        raise WorkbenchError("wrong_eye needs the photographs of other patients", "give them as `others`")
    there = (present & chosen).any(dim=1) & others.flatten(1).any(dim=1)
    exchanged = torch.where(chosen.repeat_interleave(3, dim=1)[:, :, None, None], others, x)
    return Rearranged(_where(there, exchanged, x), present, _reasons(there, "no eye there, or no other patient's"))


def _where(mask: Bool[Tensor, " exam"], one: Pixels, other: Pixels) -> Pixels:
    return torch.where(mask[:, None, None, None], one, other)


def _reasons(done: Bool[Tensor, " exam"], why: str) -> tuple[str, ...]:
    return tuple("" if applied else f"not applicable: {why}" for applied in done.tolist())


EXAM_STRESSES: Final[Mapping[str, Callable[[Pixels, Eyes, Eyes, Pixels | None], Rearranged]]] = {
    "swapped_eyes": swapped_eyes,
    "wrong_eye": wrong_eye,
    "missing_eye": missing_eye,
}
"""``(x, present, chosen, others) -> Rearranged``; ``chosen`` is one eye per exam."""


def check_exam_stress(spec: StressSpec) -> None:
    """Refuse what a mix-up has not: options, and strengths other than 0 (nothing happens) and 1.

    Raises:
        WorkbenchError: it has one of them.
    """
    if spec.strength not in (0, 1):
        raise WorkbenchError(f"{spec.name}: strength is {spec.strength:g}", "it happens or not: give 1 (or 0)")
    if spec.options:
        raise WorkbenchError(f"the stress {spec.name!r} has no option {next(iter(spec.options))!r}", "remove it")


def chosen_eyes(spec: StressSpec, seeds: Sequence[int]) -> Eyes:
    """Return the one eye of each exam that a mix-up is about: the named one, or by lot."""
    lots = [torch.randint(2, (1,), generator=torch.Generator().manual_seed(seed)).item() for seed in seeds]
    eyes = [EYES.index(spec.eyes) if spec.eyes in EYES else int(lot) for lot in lots]
    return torch.tensor([[eye == 0, eye == 1] for eye in eyes], dtype=torch.bool).reshape(-1, 2)
