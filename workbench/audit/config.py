"""What an audit does, stated by one YAML file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_serializer, model_validator

from workbench.schema.config import Config, load_config
from workbench.schema.maps import MapSpec
from workbench.schema.specs import (
    FIRST_AIM,
    PolicySpec,
    SmallestSpec,
    SmoothingSpec,
    StressSpec,
    ViewSpec,
    without_first_aim,
)
from workbench.schema.threat import Aim, Eyes

SAMPLE = 64
"""Exams for what is slow: attacks and maps. The same ones for each."""

TRUST_SAMPLE = 8
"""Exams on which each explanation method is checked: a method is judged, not a case."""


class AuditData(Config):
    """Which exams are audited."""

    manifest: Path = Field(description="manifest.csv, or the folder that holds it")
    split: str | None = Field(default="test", description="train, validation or test; null: every exam")
    limit: int | None = Field(default=None, ge=1, description="at most this many exams, chosen by hash")
    cache: Path | None = Field(default=None, description="prepared pixels; null: 'cache' beside the manifest")

    @property
    def cache_folder(self) -> Path:
        """Return where prepared pixels are kept."""
        if self.cache is not None:
            return self.cache
        folder = self.manifest if self.manifest.is_dir() else self.manifest.parent
        return folder / "cache"


def policy_of_a_file(values: Any) -> Any:
    """Return the values of a configuration whose ``policy`` may name a file such as configs/policy/default.yaml."""
    if isinstance(values, dict) and isinstance(values.get("policy"), str):
        return {**values, "policy": load_config(PolicySpec, Path(values["policy"]))}
    return values


class StressLadder(Config):
    """One stress at several strengths, on all exams or on a sample drawn by hash."""

    name: str
    strengths: tuple[float, ...] = Field(min_length=1)
    eyes: Eyes = "both"
    exams: int | None = Field(default=None, ge=1, description="null: every exam")
    options: dict[str, float | int | bool | str] = Field(default_factory=dict)
    aim: Aim = Field(default_factory=lambda: FIRST_AIM, description="what an attacker wants, and by which means")

    def specs(self) -> tuple[StressSpec, ...]:
        """Return one stress per strength."""
        return tuple(
            StressSpec(name=self.name, strength=strength, eyes=self.eyes, options=self.options, aim=self.aim)
            for strength in self.strengths
        )

    @model_serializer(mode="wrap", when_used="json")
    def _as_first_written(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return without_first_aim(handler(self), self.aim)


class ExplanationPlan(Config):
    """Which maps are made, and for how many exams."""

    methods: tuple[MapSpec, ...] = Field(
        default=(MapSpec(name="integrated_gradients"), MapSpec(name="grad_cam")),
        description="names, or {name: grad_cam, target: referable, draws: 16, options: {}}",
    )
    exams: int | None = Field(default=SAMPLE, ge=1, description="a sample drawn by hash; null: every exam")
    trust_exams: int = Field(
        default=TRUST_SAMPLE, ge=0, description="exams on which each method is checked (some 30 maps per eye); 0: none"
    )
    influence_exams: int = Field(
        default=SAMPLE,
        ge=0,
        description="exams on which what else answers were read from is measured; 0: none",
    )
    unlearned: Path | None = Field(
        default=None, description="a model trained on permuted labels: no map may look like its maps; null: not checked"
    )
    lesions: Path | None = Field(default=None, description="folder of an experimental lesion detector; null: none")

    @model_validator(mode="after")
    def _refuse_twice(self) -> ExplanationPlan:
        keys = [spec.key for spec in self.methods]
        if len(set(keys)) < len(keys):
            raise ValueError(f"the explanation {max(keys, key=keys.count)} is listed twice")
        return self


class CredibilityPlan(Config):
    """On how many exams the worth of the attacks' figures is examined, and how hard."""

    exams: int = Field(default=8, ge=0, description="a sample drawn by hash; 0: not examined, so no grade")
    epsilon: float | None = Field(
        default=None, gt=0, le=255, description="of the attack, 1/255; null: the plan's strongest in linf"
    )
    steps: int = Field(default=10, ge=2, description="of the descent under examination")
    tries: int = Field(default=200, ge=1, description="of the attack that sees scores alone")
    queries: int = Field(default=400, ge=1, description="of the attack that sees calls alone")
    surrogate: Path | None = Field(
        default=None, description="a model to transfer an attack from; null: a smoothed, disturbed copy of this one"
    )


class SeveritySearchPlan(Config):
    """For which corruptions the mildest severity that flips each call is searched."""

    corruptions: tuple[str, ...] = Field(default=(), description="names; none: no search")
    exams: int | None = Field(default=SAMPLE, ge=1, description="a sample drawn by hash; null: every exam")


class SmallestEpsilonPlan(Config):
    """Up to which ε, and in which norms, the smallest that turns each call is searched."""

    largest: dict[Literal["linf", "l2", "l1"], float] = Field(
        default_factory=dict,
        description="norm: the largest ε tried (linf: in 1/255; l2, l1: of the pixel range [0, 1]); none: no search",
    )
    eyes: Eyes = Field(default="both", description="both, OD, OS, or worst_of_one: the eye that needs less")
    steps: int = Field(default=20, ge=1, description="of PGD, and then of Auto-PGD, at each ε")
    halvings: int = Field(default=6, ge=1, le=16, description="of the interval below the first ε that turned the call")
    exams: int | None = Field(default=SAMPLE, ge=1, description="a sample drawn by hash; null: every exam")

    @model_validator(mode="after")
    def _refuse_what_cannot_be(self) -> SmallestEpsilonPlan:
        self.specs()
        return self

    def specs(self) -> tuple[SmallestSpec, ...]:
        """Return one search per norm."""
        shared = self.model_dump(include={"eyes", "steps", "halvings"})
        return tuple(SmallestSpec(norm=norm, largest=largest, **shared) for norm, largest in self.largest.items())


class FittingPlan(Config):
    """On which exams a perturbation that is one for all exams is fitted: of no patient who is judged under it."""

    split: str | None = Field(
        default=None, description="of the manifest; null: validation, else train, else exams that are not judged"
    )
    exams: int = Field(default=256, ge=1, description="at most this many, chosen by hash")


class CertifiedPlan(Config):
    """For which noise the smoothed call is certified, and by how many noisy pictures of each exam."""

    sigmas: tuple[float, ...] = Field(default=(), description="of the pixel range [0, 1]; none: nothing is certified")
    first: int = Field(default=50, ge=1, description="noisy pictures that choose the call (n0)")
    samples: int = Field(default=500, ge=1, description="further ones that bound its share (n)")
    alpha: float = Field(default=0.001, gt=0, lt=1, description="chance that one exam's certificate is wrong")
    draws: int | None = Field(default=None, ge=1, description="behind the call of one noisy picture; null: the run's")
    exams: int | None = Field(default=32, ge=1, description="a sample drawn by hash; null: every exam")

    @model_validator(mode="after")
    def _refuse_what_proves_nothing(self) -> CertifiedPlan:
        self.specs()
        if len(set(self.sigmas)) < len(self.sigmas):
            raise ValueError("a sigma is listed twice")
        return self

    def specs(self) -> tuple[SmoothingSpec, ...]:
        """Return one smoothing per sigma."""
        shared = self.model_dump(include={"first", "samples", "alpha", "draws"})
        return tuple(SmoothingSpec(sigma=sigma, **shared) for sigma in self.sigmas)


EPSILONS = (0.5, 1.0, 2.0)
SEVERITIES = (1.0, 3.0, 5.0)
DEFAULT_STRESSES = (
    StressLadder(name="fgsm", strengths=EPSILONS, exams=SAMPLE),
    StressLadder(name="pgd", strengths=EPSILONS, exams=SAMPLE),
    *(
        StressLadder(name=name, strengths=SEVERITIES)
        for name in ("noise", "defocus", "underexposure", "overexposure", "jpeg")
    ),
)


DrawsFrom = Literal["mc_dropout", "ensemble", "ensemble_mc_dropout", "views", "checkpoints"]


class AuditConfig(Config):
    """The content of ``configs/audit/*.yaml``."""

    model: Path = Field(description="the model's folder: weights.safetensors and model.json")
    data: AuditData
    out: Path | None = Field(
        default=None, description="the run's folder; null: runs/<model>-<split> in the working folder"
    )
    draws: int = Field(default=30, ge=2, description="T; an ensemble without dropout makes one per member instead")
    draws_from: DrawsFrom = Field(default="mc_dropout", description="who makes the draws")
    members: tuple[Path, ...] = Field(
        default=(),
        description="folders of the ensemble's other models; of checkpoints (none: those that the training kept)",
    )
    views: ViewSpec = Field(default_factory=ViewSpec, description="how far test-time views go")
    stochastic_depth: bool = Field(default=False, description="MC-dropout: drop path and noise layers take part")
    engine: Literal["auto", "eager", "openvino"] = Field(
        default="auto", description="of what runs once per exam; auto: OpenVINO where installed, right and faster"
    )
    stresses: tuple[StressLadder, ...] = DEFAULT_STRESSES
    severity_search: SeveritySearchPlan = Field(
        default_factory=SeveritySearchPlan, description="the mildest corruption that flips each call"
    )
    smallest_epsilon: SmallestEpsilonPlan = Field(
        default_factory=SmallestEpsilonPlan, description="the smallest ε that turns each call, by bisection"
    )
    fitting: FittingPlan = Field(
        default_factory=FittingPlan, description="exams to fit the stresses universal and sensor_locked on"
    )
    certified: CertifiedPlan = Field(
        default_factory=CertifiedPlan,
        description="randomised smoothing: the radius within which a call is proved",
    )
    credibility: CredibilityPlan = Field(
        default_factory=CredibilityPlan, description="what the attacks' figures are worth: 25 checks, and a grade"
    )
    stressed_photographs: int = Field(
        default=0, ge=0, description="exams whose photographs under each attack's strongest budget are kept, to look at"
    )
    explanations: ExplanationPlan = Field(default_factory=ExplanationPlan)
    policy: PolicySpec = Field(default_factory=lambda: PolicySpec.model_validate({}))
    seed: int = 0
    batch_size: int = Field(default=16, ge=1, description="exams per unit of work; part of the plan, for equal bytes")
    workers: int | None = Field(default=None, ge=1, description="processes; null: one per core, at most 8")
    threads: int = Field(default=1, ge=1, description="of each worker; part of the plan, for equal bytes")
    memory_mib: int = Field(default=512, ge=16, description="bound on the draws held at once")
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _read_policy(cls, values: Any) -> Any:
        return policy_of_a_file(values)

    @model_validator(mode="after")
    def _refuse_twice(self) -> AuditConfig:
        names = [spec.measurement_id for ladder in self.stresses for spec in ladder.specs()]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"the stress {sorted(twice)[0]} is listed twice")
        return self

    @model_validator(mode="after")
    def _refuse_members_without_use(self) -> AuditConfig:
        if self.members and self.draws_from in ("mc_dropout", "views"):
            raise ValueError(f"members are named, but draws_from is {self.draws_from}")
        if not self.members and self.draws_from in ("ensemble", "ensemble_mc_dropout"):
            raise ValueError(f"draws_from is {self.draws_from}, but no members are named")
        return self

    @property
    def processes(self) -> int:
        """Return how many processes measure."""
        return self.workers or min(os.cpu_count() or 1, 8)

    def out_folder(self) -> Path:
        """Return the run's folder."""
        return self.out or Path("runs") / f"{self.model.resolve().name}-{self.data.split or 'all'}"

    def for_the_record(self) -> dict[str, Any]:
        """Return what the results depend on: no path (hashes stand for them), no number of workers."""
        values = self.model_dump(mode="json", exclude={"model", "out", "workers", "precision", "engine", "members"})
        for name in (
            "draws_from",
            "views",
            "stochastic_depth",
            "severity_search",
            "smallest_epsilon",
            "fitting",
            "certified",
            "stressed_photographs",
        ):  # came later: a plan made before keeps its hash
            if getattr(self, name) == type(self).model_fields[name].get_default(call_default_factory=True):
                del values[name]
        for path in ("manifest", "cache"):
            del values["data"][path]
        del values["explanations"]["unlearned"]
        del values["credibility"]["surrogate"]
        del values["explanations"]["lesions"]  # its weights' hash stands in the plan
        return values
