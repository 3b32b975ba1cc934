"""What every unit of a run is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from workbench.audit.patterns import StoredPattern
from workbench.audit.run_manifest import Member
from workbench.data.exams import ExamBatch, Exams
from workbench.models.lesion_net import Detector
from workbench.models.precision import Precision
from workbench.schema.specs import MapPolicySpec, PolicySpec
from workbench.stress.calls import clean_answers
from workbench.uncertainty.laterality_check import Laterality
from workbench.uncertainty.makers import DrawMaker
from workbench.uncertainty.reference import UnlikenessMeter


@dataclass(frozen=True)
class Bench:
    """The model and the exams, and the numbers that all units share.

    Attributes:
        model: whose maps are made.
        predictor: makes the draws.
        exams: to measure.
        draws: how many per exam.
        threshold: P(referable) from which an exam is called referable.
        seed: the run's.
        attacked: what a stress is aimed at: the model, or the mean of an ensemble.
        members: the further models of an ensemble.
        engine: of what runs once per exam.
        unlike: measures how unlike the training photographs an eye is, where the model has a reference.
        detector: finds lesions (experimental), where one was named.
        laterality: tells photographs that look like the other eye, where the model has it.
        maps: what a map must pass before it is kept.
        policy: of the run; who is referred is what some attacks aim at.
        cutoff: of the referral score, fixed on the clean exams; None until they are measured.
        unlearned: a model trained on permuted labels, with whose maps each method's are compared.
        fitting: exams that a perturbation for all exams is fitted on, where the plan holds one.
        fitting_words: which exams these are.
        patterns: name of a stress → its perturbation for all exams, once it is fitted.
        memory_mib: bound on the noisy pictures that go through the model at once.
        surrogate: a model that attacks are transferred from; None: a disturbed copy of the attacked one.
        precision: of maps.
    """

    model: nn.Module
    predictor: DrawMaker
    exams: Exams
    draws: int
    threshold: float
    seed: int
    attacked: nn.Module
    members: tuple[Member, ...] = ()
    engine: Literal["eager", "openvino"] = "eager"
    unlike: UnlikenessMeter | None = None
    laterality: Laterality | None = None
    maps: MapPolicySpec = field(default_factory=lambda: MapPolicySpec.model_validate({}))
    unlearned: nn.Module | None = None
    detector: Detector | None = None
    policy: PolicySpec = field(default_factory=lambda: PolicySpec.model_validate({}))
    cutoff: float | None = None
    fitting: Exams | None = None
    fitting_words: str = ""
    patterns: Callable[[str], StoredPattern] | None = None
    memory_mib: int = 512
    surrogate: nn.Module | None = None
    precision: Precision = "fp32"
    _answered: dict[tuple[int, ...], Tensor] = field(default_factory=dict, repr=False, compare=False)

    def clean_logits(self, indices: Sequence[int], batch: ExamBatch) -> Tensor:
        """Return what the attacked model answers to some exams as they are; each chunk is asked once per process."""
        chunk = tuple(indices)
        if chunk not in self._answered:
            self._answered[chunk] = clean_answers(self.attacked, batch.x, batch.present)
        return self._answered[chunk]

    def photographed(self, index: int) -> tuple[bool, bool]:
        """Return which eyes of an exam can be measured."""
        one, other = self.exams.eyes["status"].iloc[2 * index : 2 * index + 2]
        return one == "ok", other == "ok"
