"""DeepLift (Shrikumar et al. 2017) and LRP (Bach et al. 2015), by rules that stand where torch's functions are called.

Captum's DeepLift refuses a ReLU that serves twice and is silently wrong on networks with gates or attention; its LRP
knows few layers and divides by what may be zero. Here a gate has a rule, nothing is divided by less than its part, and
what no rule covers is found by adding up: DeepLift's map by `checks.completeness_gap`, LRP's relevance here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from workbench.explanation.integrated_gradients import blurred_baseline
from workbench.explanation.rules import (
    BENT,
    CONVOLUTIONS,
    GATES,
    LINEAR,
    MAX_POOLS,
    NO_RULE,
    NORMS,
    PRODUCTS,
    RELU,
    SMOOTH,
    Rule,
    Rules,
    out_of_place,
    refuse_without_rule,
    with_multiplier,
)
from workbench.explanation.slopes import IMAGES_AT_ONCE, on_present_eyes
from workbench.explanation.targets import unsaturated
from workbench.models.fast import fast_copy
from workbench.models.modes import measuring
from workbench.schema.errors import WorkbenchError

SMALL: Final = 1e-5
"""A change of an activation's input below it: the activation's own slope stands for the ratio of changes."""

FAR_BELOW: Final = -1e4
"""Stands for the border of a max pool: never the largest, and not infinite."""

LEAK: Final = 0.02
"""Largest share of the relevance that may get lost or be made up on the way; above it LRP is refused."""


def deep_lift(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],
    *,
    images_at_once: int = IMAGES_AT_ONCE,
) -> Float[Tensor, "exam 6 height width"]:
    """Return each pixel's share of the target's change from `blurred_baseline`, by the rescale rule.

    An activation passes on the ratio of its output's change to its input's; a product of two parts gives each the mean
    of the other; the largest of several is taken pair by pair, a + ReLU(b − a). All three are exact, so the map adds
    up. The target, a function of a few logits, is integrated along the straight line between both answers.

    Args:
        model: ``(x, present) -> logits``; held still meanwhile.
        x: in [0, 1].
        present: an absent eye gets zero.
        target: ``logits -> one value per exam``.
        images_at_once: exams in one pass, each with its baseline.

    Raises:
        WorkbenchError: attention, or another operation without a rule.
    """
    table = {
        **dict.fromkeys(RELU | SMOOTH | GATES | BENT | {functional.softplus}, _rescale),
        **dict.fromkeys(PRODUCTS, _product),
        **dict.fromkeys(MAX_POOLS, _max_pool),
        **dict.fromkeys(NO_RULE, refuse_without_rule),
    }
    maps = []
    with measuring(model):
        clean, seen = x.detach().clone(), present.clone()
        blurred = blurred_baseline(clean, seen)
        for few, plain, eyes in zip(
            *(torch.split(whole, images_at_once) for whole in (clean, blurred, seen)), strict=True
        ):
            both = torch.cat([few, plain]).requires_grad_()
            with Rules(table):
                logits = model(both, eyes.repeat(2, 1))
            own = logits[: len(few)]
            weight = _secant(target, logits.detach()[len(few) :], own.detach())
            slope = _gradient((own * weight).sum(), both)[: len(few)]
            maps.append(slope * (few - plain))
    return on_present_eyes(torch.cat(maps), present)


def _secant(target: Callable[[Tensor], Tensor], before: Tensor, after: Tensor, points: int = 64) -> Tensor:
    """Return weights of the logits with which their changes add up to the target's: its mean gradient between both."""
    total = torch.zeros_like(after)
    for number in range(points):
        here = (before + (number + 0.5) / points * (after - before)).requires_grad_()
        total += _gradient(target(here).sum(), here)
    return total / points


def _gradient(value: Tensor, by: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(by)
    (slope,) = torch.autograd.grad(value, by, allow_unused=True)
    return torch.zeros_like(by) if slope is None else slope


def _change(both: Tensor) -> Tensor:
    """Return x's value minus the baseline's, for both halves of the batch."""
    half = (both[: len(both) // 2] - both[len(both) // 2 :]).detach()
    return torch.cat([half, half])


def _rescale(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = args[0] if args else kwargs["input"]
    if not given.requires_grad or len(given) % 2:
        return func(*args, **kwargs)
    leaf = given.detach().requires_grad_()
    _, output, in_place = out_of_place(func, (leaf, *args[1:]), {**kwargs, **({} if args else {"input": leaf})})
    slope = _gradient(output.sum(), leaf)
    change = _change(given)
    ratio = _change(output) / torch.where(change.abs() < SMALL, torch.ones_like(change), change)
    return with_multiplier(given, output, torch.where(change.abs() < SMALL, slope, ratio), in_place)


def _product(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    one, other = args[0], args[1] if len(args) > 1 else kwargs["other"]
    both_vary = isinstance(one, Tensor) and isinstance(other, Tensor) and one.requires_grad and other.requires_grad
    if not both_vary or len(one) != len(other) or len(one) % 2:
        return func(*args, **kwargs)
    made = one * _mean_of_halves(other) + other * _mean_of_halves(one)
    return (one * other).detach() + made - made.detach()


def _mean_of_halves(both: Tensor) -> Tensor:
    half = (both[: len(both) // 2] + both[len(both) // 2 :]).detach() / 2
    return torch.cat([half, half])


def _max_pool(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    told = {**dict(zip(names, args, strict=False)), **kwargs}
    given = told["input"]
    plain = not told.get("return_indices") and _pair(told.get("dilation", 1)) == (1, 1)
    if not given.requires_grad or not plain or len(given) % 2:
        return func(*args, **kwargs)
    kernel = _pair(told["kernel_size"])
    stride = _pair(told["stride"]) if told.get("stride") else kernel
    down, across = _pair(told.get("padding", 0))
    more = [0, 0]
    if told.get("ceil_mode"):  # a last window may hang over the border
        rows, columns = func(*args, **kwargs).shape[-2:]
        sides = ((rows, given.shape[-2] + 2 * down), (columns, given.shape[-1] + 2 * across))
        more = [max(0, (count - 1) * stride[i] + kernel[i] - side) for i, (count, side) in enumerate(sides)]
    wide = functional.pad(given, (across, across + more[1], down, down + more[0]), value=FAR_BELOW)
    for axis, size, step in ((-2, kernel[0], stride[0]), (-1, kernel[1], stride[1])):
        count = (wide.shape[axis] - size) // step + 1
        shifted = [wide.narrow(axis, first, (count - 1) * step + 1) for first in range(size)]
        strided = [part[..., ::step, :] if axis == -2 else part[..., ::step] for part in shifted]
        wide = strided[0]
        for part in strided[1:]:
            wide = wide + _rescale(functional.relu, (part - wide,), {})
    return wide


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))


def lrp(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],
    *,
    gamma: float = 0.25,
    images_at_once: int = IMAGES_AT_ONCE,
) -> Float[Tensor, "exam 6 height width"]:
    """Return layer-wise relevance: what each pixel says *for* the answer (Montavon et al. 2019).

    LRP-γ in convolutions after the first (what speaks for an active unit counts 1 + γ), LRP-0 elsewhere; BatchNorm
    folded into its convolution; a gate passes all relevance to what it gates (Arras et al. 2017). Relevance begins as
    logit × the target's slope, and is given out where the network itself begins: at the normalised photograph, so the
    mean colour has none. Part stays in the biases; pixels and biases must add up to what was put in.

    Args:
        model: ``(x, present) -> logits``; held still meanwhile.
        x: in [0, 1].
        present: an absent eye gets zero.
        target: ``logits -> one value per exam``.
        gamma: 0 is gradient × input.
        images_at_once: exams in one pass.

    Raises:
        WorkbenchError: relevance is lost or made up, as in attention and wherever an operation has no rule.
    """
    maps = []
    with measuring(model):
        clean, seen = x.detach().clone(), present.clone()
        net = fast_copy(model, clean, "fp32")
        for few, eyes in zip(torch.split(clean, images_at_once), torch.split(seen, images_at_once), strict=True):
            maps.append(_Relevance(net, gamma).of(few, eyes, unsaturated(target)))
    maps = [_mirrored_back(model, part) for part in maps]
    return on_present_eyes(torch.cat(maps), present)


def _mirrored_back(model: Any, maps: Tensor) -> Tensor:
    if getattr(getattr(model, "architecture", None), "mirror_os", False):
        return torch.cat([maps[:, :3], maps[:, 3:].flip(-1)], dim=1)
    return maps


class _Relevance:
    """One pass of LRP: its rules, and what they keep.

    Attributes:
        begun: the network's own input, once it is met.
        biases: a one per image and layer, whose gradient is the relevance that the layer's bias keeps.
    """

    def __init__(self, net: nn.Module, gamma: float) -> None:
        self.net, self.gamma = net, gamma
        self.begun: Tensor | None = None
        self.first = True
        self.biases: list[Tensor] = []

    def of(
        self,
        x: Float[Tensor, "exam 6 height width"],
        present: Bool[Tensor, "exam 2"],
        target: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "exam 6 height width"]:
        table: dict[Any, Rule] = {
            **dict.fromkeys(CONVOLUTIONS, self._convolution),
            **dict.fromkeys(LINEAR, self._linear),
            **dict.fromkeys(NORMS, self._norm),
            **dict.fromkeys(SMOOTH | BENT, self._activation),
            **dict.fromkeys(GATES, self._gate),
            **dict.fromkeys(NO_RULE, refuse_without_rule),
        }
        own = getattr(self.net, "trunk", getattr(self.net, "module", None))
        handle = own.register_forward_pre_hook(self._begin) if isinstance(own, nn.Module) else None
        if handle is None:
            self.begun = x = x.clone().requires_grad_()
        try:
            with Rules(table):
                logits = self.net(x, present)
        finally:
            if handle is not None:
                handle.remove()
        return self._given_out(logits, target, x)

    def _begin(self, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        self.begun = inputs[0].detach().clone().requires_grad_()
        return (self.begun, *inputs[1:])

    def _given_out(self, logits: Tensor, target: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        leaf = logits.detach().requires_grad_()
        weight = _gradient(target(leaf).sum(), leaf)
        begun = x if self.begun is None else self.begun
        by = [begun, *self.biases]
        slopes: Any = [None] * len(by)
        if logits.requires_grad:
            slopes = torch.autograd.grad((logits * weight).sum(), by, allow_unused=True)
        pixels = torch.zeros_like(begun) if slopes[0] is None else slopes[0] * begun.detach()
        kept = [slope.reshape(len(x), -1).sum(dim=1) for slope in slopes[1:] if slope is not None]
        put_in = (logits.detach() * weight).flatten(1).sum(dim=1)
        found = pixels.reshape(len(x), -1).sum(dim=1) + sum(kept, torch.zeros_like(put_in))
        scale = pixels.abs().reshape(len(x), -1).sum(dim=1) + sum((one.abs() for one in kept), put_in.abs())
        leak = float(((found - put_in).abs() / scale.clamp(min=1e-12)).max())
        if leak > LEAK:
            raise WorkbenchError(
                f"lrp: {leak:.0%} of the relevance is lost or made up in this {type(self.net).__name__}, "
                "which holds an operation without a rule",
                "use integrated_gradients, which needs none",
            )
        return pixels.reshape(x.shape).detach()

    def _bias(self, bias: Tensor | None, rows: int, dims: int) -> Tensor | float:
        if bias is None:
            return 0.0
        ones = torch.ones((rows, *[1] * (dims - 1)), dtype=bias.dtype, device=bias.device, requires_grad=True)
        self.biases.append(ones)
        return ones * (bias.view(-1, 1, 1) if dims == 4 else bias)

    def _begins(self, given: Tensor) -> bool:
        return self.begun is not None and given.requires_grad

    def _convolution(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        names = ("input", "weight", "bias")
        told = {**dict(zip(names, args, strict=False)), **kwargs}
        given, weight, bias = told.pop("input"), told.pop("weight"), told.pop("bias", None)
        if not self._begins(given):
            return func(*args, **kwargs)
        plain = func(given, weight, None, *args[3:], **told) + self._bias(bias, len(given), 4)
        if self.first or not self.gamma:
            self.first = False
            return plain
        more = None if bias is None else bias + self.gamma * bias.clamp(min=0)
        favoured = func(given, weight + self.gamma * weight.clamp(min=0), None, *args[3:], **told)
        favoured = favoured + self._bias(more, len(given), 4)
        # Only where the unit is active and the favoured sum is not the smaller one: the ratio is between 0 and 1.
        sure = (plain > 0) & (favoured >= plain)
        ratio = (plain / torch.where(sure, favoured, torch.ones_like(favoured))).detach()
        return torch.where(sure, favoured * ratio, plain)

    def _linear(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        told = {**dict(zip(("input", "weight", "bias"), args, strict=False)), **kwargs}
        if not self._begins(told["input"]) or told.get("bias") is None:
            return func(*args, **kwargs)
        bias = told["bias"]
        ones = torch.ones((*told["input"].shape[:-1], 1), dtype=bias.dtype, device=bias.device, requires_grad=True)
        self.biases.append(ones)
        return func(told["input"], told["weight"]) + ones * bias

    def _norm(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
        told = {**dict(zip(names, args, strict=False)), **kwargs}
        given = told["input"]
        if not self._begins(given) or given.dim() != 4 or told.get("running_mean") is None:
            return func(*args, **kwargs)
        scale = (told["running_var"] + told.get("eps", 1e-5)).rsqrt()
        scale = scale if told.get("weight") is None else scale * told["weight"]
        shift = -told["running_mean"] * scale + (0 if told.get("bias") is None else told["bias"])
        return given * scale.view(-1, 1, 1) + self._bias(shift, len(given), 4)

    def _activation(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given, output, in_place = out_of_place(func, args, kwargs)
        zero = given == 0
        ratio = output / torch.where(zero, torch.ones_like(given), given)
        return with_multiplier(given, output, torch.where(zero, torch.zeros_like(given), ratio), in_place)

    def _gate(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given, output, in_place = out_of_place(func, args, kwargs)
        return given.copy_(output.detach()) if in_place else output.detach()
