"""The training's whole configuration: one YAML file states it, any field can be overridden."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from workbench.schema.config import Config
from workbench.schema.model_card import Architecture
from workbench.schema.specs import PreprocessSpec


class DataSection(Config):
    """Which photographs."""

    manifest: Path = Field(description="manifest.csv, or the folder that holds it")
    cache: Path | None = Field(None, description="prepared pixels; null: 'cache' beside the manifest")
    limit: int | None = Field(None, ge=1, description="at most this many training exams, always the same ones")
    allow_conflicts: bool = Field(
        False, description="train although an image stands twice or a patient is in two splits; it is recorded"
    )
    permute_labels: bool = Field(
        False,
        description="deal the training grades out anew: it learns nothing, for an audit's explanations.unlearned",
    )


class CorruptionsSection(Config):
    """Bad photographs among the training exams: the corruptions of an audit, drawn anew at every step."""

    names: tuple[str, ...] = Field((), description="of docs/corruptions.md; one of them per spoiled exam; none: off")
    share: float = Field(0.5, ge=0, le=1, description="of the exams that are spoiled")
    severest: float = Field(3.0, ge=0, le=5, description="severities are drawn evenly from 0 to this")


class AugmentSection(Config):
    """Random views of the training exams; none of them turns a right eye into a left one without saying so."""

    geometry: Literal["per_eye", "per_exam"] = Field(
        "per_eye", description="per_exam moves both eyes alike: what is locked to the sensor stays aligned"
    )
    rotation_degrees: float = Field(20.0, ge=0, le=60, description="beyond 90 the optic disc would change its side")
    scale: float = Field(0.1, ge=0, lt=0.5)
    shift: float = Field(0.03, ge=0, le=0.25, description="share of the side")
    vertical_flip: bool = Field(True, description="of each eye; the optic disc stays on its side")
    exchange_eyes: bool = Field(
        True, description="mirror both eyes left to right and exchange them: OD becomes OS, with its grade"
    )
    brightness: float = Field(0.08, ge=0, le=0.5, description="added, per colour")
    contrast: float = Field(0.3, ge=0, lt=1, description="multiplied, all colours alike")
    colour: float = Field(0.1, ge=0, lt=1, description="multiplied, per colour")
    corruptions: CorruptionsSection = Field(
        CorruptionsSection(), description="before all else: the photograph is spoiled, then seen from another view"
    )


class LossSection(Config):
    """What is minimised; absent and ungraded eyes never count."""

    class_weight_power: float = Field(0.5, ge=0, le=1, description="grades weigh (1 / frequency) to this power")
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    referable_weight: float = Field(1.0, ge=0, description="of the cross-entropy of referable against not")
    ordinal_weight: float = Field(0.0, ge=0, description="of the ranked probability score, which knows the order")


class AdversarialSection(Config):
    """Training exams under attack, anew at every step."""

    method: Literal["none", "pgd", "trades"] = Field(
        "none", description="pgd: learn from attacked exams alone; trades: from clean ones, and to answer both alike"
    )
    epsilon: float = Field(1.0, ge=0, le=255, description="linf, in 1/255 of the pixel range, per eye")
    steps: int = Field(3, ge=1, description="of the attack, each one forward and backward pass more")
    step_share: float = Field(0.5, gt=0, le=2, description="length of a step, share of epsilon")
    eyes: Literal["both", "OD", "OS", "random_one"] = Field("both", description="attacked; a missing eye never is")
    beta: float = Field(6.0, ge=0, description="trades: weight of the divergence between clean and attacked answers")
    warm_up_epochs: float = Field(0.0, ge=0, description="over which epsilon rises from 0")


class TrainSection(Config):
    """How it is minimised."""

    epochs: int = Field(20, ge=1)
    batch_size: int = Field(32, ge=1, description="exams")
    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(2e-3, gt=0, description="at the end of the warm-up; then a half cosine down to zero")
    weight_decay: float = Field(0.05, ge=0, description="not on biases and normalisations")
    warmup: float = Field(0.2, ge=0, lt=1, description="share of all steps")
    gradient_clip: float | None = Field(5.0, gt=0, description="largest norm of the gradient")
    class_balance: float = Field(
        0.0, ge=0, le=1, description="draw exams by (1 / frequency of the worse grade) to this power; 0: each once"
    )
    eye_dropout: float = Field(0.05, ge=0, lt=1, description="share of complete exams that lose one eye at random")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="of the running average of the weights; 0: none")
    patience: int | None = Field(None, ge=1, description="stop after this many epochs without a better validation")
    max_minutes: float | None = Field(None, gt=0, description="stop before the epoch that would exceed this")
    checkpoint_minutes: float = Field(2.0, ge=0, description="beside each epoch's end; 0: after every step")
    keep_checkpoints: int = Field(
        0, ge=0, description="keep the models of the last so many epochs under checkpoints/, for an ensemble of them"
    )
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1, description="null: one per core")
    init_from: Path | None = Field(None, description="folder of a model whose weights are the start, where they fit")
    adversarial: AdversarialSection = AdversarialSection()


class TrainConfig(Config):
    """Everything that decides the weights."""

    name: str = Field("model", description="stands in model.json")
    out: Path = Field(Path("runs/model"), description="folder of the model; a second call continues there")
    licence: str = Field("not stated", description="of the weights")
    data: DataSection
    preprocess: PreprocessSpec = PreprocessSpec()
    model: Architecture = Architecture()
    augment: AugmentSection = AugmentSection()
    loss: LossSection = LossSection()
    train: TrainSection = TrainSection()
