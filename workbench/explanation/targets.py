"""What a map explains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.models.referable import referable_log_odds


@dataclass(frozen=True)
class ReferableTarget:
    """P(referable) of one eye: ``logits -> Float["exam"]``.

    Attributes:
        eye: 0 for OD, 1 for OS.
        scale: 'probability' is what the report and the app show; 'log_odds' is the same quantity where it does not
            saturate (the gradient of the probability vanishes in float32 beyond log-odds of about 17).
    """

    eye: Literal[0, 1]
    scale: Literal["probability", "log_odds"] = "probability"

    def __call__(self, logits: Float[Tensor, "exam 2 grade"]) -> Float[Tensor, " exam"]:
        """Return the eye's P(referable), or its log-odds."""
        log_odds = referable_log_odds(logits)[:, self.eye]
        return torch.sigmoid(log_odds) if self.scale == "probability" else log_odds
