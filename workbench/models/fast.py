"""A copy that answers as a model does, faster: batch norms folded, channels last, bf16 where it stays true."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from workbench.models.modes import measuring
from workbench.models.precision import Precision, resolve_precision

EQUAL: Final = 1e-3
"""How far the fp32 copy's logits may lie from the model's on the probe, as a share of the largest."""

NEAR: Final = 5e-2
"""The same for bf16, which rounds to three digits; or this itself, where all logits are smaller than 1."""

FAITHFUL: Final = 0.98
"""Least cosine between the logits' gradients in bf16 and in fp32 on the probe; below it fp32 runs."""


def fast_copy(model: nn.Module, x: Float[Tensor, "exam 6 height width"], precision: Precision = "auto") -> nn.Module:
    """Return the fastest faithful copy, of the model's own class and with its modules' names; or the model itself.

    Its logits are float32. It is judged on a probe that depends on the image size alone, not on the exams: so an exam
    has the same map, and the same attack, alone or in a batch.

    Args:
        model: ``(x, present) -> logits``, deterministic in evaluation mode; it is not changed.
        x: exams; their size is what counts.
        precision: 'auto' or 'bf16' take bf16 where the processor has it and the probe's answer and gradient stay true;
            'bf16' on a processor without it is refused.

    Raises:
        WorkbenchError: bf16 is asked of a processor without it.
    """
    runs = resolve_precision(precision, x.device)
    exact = _kept(model, x, "fp32", lambda: _in_fp32(model, x))
    return exact if runs == "fp32" else _kept(model, x, "bf16", lambda: _bf16_or(exact, model, x))


_KEPT: Final[WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], nn.Module]]] = WeakKeyDictionary()


@contextmanager
def keeping_copies(model: nn.Module) -> Iterator[None]:
    """Make each fast copy of a model once while inside, where the model does not change.

    A changed weight is noticed (a new copy is made); a changed Python attribute is not.
    """
    outer = model in _KEPT
    if not outer:
        _KEPT[model] = {}
    try:
        yield
    finally:
        if not outer:
            del _KEPT[model]


def keeps_copies(model: nn.Module) -> bool:
    """Return whether a fast copy of the model costs nothing the next time."""
    return model in _KEPT


def _kept(model: nn.Module, x: Tensor, how: str, make: Callable[[], nn.Module]) -> nn.Module:
    kept = _KEPT.get(model)
    if kept is None:
        return make()
    values = [*model.parameters(), *model.buffers()]
    state = tuple((value.data_ptr(), 0 if value.is_inference() else value._version) for value in values)
    of = (*x.shape[-2:], x.dtype, x.device, how, state)
    if of not in kept:
        kept[of] = make()
    return kept[of]


def _in_fp32(model: nn.Module, x: Float[Tensor, "exam 6 height width"]) -> nn.Module:
    """Return a copy with batch norms folded where that is right; the model itself where it cannot be copied."""
    with measuring(model):
        try:
            net = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            return _folded(net, model, *_probe(x))
        except Exception:  # a model that cannot be copied, or has parameters of five dimensions
            return model


def _bf16_or(exact: nn.Module, model: nn.Module, x: Float[Tensor, "exam 6 height width"]) -> nn.Module:
    """Return a faithful copy in bf16, or else ``exact``."""
    with measuring(model):
        try:
            fast = _in_bf16(copy.deepcopy(exact))
            return fast if _faithful(fast, model, *_probe(x)) else exact
        except Exception:  # an operation without bf16, or without a gradient
            return exact


def _folded(
    net: nn.Module, model: nn.Module, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]
) -> nn.Module:
    """Return ``net`` with each batch norm that is given a convolution's own output folded into it, if that is right.

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
    """Return each batch norm's convolution, and how often each module runs in one pass."""
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


def _in_bf16(net: nn.Module) -> nn.Module:
    """Cast the convolutions once: autocast would cast frozen weights in every pass. The heads stay fp32."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.to(torch.bfloat16)
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_pre_hook(_as_its_weights)
    net.register_forward_hook(lambda _, __, logits: logits.float())
    return net


def _as_its_weights(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0].to(cast("Tensor", module.weight).dtype), *inputs[1:])


def _faithful(fast: nn.Module, model: nn.Module, x: Tensor, present: Tensor) -> bool:
    """Return whether the copy's answer is near the model's, and its gradient has the same direction."""
    with torch.no_grad():
        right, got = model(x, present), fast(x, present)
    if not (right - got).abs().max() <= NEAR * right.abs().max().clamp(min=1.0):
        return False
    one, other = _slopes(model, x, present).flatten(), _slopes(fast, x, present).flatten()
    return not one.any() or bool(functional.cosine_similarity(one, other, dim=0) >= FAITHFUL)


def _probe(
    x: Float[Tensor, "exam 6 height width"],
) -> tuple[Float[Tensor, "1 6 height width"], Bool[Tensor, "1 2"]]:
    """Return an exam of this size that looks a little like one: shaded discs with spots, the same every time."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((1, 6, 12, 12), generator=generator) * 0.5 + 0.25
    fine = functional.interpolate(coarse, tuple(x.shape[-2:]), mode="bilinear")
    down, across = (torch.linspace(-1, 1, side) for side in x.shape[-2:])
    probe = (fine * (down[:, None] ** 2 + across[None] ** 2 < 0.9)).to(x)
    return probe, torch.ones((1, 2), dtype=torch.bool, device=x.device)


def _slopes(net: nn.Module, x: Tensor, present: Tensor) -> Tensor:
    """Return the logits' gradient, summed over a few brightnesses as a path's is."""
    light = torch.linspace(0.4, 1.0, 4).to(x)[:, None, None, None]
    points = (x * light).requires_grad_()
    logits = net(points, present.expand(4, 2))
    slope = None
    if logits.requires_grad:
        (slope,) = torch.autograd.grad(logits[..., -1].sum() - logits[..., 0].sum(), points, allow_unused=True)
    return torch.zeros_like(x[0]) if slope is None else slope.sum(dim=0)
