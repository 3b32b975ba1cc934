"""What an attacker may do, knows and wants, as a value that stands in the run."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, model_validator

from workbench.schema.config import Config

Norm = Literal["linf", "l2", "l1", "l0"]
Eyes = Literal["both", "OD", "OS", "worst_of_one"]
GoalName = Literal["cross", "untargeted", "targeted", "downgrade", "upgrade", "silent", "flood", "explanation"]
Knowledge = Literal["gradients", "scores", "labels"]

OF_THE_REFERRAL: Final = ("silent", "flood")
"""Goals that are about the referral rule: they need the cut-off, which is fixed on the clean exams of the run."""

FITTED: Final = ("universal", "sensor_locked")
"""Stresses that are one perturbation for all exams, fitted on exams of other patients."""

UNIVERSAL: Final = (*FITTED, "universal_noise")
"""All that are one perturbation for all exams: it is made before any exam is measured under it."""


class Aim(Config):
    """What an attacker wants and by which means; how far the attack may go is said by the stress."""

    norm: Norm = Field("linf", description="by which a change is measured, per eye")
    goal: GoalName = Field(
        "cross",
        description="cross: over the referable boundary, away from the truth; untargeted: another grade; targeted: "
        "target_grade; downgrade, upgrade: by at least by_grades; silent: wrong and not referred; flood: referred; "
        "explanation: the call and the grades stay, the map moves",
    )
    by_grades: int = Field(1, ge=1, le=4, description="of downgrade and upgrade")
    target_grade: int | None = Field(None, ge=0, le=4, description="of targeted")
    knowledge: Knowledge = Field("gradients", description="the most that the attacker sees of the model")
    eight_bit: bool = Field(False, description="what is handed in is rounded to a picture of 8 bits")

    @model_validator(mode="after")
    def _refuse_half_said(self) -> Aim:
        if (self.goal == "targeted") != (self.target_grade is not None):
            raise ValueError("target_grade belongs to the goal targeted, and to no other")
        if self.by_grades != 1 and self.goal not in ("downgrade", "upgrade"):
            raise ValueError("by_grades belongs to the goals downgrade and upgrade")
        return self

    @property
    def suffix(self) -> str:
        """Say in what this differs from the first aim, e.g. ``.l2.downgrade2.8bit``; empty where in nothing."""
        goal = self.goal + (str(self.target_grade) if self.goal == "targeted" else "")
        goal += str(self.by_grades) if self.by_grades != 1 else ""
        told = {"linf": self.norm, "cross": goal, "gradients": self.knowledge, "": "8bit" if self.eight_bit else ""}
        return "".join(f".{value}" for first, value in told.items() if value != first)


class ThreatModel(Aim):
    """The whole threat: what is wanted, by which means, how far and on which eyes."""

    epsilon: float = Field(
        ge=0,
        description="per eye; linf: in 1/255 of the pixel range; l2, l1: of the pixel range [0, 1]; l0: pixels changed",
    )
    eyes: Eyes = Field("both", description="worst_of_one: OD alone and OS alone are tried, the stronger is kept")

    @property
    def size(self) -> float:
        """Return epsilon as a size in pixels of the range [0, 1] (l0: a number of pixels)."""
        return self.epsilon / 255 if self.norm == "linf" else self.epsilon
