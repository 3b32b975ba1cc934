"""Whether a map depends on what the model has learned: one that stays when the weights are random does not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.explanation.trust.likeness import rank_correlation, structural_similarity
from workbench.models.modes import frozen

STAGES: Final = 4
"""The model's layers are made random in so many groups, the last first."""


@dataclass(frozen=True)
class SanityCheck:
    """How alike the maps of the model and of a model with random weights are.

    Attributes:
        stages: what is random at each step: the layers from the named one to the last (cascading) or of that group
            alone (independent).
        cascading: rank correlation after each step; the last one is of a model that has learned nothing.
        independent: the same where only that group is random and all others are as they were.
        structural: structural similarity after the last cascading step.
    """

    stages: tuple[str, ...]
    cascading: Float[Tensor, "stage exam"]
    independent: Float[Tensor, "stage exam"]
    structural: Float[Tensor, " exam"]


def sanity_check(
    model: nn.Module,
    explained: Callable[[nn.Module], Float[Tensor, "exam height width"]],
    *,
    seed: int,
    stages: int = STAGES,
) -> SanityCheck:
    """Make the weights random, from the last layers to the first and group by group, and compare the maps.

    Weights are drawn anew from a normal law with each tensor's own mean and deviation: what was learned goes, the size
    of what flows through the network stays, so that a saturated output is not mistaken for a sensitive map.

    Args:
        model: left as it was; copies are made random.
        explained: ``model -> the explained eye's maps``.
        seed: of the random weights; the same for every exam, so that a map in a batch is the map alone.
        stages: how many groups of layers.

    Adebayo et al. 2018.
    """
    groups = layer_groups(model, stages)
    original = explained(model)
    cascading, independent = [], []
    last = original
    for step in range(len(groups)):
        so_far = tuple(name for group in groups[: step + 1] for name in group)
        last = explained(randomised(model, so_far, seed))
        cascading.append(rank_correlation(original, last))
        alone = last if step == 0 else explained(randomised(model, groups[step], seed))
        independent.append(rank_correlation(original, alone))
    names = tuple(group[-1] for group in groups)
    return SanityCheck(names, torch.stack(cascading), torch.stack(independent), structural_similarity(original, last))


def layer_groups(model: nn.Module, stages: int = STAGES) -> tuple[tuple[str, ...], ...]:
    """Return the names of the modules that own weights in ``stages`` groups of about equal number, the last first."""
    owners = list(_owners(model))[::-1]
    stages = min(stages, len(owners))
    bounds = [round(step * len(owners) / stages) for step in range(stages + 1)]
    return tuple(tuple(owners[one:other]) for one, other in pairwise(bounds))


def _owners(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        if any(parameter.numel() for parameter in module.parameters(recurse=False)):
            yield name


def randomised(model: nn.Module, names: Sequence[str], seed: int) -> nn.Module:
    """Return a copy whose named modules hold random weights; statistics that were counted (BatchNorm) stay."""
    random = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with frozen(random), torch.no_grad():
        for name in sorted(names):
            for parameter in random.get_submodule(name).parameters(recurse=False):
                mean, deviation = parameter.mean(), parameter.std(unbiased=False)
                noise = torch.randn(parameter.shape, generator=generator).to(parameter)
                parameter.copy_(mean + deviation * noise)
    return random
