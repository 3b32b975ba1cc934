"""What an attacker wants, as one number per exam: the margin, positive once it is reached.

A goal is a function of what the model answers; whoever attacks raises its smooth form, whoever judges reads its sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from workbench.models.referable import ABSENT, referable_log_odds
from workbench.schema.grades import REFERABLE_GRADE, UNGRADED
from workbench.schema.threat import GoalName, ThreatModel

PerExam = Float[Tensor, " exam"]


@dataclass(frozen=True)
class Deployed:
    """The system as it is used, for an attacker who knows it: its draws, and who is handed to a human.

    Attributes:
        draws: ``(x, present, seeds, count) -> probabilities "draw exam 2 grade"``, with a gradient where ``x`` has one;
            an exam's draws depend on its seed alone, an absent eye's are not looked at.
        pool: draws to one row of probabilities per eye.
        score: draws to the uncertainty score per eye, larger = less certain.
        count: draws behind one decision.
        cutoff: an exam whose larger score exceeds it is referred; None: not known.
        refer_incomplete: an exam with one eye is referred whatever its score.
    """

    draws: Callable[[Tensor, Tensor, Sequence[int], int], Tensor]
    pool: Callable[[Tensor], Tensor]
    score: Callable[[Tensor], Tensor]
    count: int
    cutoff: float | None = None
    refer_incomplete: bool = False


@dataclass(frozen=True)
class Answers:
    """What the model answers.

    Attributes:
        logits: or, of a stochastic model, the logarithm of its pooled probabilities.
        score: the uncertainty score; None where the goal does not ask for it.
    """

    logits: Float[Tensor, "exam 2 grade"]
    score: Float[Tensor, "exam 2"] | None = None

    def of(self, rows: Tensor) -> Answers:
        """Return the answers to some of the exams."""
        return Answers(self.logits[rows], None if self.score is None else self.score[rows])


@dataclass(frozen=True)
class Case:
    """What is fixed about the exams under attack.

    Attributes:
        threat: the threat model.
        present: which eyes there are.
        named: which of them may be changed.
        grade: the grade to leave, per eye: the truth, or the model's clean answer in an exam without any; −1: none.
        label: the status to leave, 1 referable: the truth, or the model's clean call.
        boundary: log-odds of the threshold.
        cutoff: of the score.
        sure_to_be_referred: whatever the score says.
    """

    threat: ThreatModel
    present: Bool[Tensor, "exam 2"]
    named: Bool[Tensor, "exam 2"]
    grade: Int64[Tensor, "exam 2"]
    label: Int64[Tensor, " exam"]
    boundary: float
    cutoff: float
    sure_to_be_referred: Bool[Tensor, " exam"]

    def of(self, rows: Tensor) -> Case:
        """Return the case of some of the exams."""
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen: dict[str, Any] = {name: value[rows] for name, value in told.items() if isinstance(value, Tensor)}
        return replace(self, **chosen)

    @property
    def exam_grade(self) -> Int64[Tensor, " exam"]:
        """The grade to leave of the worse eye."""
        return self.grade.amax(dim=1)


def case_of(
    threat: ThreatModel,
    clean: Float[Tensor, "exam 2 grade"],
    present: Bool[Tensor, "exam 2"],
    named: Bool[Tensor, "exam 2"],
    y: Int64[Tensor, "exam 2"],
    threshold: float,
    deployed: Deployed | None = None,
) -> Case:
    """Return what is fixed, given the logits of the clean exams."""
    boundary = math.log(threshold / (1 - threshold))
    graded = (y != UNGRADED).any(dim=1)
    called = referable_log_odds(clean).amax(dim=1) >= boundary
    own = torch.where(present, clean.argmax(dim=2), UNGRADED)
    incomplete = ~present.all(dim=1) if deployed is not None and deployed.refer_incomplete else torch.zeros_like(graded)
    cutoff = deployed.cutoff if deployed is not None else None
    return Case(
        threat=threat,
        present=present,
        named=named,
        grade=torch.where(graded[:, None], torch.where(present, y, UNGRADED), own),
        label=torch.where(graded, (y >= REFERABLE_GRADE).any(dim=1), called).long(),
        boundary=boundary,
        cutoff=math.inf if cutoff is None else cutoff,
        sure_to_be_referred=incomplete,
    )


def cross(answers: Answers, case: Case, soft: bool = False) -> PerExam:
    """Return how far the exam's P(referable) is past the threshold, away from the truth, in log-odds.

    A referable exam is crossed once *all* present eyes are below, a healthy one once *any* is above.
    """
    past = referable_log_odds(answers.logits) - case.boundary
    below, above = _every(-past, soft), _any(past, soft)
    return torch.where(case.label == 1, below, above)


def untargeted(answers: Answers, case: Case, soft: bool = False) -> PerExam:
    """Return by how much, in some eye, another grade is above the one to leave."""
    known = case.grade != UNGRADED
    own = torch.nn.functional.one_hot(case.grade.clamp(min=0), answers.logits.shape[-1]).bool()
    ahead = _log_sum(answers.logits, ~own, soft) - _log_sum(answers.logits, own, soft)
    return _any(torch.where(known, ahead, -ABSENT), soft)


def targeted(answers: Answers, case: Case, soft: bool = False) -> PerExam:
    """Return by how much, in every eye that may be changed, the wanted grade is above all others."""
    wanted = (_grades(answers) == (case.threat.target_grade or 0)).expand_as(answers.logits)
    ahead = _log_sum(answers.logits, wanted, soft) - _log_sum(answers.logits, ~wanted, soft)
    return _every(torch.where(case.named & case.present, ahead, ABSENT), soft)


def downgrade(answers: Answers, case: Case, soft: bool = False) -> PerExam:
    """Return by how much every eye's grade is at least ``by_grades`` below the exam's (the worse eye's)."""
    low = _grades(answers) <= (case.exam_grade - case.threat.by_grades)[:, None, None]
    ahead = _log_sum(answers.logits, low, soft) - _log_sum(answers.logits, ~low, soft)
    return _every(torch.where(case.present, ahead, ABSENT), soft)


def upgrade(answers: Answers, case: Case, soft: bool = False) -> PerExam:
    """Return by how much some eye's grade is at least ``by_grades`` above the exam's (the worse eye's)."""
    high = _grades(answers) >= (case.exam_grade + case.threat.by_grades)[:, None, None]
    ahead = _log_sum(answers.logits, high, soft) - _log_sum(answers.logits, ~high, soft)
    return _any(torch.where(case.present, ahead, -ABSENT), soft)


def silent(answers: Answers, case: Case, soft: bool = False) -> PerExam:
    """Return the smaller of two: how far the call is crossed, and how far the score is below the cut-off.

    The score's distance is weighed up to the size of log-odds. Between sure and right and sure and wrong lies the
    unsure: the smooth form follows the crossing alone until the call has turned, and both from there on, or the score
    would hold an exam back on its own side.
    """
    crossed, quiet = cross(answers, case, soft), SCORE_WEIGHT * (case.cutoff - _worse_score(answers, case, soft))
    if soft:
        return crossed + torch.where(crossed.detach() > 0, quiet.clamp(max=0.0), 0.0)
    return torch.minimum(crossed, quiet)


def flood(answers: Answers, case: Case, soft: bool = False) -> PerExam:
    """Return how far the larger eye's score is above the cut-off, weighed as in `silent`."""
    return SCORE_WEIGHT * (_worse_score(answers, case, soft) - case.cutoff)


GOALS: Final[dict[GoalName, Callable[[Answers, Case, bool], PerExam]]] = {
    "cross": cross,
    "untargeted": untargeted,
    "targeted": targeted,
    "downgrade": downgrade,
    "upgrade": upgrade,
    "silent": silent,
    "flood": flood,
}
"""Every goal of `schema.threat` that is a function of the answers."""

SCORE_WEIGHT: Final = 5.0
"""Log-odds that one unit of the score stands for: the steepest fall of the entropy of a two-way answer is 1/2.2."""


def not_applicable(case: Case) -> tuple[str, ...]:
    """Return per exam why the goal cannot be wanted of it; an empty text where it can."""
    goal, by, worse = case.threat.goal, case.threat.by_grades, case.exam_grade.tolist()
    referred, movable = case.sure_to_be_referred.tolist(), (case.named & case.present).any(dim=1).tolist()
    said: list[str] = []
    for grade, anyway, may in zip(worse, referred, movable, strict=True):
        why = "" if may else "no eye that may be changed is present"
        if goal == "downgrade" and grade < by:
            why = f"no grade lies {by} below grade {grade}"
        if goal == "upgrade" and grade + by > MOST_SEVERE:
            why = f"no grade lies {by} above grade {grade}"
        if goal in ("silent", "flood") and anyway:
            why = "an incomplete exam is referred whatever its score"
        said.append(why)
    return tuple(said)


MOST_SEVERE: Final = 4


def _grades(answers: Answers) -> Int64[Tensor, "1 1 grade"]:
    return torch.arange(answers.logits.shape[-1], device=answers.logits.device)[None, None]


def _worse_score(answers: Answers, case: Case, soft: bool) -> PerExam:
    if answers.score is None:
        raise ValueError("the goal asks for a score, and none was made")
    return _any(torch.where(case.present, answers.score, -ABSENT), soft)


def _log_sum(logits: Tensor, chosen: Tensor, soft: bool) -> Tensor:
    """Return the largest (soft: log of the summed) logit of the chosen grades; far below all where none is chosen."""
    kept = torch.where(chosen, logits, -ABSENT)
    return torch.logsumexp(kept, dim=-1) if soft else kept.amax(dim=-1)


def _any(parts: Tensor, soft: bool) -> Tensor:
    """Return the largest part, or a smooth maximum at the scale of the parts, whose gradient moves all of them."""
    if not soft:
        return parts.amax(dim=1)
    scale = parts.detach().amax(dim=1, keepdim=True).abs().clamp(min=1.0)
    return scale[:, 0] * torch.logsumexp(parts / scale, dim=1)


def _every(parts: Tensor, soft: bool) -> Tensor:
    return -_any(-parts, soft)
