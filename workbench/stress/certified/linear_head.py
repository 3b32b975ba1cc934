"""How far the pooled features may move before the linear head's grade changes: a certificate of the head alone."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.models.modes import evaluation
from workbench.models.paired import PairedEyeNet
from workbench.schema.errors import WorkbenchError


def head_margin(
    features: Float[Tensor, "row feature"], weight: Float[Tensor, "grade feature"], bias: Float[Tensor, " grade"]
) -> Float[Tensor, " row"]:
    """Return the L2 distance of each row of features to the nearest change of its grade; exact for a linear head.

    min over k of (z_top − z_k) / ‖w_top − w_k‖ (Tsuzuku et al. 2018). It bounds changes of the *features*; for pixels
    it must be divided by a Lipschitz constant of the trunk, of which none worth stating is known here.
    """
    logits = features @ weight.T + bias
    top = logits.argmax(dim=1)
    ahead = logits.gather(1, top[:, None]) - logits
    apart = (weight[top][:, None] - weight[None]).norm(dim=2)
    apart = apart.scatter(1, top[:, None], 1.0)
    return (ahead / apart.clamp(min=1e-12)).scatter(1, top[:, None], torch.inf).amin(dim=1)


def eye_margins(
    model: nn.Module, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]
) -> tuple[Float[Tensor, "exam 2"], Float[Tensor, "exam 2"]]:
    """Return each eye's `head_margin` under the deterministic model, and the same over the length of its features.

    What a late head is given of an eye is its own features and its fellow's, as one vector.

    Raises:
        WorkbenchError: a model whose head is not the one linear layer of `PairedEyeNet`.
    """
    if not isinstance(model, PairedEyeNet):
        raise WorkbenchError(f"the head of {type(model).__name__} is not known to be linear", "audit a model of ours")
    given: list[Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    try:
        with evaluation(model), torch.no_grad():
            model(x, present)
    finally:
        hook.remove()
    (features,), exams = given, len(x)
    if model.sees_both_eyes:  # one head answers for both eyes from the same features
        weights, biases = model.head.weight.chunk(2), model.head.bias.chunk(2)
        margins = torch.stack([head_margin(features, *of) for of in zip(weights, biases, strict=True)], dim=1)
        return margins, margins / features.norm(dim=1)[:, None]
    rows = features.reshape(2 * exams, -1)
    margins = head_margin(rows, model.head.weight, model.head.bias)
    return margins.reshape(exams, 2), (margins / rows.norm(dim=1)).reshape(exams, 2)
