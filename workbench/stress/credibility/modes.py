"""Checks 1 to 3: in which state the model is measured, what it answers, and whether it answers the same twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from workbench.models.modes import measuring
from workbench.stress.credibility.subject import Subject
from workbench.stress.target import is_random

PASSES = 5


@dataclass
class Watched:
    """What was seen of a model while it was used: batch norms that trained, by name, and whether a buffer changed."""

    trained: set[str] = field(default_factory=set)
    buffers_changed: bool = False


@contextmanager
def watched(model: nn.Module) -> Iterator[Watched]:
    """Look on while a model is used."""
    seen, before = Watched(), buffers_hash(model)

    def note(name: str) -> object:
        def hook(module: nn.Module, _: object) -> None:
            if module.training:
                seen.trained.add(name)

        return hook

    norms = [(name, one) for name, one in model.named_modules() if isinstance(one, nn.modules.batchnorm._NormBase)]
    hooks = [one.register_forward_pre_hook(note(name)) for name, one in norms]  # type: ignore[arg-type]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
        seen.buffers_changed = buffers_hash(model) != before


def buffers_hash(model: nn.Module) -> str:
    """Return the hash of every buffer: running means, counts of batches."""
    digest = hashlib.sha256()
    for name, buffer in sorted(model.named_buffers()):
        digest.update(name.encode() + buffer.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Answering:
    """How the attacked model answers.

    Attributes:
        probabilities: its rows lie in [0, 1] and sum to 1: no logits.
        differs: five passes of the exam are not the same.
        averages: an attack averages over draws of the model.
        classes: how many it tells apart.
    """

    probabilities: Bool[Tensor, " exam"]
    differs: Bool[Tensor, " exam"]
    averages: bool
    classes: int


def answering(subject: Subject) -> Answering:
    """Return it, from passes without a gradient."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), measuring(subject.model), torch.no_grad():
        torch.manual_seed(subject.seeds[0] % 2**63)
        passes = torch.stack([subject.model(subject.x, subject.present) for _ in range(PASSES)])
    there = subject.present[None, :, :, None].expand_as(passes)
    kept = torch.where(there, passes, 0.0)
    sums = passes[0].sum(dim=-1)
    rows = ((passes[0] >= 0) & (passes[0] <= 1)).all(dim=-1) & ((sums - 1).abs() < 1e-4)
    return Answering(
        probabilities=(rows | ~subject.present).all(dim=1),
        differs=(kept != kept[:1]).flatten(2).any(dim=2).any(dim=0),
        averages=is_random(subject.model, subject.x, subject.present),
        classes=passes.shape[-1],
    )
