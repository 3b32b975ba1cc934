"""The rows of a search for the smallest ε, two per exam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from workbench.data.exams import ExamBatch
from workbench.schema.specs import SmallestSpec
from workbench.stress.smallest_epsilon import Smallest, smallest_epsilon

Row = dict[str, Any]


def smallest_rows(
    model: nn.Module, batch: ExamBatch, spec: SmallestSpec, seeds: Sequence[int], *, threshold: float
) -> list[tuple[Row, Row]]:
    """Return per exam its rows of `SMALLEST_SCHEMA`, OD then OS; arguments as of `smallest_epsilon`."""
    found = smallest_epsilon(model, batch.x, batch.present, batch.grade, spec, seeds, threshold=threshold)
    return [(_row(one, 0, seed), _row(one, 1, seed)) for one, seed in zip(found, seeds, strict=True)]


def _row(found: Smallest, eye: int, seed: int) -> Row:
    if found.not_applicable:
        return {"status": "skipped", "reason": f"not applicable: {found.not_applicable}"}
    if not found.confirmed:
        return {"status": "failed", "reason": "what turned the call does not turn it when it is read again"}
    told = {"epsilon": found.epsilon, "already": found.already, "survives_8bit": found.survives_8bit}
    return {**told, "distance": found.distance[eye], "seed": seed}
