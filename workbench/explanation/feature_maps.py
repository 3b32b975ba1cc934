"""Which module makes the feature map that Grad-CAM reads, in any model; and that map with the targets' slopes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.explanation.slopes import Targets, slopes_at
from workbench.schema.errors import WorkbenchError


class FeatureMap(NamedTuple):
    """What a module makes of an exam.

    Attributes:
        name: the module's.
        rows: its height.
    """

    name: str
    rows: int


@contextmanager
def hooked(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """Keep a forward hook on a module while inside."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def feature_maps(
    model: nn.Module, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]
) -> tuple[FeatureMap, ...]:
    """Return every module whose output is a picture of features, in the order in which they finish.

    Left out: a module that runs twice, what stands before the first convolution, and what comes before a sequence of
    tokens (attention), since the patches before it are not what the model has understood.
    """
    found: list[FeatureMap] = []
    begun: list[str] = []
    handles = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            if isinstance(module, nn.Conv2d):
                begun.append(name)
            if not isinstance(output, Tensor):
                return
            if output.dim() == 3 and output.shape[1] > 2:  # not a head's rows of both eyes
                found.clear()
            elif begun and output.dim() == 4 and min(output.shape[-2:]) > 1:
                found.append(FeatureMap(name, output.shape[-2]))

        return hook

    try:
        handles = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
        with torch.no_grad():
            model(x[:1], present[:1])
    finally:
        for handle in handles:
            handle.remove()
    names = [one.name for one in found]
    return tuple(one for one in found if names.count(one.name) == 1)


def last_feature_map(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    *,
    finer: bool = False,
) -> str:
    """Return the name of the module that makes the last feature map, or the last one of twice its height.

    Raises:
        WorkbenchError: the model makes no picture of features at its end (attention), or none that is finer.
    """
    known = getattr(model, "feature_layer", None)
    if known is not None and not finer:
        return str(known)
    found = feature_maps(model, x, present)
    if not found:
        raise WorkbenchError(
            f"{type(model).__name__} ends in no feature map (attention, or no convolution)",
            "use integrated_gradients, occlusion or rise, which need none",
        )
    if not finer:
        return found[-1].name
    larger = [one for one in found if one.rows > found[-1].rows]
    if not larger:
        raise WorkbenchError(f"{type(model).__name__} has no finer feature map", "name one as layer=…")
    return larger[-1].name


def feature_keeper(kept: list[Tensor]) -> Callable[..., Any]:
    """Return a hook that adds a module's feature map to ``kept`` and begins the gradient there.

    It turns gradients on from there to the answer: the trunk is to run without (`torch.no_grad` around the pass).
    """

    def keep(_: nn.Module, __: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or output.dim() != 4:
            return None
        torch.set_grad_enabled(True)
        kept.append(output.detach().clone().requires_grad_())
        return kept[-1].clone()  # the next module may be a ReLU that works in place

    return keep


def map_and_slopes(
    model: nn.Module,
    layer: str,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    targets: Targets,
) -> tuple[Float[Tensor, "image channel rows columns"], Float[Tensor, "target image channel rows columns"]]:
    """Return a module's output and the targets' gradients there; nothing before it is differentiated.

    Raises:
        WorkbenchError: no such module, or it does not run exactly once, or its output is no picture.
    """
    if layer not in dict(model.named_modules()):
        raise WorkbenchError(f"no layer {layer!r} in {type(model).__name__}", "name one of its modules")
    kept: list[Tensor] = []
    with torch.no_grad(), hooked(model.get_submodule(layer), feature_keeper(kept)):
        logits = model(x, present)
        asked = [target(logits) for target in targets]
    if len(kept) != 1:
        raise WorkbenchError(
            f"layer {layer!r} of {type(model).__name__} makes {len(kept)} feature maps in one pass", "name another"
        )
    return kept[0].detach(), slopes_at(kept[0], asked)
