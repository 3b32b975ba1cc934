"""The system as an attacker meets it: the run's draws, pooled and scored by its policy, its cut-off, and its map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from workbench.explanation.trust.gradient_map import gradient_maps, moved_of_eyes
from workbench.schema.errors import WorkbenchError
from workbench.schema.specs import PolicySpec
from workbench.stress.goals import Deployed
from workbench.stress.map_goal import Explained
from workbench.uncertainty.decisions import referable_threshold
from workbench.uncertainty.differentiable import POOLINGS, SCORES
from workbench.uncertainty.mc_dropout import StochasticPredictor


def deployed_system(
    predictor: object, policy: PolicySpec, *, draws: int, threshold: float, cutoff: float | None
) -> Deployed:
    """Return what `stress.apply.apply_stress` is given to attack draws and the referral.

    Args:
        predictor: the run's maker of draws.
        policy: of the run.
        draws: behind one decision.
        threshold: of P(referable), the model's own.
        cutoff: of the clean exams; None: not known yet.

    Raises:
        WorkbenchError: draws without a gradient, or a score that is not made of draws.
    """
    if not isinstance(predictor, StochasticPredictor):
        raise WorkbenchError(
            f"draws are made by {type(predictor).__name__}", "an attack on draws needs draws_from: mc_dropout"
        )
    if policy.referral_score not in SCORES:
        raise WorkbenchError(
            f"policy.referral_score is {policy.referral_score}, not a score of the draws",
            f"an attack on the referral needs one of {', '.join(SCORES)}",
        )
    score, own = SCORES[policy.referral_score], referable_threshold(policy, threshold)

    def drawn(x: Tensor, present: Tensor, seeds: Sequence[int], count: int) -> Tensor:
        return predictor.draws(x, present, draws=count, seeds=seeds, gradient=x.requires_grad)

    return Deployed(
        draws=drawn,
        pool=POOLINGS[policy.pooling],
        score=lambda draws: score(draws, own, policy.pooling),
        count=draws,
        cutoff=cutoff,
        refer_incomplete=policy.refer_incomplete,
    )


def explained_by(model: nn.Module) -> Explained:
    """Return the model's gradient × input, for an attack that keeps the answer and moves the map."""
    own, smooth = gradient_maps(model)
    return Explained(own, smooth, moved_of_eyes)
