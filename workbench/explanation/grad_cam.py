"""Grad-CAM (Selvaraju et al. 2017) through Captum, on the last feature map of a paired-eye model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from captum.attr import LayerAttribution, LayerGradCam
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.explanation.targets import ReferableTarget
from workbench.models.modes import measuring
from workbench.models.paired import PairedEyeNet
from workbench.schema.errors import WorkbenchError


def grad_cam(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],
) -> Float[Tensor, "exam 6 height width"]:
    """Return where the evidence *for* the target lies, laid on each eye, equal on its three channels.

    With late or single fusion the trunk sees each eye by itself, so each eye has its own map. With early fusion there
    is *one* map for both eyes, on the grid that they share: it stands on both, and cannot say which eye it means.
    Where the model mirrors the left eye, the map is mirrored back.

    A map is coarse (one cell of the feature map is 32 × 32 pixels) and relative (no units): the log-odds are taken in
    place of the probability, whose map is the same times a positive number that vanishes where the model is sure.

    Args:
        model: a `PairedEyeNet`; held still meanwhile.
        x: in [0, 1].
        present: an absent eye gets zero.
        target: ``logits -> one value per exam``.

    Raises:
        WorkbenchError: the model is not a `PairedEyeNet`, so its last feature map is not known.
    """
    if not isinstance(model, PairedEyeNet):
        raise WorkbenchError(
            f"grad_cam needs the last feature map of a PairedEyeNet; this is a {type(model).__name__}",
            "use integrated_gradients, which needs none",
        )
    if isinstance(target, ReferableTarget):
        target = replace(target, scale="log_odds")
    with measuring(model):
        seen = present.clone()
        layer = model.get_submodule(model.feature_layer)
        coarse = LayerGradCam(lambda pixels, eyes: target(model(pixels, eyes)), layer).attribute(
            x.detach().clone().requires_grad_(), additional_forward_args=(seen,), relu_attributions=True
        )
    fine = LayerAttribution.interpolate(coarse.detach(), tuple(x.shape[-2:]), interpolate_mode="bilinear")
    eyes = fine.expand(-1, 2, -1, -1) if model.sees_both_eyes else fine[:, 0].unflatten(0, (-1, 2))
    if model.architecture.mirror_os:
        eyes = torch.stack([eyes[:, 0], eyes[:, 1].flip(-1)], dim=1)
    eyes = torch.where(present[:, :, None, None], eyes, torch.zeros_like(eyes))
    return eyes.repeat_interleave(3, dim=1).to(x.dtype) / 3
