"""What a training may be hardened with; handed in from above, for this room does not know that of the stresses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch import Generator, Tensor

from workbench.schema.errors import WorkbenchError
from workbench.training.config import TrainConfig

Spoil = Callable[[Tensor, Generator], Tensor]
"""``(x, generator) -> x'``: exams in [0, 1], some of them spoiled as a bad photograph is."""


@dataclass(frozen=True)
class Defence:
    """The means to what the configuration asks for; None where it asks for nothing of the kind."""

    spoil: Spoil | None = None


UNDEFENDED: Final = Defence()


def refuse_lacking(config: TrainConfig, defence: Defence) -> None:
    """Refuse a training that would quietly go without what its configuration asks for.

    Raises:
        WorkbenchError: names the field, and who can give what it needs.
    """
    if config.augment.corruptions.names and defence.spoil is None:
        raise WorkbenchError(
            "augment.corruptions names some, and none were handed to the training",
            "train with 'workbench train', or pass train(..., defence=defence_of(config))",
        )


def defence_words(config: TrainConfig) -> str:
    """Return what the training was hardened against, for the model's card; empty where against nothing."""
    corruptions = config.augment.corruptions
    if not corruptions.names:
        return ""
    share, severest = f"{100 * corruptions.share:.0f} %", f"{corruptions.severest:g}"
    return f"{share} of the exams corrupted ({', '.join(corruptions.names)}; up to severity {severest})"
