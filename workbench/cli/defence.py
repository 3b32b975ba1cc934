"""What hardens a training, made from the room of the stresses for the room of the training."""

from __future__ import annotations

from workbench.stress.corruptions.augmentation import random_corruption
from workbench.training.config import TrainConfig
from workbench.training.defence import Defence


def defence_of(config: TrainConfig) -> Defence:
    """Return what the configuration asks for.

    Raises:
        WorkbenchError: a corruption that is not known.
    """
    asked = config.augment.corruptions
    spoil = random_corruption(asked.names, severest=asked.severest, share=asked.share) if asked.names else None
    return Defence(spoil=spoil)
