"""Poolings and scores of `pooling` and `scores` once more, in torch, so that an attack can follow their gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.schema.grades import REFERABLE_GRADE

Draws = Float[Tensor, "draw exam 2 grade"]
Pooled = Float[Tensor, "exam 2 grade"]
EyeScores = Float[Tensor, "exam 2"]


def _log_mean(draws: Draws) -> Pooled:
    return draws.clamp(min=torch.finfo(draws.dtype).tiny).log().mean(dim=0).softmax(dim=-1)


def _median(draws: Draws) -> Pooled:
    middle = draws.quantile(0.5, dim=0)
    total = middle.sum(dim=-1, keepdim=True)
    return torch.where(total == 0, draws.mean(dim=0), middle / total.clamp(min=torch.finfo(draws.dtype).tiny))


def _majority(draws: Draws) -> Pooled:
    """Return the share of votes; its gradient is that of the mean, since a vote has none."""
    top = (draws == draws.amax(dim=-1, keepdim=True)).to(draws.dtype)
    votes = (top / top.sum(dim=-1, keepdim=True)).mean(dim=0)
    mean = draws.mean(dim=0)
    return votes.detach() + mean - mean.detach()


POOLINGS: Final[dict[str, Callable[[Draws], Pooled]]] = {
    "mean": lambda draws: draws.mean(dim=0),
    "log_mean": _log_mean,
    "median": _median,
    "majority": _majority,
}
"""By the same names, and equal in value to those of `pooling`."""


def _entropy(p: Tensor) -> Tensor:
    return -(p * p.clamp(min=torch.finfo(p.dtype).tiny).log()).sum(dim=-1)


def _p_referable(p: Tensor) -> Tensor:
    return p[..., REFERABLE_GRADE:].sum(dim=-1)


def _eye_disagreement(draws: Draws, _: float, pooling: str) -> EyeScores:
    p = _p_referable(POOLINGS[pooling](draws))
    return (p - p.flip(1)).abs()


SCORES: Final[dict[str, Callable[[Draws, float, str], EyeScores]]] = {
    "predictive_entropy": lambda draws, *_: _entropy(draws.mean(dim=0)),
    "expected_entropy": lambda draws, *_: _entropy(draws).mean(dim=0),
    "mutual_information": lambda draws, *_: (_entropy(draws.mean(dim=0)) - _entropy(draws).mean(dim=0)).clamp(min=0),
    "p_referable_sd": lambda draws, *_: _p_referable(draws).var(dim=0, correction=0).clamp(min=1e-12).sqrt(),
    "margin": lambda draws, threshold, pooling: -(_p_referable(POOLINGS[pooling](draws)) - threshold).abs(),
    "eye_disagreement": _eye_disagreement,
}
"""By the same names, and equal in value to those of `scores`."""
