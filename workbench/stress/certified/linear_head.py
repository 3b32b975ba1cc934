"""How far the pooled features may move before the linear head's grade changes: a certificate of the head alone."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


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
