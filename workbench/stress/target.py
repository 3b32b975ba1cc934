"""The exams under attack, the model bound to them, and the goal: what an attack is given as its model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from workbench.models.referable import bind_present
from workbench.schema.errors import WorkbenchError
from workbench.schema.threat import OF_THE_REFERRAL, ThreatModel
from workbench.stress.goals import GOALS, Answers, Case, Deployed, case_of
from workbench.stress.map_goal import CleanMap, Explained, clean_map, map_margin

EOT_DRAWS: Final = 16
"""Draws behind each gradient of an attack on the stochastic system (expectation over transformation, Athalye 2018)."""


@dataclass(frozen=True)
class Target:
    """Some exams and the goal that an attack is to reach on each; called with ``x`` it answers the exams' logits.

    Attributes:
        model: ``(x, present) -> logits``.
        clean: the exams as they are.
        case: what is fixed about them.
        seeds: one per exam, of the draws that the attack sees.
        deployed: the stochastic system, where the goal or the model asks for draws; else None.
        draws: behind each answer, where there is ``deployed``.
        known: the answers to the exams in hand, see `answered`.
        known_clean: the answers to ``clean``, so that nobody asks for them again.
        share: of ε, per exam; None: all of it.
        pattern: that is one for all exams, of a stress that was fitted on others.
        explained: the model's map, where the goal is to move it.
        clean_map: of the exams as they are.
    """

    model: nn.Module = field(repr=False)
    clean: Float[Tensor, "exam 6 height width"] = field(repr=False)
    case: Case
    seeds: tuple[int, ...]
    deployed: Deployed | None = None
    draws: int = EOT_DRAWS
    known: Answers | None = field(default=None, repr=False)
    known_clean: Answers | None = field(default=None, repr=False)
    share: Float[Tensor, " exam"] | None = None
    pattern: Float[Tensor, "6 height width"] | None = field(default=None, repr=False)
    explained: Explained | None = field(default=None, repr=False)
    clean_map: CleanMap | None = field(default=None, repr=False)

    @property
    def present(self) -> Bool[Tensor, "exam 2"]:
        """Which eyes there are."""
        return self.case.present

    @property
    def size(self) -> Float[Tensor, "exam 2"]:
        """How far each eye may be changed: not at all where it is absent or not named."""
        allowed = self.case.named & self.case.present
        size = torch.where(allowed, self.case.threat.size, 0.0).to(self.clean)
        return size if self.share is None else size * self.share[:, None]

    def __call__(self, x: Float[Tensor, "exam 6 height width"]) -> Float[Tensor, "exam 2 grade"]:
        """Return the logits of the model as it answers without draws."""
        return bind_present(self.model, self.present)(x)

    def of(self, rows: Int64[Tensor, " row"]) -> Target:
        """Return the same for some of the exams, e.g. those that still hold."""
        seeds = tuple(self.seeds[row] for row in rows.tolist())
        share = None if self.share is None else self.share[rows]
        of_clean = None if self.known_clean is None else self.known_clean.of(rows)
        return replace(
            self,
            clean=self.clean[rows],
            case=self.case.of(rows),
            seeds=seeds,
            known=None,
            known_clean=of_clean,
            share=share,
            clean_map=None if self.clean_map is None else self.clean_map.of(rows),
        )

    def answers(self, x: Float[Tensor, "exam 6 height width"]) -> Answers:
        """Return what the goal is a function of: logits, or pooled draws and their score."""
        if self.deployed is None:
            return Answers(self(x))
        return pooled_answers(self.deployed, x, self.present, self.seeds, self.draws)

    def answered(self, x: Float[Tensor, "exam 6 height width"]) -> Target:
        """Return the same target with its answers to ``x`` at hand, so that a loss and the margin cost one pass."""
        return replace(self, known=self.answers(x))

    def margin(self, x: Float[Tensor, "exam 6 height width"], *, soft: bool = False) -> Float[Tensor, " exam"]:
        """Return how far past the goal each exam is; ``soft``: its smooth form, to be raised along its gradient."""
        answers = self.answers(x) if self.known is None else self.known
        if self.explained is not None and self.clean_map is not None:
            return map_margin(self.explained, self.clean_map, x, answers, self.case, soft)
        return GOALS[self.case.threat.goal](answers, self.case, soft)

    def margin_of_clean(self) -> Float[Tensor, " exam"]:
        """Return how far past the goal each exam is as it is."""
        return replace(self, known=self.known_clean).margin(self.clean)


def pooled_answers(deployed: Deployed, x: Tensor, present: Tensor, seeds: Sequence[int], draws: int) -> Answers:
    """Return the pooled draws as logits, and the score; an absent eye is surely healthy and surely certain."""
    drawn = deployed.draws(x, present, seeds, draws)
    healthy = torch.zeros_like(drawn)
    healthy[..., 0] = 1.0
    drawn = torch.where(present[None, :, :, None], drawn, healthy)
    smallest = torch.finfo(drawn.dtype).tiny
    return Answers(deployed.pool(drawn).clamp(min=smallest).log(), deployed.score(drawn))


def check_pixels(x: Float[Tensor, "exam 6 height width"]) -> None:
    """Refuse pixels that are not finite or not in [0, 1].

    Raises:
        WorkbenchError: says what they span.
    """
    if not (torch.isfinite(x).all() and x.min() >= 0 and x.max() <= 1):
        raise WorkbenchError(
            f"x spans {x.min():g} to {x.max():g}", "pixels lie in [0, 1]; look for NaN or a scale of 255"
        )


def check_gradient(value: Tensor) -> None:
    """Refuse to follow the gradient of what has none: a model outside autograd.

    Raises:
        WorkbenchError: it has none.
    """
    if not value.requires_grad:
        raise WorkbenchError("the model has no gradient", "attack it with square, or aim.knowledge: scores")


def aim_at(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    y: Int64[Tensor, "exam 2"],
    threat: ThreatModel,
    seeds: Sequence[int],
    *,
    threshold: float,
    deployed: Deployed | None = None,
    draws: int = EOT_DRAWS,
    clean_logits: Float[Tensor, "exam 2 grade"] | None = None,
    explained: Explained | None = None,
) -> Target:
    """Return the target of a threat on some exams.

    Args:
        model: ``(x, present) -> logits``.
        x: in [0, 1].
        present: which eyes there are.
        y: true grades, −1 where there is none.
        threat: ``eyes`` is OD, OS or both here.
        seeds: one per exam, of the draws that the attack sees.
        threshold: P(referable) from which an exam is called referable.
        deployed: where given, the goal is judged on its draws and not on the model's answer without them.
        draws: behind each answer of ``deployed``.
        clean_logits: the model's answers to ``x``, where they are known.
        explained: the model's map; the goal *explanation* alone asks for it.

    Raises:
        WorkbenchError: pixels outside [0, 1]; a goal about the referral, and no rule or no cut-off; a goal that no
            attack here reaches.
    """
    check_pixels(x)
    if threat.goal == "explanation" and explained is None:
        raise WorkbenchError("the goal 'explanation' is about the map, but none is given", "run it in an audit")
    if threat.goal in OF_THE_REFERRAL and (deployed is None or deployed.cutoff is None):
        raise WorkbenchError(
            f"the goal {threat.goal!r} is about who is referred, but no cut-off is known",
            "run it in an audit: the cut-off is fixed on its clean exams",
        )
    named = torch.tensor([threat.eyes in ("both", eye) for eye in ("OD", "OS")], device=x.device).expand_as(present)
    with torch.no_grad():
        if deployed is not None:
            clean = pooled_answers(deployed, x, present, seeds, draws)
        else:
            clean = Answers(bind_present(model, present)(x) if clean_logits is None else clean_logits)
    case = case_of(threat, clean.logits, present, named, y, threshold, deployed)
    target = Target(model, x, case, tuple(seeds), deployed, draws, known_clean=clean)
    if explained is None or threat.goal != "explanation":
        return target
    return replace(target, explained=explained, clean_map=clean_map(explained, x, present, clean))


OWN_DRAWS: Final = 32
"""Passes behind one decision on a model that is random by itself."""


def is_random(model: nn.Module, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]) -> bool:
    """Return whether the model answers the same exam differently twice, e.g. a randomised defence."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        once, again = (model(x[:1], present[:1]) for _ in range(2))
    return not torch.equal(torch.nan_to_num(once), torch.nan_to_num(again))


def own_draws(model: nn.Module) -> Deployed:
    """Return a model that is random by itself as a stochastic system: an exam's passes are drawn from its own seed."""

    def draws(x: Tensor, present: Tensor, seeds: Sequence[int], count: int) -> Tensor:
        made = []
        for exam, eyes, seed in zip(x, present, seeds, strict=True):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                made.append(model(exam.expand(count, -1, -1, -1), eyes.expand(count, -1)).softmax(dim=-1))
        return torch.stack(made, dim=1)

    def pool(drawn: Tensor) -> Tensor:
        return drawn.mean(dim=0)

    def score(drawn: Tensor) -> Tensor:
        mean = drawn.mean(dim=0)
        return -torch.xlogy(mean, mean).sum(dim=-1)

    return Deployed(draws, pool, score, OWN_DRAWS)
