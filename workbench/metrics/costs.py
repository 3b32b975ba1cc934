"""What screening costs, and what each case costs that it finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from workbench.metrics.sufficient import Sufficient, once, quotient
from workbench.schema.config import Config


class Costs(Config):
    """What screening costs, in any one currency."""

    photograph: float = Field(ge=0, description="taking and processing one case's photographs")
    human_grade: float = Field(ge=0, description="a human grading one case")
    missed_case: float = Field(0.0, ge=0, description="what a missed case costs later; 0 leaves it out")


def cost_per_case_found(spent: Float[np.ndarray, " n"], found: Bool[np.ndarray, " n"]) -> float:
    """Return all that was spent over the cases that were found; NaN where none is."""
    return once(_cost_sums(spent, found))


def _cost_sums(spent: Float[np.ndarray, " n"], found: Bool[np.ndarray, " n"]) -> Sufficient:
    return quotient(spent, found.astype(float))


IN_ONE_PASS: Final[dict[Callable[..., float], Callable[..., Sufficient]]] = {cost_per_case_found: _cost_sums}
"""What takes every resample in one pass, see `workbench.metrics.sufficient`."""
