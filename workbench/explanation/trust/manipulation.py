"""An attack on the explanation: the same answer, within a budget that nobody sees, and the map somewhere else."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.explanation.trust.likeness import cell_means, disc_cells, rank_correlation
from workbench.models.modes import measuring

STEPS: Final = 12
EPSILON: Final = 2 / 255
SMOOTHNESS: Final = 10.0
"""β of the softplus that stands in for ReLU while the gradient of a gradient is taken (Dombrowski et al. 2019)."""

ANSWER_MOVES: Final = 0.02
"""P(referable) may not move further than this, else the attack was on the answer and not on the map."""


@dataclass(frozen=True)
class MovedMap:
    """What came of pushing each exam's map.

    Attributes:
        x: within the budget and the box; the clean exam where nothing was found.
        likeness: rank correlation of the method's own map before and after; 1 where nothing was found.
        kept: the answer stayed, judged again on these very pixels.
        moved: of the map's strongest tenth of cells, the share that is no longer in the strongest tenth.
    """

    x: Float[Tensor, "exam 6 height width"]
    likeness: Float[Tensor, " exam"]
    kept: Bool[Tensor, " exam"]
    moved: Float[Tensor, " exam"]


def move_map(
    model: nn.Module,
    target: Callable[[Tensor], Tensor],
    explained: Callable[[Tensor, Tensor], Float[Tensor, "exam height width"]],
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    eye: Literal[0, 1],
    seeds: Sequence[int],
    *,
    epsilon: float = EPSILON,
    steps: int = STEPS,
) -> MovedMap:
    """Look for pixels within ``epsilon`` that give the same answer and another map.

    Every other step goes down the likeness of a gradient map of the model with its ReLU modules smoothed (their second
    derivative is zero), the steps between try a random pattern, for methods and models that such a gradient says
    nothing about. A step counts only by *the method's own map of the model itself*, and only if the answer stayed. A
    search of so few steps bounds the steadiness of the map from above.

    Args:
        model: ``(x, present) -> logits``, left as it was.
        target: ``logits -> P(referable) of the eye``.
        explained: ``(x, present) -> the explained eye's map``; asked only of exams whose answer stayed.
        x: in [0, 1].
        present: which eyes were photographed.
        eye: 0 for OD, 1 for OS; only its pixels are changed.
        seeds: one per exam, of the patterns.
        epsilon: the largest change of a pixel.
        steps: how many are tried; each costs one map.

    Ghorbani et al. 2019 (the attack), Dombrowski et al. 2019 (smoothing).
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    smooth = smoothed(model)
    first, before = explained(x, present), _answer(model, target, x, present)
    best, likeness, heat = x.clone(), torch.ones_like(before), first.clone()
    for step in range(steps):
        gradient = _downhill(smooth, target, best, x, present, eye) if step % 2 == 0 else torch.zeros_like(x)
        tried = _pushed(best, x, gradient, present, eye, generators, epsilon)
        stayed = (_answer(model, target, tried, present) - before).abs() <= ANSWER_MOVES
        places = stayed.nonzero()[:, 0]
        if not len(places):
            continue
        other = explained(tried[places], present[places])
        found = rank_correlation(first[places], other)
        better = found < likeness[places]
        places = places[better]
        best[places], heat[places], likeness[places] = tried[places], other[better], found[better]
    kept = (_answer(model, target, best, present) - before).abs() <= ANSWER_MOVES
    return MovedMap(best, likeness, kept, moved_share(first, heat))


def smoothed(model: nn.Module) -> nn.Module:
    """Return a copy whose ReLU modules are softplus: nearly the same answers, and a gradient that has a gradient."""
    smooth = copy.deepcopy(model)
    for parent in list(smooth.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Softplus(beta=SMOOTHNESS))
    return smooth


def _answer(model: nn.Module, target: Callable[[Tensor], Tensor], x: Tensor, present: Tensor) -> Tensor:
    with measuring(model), torch.no_grad():
        return target(model(x, present))


def _downhill(
    smooth: nn.Module, target: Callable[[Tensor], Tensor], best: Tensor, clean: Tensor, present: Tensor, eye: int
) -> Float[Tensor, "exam 6 height width"]:
    """Return the gradient of the likeness of the smoothed model's gradient map to that of the clean exam."""

    def heat_of(point: Tensor, *, further: bool) -> Tensor:
        (gradient,) = torch.autograd.grad(target(smooth(point, present)).sum(), point, create_graph=further)
        return cell_means((gradient**2)[:, 3 * eye : 3 * eye + 3].sum(dim=1)).flatten(1)

    with measuring(smooth):
        wanted = heat_of(clean.clone().requires_grad_(), further=False).detach()
        # At the clean exam itself the likeness is at its top and has no slope; a little darker it has one.
        point = (best * DARKER).requires_grad_()
        heat = heat_of(point, further=True)
        (down,) = torch.autograd.grad(F.cosine_similarity(heat, wanted).sum(), point, allow_unused=True)
    return torch.zeros_like(best) if down is None else torch.nan_to_num(down)


DARKER: Final = 0.99

PATTERN: Final = 32
"""Cells a side of the random patterns."""


def _pushed(
    best: Tensor,
    clean: Tensor,
    gradient: Tensor,
    present: Tensor,
    eye: int,
    generators: Sequence[torch.Generator],
    epsilon: float,
) -> Float[Tensor, "exam 6 height width"]:
    """Return a step against the gradient where there is one, along a random pattern elsewhere, within the budget."""
    height, width = clean.shape[-2:]
    drawn = torch.stack([torch.randn((3, PATTERN, PATTERN), generator=generator) for generator in generators])
    pattern = F.interpolate(drawn.to(clean), size=(height, width), mode="nearest-exact").sign()
    own = slice(3 * eye, 3 * eye + 3)
    slope = gradient[:, own]
    direction = torch.where((slope != 0).flatten(1).any(dim=1)[:, None, None, None], -slope.sign(), pattern)
    pushed = best.clone()
    pushed[:, own] = best[:, own] + epsilon / 2 * direction * present[:, eye, None, None, None]
    return torch.minimum(torch.maximum(pushed, clean - epsilon), clean + epsilon).clamp(0, 1)


def moved_share(
    first: Float[Tensor, "exam height width"], other: Float[Tensor, "exam height width"]
) -> Float[Tensor, " exam"]:
    """Return the share of the strongest tenth of cells inside the disc that is no longer in the strongest tenth."""
    inside = disc_cells(*first.shape[1:]).to(first.device)
    strength = [cell_means(heat.abs())[:, inside] for heat in (first, other)]
    count = max(1, strength[0].shape[1] // 10)
    top = [torch.zeros_like(cells, dtype=torch.bool).scatter_(1, cells.topk(count).indices, True) for cells in strength]
    return 1 - (top[0] & top[1]).sum(dim=1).to(first.dtype) / count
