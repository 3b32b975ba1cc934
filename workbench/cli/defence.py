"""What hardens a training, made from the room of the stresses for the room of the training."""

from __future__ import annotations

from functools import partial

from workbench.stress.auto_attack.inner import ascent
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
    adversarial = config.train.adversarial
    ascend = partial(ascent, steps=adversarial.steps, step_share=adversarial.step_share)
    return Defence(spoil=spoil, ascend=ascend if adversarial.method != "none" else None)
