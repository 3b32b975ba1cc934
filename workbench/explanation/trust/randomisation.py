"""Whether a map depends on what the model has learned: one that stays when the weights are random does not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.explanation.trust.likeness import rank_correlation, structural_similarity
from workbench.models.modes import frozen

STAGES: Final = 4
"""The model's layers are made random in so many groups, the last first."""

TRIES: Final = 4
"""Seeds that are tried until a map of random weights says anything: Grad-CAM's rectifier may leave none of it."""


@dataclass(frozen=True)
class SanityCheck:
    """How alike the maps of the model and of a model with random weights are.

    Attributes:
        stages: what is random at each step: the layers from the named one to the last (cascading) or of that group
            alone (independent).
        cascading: rank correlation after each step that was looked at; the last one is of a model that has learned
            nothing.
        independent: the same where only that group is random and all others are as they were.
        structural: structural similarity after the last cascading step.

    NaN where the map of random weights is the same everywhere under every seed tried: an empty map is unlike any other,
    and that would say nothing about the method.
    """

    stages: tuple[str, ...]
    cascading: Float[Tensor, "step exam"]
    independent: Float[Tensor, "stage exam"]
    structural: Float[Tensor, " exam"]


def sanity_check(
    model: nn.Module,
    explained: Callable[[nn.Module], Float[Tensor, "exam height width"]],
    *,
    seed: int,
    stages: int = STAGES,
    every_step: bool = True,
) -> SanityCheck:
    """Make the weights random, from the last layers to the first and group by group, and compare the maps.

    Weights are drawn anew from a normal law with each tensor's own mean and deviation: what was learned goes, the size
    of what flows through the network stays, so that a saturated output is not mistaken for a sensitive map.

    Args:
        model: left as it was; copies are made random.
        explained: ``model -> the explained eye's maps``.
        seed: of the random weights; the same for every exam, so that a map in a batch is the map alone. An exam whose
            map is empty under it is given the next one's.
        stages: how many groups of layers.
        every_step: look at each step of the cascade; else at the last one alone, which is what a method is judged by.

    Adebayo et al. 2018.
    """
    groups = layer_groups(model, stages)
    original = explained(model)
    cascading, independent = [], []
    last = original
    for step in range(len(groups)):
        alone = _of_random_weights(model, groups[step], explained, seed)
        independent.append(_if_said(alone, rank_correlation(original, alone)))
        if every_step or step == len(groups) - 1:
            so_far = tuple(name for group in groups[: step + 1] for name in group)
            last = alone if step == 0 else _of_random_weights(model, so_far, explained, seed)
            cascading.append(_if_said(last, rank_correlation(original, last)))
    names = tuple(group[-1] for group in groups)
    structural = _if_said(last, structural_similarity(original, last))
    return SanityCheck(names, torch.stack(cascading), torch.stack(independent), structural)


def _of_random_weights(
    model: nn.Module,
    names: Sequence[str],
    explained: Callable[[nn.Module], Float[Tensor, "exam height width"]],
    seed: int,
) -> Float[Tensor, "exam height width"]:
    """Return each exam's map under the first seed whose map is not empty; under the last one tried, if none is."""
    maps = explained(randomised(model, names, seed))
    for further in range(1, TRIES):
        if _says(maps).all():
            break
        again = explained(randomised(model, names, seed + further))
        maps = torch.where(_says(maps)[:, None, None], maps, again)
    return maps


def _says(maps: Float[Tensor, "exam height width"]) -> Bool[Tensor, " exam"]:
    flat = maps.flatten(1)
    return flat.amax(dim=1) > flat.amin(dim=1)


def _if_said(maps: Float[Tensor, "exam height width"], likeness: Float[Tensor, " exam"]) -> Float[Tensor, " exam"]:
    return torch.where(_says(maps), likeness, torch.nan)


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
