"""Grad-CAM (Selvaraju et al. 2017) and LayerCAM (Jiang et al. 2021), on a feature map found in any model.

Only what stands after the feature map is differentiated: for a pooled linear head that is the closed form (the
channel's weight is the head's own), at the price of one forward pass. Captum's takes the whole network's gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from workbench.explanation.feature_maps import last_feature_map, map_and_slopes
from workbench.explanation.slopes import IMAGES_AT_ONCE, Targets
from workbench.explanation.targets import unsaturated
from workbench.models.fast import difference, fast_copy, keeps_copies
from workbench.models.modes import measuring
from workbench.models.precision import Precision


def grad_cam(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],
    *,
    layer: str | None = None,
    images_at_once: int = IMAGES_AT_ONCE,
    precision: Precision = "fp32",
) -> Float[Tensor, "exam 6 height width"]:
    """Return where the evidence *for* the target lies, laid on each eye, equal on its three channels.

    Where the network sees each eye by itself, each eye has its own map. Where it sees both at once (early fusion) there
    is *one* map for both eyes, on the grid that they share: it stands on both, and cannot say which eye it means.
    Where the model mirrors the left eye, the map is mirrored back.

    A map is coarse (one cell of the last feature map is 32 × 32 pixels) and relative (no units): of a probability the
    logarithm is taken, whose map is the same times a positive number that vanishes where the model is sure.

    Args:
        model: ``(x, present) -> logits``; held still meanwhile.
        x: in [0, 1].
        present: an absent eye gets zero.
        target: ``logits -> one value per exam``.
        layer: the module whose output is read; None: the last that makes a picture of features.
        images_at_once: exams in one pass.
        precision: see `fast_copy`, judged by the probe's map at this layer; one pass is worth no fp32 copy, but where
            one is kept (`keeping_copies`) it serves.

    Raises:
        WorkbenchError: the model ends in no feature map, or ``layer`` makes none.
    """
    return grad_cams(model, x, present, (target,), layer=layer, images_at_once=images_at_once, precision=precision)[0]


def layer_cam(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],
    *,
    layer: str | None = None,
    images_at_once: int = IMAGES_AT_ONCE,
    precision: Precision = "fp32",
) -> Float[Tensor, "exam 6 height width"]:
    """Return Grad-CAM with a weight per cell (LayerCAM), which earlier and finer layers need.

    Args and Raises: as `grad_cam`; without ``layer`` the last feature map that is finer than the very last.
    """
    return grad_cams(
        model, x, present, (target,), layer=layer, images_at_once=images_at_once, precision=precision, finer=True
    )[0]


def grad_cams(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    targets: Targets,
    *,
    layer: str | None = None,
    images_at_once: int = IMAGES_AT_ONCE,
    precision: Precision = "fp32",
    finer: bool = False,
) -> Float[Tensor, "target exam 6 height width"]:
    """Return `grad_cam` (``finer``: `layer_cam`) of several targets, e.g. both eyes', from one pass of the trunk."""
    with measuring(model):
        clean, seen = x.detach().clone(), present.clone()
        layer = layer or last_feature_map(model, clean, seen, finer=finer)
        net = model
        if precision != "fp32" or keeps_copies(model):
            net = fast_copy(model, clean, precision, reading=_Activation(layer, finer))
        pieces = zip(torch.split(clean, images_at_once), torch.split(seen, images_at_once), strict=True)
        asked = [unsaturated(target) for target in targets]
        coarse = torch.cat(
            [class_activation(*map_and_slopes(net, layer, few, eyes, asked), finer=finer) for few, eyes in pieces],
            dim=1,
        )
    return torch.stack([on_both_eyes(model, of_one.to(x.dtype), x, present) for of_one in coarse])


@dataclass(frozen=True)
class _Activation:
    """The maps for and against, of the probe: bf16 may have a wrong gradient by the pixels and a true last map."""

    layer: str
    finer: bool

    def __call__(self, net: nn.Module, x: Tensor, present: Tensor) -> Tensor:
        features, slopes = map_and_slopes(net, self.layer, x, present, (difference,))
        return class_activation(features, torch.cat([slopes, -slopes]), finer=self.finer)


def class_activation(
    features: Float[Tensor, "*target image channel rows columns"],
    slopes: Float[Tensor, "target image channel rows columns"],
    *,
    finer: bool,
) -> Float[Tensor, "target image 1 rows columns"]:
    """Return the feature map's channels, weighted by each target's gradient (per channel, or ``finer`` per cell)."""
    weights = slopes.clamp(min=0) if finer else slopes.mean(dim=(3, 4), keepdim=True)
    return torch.relu((weights.float() * features.float()).sum(dim=2, keepdim=True))


def on_both_eyes(
    model: Any,
    coarse: Float[Tensor, "image 1 rows columns"],
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
) -> Float[Tensor, "exam 6 height width"]:
    """Return a feature map's values on the pixels of the eyes that it is of: one image per exam, or one per eye."""
    fine = functional.interpolate(coarse, tuple(x.shape[-2:]), mode="bilinear")
    eyes = fine.expand(-1, 2, -1, -1) if len(fine) == len(x) else fine[:, 0].reshape(-1, 2, *x.shape[-2:])
    if getattr(getattr(model, "architecture", None), "mirror_os", False):
        eyes = torch.stack([eyes[:, 0], eyes[:, 1].flip(-1)], dim=1)
    eyes = torch.where(present[:, :, None, None], eyes, torch.zeros_like(eyes))
    return eyes.repeat_interleave(3, dim=1) / 3
