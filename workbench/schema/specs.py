"""What was done to an exam, as frozen values: preprocessing, stresses, the referral policy, measurements."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from workbench.schema.config import Config


class PreprocessSpec(Config):
    """From a photograph to ``size`` × ``size`` pixels, invertibly."""

    size: int = Field(256, ge=32, le=2048, description="side of the square model input, pixels")
    margin: float = Field(0.02, ge=0, le=0.5, description="rim kept around the disc, share of its radius")
    local_average: bool = Field(False, description="subtract the local average colour (Graham 2015)")
    clahe: bool = Field(False, description="contrast-limited adaptive histogram equalisation, L channel")
    min_disc_share: float = Field(0.15, gt=0, lt=1, description="a smaller disc counts as not found")


class StressSpec(Config):
    """One stress at one strength. ``name`` is a key of `workbench.stress.registry.STRESSES`."""

    name: str
    strength: float = Field(
        ge=0, description="attacks: epsilon in 1/255 of the pixel range; corruptions: severity 1 to 5"
    )
    eyes: Literal["both", "OD", "OS"] = "both"
    options: dict[str, float | int | bool | str] = Field(default_factory=dict, description="keyword arguments")

    @property
    def measurement_id(self) -> str:
        """Name the measurement under this stress, e.g. ``pgd@2`` or ``defocus@3.OD``."""
        return f"{self.name}@{self.strength:g}" + ("" if self.eyes == "both" else f".{self.eyes}")


class PolicySpec(Config):
    """How answers become decisions, the same for the clean set and for every stress."""

    referral_budget: float = Field(0.2, ge=0, le=1, description="share of clean exams handed to a human")
    referral_score: Literal["predictive_entropy", "mutual_information", "p_referable_sd", "margin"] = (
        "predictive_entropy"
    )
    pooling: Literal["mean", "log_mean", "majority"] = "mean"
    referable_threshold: float | None = Field(
        None, gt=0, lt=1, description="P(referable) from which an exam is called referable; null: the model's own"
    )
    refer_incomplete: bool = Field(True, description="an exam with a missing or ungradable eye goes to a human")
