"""A model to make a transferred attack on, where no other was named."""

from __future__ import annotations

import copy
from typing import Final

import torch
from torch import nn

SHARPNESS: Final = 10.0
"""Of the softplus that stands for a ReLU: smooth, and 0.07 from it at the most."""
DISTURBED: Final = 0.05
"""Noise on each weight, as a share of its layer's spread."""


def smooth_copy(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy with smooth activations and disturbed weights: its gradients are not the model's own.

    A mask that lives in the model's rounding, its dead units or its saturation is not in the copy; what only blurs
    the gradient is passed by. A model that cannot be copied is returned as it is.
    """
    try:
        made = copy.deepcopy(model)
    except Exception:  # a model of others' may hold what cannot be copied
        return model
    generator = torch.Generator().manual_seed(seed)
    for module in list(made.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU | nn.LeakyReLU):
                setattr(module, name, nn.Softplus(beta=SHARPNESS))
    with torch.no_grad():
        for weight in made.parameters():
            if weight.dim() > 1:
                noise = torch.randn(weight.shape, generator=generator).to(weight)
                weight.add_(noise * DISTURBED * weight.std())
    return made.eval()
