"""``run.json``: everything that made a run, and what is planned in it. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from workbench.audit.layout import manifest_path
from workbench.schema.config import Config
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import write_text
from workbench.schema.maps import MapSpec
from workbench.schema.model_card import ModelCard, PredictionsCard
from workbench.schema.specs import PolicySpec, SmallestSpec, SmoothingSpec, StressSpec

FORMAT_VERSION: Final = 1


class CredibilitySetting(Config):
    """The attack whose worth is examined, and by how much effort."""

    epsilon: float = Field(gt=0, le=255, description="in 1/255 of the pixel range, both eyes, across the boundary")
    steps: int = Field(10, ge=2, description="of the descent under examination")
    tries: int = Field(200, ge=1, description="squares of the attack by scores")
    queries: int = Field(400, ge=1, description="pictures that the attack by labels may look at")


class MeasurementSpec(Config):
    """One thing that is measured on the exams, or on a stated sample of them."""

    id: str
    kind: Literal[
        "draws",
        "maps",
        "photographs",
        "stressed",
        "intake",
        "influence",
        "map_trust",
        "masks",
        "lesions",
        "mildest",
        "smallest",
        "pattern",
        "certified",
        "head_margin",
        "credibility",
    ]
    stress: StressSpec | None = None
    method: str | None = None
    map: MapSpec | None = None
    """What is explained and over how many draws, where ``method``, its key, is not the method's name alone."""
    exams: int | None = None
    """How many exams, drawn by hash (see `plan.sample`); None: all."""
    chunk: int | None = Field(default=None, ge=1)
    """Exams per unit, where a unit of the run's own size would keep one worker for minutes; None: the run's."""
    smoothing: SmoothingSpec | None = None
    """Of a certificate: the noise, and how surely."""
    search: SmallestSpec | None = None
    """Of the smallest ε: norm, largest, eyes and effort."""
    examined: CredibilitySetting | None = None
    """Of the credibility checks: the attack, and the effort."""

    @property
    def maps(self) -> MapSpec:
        """Which maps are made or checked."""
        return self.map or MapSpec(name=self.method or "")

    def for_the_plan(self) -> dict[str, Any]:
        """Return it as ``run.json`` and the plan's hash have it; what came later is not there where it is None."""
        later = {name for name in ("chunk", "smoothing", "map", "search", "examined") if getattr(self, name) is None}
        return self.model_dump(mode="json", exclude=later)


class Environment(Config):
    """Where and how the numbers were made; a resume on another is refused where it would change them."""

    python: str
    torch: str
    numpy: str
    system: str
    processor: str
    threads: int
    precision: str
    draws_how: str
    engine: Literal["eager", "openvino"] = "eager"
    """Of what runs once per exam; a resumed audit goes on with the same."""


class Member(Config):
    """A further model whose draws are in the run."""

    name: str
    model_hash: str


class FittedOn(Config):
    """The exams on which perturbations for all exams were fitted: of no patient who is judged under them."""

    words: str
    exams: int
    exams_hash: str
    """Of their ids and the very pixels that the model is given."""


class RunManifest(Config):
    """The content of ``run.json``: everything that made the run, and what is planned in it."""

    format_version: int = FORMAT_VERSION
    kind: Literal["model", "predictions"] = "model"
    """predictions: only outputs were there; what needs the model is not assessed."""
    run_id: str
    created: str
    workbench_version: str
    model: ModelCard | PredictionsCard
    model_hash: str
    dataset: str
    split: str
    exams: int
    manifest_hash: str
    exams_hash: str
    config: dict[str, Any]
    policy: PolicySpec
    referable_threshold: float
    seed: int
    draws: int
    chunk: int
    measurements: tuple[MeasurementSpec, ...]
    environment: Environment
    reference_sha256: str | None = None
    """Of the model's reference.safetensors, by which unlikeness was measured; None: not measured."""
    laterality_sha256: str | None = None
    """Of the model's intake.safetensors; None: not checked."""
    unlearned_sha256: str | None = None
    """Of the model trained on permuted labels with whose maps each method's were compared; None: not compared."""
    lesion_detector_sha256: str | None = None
    """Of the weights of the experimental lesion detector; None: lesions were not looked for."""
    fitted_on: FittedOn | None = None
    """None: nothing was fitted."""
    members: tuple[Member, ...] = ()
    """The other models of an ensemble, or the checkpoints, in the order of their draws."""
    plan_hash: str

    @property
    def card(self) -> ModelCard:
        """The card of the model that was run.

        Raises:
            WorkbenchError: the run has only the outputs of a model.
        """
        if isinstance(self.model, PredictionsCard):
            raise WorkbenchError(f"run {self.run_id} needs the model for this", "it was made from outputs alone")
        return self.model

    @property
    def outputs(self) -> PredictionsCard | None:
        """What is known of the outputs that the run was made from; None where the model itself was run."""
        return self.model if isinstance(self.model, PredictionsCard) else None

    def chunk_of(self, measurement: MeasurementSpec) -> int:
        """Return how many exams a unit of the measurement holds."""
        return measurement.chunk or self.chunk

    def measurement(self, measurement_id: str) -> MeasurementSpec:
        """Return the measurement of that name.

        Raises:
            WorkbenchError: the run has none of that name.
        """
        for measurement in self.measurements:
            if measurement.id == measurement_id:
                return measurement
        known = ", ".join(measurement.id for measurement in self.measurements)
        raise WorkbenchError(f"run {self.run_id} has no measurement {measurement_id!r}", f"it has {known}")


def write_manifest(folder: Path, manifest: RunManifest) -> None:
    """Write ``run.json`` atomically."""
    write_text(manifest_path(folder), manifest.model_dump_json(indent=2) + "\n")


def read_manifest(folder: Path) -> RunManifest:
    """Read ``run.json``.

    Raises:
        WorkbenchError: it is missing, is no run's, or was written by a newer version.
    """
    path = manifest_path(folder)
    try:
        return RunManifest.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WorkbenchError(f"no run at {folder} (run.json is missing)", "make one with 'workbench audit'") from None
    except (ValidationError, UnicodeDecodeError) as error:
        line = str(error).splitlines()[0]
        raise WorkbenchError(f"{path} is damaged: {line}", "audit again into an empty folder") from None
