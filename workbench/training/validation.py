"""How good the model is on exams that it did not learn from, and from which probability on it calls one referable."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from workbench.data.exams import Exams
from workbench.metrics.agreement import quadratic_weighted_kappa
from workbench.metrics.discrimination import roc_auc
from workbench.models.modes import evaluation
from workbench.models.precision import autocast
from workbench.schema.grades import REFERABLE_GRADE


@dataclass(frozen=True)
class Answers:
    """Probabilities and truth of some exams, eye by eye."""

    p: Float[np.ndarray, "exam 2 grade"]
    present: Bool[np.ndarray, "exam 2"]
    grade: Int64[np.ndarray, "exam 2"]
    loss: float

    def p_referable(self) -> Float[np.ndarray, " exam"]:
        """Return the worse present eye's P(grade ≥ 2); −1 for an exam without an eye."""
        return np.where(self.present, self.p[..., REFERABLE_GRADE:].sum(-1), -1.0).max(axis=1)

    def referable(self) -> tuple[Bool[np.ndarray, " exam"], Bool[np.ndarray, " exam"]]:
        """Return each exam's truth, and whether it is known.

        One referable eye makes the exam referable; it is not referable only if every present eye's grade says so.
        """
        truth = np.any(self.grade >= REFERABLE_GRADE, axis=1)
        undecided = np.any(self.present & (self.grade < 0), axis=1) | ~np.any(self.present, axis=1)
        return truth, np.asarray(truth | ~undecided)


def answer(
    model: nn.Module,
    exams: Exams,
    loss: Callable[[Tensor, Tensor], Tensor],
    view: Callable[[Tensor, Tensor, Tensor, int], Tensor] = lambda x, *_: x,
    *,
    batch_size: int,
    device: torch.device,
    precision: Literal["fp32", "bf16"],
) -> Answers:
    """Return the model's answers on all ``exams``, as ``view(x, present, grade, first index)`` leaves their pixels.

    ``loss(logits, grade)`` is averaged over the batches' exams.
    """
    probabilities, presents, grades, losses = [], [], [], []
    for start in range(0, len(exams), batch_size):
        batch = exams.batch(range(start, min(start + batch_size, len(exams))))
        present, grade = batch.present.to(device), batch.grade.to(device)
        x = view(_to(batch.x, device), present, grade, start)
        with evaluation(model), torch.inference_mode(), autocast(precision, device):
            logits = model(x, present).float()
            losses.append(float(loss(logits, grade)) * len(batch.x))
            probabilities.append(logits.double().softmax(-1).cpu().numpy())
            presents.append(batch.present.numpy())
            grades.append(batch.grade.numpy())
    return Answers(
        p=np.concatenate(probabilities),
        present=np.concatenate(presents),
        grade=np.concatenate(grades),
        loss=sum(losses) / len(exams),
    )


def _to(x: Tensor, device: torch.device) -> Tensor:
    return x.to(device).contiguous(memory_format=torch.channels_last)


def measure(answers: Answers) -> dict[str, float]:
    """Return the validation's figures; NaN for what cannot be assessed.

    ``auc_referable`` and the threshold are of exams (the worse present eye speaks), ``auc_referable_eye`` and ``qwk``
    of eyes.
    """
    truth, known = answers.referable()
    graded = answers.grade >= 0
    eye_truth, eye_p = answers.grade[graded], answers.p[graded]
    return {
        "validation_loss": answers.loss,
        "auc_referable": roc_auc(truth[known], answers.p_referable()[known]),
        "auc_referable_eye": roc_auc(eye_truth >= REFERABLE_GRADE, eye_p[:, REFERABLE_GRADE:].sum(-1)),
        "qwk": quadratic_weighted_kappa(eye_truth, eye_p.argmax(-1), grades=answers.p.shape[-1]),
    }


def score_of(figures: dict[str, float]) -> float:
    """Return what epochs are ranked by: the mean of ``auc_referable`` and ``qwk``, or the one that can be assessed.

    Which of them can be depends on the labels alone, so every epoch of a training is ranked by the same rule. NaN when
    neither can: then nothing is ranked.
    """
    assessed = [figures[name] for name in ("auc_referable", "qwk") if math.isfinite(figures[name])]
    return sum(assessed) / len(assessed) if assessed else math.nan


def youden_threshold(truth: Bool[np.ndarray, " exam"], p: Float[np.ndarray, " exam"]) -> float:
    """Return the probability from which to call an exam referable, where sensitivity + specificity is largest.

    It lies half way between two neighbouring probabilities; of equals the lowest, which misses the fewest. NaN with
    one class only.

    Youden 1950, Cancer 3(1).
    """
    if truth.all() or not truth.any():
        return math.nan
    levels = np.unique(p)
    cuts = np.concatenate([levels[:1], (levels[1:] + levels[:-1]) / 2])
    called = p[None, :] >= cuts[:, None]
    youden = called[:, truth].mean(axis=1) - called[:, ~truth].mean(axis=1)
    return float(np.clip(cuts[int(np.argmax(youden))], 1e-6, 1 - 1e-6))
