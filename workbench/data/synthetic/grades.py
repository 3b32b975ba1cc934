"""Grades of two eyes of one patient, as correlated as in EyePACS."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from workbench.schema.errors import WorkbenchError

Prevalence = Literal["eyepacs", "enriched"]

PREVALENCES: Final[dict[str, tuple[float, ...]]] = {
    "eyepacs": (0.735, 0.070, 0.151, 0.025, 0.020),
    "enriched": (0.45, 0.12, 0.25, 0.10, 0.08),
}
"""Share of eyes with each ICDR grade: as in the 35,126 eyes of EyePACS, or with enough disease to learn from
(43 % of the eyes referable instead of 19.5 %)."""

EQUAL_SHARE: Final = 0.872
"""Share of EyePACS patients whose two eyes have the same grade."""

KAPPA: Final = 0.855
"""Quadratic weighted kappa between the two eyes of EyePACS patients."""


def shares_of(prevalence: str) -> tuple[float, ...]:
    """Return the share of each grade under a named prevalence.

    Raises:
        WorkbenchError: no such prevalence.
    """
    if prevalence not in PREVALENCES:
        raise WorkbenchError(f"unknown prevalence {prevalence!r}", f"it must be one of {', '.join(PREVALENCES)}")
    return PREVALENCES[prevalence]


@lru_cache
def joint_table(prevalence: str) -> Float[np.ndarray, "grade grade"]:
    """Return P(grade of OD, grade of OS) under a named prevalence.

    The table of largest entropy with the stated marginals, `EQUAL_SHARE` on its diagonal and `KAPPA`; so it is
    symmetric, and how two unequal eyes differ is not put in by hand.

    Raises:
        WorkbenchError: no such prevalence.
    """
    shares = np.array(shares_of(prevalence))
    shares /= shares.sum()
    grade = np.arange(len(shares))
    squared = (grade[:, None] - grade[None, :]) ** 2.0
    chance = float(shares @ squared @ shares)

    def table(parameters: np.ndarray) -> np.ndarray:
        return _with_marginals(np.exp(parameters[0] * (squared == 0) - parameters[1] * squared), shares)

    def misfit(parameters: np.ndarray) -> list[float]:
        joint = table(parameters)
        kappa = 1 - float((joint * squared).sum()) / chance
        return [float(np.trace(joint)) - EQUAL_SHARE, kappa - KAPPA]

    joint = table(least_squares(misfit, x0=np.array([2.0, 0.3])).x)
    joint.setflags(write=False)
    return joint


def _with_marginals(table: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Scale a symmetric positive table to the marginals (Sinkhorn)."""
    scale = np.ones_like(shares)
    for _ in range(500):
        scale = np.sqrt(scale * shares / (table @ scale))
    return scale[:, None] * table * scale[None, :]


def draw_grades(rng: np.random.Generator, prevalence: str) -> tuple[int, int]:
    """Draw the ICDR grades of a patient's right and left eye."""
    joint = joint_table(prevalence)
    cumulative = np.cumsum(joint.ravel())
    cell = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
    return cell // joint.shape[1], cell % joint.shape[1]
