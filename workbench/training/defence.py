"""What a training may be hardened with; handed in from above, for this room does not know that of the stresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from torch import Generator, Tensor

from workbench.schema.errors import WorkbenchError
from workbench.training.config import TrainConfig

Spoil = Callable[[Tensor, Generator], Tensor]
"""``(x, generator) -> x'``: exams in [0, 1], some of them spoiled as a bad photograph is."""

Ascend = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, Sequence[Generator]], Tensor]
"""``(objective, x, size, generators) -> x'``: exams in [0, 1] on which the objective is higher, eyes within their size.

``size: Float[Tensor, "exam 2"]`` is in the pixel range [0, 1]; an eye of size 0 keeps its pixels.
"""


@dataclass(frozen=True)
class Defence:
    """The means to what the configuration asks for; None where it asks for nothing of the kind."""

    spoil: Spoil | None = None
    ascend: Ascend | None = None


UNDEFENDED: Final = Defence()


def refuse_lacking(config: TrainConfig, defence: Defence) -> None:
    """Refuse a training that would quietly go without what its configuration asks for.

    Raises:
        WorkbenchError: names the field, and who can give what it needs.
    """
    asked = {
        "augment.corruptions": (config.augment.corruptions.names, defence.spoil),
        "train.adversarial": (config.train.adversarial.method != "none", defence.ascend),
    }
    for field, (wanted, given) in asked.items():
        if wanted and given is None:
            raise WorkbenchError(
                f"{field} is on, and no means to it were handed to the training",
                "train with 'workbench train', or pass train(..., defence=defence_of(config))",
            )


def defence_words(config: TrainConfig) -> str:
    """Return what the training was hardened against, for the model's card; empty where against nothing."""
    told, adversarial, corruptions = [], config.train.adversarial, config.augment.corruptions
    if adversarial.method != "none":
        eyes = {"both": "both eyes", "random_one": "one eye at random"}.get(adversarial.eyes, adversarial.eyes)
        beta = f", β = {adversarial.beta:g}" if adversarial.method == "trades" else ""
        steps = f"{adversarial.steps} step{'s' if adversarial.steps > 1 else ''}"
        size = f"ε = {adversarial.epsilon:g}/255, {steps}{beta}"
        told.append(f"{adversarial.method.upper()} on {eyes}, {size}")
    if corruptions.names:
        how = f"{', '.join(corruptions.names)}; up to severity {corruptions.severest:g}"
        told.append(f"{100 * corruptions.share:.0f} % of the exams corrupted ({how})")
    return "; ".join(told)
