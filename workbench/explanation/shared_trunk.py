"""Maps of every draw of one exam, what stands before the first mask being run once.

A draw's map needs the draw's own gradient, so of a gradient at the *pixels* only the forward pass is shared; of a
gradient at the last feature map, which stands before a head's masks, everything but the head is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.explanation.feature_maps import feature_keeper, hooked, last_feature_map
from workbench.explanation.grad_cam import class_activation, on_both_eyes
from workbench.explanation.integrated_gradients import integrated_gradients_of
from workbench.explanation.slopes import slopes_at
from workbench.explanation.targets import unsaturated
from workbench.models.modes import measuring

Target = Callable[[Tensor], Tensor]


@runtime_checkable
class DrawsBehindTrunk(Protocol):
    """All draws of one exam as one network; each row of a batch stands for that exam.

    Attributes:
        model: that the draws are of.
        nets: each draw by itself.
    """

    model: nn.Module
    nets: nn.ModuleList

    def trunk(self, x: Float[Tensor, "row 6 height width"], present: Bool[Tensor, "row 2"]) -> Any:
        """Return what the draws have in common."""

    def tail(self, frontier: Any) -> Float[Tensor, "draw row 2 grade"]:
        """Return every draw's logits."""


@dataclass(frozen=True)
class _OfDraw:
    """A target of one of the draws: ``logits[draw, row, 2, grade] -> Float["row"]``."""

    target: Target
    number: int

    def __call__(self, logits: Tensor) -> Tensor:
        return self.target(logits[self.number])


def integrated_gradients_of_draws(
    drawn: DrawsBehindTrunk,
    x: Float[Tensor, "1 6 height width"],
    present: Bool[Tensor, "1 2"],
    target: Target,
    **options: Any,
) -> Float[Tensor, "draw 6 height width"]:
    """Return each draw's integrated gradients, with as many points as the draw that needs most.

    Args:
        drawn: the exam's draws, a module.
        x: one exam, in [0, 1].
        present: an absent eye gets zero.
        target: ``logits -> one value per row``, of one draw.
        options: of `integrated_gradients`.
    """
    assert isinstance(drawn, nn.Module)
    each = [_OfDraw(target, number) for number in range(len(drawn.nets))]
    return integrated_gradients_of(drawn, x, present, each, **options)[:, 0]


def grad_cam_of_draws(
    drawn: DrawsBehindTrunk,
    x: Float[Tensor, "1 6 height width"],
    present: Bool[Tensor, "1 2"],
    target: Target,
    *,
    layer: str | None = None,
) -> Float[Tensor, "draw 6 height width"]:
    """Return each draw's Grad-CAM; only what stands after the feature map is run and differentiated per draw.

    Args:
        drawn: the exam's draws.
        x: one exam, in [0, 1].
        present: an absent eye gets zero.
        target: ``logits -> one value per row``, of one draw.
        layer: see `grad_cam.grad_cam`.
    """
    return _class_activations(drawn, x, present, target, layer, finer=False)


def layer_cam_of_draws(
    drawn: DrawsBehindTrunk,
    x: Float[Tensor, "1 6 height width"],
    present: Bool[Tensor, "1 2"],
    target: Target,
    *,
    layer: str | None = None,
) -> Float[Tensor, "draw 6 height width"]:
    """Return each draw's LayerCAM; arguments as `grad_cam_of_draws`."""
    return _class_activations(drawn, x, present, target, layer, finer=True)


def _class_activations(
    drawn: DrawsBehindTrunk, x: Tensor, present: Tensor, target: Target, layer: str | None, *, finer: bool
) -> Float[Tensor, "draw 6 height width"]:
    model, kept = drawn.model, list[Tensor]()
    with measuring(model):
        layer = layer or last_feature_map(model, x, present, finer=finer)
        module, keep = model.get_submodule(layer), feature_keeper(kept)
        with torch.no_grad():
            with hooked(module, keep):
                frontier = drawn.trunk(x, present)
            shared = bool(kept)
            with nullcontext() if shared else hooked(module, keep):
                logits = drawn.tail(frontier)
            values = torch.stack([unsaturated(target)(one) for one in logits])
        if shared:
            features, slopes = kept[0].detach(), slopes_at(kept[0], list(values))
        else:  # every draw has a feature map of its own, draw-major
            features, slopes = (
                whole.reshape(len(values), -1, *whole.shape[1:])
                for whole in (kept[0].detach(), slopes_at(kept[0], [values.flatten()])[0])
            )
        coarse = class_activation(features, slopes, finer=finer).to(x.dtype)
        return torch.cat([on_both_eyes(model, one, x, present) for one in coarse])


SHARED: Final[Mapping[str, Callable[..., Tensor]]] = {
    "integrated_gradients": integrated_gradients_of_draws,
    "grad_cam": grad_cam_of_draws,
    "layer_cam": layer_cam_of_draws,
}
"""By the names of `EXPLANATIONS`: ``(drawn, x, present, target, **options) -> Float["draw 6 height width"]``."""
