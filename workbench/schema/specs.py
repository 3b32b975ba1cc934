"""What was done to an exam, as frozen values: preprocessing, stresses, the referral policy, measurements."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, model_serializer, model_validator

from workbench.schema.config import Config, load_config
from workbench.schema.threat import Aim, Eyes, ThreatModel


class PreprocessSpec(Config):
    """From a photograph to ``size`` × ``size`` pixels, invertibly."""

    size: int = Field(256, ge=32, le=2048, description="side of the square model input, pixels")
    margin: float = Field(0.02, ge=0, le=0.5, description="rim kept around the disc, share of its radius")
    local_average: bool = Field(False, description="subtract the local average colour (Graham 2015)")
    clahe: bool = Field(False, description="contrast-limited adaptive histogram equalisation, L channel")
    min_disc_share: float = Field(0.15, gt=0, lt=1, description="a smaller disc counts as not found")


FIRST_AIM: Final = Aim.model_validate({})
"""Across the referable boundary, in the largest change of a pixel: all that there was at first."""


def without_first_aim(values: dict[str, Any], aim: Aim) -> dict[str, Any]:
    """Return ``values`` without the aim where it is the first one, so that a plan made before keeps its hash."""
    return {name: value for name, value in values.items() if name != "aim" or aim != FIRST_AIM}


class StressSpec(Config):
    """One stress at one strength. ``name`` is a key of `workbench.stress.registry.STRESSES`."""

    name: str
    strength: float = Field(
        ge=0, description="attacks: epsilon, linf in 1/255 of the pixel range; corruptions: severity 1 to 5"
    )
    eyes: Eyes = "both"
    options: dict[str, float | int | bool | str] = Field(default_factory=dict, description="keyword arguments")
    aim: Aim = Field(default_factory=lambda: FIRST_AIM, description="what the attacker wants, and by which means")

    @property
    def measurement_id(self) -> str:
        """Name the measurement under this stress, e.g. ``pgd@2``, ``defocus@3.OD`` or ``apgd@2.OS.silent``."""
        return f"{self.name}@{self.strength:g}" + ("" if self.eyes == "both" else f".{self.eyes}") + self.aim.suffix

    @property
    def threat(self) -> ThreatModel:
        """Return the whole threat model."""
        return ThreatModel(epsilon=self.strength, eyes=self.eyes, **self.aim.model_dump())

    @model_serializer(mode="wrap", when_used="json")
    def _as_first_written(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return without_first_aim(handler(self), self.aim)


class SmoothingSpec(Config):
    """Randomised smoothing at one noise level: what is certified, and how surely."""

    sigma: float = Field(gt=0, description="standard deviation of the noise, of the pixel range [0, 1]")
    first: int = Field(50, ge=1, description="noisy pictures that choose the call (n0)")
    samples: int = Field(500, ge=1, description="further ones that bound its share (n)")
    alpha: float = Field(0.001, gt=0, lt=1, description="chance that one exam's certificate is wrong")
    draws: int | None = Field(None, ge=1, description="behind the call of one noisy picture; null: the run's")

    @model_validator(mode="after")
    def _refuse_no_proof(self) -> SmoothingSpec:
        if self.alpha ** (1 / self.samples) <= 0.5:
            least = math.floor(math.log(self.alpha) / math.log(0.5)) + 1
            raise ValueError(f"{self.samples} samples can prove nothing at alpha {self.alpha:g}: take {least} or more")
        return self


class SmallestSpec(Config):
    """The search for the smallest ε that turns a call, in one norm."""

    norm: Literal["linf", "l2", "l1"] = "linf"
    largest: float = Field(gt=0, description="ε up to which it is searched, per eye; linf: 1/255; else: of [0, 1]")
    eyes: Eyes = "both"
    steps: int = Field(20, ge=1, description="of each attack at each ε")
    halvings: int = Field(6, ge=1, le=16, description="of the interval below the first ε that turned the call")

    @model_validator(mode="after")
    def _refuse_too_large(self) -> SmallestSpec:
        if self.norm == "linf" and self.largest > 255:
            raise ValueError(f"largest is {self.largest:g}: in linf it is in 1/255 of the pixel range, up to 255")
        return self

    @property
    def measurement_id(self) -> str:
        """Return e.g. ``smallest.linf`` or ``smallest.l2.OD``."""
        return f"smallest.{self.norm}" + ("" if self.eyes == "both" else f".{self.eyes}")


class ViewSpec(Config):
    """How far a test-time view may go; none mirrors an eye."""

    rotation_degrees: float = Field(10.0, ge=0, le=45, description="either way")
    shift: float = Field(0.02, ge=0, le=0.25, description="share of the side, either way")
    zoom: float = Field(0.05, ge=0, lt=0.5, description="larger or smaller by up to this share")
    brightness: float = Field(0.03, ge=0, le=0.5, description="added within the disc, either way")
    geometry: Literal["per_exam", "per_eye"] = Field(
        "per_exam", description="per_exam: both eyes move alike; per_eye: each by itself"
    )


UNLIKE_SCORES: Final = ("appearance", "mahalanobis", "nearest_neighbours", "energy")
"""How unlike the training photographs an eye is: each needs what was kept of them (`reference.safetensors`)."""


class MapPolicySpec(Config):
    """What a map must pass before it is shown; a check whose threshold is null withholds nothing.

    The first four are judged on every map. The others are judged on a method, over the run's sample for such checks
    (`explanations.trust_exams`): a method that fails one shows no map of any exam.
    """

    max_completeness_gap: float | None = Field(0.1, ge=0, description="of the change that the map must add up to")
    max_outside_change: float | None = Field(
        0.1, ge=0, le=1, description="change of P(referable) when all that lies outside the discs is made one colour"
    )
    max_outside_share: float | None = Field(0.5, ge=0, le=1, description="share of the map's strength outside the disc")
    min_draws_likeness: float | None = Field(
        0.7, ge=0, le=1, description="of a mean over draws: rank correlation with the map of the model without draws"
    )
    max_randomised_likeness: float | None = Field(
        0.7, ge=0, le=1, description="mean rank correlation with the map of the same network with random weights"
    )
    min_deletion_gain: float | None = Field(
        0.0, description="gain of deletion over random rankings; the interval's lower end must lie above"
    )
    min_repeatability: float | None = Field(
        0.5, ge=0, le=1, description="mean rank correlation with the map of the same photograph with a camera's noise"
    )


class CredibilityPolicySpec(Config):
    """From where on a check of an attack's worth is raised (`schema.credibility`)."""

    min_difference_cosine: float = Field(0.9, ge=-1, le=1, description="check 6, of any exam")
    max_gradient_faults: float = Field(0.05, ge=0, le=1, description="check 5: a larger share of exams fails")
    max_rise: float = Field(0.01, ge=0, le=1, description="checks 8 and 15: share of exams won by more effort")
    few: int = Field(1, ge=0, description="so many exams against the attack are a warning, more are a failure")
    min_steps_that_rise: float = Field(0.5, ge=0, le=1, description="check 7: share of the descent's steps, on average")
    min_on_one_mask: float = Field(0.5, ge=0, le=1, description="check 14: of what is broken without dropout")
    confirmed: float = Field(0.95, gt=0, lt=1, description="check 16: level of the binomial interval")


FIRST_POLICY: Final = ("referral_budget", "referral_score", "pooling", "referable_threshold", "refer_incomplete")
"""What every policy has stated since the first version; of what came later, only what is not the default."""


class PolicySpec(Config):
    """How answers become decisions, the same for the clean set and for every stress."""

    referral_budget: float = Field(0.2, ge=0, le=1, description="share of clean exams handed to a human")
    referral_score: Literal[
        "predictive_entropy",
        "expected_entropy",
        "mutual_information",
        "p_referable_sd",
        "margin",
        "eye_disagreement",
        "appearance",
        "mahalanobis",
        "nearest_neighbours",
        "energy",
    ] = Field("predictive_entropy", description="the last four need the model's reference.safetensors")
    pooling: Literal["mean", "log_mean", "median", "majority"] = "mean"
    referable_threshold: float | None = Field(
        None, gt=0, lt=1, description="P(referable) from which an exam is called referable; null: the model's own"
    )
    refer_incomplete: bool = Field(True, description="an exam with a missing or ungradable eye goes to a human")
    refer_unlike_training: bool = Field(
        False, description="an exam flagged as unlike the training photographs goes to a human, within the budget"
    )
    unlike_training_scores: tuple[Literal["appearance", "mahalanobis", "nearest_neighbours", "energy"], ...] = Field(
        ("appearance", "mahalanobis"), min_length=1, description="any of these flags an eye as unlike the training ones"
    )
    unlike_training_percentile: float = Field(
        99.0,
        gt=0,
        lt=100,
        description="this share of eyes like the training ones is not flagged, by all scores at once",
    )
    calibration: Literal["none", "temperature", "vector", "isotonic", "logistic"] = Field(
        "logistic", description="how p_referable_calibrated is made; decisions stay on P(referable) as it was"
    )
    conformal_coverage: float = Field(0.9, gt=0, lt=1, description="how often a set of grades shall hold the true one")
    conformal: Literal["ordinal", "class_conditional"] = Field(
        "ordinal", description="the coverage holds over all eyes, or for each true grade by itself"
    )
    maps: MapPolicySpec = Field(
        MapPolicySpec.model_validate({}), description="what a map must pass, else it is withheld with the reason"
    )

    credibility: CredibilityPolicySpec = Field(
        CredibilityPolicySpec.model_validate({}), description="from where on an attack's figure is doubted"
    )

    @model_validator(mode="before")
    @classmethod
    def _read_files(cls, values: Any) -> Any:
        """Read ``maps`` and ``credibility`` from the files that they name."""
        kinds: dict[str, type[Config]] = {"maps": MapPolicySpec, "credibility": CredibilityPolicySpec}
        if not isinstance(values, dict):
            return values
        named = {name: kind for name, kind in kinds.items() if isinstance(values.get(name), str)}
        return {**values, **{name: load_config(kind, Path(values[name])) for name, kind in named.items()}}

    @model_serializer(mode="wrap", when_used="json")
    def _as_first_written(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Leave out a later field at its default, so that a plan made before there was one keeps its hash."""
        fields = type(self).model_fields
        values = handler(self)
        return {
            name: value
            for name, value in values.items()
            if name in FIRST_POLICY or getattr(self, name) != fields[name].default
        }
