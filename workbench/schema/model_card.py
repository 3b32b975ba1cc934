"""`model.json`: what a model is, how it must be fed, where it comes from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from workbench.schema.config import Config
from workbench.schema.grades import GRADES
from workbench.schema.specs import PreprocessSpec

FORMAT_VERSION = 1


class Architecture(Config):
    """Everything that `workbench.models` needs to build the network again."""

    trunk: str = Field("resnet10", description="a key of workbench.models.trunks.TRUNKS")
    width: float = Field(1.0, gt=0, le=4, description="multiplies the trunk's channels where it allows that")
    fusion: Literal["early", "late", "single"] = "early"
    grades: int = Field(5, ge=2)
    pooling: Literal["mean", "mean_max"] = Field(
        "mean", description="of the last feature map; mean_max keeps small lesions from being averaged away"
    )
    head_dropout: float = Field(0.3, ge=0, lt=1)
    feature_dropout: float = Field(0.0, ge=0, lt=1, description="on the trunk's last feature map, whole channels")
    trunk_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="the trunk's own: DenseNet's in its last block, EfficientNet's stochastic depth; a ResNet has none",
    )
    mirror_os: bool = Field(False, description="mirror the left eye: aligns the anatomy; unmirrored aligns the sensor")
    local_average: float = Field(
        0.0,
        ge=0,
        description="standard deviation, pixels, of the local average colour that is subtracted instead of the mean; "
        "inside the model, so that stresses and maps stay in the photograph's pixels (after Graham 2015); 0: the mean",
    )
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)


class Provenance(Config):
    """Which data and which commands made the weights."""

    manifest_hash: str = ""
    dataset: str = ""
    train_patients: int = 0
    config: dict[str, Any] = Field(default_factory=dict)
    epochs: int = 0
    seed: int = 0
    workbench_version: str = ""
    torch_version: str = ""
    created: str = ""
    validation: dict[str, float] = Field(default_factory=dict)
    not_assessed: dict[str, str] = Field(default_factory=dict, description="a figure that has no value, and why")
    stopped: str = Field("", description="why the training ended")
    conflicts_allowed: tuple[str, ...] = Field((), description="conflicts of the manifest that the user overrode")
    defence: str = Field("", description="what the training was hardened against, in words; empty: nothing of the kind")
    reference_sha256: str = Field("", description="of reference.safetensors beside the weights, where it was made")
    laterality_sha256: str = Field("", description="of intake.safetensors beside the weights, where it was made")


class ModelCard(Config):
    """The content of ``model.json``."""

    format_version: int = FORMAT_VERSION
    name: str
    architecture: Architecture
    preprocess: PreprocessSpec
    classes: tuple[str, ...] = GRADES
    referable_threshold: float = Field(0.5, gt=0, lt=1, description="chosen on the validation split")
    intended_use: str = "Research and validation. Not a medical device."
    licence: str = "not stated"
    provenance: Provenance = Provenance()
    weights_sha256: str = ""


Outputs = Literal["grades", "binary", "expected_grade"]
"""What a model's output is per eye: five probabilities, P(referable) alone, or one number on the scale 0 to 4."""


class PredictionsCard(Config):
    """What is known of a model of which only outputs exist: the files, and what was done to them on reading."""

    format_version: int = FORMAT_VERSION
    kind: Literal["predictions"] = "predictions"
    name: str
    outputs: Outputs
    per: Literal["eye", "exam"] = Field("eye", description="exam: one answer for both eyes, nothing known per eye")
    predictions_sha256: str
    labels_sha256: str
    read: int = Field(ge=0, description="rows of the predictions")
    tolerance: float = Field(ge=0, description="a row whose sum differs from 1 by more is normalised and counted")
    normalised: int = Field(0, ge=0)
    largest_deviation: float = Field(0.0, ge=0, description="of a row's sum from 1, over every row; before normalising")
    clipped: int = Field(0, ge=0, description="expected grades outside 0 to 4, moved to its nearer end")
    without_prediction: int = Field(0, ge=0, description="labelled eyes that have no prediction: no answer")
    without_label: int = Field(0, ge=0, description="predictions that have no label: ungraded")
    classes: tuple[str, ...] = GRADES
    referable_threshold: float = Field(0.5, gt=0, lt=1)
    intended_use: str = ""
    licence: str = "not stated"
