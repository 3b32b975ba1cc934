"""Mode changes that undo themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluation(model: nn.Module) -> Iterator[nn.Module]:
    """Put every module in evaluation mode; afterwards each has again the mode that it had."""
    before = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield model
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """Let no parameter collect gradients; afterwards each does again as it did."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.requires_grad_(False)
        yield model
    finally:
        for parameter, requires_grad in before:
            parameter.requires_grad_(requires_grad)


@contextmanager
def measuring(model: nn.Module) -> Iterator[nn.Module]:
    """Hold the model still while its *input's* gradient is taken: evaluation mode, parameters frozen, fp32.

    Gradients are on inside, also where the caller had turned them off.
    """
    device = next((parameter.device.type for parameter in model.parameters()), "cpu")
    with (
        evaluation(model),
        frozen(model),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device, enabled=False),
    ):
        yield model
