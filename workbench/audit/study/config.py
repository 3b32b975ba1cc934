"""What a study compares, stated by one YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from workbench.audit.config import AuditConfig, AuditData, DrawsFrom, ExplanationPlan, policy_of_a_file
from workbench.schema.config import Config
from workbench.schema.specs import PolicySpec, ViewSpec

Pooling = Literal["mean", "log_mean", "median", "majority"]
Score = Literal[
    "predictive_entropy", "expected_entropy", "mutual_information", "p_referable_sd", "margin", "eye_disagreement"
]


class StudyMaker(Config):
    """One maker of draws; the fields are those of an audit."""

    name: str = Field(pattern=r"^[\w.-]+$", description="of the row, and of the run's folder")
    model: Path
    draws_from: DrawsFrom = "mc_dropout"
    members: tuple[Path, ...] = ()
    draws: int = Field(default=30, ge=2)
    views: ViewSpec = Field(default_factory=ViewSpec)
    stochastic_depth: bool = False


class StudyConfig(Config):
    """The content of ``configs/study/*.yaml``."""

    out: Path = Field(default=Path("runs/study"), description="one run per maker, and the tables")
    data: AuditData
    makers: tuple[StudyMaker, ...] = Field(min_length=1)
    poolings: tuple[Pooling, ...] = Field(default=("mean", "log_mean", "median", "majority"), min_length=1)
    scores: tuple[Score, ...] = Field(
        default=("predictive_entropy", "mutual_information", "p_referable_sd", "margin"), min_length=1
    )
    policy: PolicySpec = Field(
        default_factory=lambda: PolicySpec.model_validate({}),
        description="of every row, but for the pooling and the score that the row is about",
    )
    resamples: int = Field(default=2000, ge=100, description="of the patients, behind each interval")
    seed: int = 0
    batch_size: int = Field(default=16, ge=1)
    workers: int | None = Field(default=None, ge=1)
    threads: int = Field(default=1, ge=1)
    memory_mib: int = Field(default=512, ge=16)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    engine: Literal["auto", "eager", "openvino"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _read_policy(cls, values: Any) -> Any:
        return policy_of_a_file(values)

    @model_validator(mode="after")
    def _refuse_twice(self) -> StudyConfig:
        names = [maker.name for maker in self.makers]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"the maker {sorted(twice)[0]} is listed twice")
        return self

    def audit_of(self, maker: StudyMaker) -> AuditConfig:
        """Return the audit that makes one maker's draws: the clean exams alone, without a stress or a map."""
        shared = ("data", "policy", "seed", "batch_size", "workers", "threads", "memory_mib", "precision", "engine")
        own = {name: getattr(maker, name) for name in type(maker).model_fields if name != "name"}
        told = {name: getattr(self, name) for name in shared}
        return AuditConfig(**own, **told, stresses=(), explanations=ExplanationPlan(methods=()))
