"""The mildest severity of a corruption that flips a call, and whether a grader would still accept the photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.data.quality import ACCEPTED, rejection_score
from workbench.models.fast import doubtful, fast_copy
from workbench.models.modes import measuring
from workbench.models.referable import bind_present
from workbench.schema.errors import WorkbenchError
from workbench.stress.calls import calls
from workbench.stress.corruptions.catalogue import CORRUPTIONS, SEVEREST

HALVINGS: Final = 4
"""Of the step between two levels: severities are found to 1/16."""


@dataclass(frozen=True)
class Mildest:
    """What was found for one exam.

    Attributes:
        severity: the mildest that flips the call, to 1/16; None where none up to 5 does.
        steady: every level above flips it too; None where none does.
        clean_scores: how likely graders reject the clean photographs (log-odds), OD then OS; NaN for an absent eye.
        scores: the same at that severity (at 5 where none flips).
    """

    severity: float | None
    steady: bool | None
    clean_scores: tuple[float, float]
    scores: tuple[float, float]

    @property
    def accepted(self) -> bool:
        """Whether a grader would accept every photograph of the exam, before and after."""
        return all(not score > ACCEPTED for score in (*self.clean_scores, *self.scores))


def mildest(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    name: str,
    seeds: Sequence[int],
    *,
    threshold: float,
    eyes: str = "both",
) -> list[Mildest]:
    """Return the mildest severity that flips each exam's deterministic call.

    Each level 1 to 5 is looked at, then the first interval at whose end the call is flipped is halved. A narrow flip
    between two levels that do not flip can be missed; a call that flips back at a higher level is said (``steady``).
    Chance is held: the seed decides the same place and direction at every severity. Calls are read from a faithful copy
    of the model, and from the model itself wherever that one comes near the threshold.

    Raises:
        WorkbenchError: no corruption of that name.
    """
    if name not in CORRUPTIONS:
        raise WorkbenchError(f"unknown corruption {name!r}", f"it must be one of {', '.join(CORRUPTIONS)}")
    with measuring(model), torch.no_grad():
        x, present = x.detach().float().clone(), present.clone()
        search = _Search(model, fast_copy(model, x, reading=None), x, present, name, seeds, threshold, eyes)
        clean = search.calls([0.0] * len(x))
        levels = np.stack([search.calls([float(level)] * len(x)) != clean for level in range(1, SEVEREST + 1)], axis=1)
        first = np.where(levels.any(axis=1), levels.argmax(axis=1) + 1.0, float(SEVEREST))
        low, high = first - 1, first.copy()
        for _ in range(HALVINGS if levels.any() else 0):
            middle = (low + high) / 2
            flipped = search.calls(middle.tolist()) != clean
            low, high = np.where(flipped, low, middle), np.where(flipped, middle, high)
        found = np.where(levels.any(axis=1), high, float(SEVEREST))
        return search.answers(levels, found.tolist())


@dataclass(frozen=True)
class _Search:
    model: nn.Module
    fast: nn.Module
    x: Tensor
    present: Tensor
    name: str
    seeds: Sequence[int]
    threshold: float
    eyes: str

    def calls(self, severities: Sequence[float]) -> np.ndarray:
        """Return whether each exam is called referable at its severity."""
        spoiled = self._spoiled(severities)
        logits = bind_present(self.fast, self.present)(spoiled)
        near = doubtful(logits, self.threshold)
        if self.fast is not self.model and near.any():
            logits[near] = bind_present(self.model, self.present[near])(spoiled[near])
        return calls(logits, self.threshold).numpy()

    def _spoiled(self, severities: Sequence[float]) -> Tensor:
        return torch.cat([self._one(exam, severity) for exam, severity in enumerate(severities)])

    def _one(self, exam: int, severity: float) -> Tensor:
        generator = torch.Generator().manual_seed(self.seeds[exam])
        stress = CORRUPTIONS[self.name]
        return stress(
            self.model,
            self.x[exam : exam + 1],
            self.present[exam : exam + 1].long(),
            [generator],
            severity=severity,
            eyes=self.eyes,
        )

    def answers(self, levels: np.ndarray, severities: list[float]) -> list[Mildest]:
        spoiled = self._spoiled(severities)
        found = []
        for exam, severity in enumerate(severities):
            flips = levels[exam]
            steady = bool(flips[int(flips.argmax()) :].all()) if flips.any() else None
            before, after = (self._scores(pixels[exam], exam) for pixels in (self.x, spoiled))
            found.append(Mildest(severity if flips.any() else None, steady, before, after))
        return found

    def _scores(self, pixels: Tensor, exam: int) -> tuple[float, float]:
        images = (np.ascontiguousarray(pixels[3 * eye : 3 * eye + 3].permute(1, 2, 0).numpy()) for eye in range(2))
        one, other = (
            rejection_score(image) if bool(there) else float("nan")
            for image, there in zip(images, self.present[exam], strict=True)
        )
        return one, other
