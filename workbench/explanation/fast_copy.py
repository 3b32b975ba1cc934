"""The same function, computed faster: BatchNorm folded into convolutions, channels last, bf16 where it stays true."""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from workbench.models.precision import Precision, autocast, resolve_precision

FAITHFUL: Final = 0.98
"""Least cosine between the gradients in bf16 and in fp32 on the probe; below it fp32 runs."""

EQUAL: Final = 1e-3
"""Largest difference between the folded network's logits and the network's own, as a share of the largest logit."""

__all__ = ["Precision", "fast_copy"]


class _Bf16(nn.Module):
    def __init__(self, net: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.net, self.device = net, device

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        with autocast("bf16", self.device):
            logits: Tensor = self.net(x, present)
        return logits.float()


def fast_copy(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    precision: Precision = "fp32",
    *,
    fold: bool = True,
) -> nn.Module:
    """Return a copy that answers the same, faster; the model itself where a copy would differ or cannot be made.

    Whether bf16 is true enough is judged on a probe that depends on the image size alone, not on the exams: so an exam
    has the same map alone or in a batch.

    Args:
        model: held still by the caller (`measuring`).
        x: exams; their size is what counts.
        present: their eyes.
        precision: 'auto' or 'bf16' take bf16 where the processor has it and the probe's gradients keep their direction
            (cosine of `FAITHFUL`); 'bf16' on a processor without it is refused.
        fold: fold BatchNorm too, worth it from a few passes on.

    Raises:
        WorkbenchError: bf16 is asked of a processor without it.
    """
    probe, both = _probe(x), present.new_ones((1, 2))
    try:
        net = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if fold:
            net = _folded(net, model, probe, both)
    except Exception:  # a model that cannot be copied, or has parameters of five dimensions
        net = model
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if resolve_precision(precision, device) == "bf16":
        fast = _Bf16(net, device)
        one, other = _slopes(net, probe, both), _slopes(fast, probe, both)
        if functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) >= FAITHFUL:
            return fast
    return net


def _folded(
    net: nn.Module, model: nn.Module, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]
) -> nn.Module:
    """Return ``net`` with each BatchNorm that is given a convolution's own output folded into it, if that is right.

    Which are, is seen by running it once: no tracer is needed, and modules keep their names.
    """
    pairs, calls = _followed(net, x, present)
    folded = copy.deepcopy(net)
    for norm, convolution in pairs.items():
        if calls[norm] == calls[convolution] == 1:
            parts: Any = (folded.get_submodule(convolution), folded.get_submodule(norm))
            fused: Any = fuse_conv_bn_eval(*parts)
            _put(folded, convolution, fused.to(memory_format=torch.channels_last))
            _put(folded, norm, nn.Identity())
    with torch.no_grad():
        right, got = model(x, present), folded(x, present)
    return folded if (right - got).abs().max() <= EQUAL * right.abs().max() else net


def _followed(net: nn.Module, x: Tensor, present: Tensor) -> tuple[dict[str, str], dict[str, int]]:
    """Return each BatchNorm's convolution, and how often each module runs in one pass."""
    made: dict[int, tuple[str, Tensor]] = {}
    pairs: dict[str, str] = {}
    calls: dict[str, int] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            if isinstance(module, nn.Conv2d):
                made[id(output)] = (name, output)
            elif id(inputs[0]) in made:
                pairs[name] = made[id(inputs[0])][0]

        return hook

    watched = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    handles = [module.register_forward_hook(note(name)) for name, module in watched]
    try:
        with torch.no_grad():
            net(x, present)
    finally:
        for handle in handles:
            handle.remove()
    return pairs, calls


def _put(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(net.get_submodule(parent), own, module)


def _probe(x: Float[Tensor, "exam 6 height width"]) -> Float[Tensor, "1 6 height width"]:
    """Return one exam of this size that looks a little like one: a shaded disc with spots, the same every time."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((1, 6, 12, 12), generator=generator) * 0.5 + 0.25
    fine = functional.interpolate(coarse, tuple(x.shape[-2:]), mode="bilinear")
    down, across = (torch.linspace(-1, 1, side) for side in x.shape[-2:])
    return (fine * (down[:, None] ** 2 + across[None] ** 2 < 0.9)).to(x)


def _slopes(net: nn.Module, x: Tensor, present: Tensor) -> Tensor:
    """Return the logits' gradient, summed over a few brightnesses as a path's is."""
    light = torch.linspace(0.4, 1.0, 4).to(x)[:, None, None, None]
    points = (x * light).requires_grad_()
    with torch.enable_grad():  # also for methods that take no gradient themselves
        logits = net(points, present.expand(4, 2))
        (slope,) = torch.autograd.grad(logits[..., -1].sum() - logits[..., 0].sum(), points, allow_unused=True)
    return torch.zeros_like(x[0]) if slope is None else slope.sum(dim=0)
