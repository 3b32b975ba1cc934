"""What a map explains: one number per exam, made of the answer."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.models.referable import referable_log_odds
from workbench.schema.errors import WorkbenchError

Eye = Literal[0, 1]


@dataclass(frozen=True)
class ReferableTarget:
    """P(referable) of one eye: ``logits -> Float["exam"]``.

    Attributes:
        eye: 0 for OD, 1 for OS.
        scale: 'probability' is what the report and the app show; 'log_odds' is the same quantity where it does not
            saturate (the gradient of the probability vanishes in float32 beyond log-odds of about 17).
    """

    eye: Eye
    scale: Literal["probability", "log_odds"] = "probability"

    def __call__(self, logits: Float[Tensor, "exam 2 grade"]) -> Float[Tensor, " exam"]:
        """Return the eye's P(referable), or its log-odds."""
        log_odds = referable_log_odds(logits)[:, self.eye]
        return torch.sigmoid(log_odds) if self.scale == "probability" else log_odds


@dataclass(frozen=True)
class GradeTarget:
    """One grade of one eye, as its probability, the logarithm of that, or the logit as the network gives it."""

    eye: Eye
    grade: int
    scale: Literal["probability", "log_probability", "logit"] = "log_probability"

    def __call__(self, logits: Float[Tensor, "exam 2 grade"]) -> Float[Tensor, " exam"]:
        """Return the grade's number."""
        own = logits[:, self.eye]
        if self.scale != "logit":
            own = own.log_softmax(dim=-1)
        return own[:, self.grade].exp() if self.scale == "probability" else own[:, self.grade]


@dataclass(frozen=True)
class ExpectedGradeTarget:
    """Σ grade × its probability, of one eye."""

    eye: Eye

    def __call__(self, logits: Float[Tensor, "exam 2 grade"]) -> Float[Tensor, " exam"]:
        """Return the expected grade."""
        p = logits[:, self.eye].softmax(dim=-1)
        return p @ torch.arange(p.shape[-1], dtype=p.dtype, device=p.device)


@dataclass(frozen=True)
class GradeDifferenceTarget:
    """Why this grade and not that one: the log-odds between two grades of one eye (their logits' difference)."""

    eye: Eye
    grade: int
    against: int

    def __call__(self, logits: Float[Tensor, "exam 2 grade"]) -> Float[Tensor, " exam"]:
        """Return the log-odds of ``grade`` over ``against``."""
        return logits[:, self.eye, self.grade] - logits[:, self.eye, self.against]


@dataclass(frozen=True)
class EntropyTarget:
    """What makes it unsure: the predictive entropy of one eye's grades, nats."""

    eye: Eye

    def __call__(self, logits: Float[Tensor, "exam 2 grade"]) -> Float[Tensor, " exam"]:
        """Return the entropy."""
        return _entropy(logits[:, self.eye])


@dataclass(frozen=True)
class MeanOfDraws:
    """A target of the mean over draws, which is what is deployed: ``logits[draw, exam, 2, grade] -> Float["exam"]``.

    The mean is of probabilities; its logarithm stands where the target expects logits.
    """

    target: Callable[[Tensor], Tensor]

    def __call__(self, logits: Float[Tensor, "draw exam 2 grade"]) -> Float[Tensor, " exam"]:
        """Return the target of the draws' mean."""
        return self.target(logits.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(logits)))


@dataclass(frozen=True)
class EachDraw:
    """The mean of a target over draws, each by itself: ``logits[draw, exam, 2, grade] -> Float["exam"]``.

    Of a probability or an expected grade it is the same as of the draws' mean; of the entropy it is the expected one.
    """

    target: Callable[[Tensor], Tensor]

    def __call__(self, logits: Float[Tensor, "draw exam 2 grade"]) -> Float[Tensor, " exam"]:
        """Return the mean over the draws."""
        return torch.stack([self.target(one) for one in logits]).mean(dim=0)


@dataclass(frozen=True)
class MutualInformationTarget:
    """What the draws contradict each other about: entropy of their mean minus mean entropy, nats (Houlsby 2011)."""

    eye: Eye

    def __call__(self, logits: Float[Tensor, "draw exam 2 grade"]) -> Float[Tensor, " exam"]:
        """Return the mutual information of one eye's draws."""
        own = logits[:, :, self.eye]
        return MeanOfDraws(EntropyTarget(self.eye))(logits) - _entropy(own).mean(dim=0)


def _entropy(logits: Float[Tensor, "*rows grade"]) -> Float[Tensor, "*rows"]:
    logs = logits.log_softmax(dim=-1)
    return -(logs.exp() * logs).sum(dim=-1)


def unsaturated(target: Any) -> Any:
    """Return the target on the scale whose gradient does not vanish where the model is sure, if it has one."""
    if isinstance(target, MeanOfDraws):
        return MeanOfDraws(unsaturated(target.target))
    if isinstance(target, ReferableTarget):
        return replace(target, scale="log_odds")
    if isinstance(target, GradeTarget) and target.scale == "probability":
        return replace(target, scale="log_probability")
    return target


NAMED: Final[dict[str, Callable[[Eye], Any]]] = {
    "referable": ReferableTarget,
    "expected_grade": ExpectedGradeTarget,
    "entropy": EntropyTarget,
    "mutual_information": MutualInformationTarget,
}
"""Targets that a configuration names; besides ``grade_3`` and ``grade_3_against_2``."""


def target_named(name: str, eye: Eye) -> Any:
    """Return a target by its name in a configuration.

    >>> target_named("grade_3_against_2", 0)
    GradeDifferenceTarget(eye=0, grade=3, against=2)

    Raises:
        WorkbenchError: no target of that name.
    """
    if name in NAMED:
        return NAMED[name](eye)
    found = re.fullmatch(r"grade_([0-4])(?:_against_([0-4]))?", name)
    if found is None or found[1] == found[2]:
        near = difflib.get_close_matches(name, [*NAMED, "grade_3", "grade_3_against_2"], n=1, cutoff=0.0)[0]
        raise WorkbenchError(f"unknown target {name!r} of an explanation", f"did you mean {near!r}?")
    if found[2] is None:
        return GradeTarget(eye, int(found[1]))
    return GradeDifferenceTarget(eye, int(found[1]), int(found[2]))
