"""A copy that answers as a model does, faster: batch norms folded, channels last, bf16 where it stays true."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable, Iterator
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
from workbench.models.referable import referable_log_odds

EQUAL: Final = 1e-3
"""How far the fp32 copy's logits may lie from the model's on the probe, as a share of the largest."""

NEAR: Final = 5e-2
"""The same for bf16, which rounds to three digits; or this itself, where all logits are smaller than 1."""

FAITHFUL: Final = 0.98
"""Least cosine between what is read from the copy in bf16 and in fp32 on the probe; below it fp32 runs."""

DOUBT: Final = 0.1
"""How near to a threshold, in log-odds, a copy's answer is read again by the model itself.

Six times the most by which one in bf16 erred on 384 EyePACS exams under six corruptions (0.016).
"""

Reading = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""What is to be read from a copy: ``(net, x, present) -> any shape``. Equal readings are judged once: hashable."""


def pixel_slopes(net: nn.Module, x: Tensor, present: Tensor) -> Tensor:
    """Return the gradient of a difference of logits by the pixels, summed over a few brightnesses as a path's is."""
    light = torch.linspace(0.4, 1.0, 4).to(x)[:, None, None, None]
    points = (x * light).requires_grad_()
    logits = net(points, present.expand(4, 2))
    slope = None
    if logits.requires_grad:
        (slope,) = torch.autograd.grad(difference(logits).sum(), points, allow_unused=True)
    return torch.zeros_like(x[0]) if slope is None else slope.sum(dim=0)


def doubtful(logits: Float[Tensor, "exam 2 grade"], threshold: float) -> Bool[Tensor, " exam"]:
    """Return which exams a copy puts so near to the threshold that the call may be another; NaN is near to any."""
    distance = referable_log_odds(logits).amax(dim=1) - math.log(threshold / (1 - threshold))
    return ~(distance.abs() > DOUBT)


def difference(logits: Float[Tensor, "exam *eye grade"]) -> Float[Tensor, " exam"]:
    """Return the last grade's logit less the first's, over both eyes: what stands for any target on the probe."""
    return (logits[..., -1] - logits[..., 0]).flatten(1).sum(dim=1)


def fast_copy(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    precision: Precision = "auto",
    *,
    reading: Reading | None = pixel_slopes,
    least_cosine: float = FAITHFUL,
) -> nn.Module:
    """Return the fastest faithful copy, of the model's own class and with its modules' names; or the model itself.

    Its logits are float32. It is judged on a probe that depends on the image size alone, not on the exams: so an exam
    has the same map, and the same attack, alone or in a batch. bf16 may give true answers and a wrong gradient: so it
    is judged by what will be read from it.

    Args:
        model: ``(x, present) -> logits``, deterministic in evaluation mode; it is not changed.
        x: exams; their size is what counts.
        precision: 'auto' or 'bf16' take bf16 where the processor has it and the probe's answer and reading stay true;
            'bf16' on a processor without it is refused.
        reading: what will be read, besides the answers; None: nothing.
        least_cosine: between the reading in bf16 and in fp32. An attack that checks in fp32 what it found may be
            content with less.

    Raises:
        WorkbenchError: bf16 is asked of a processor without it.
    """
    exact = _kept(model, x, "fp32", lambda: _in_fp32(model, x))
    if resolve_precision(precision, x.device) == "fp32":
        return exact
    fast = _kept(model, x, "bf16", lambda: _bf16_or(exact, x))
    if fast is exact or reading is None:
        return fast
    return _kept(model, x, ("bf16", reading, least_cosine), lambda: _judged(fast, exact, x, reading, least_cosine))


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


def _kept(model: nn.Module, x: Tensor, how: Hashable, make: Callable[[], nn.Module]) -> nn.Module:
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


def _bf16_or(exact: nn.Module, x: Float[Tensor, "exam 6 height width"]) -> nn.Module:
    """Return a copy in bf16 whose answer on the probe is near, or else ``exact``."""
    with measuring(exact):
        try:
            fast = _in_bf16(copy.deepcopy(exact))
            with torch.no_grad():
                right, got = (net(*_probe(x)) for net in (exact, fast))
            return fast if (right - got).abs().max() <= NEAR * right.abs().max().clamp(min=1.0) else exact
        except Exception:  # an operation without bf16
            return exact


def _judged(fast: nn.Module, exact: nn.Module, x: Tensor, reading: Reading, least_cosine: float) -> nn.Module:
    """Return ``fast`` if what is read from it on the probe has the direction of what is read from ``exact``."""
    with measuring(exact):
        try:
            right, got = (reading(net, *_probe(x)).flatten().float() for net in (exact, fast))
        except Exception:  # an operation without a gradient in bf16
            return exact
    alike = not right.any() or functional.cosine_similarity(right, got, dim=0) >= least_cosine
    return fast if alike else exact


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
    """Cast the convolutions once: autocast would cast frozen weights in every pass. The heads stay fp32.

    So does pooling, where the model names its feature map: a mean rounded to bf16 loses what one window changes.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.to(torch.bfloat16)
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_pre_hook(_as_its_weights)
    known = getattr(net, "feature_layer", None)
    for module in (net, net.get_submodule(known)) if known else (net,):
        module.register_forward_hook(lambda _, __, output: output.float())
    return net


def _as_its_weights(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0].to(cast("Tensor", module.weight).dtype), *inputs[1:])


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
