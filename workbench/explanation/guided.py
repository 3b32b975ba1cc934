"""Guided backpropagation (Springenberg et al. 2015) and guided Grad-CAM; offered, and said to fail (Adebayo 2018)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.explanation.grad_cam import grad_cam
from workbench.explanation.rules import BENT, GATES, RELU, SMOOTH, Rule, Rules, guided_relu, out_of_place
from workbench.explanation.slopes import IMAGES_AT_ONCE, on_present_eyes, value_and_slope
from workbench.explanation.targets import unsaturated
from workbench.models.modes import measuring
from workbench.schema.errors import WorkbenchError


def guided_backprop(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],
    *,
    images_at_once: int = IMAGES_AT_ONCE,
) -> Float[Tensor, "exam 6 height width"]:
    """Return the target's gradient, of which each ReLU lets only the positive part back.

    Args:
        model: ``(x, present) -> logits``; held still meanwhile. Every ReLU is met, reused, in place or no module.
        x: in [0, 1].
        present: an absent eye gets zero.
        target: ``logits -> one value per exam``.
        images_at_once: exams in one pass.

    Raises:
        WorkbenchError: the model holds no ReLU, or another activation, for which the method says nothing.
    """
    met: set[str] = set()

    def relu(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        met.add("ReLU")
        given, _, in_place = out_of_place(func, args, kwargs)
        made = guided_relu(given)
        return given.copy_(made) if in_place else made

    def other(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        met.add(func.__name__)
        return func(*args, **kwargs)

    table: dict[Any, Rule] = {**dict.fromkeys(RELU, relu), **dict.fromkeys(SMOOTH | BENT | GATES, other)}

    def answer(pixels: Tensor, eyes: Tensor) -> Tensor:
        with Rules(table):
            logits: Tensor = model(pixels, eyes)
        return logits

    with measuring(model):
        clean, seen = x.detach().clone(), present.clone()
        maps = value_and_slope(answer, clean, seen, unsaturated(target), images_at_once)[1]
    if met != {"ReLU"}:
        found = ", ".join(sorted(met - {"ReLU"})) or "no ReLU"
        raise WorkbenchError(
            f"guided backprop is defined for ReLU alone; {type(model).__name__} has {found}",
            "use integrated_gradients or grad_cam",
        )
    return on_present_eyes(maps, present)


def guided_grad_cam(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],
    *,
    layer: str | None = None,
    images_at_once: int = IMAGES_AT_ONCE,
) -> Float[Tensor, "exam 6 height width"]:
    """Return guided backpropagation times Grad-CAM, pixel by pixel.

    Args and Raises: as `guided_backprop` and `grad_cam`.
    """
    detail = guided_backprop(model, x, present, target, images_at_once=images_at_once)
    return detail * grad_cam(model, x, present, target, layer=layer)
