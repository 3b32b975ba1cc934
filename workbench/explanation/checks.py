"""A map is shown only where it may be trusted that far: else it is withheld, with the reason."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.explanation.integrated_gradients import blurred_baseline
from workbench.explanation.registry import EXPLANATIONS
from workbench.explanation.targets import ReferableTarget
from workbench.explanation.trust.influence import eye_only
from workbench.explanation.trust.likeness import outside_share
from workbench.models.modes import measuring
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import EYES
from workbench.schema.specs import MapPolicySpec

STRICT: Final = MapPolicySpec.model_validate({})
"""What a map must pass where nothing else is said."""

STEPS: Final = (8, 24, 72)
"""Points on the path: more are taken only for the exams whose gap is above the limit with fewer."""

LEAST_CHANGE: Final = 0.05
"""The gap is a share of the change of P(referable), but of no less than this: below it there is little to explain."""


@dataclass(frozen=True)
class ExplanationResult:
    """Maps of P(referable) of one eye, and what is known of their worth.

    Attributes:
        method: a key of `EXPLANATIONS`.
        eye: 0 for OD, 1 for OS.
        maps: per pixel and channel; zero where withheld.
        completeness_gap: |Σ map − (f(x) − f(baseline))| ÷ max(|f(x) − f(baseline)|, 0.05); integrated gradients only.
        fellow_share: share of the absolute attribution that lies on the *other* eye; None where the method cannot tell
            the eyes apart (Grad-CAM with early fusion).
        withheld: per exam, why its map must not be shown, or None.
        outside_share: share of the explained eye's map that lies outside its disc.
        outside_change: |change of P(referable)| when all that lies outside the discs is made black: what was read from
            there is no eye, and a map from a blurred baseline cannot show it.
    """

    method: str
    eye: Literal[0, 1]
    maps: Float[Tensor, "exam 6 height width"]
    completeness_gap: Float[Tensor, " exam"] | None
    fellow_share: Float[Tensor, " exam"] | None
    withheld: tuple[str | None, ...]
    outside_share: Float[Tensor, " exam"]
    outside_change: Float[Tensor, " exam"]

    @property
    def own_eye(self) -> Float[Tensor, "exam height width"]:
        """The explained eye's map: the sum over its three channels."""
        return _own(self.maps, self.eye)


def explain(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    *,
    method: str,
    eye: Literal[0, 1],
    policy: MapPolicySpec = STRICT,
    **options: Any,
) -> ExplanationResult:
    """Explain P(referable) of one eye of every exam, and withhold the maps that fail a check.

    Args:
        model: ``(x, present) -> logits``; held still meanwhile, and left as it was found.
        x: in [0, 1], OD RGB then OS RGB.
        present: which eyes were photographed.
        method: a key of `EXPLANATIONS`.
        eye: 0 for OD, 1 for OS.
        policy: what each map must pass; a null threshold lets everything through.
        options: keyword arguments of the method. Without ``steps``, integrated gradients take as many of `STEPS` as
            each exam needs.

    Raises:
        WorkbenchError: an unknown method (names the nearest), or a model that the method cannot explain.
    """
    if method not in EXPLANATIONS:
        near = difflib.get_close_matches(method, list(EXPLANATIONS), n=1, cutoff=0.0)[0]
        raise WorkbenchError(f"unknown explanation {method!r}", f"did you mean {near!r}?")
    target = ReferableTarget(eye)
    max_gap = math.inf if policy.max_completeness_gap is None else policy.max_completeness_gap
    maps, gap = _maps(model, x, present, target, method, max_gap, options)
    measured = {
        "completeness gap": (gap, policy.max_completeness_gap),
        "share of the map outside the disc": (outside_share(_own(maps, eye)), policy.max_outside_share),
        "change of P(referable) without what lies outside the disc": (
            outside_change(model, x, present, target),
            policy.max_outside_change,
        ),
    }
    withheld = tuple(_reason(maps[exam], bool(present[exam, eye]), eye, measured, exam) for exam in range(len(x)))
    shown = torch.tensor([reason is None for reason in withheld], device=maps.device)[:, None, None, None]
    maps = torch.where(shown, maps, torch.zeros_like(maps))
    separable = method != "grad_cam" or not model.sees_both_eyes
    _, outside, change = (values for values, _ in measured.values())
    assert outside is not None
    assert change is not None
    share = fellow_share(maps, eye) if separable else None
    return ExplanationResult(method, eye, maps, gap, share, withheld, outside, change)


def _own(maps: Float[Tensor, "exam 6 height width"], eye: Literal[0, 1]) -> Float[Tensor, "exam height width"]:
    return maps[:, 3 * eye : 3 * eye + 3].sum(dim=1)


def _maps(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: ReferableTarget,
    method: str,
    max_gap: float,
    options: dict[str, Any],
) -> tuple[Float[Tensor, "exam 6 height width"], Float[Tensor, " exam"] | None]:
    """Return the maps, and their gap where the method promises completeness."""
    explanation = EXPLANATIONS[method]
    if method != "integrated_gradients":
        return explanation(model, x, present, target, **options), None
    first, *more = [options] if "steps" in options else [{**options, "steps": steps} for steps in STEPS]
    maps = explanation(model, x, present, target, **first)
    gap = completeness_gap(model, x, present, target, maps)
    for finer in more:
        again = torch.isfinite(gap) & (gap > max_gap)
        if again.any():
            maps[again] = explanation(model, x[again], present[again], target, **finer)
            gap[again] = completeness_gap(model, x[again], present[again], target, maps[again])
    return maps, gap


def completeness_gap(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: ReferableTarget,
    maps: Float[Tensor, "exam 6 height width"],
) -> Float[Tensor, " exam"]:
    """Return by how much the maps miss what they must add up to, as a share of it (Sundararajan et al. 2017)."""
    with measuring(model), torch.no_grad():
        change = target(model(x, present)) - target(model(blurred_baseline(x, present), present))
    return (maps.flatten(1).sum(dim=1) - change).abs() / change.abs().clamp(min=LEAST_CHANGE)


def outside_change(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: ReferableTarget,
) -> Float[Tensor, " exam"]:
    """Return |change of the target| when all that lies outside the two discs is made black."""
    with measuring(model), torch.no_grad():
        return (target(model(x, present)) - target(model(eye_only(x), present))).abs()


def fellow_share(maps: Float[Tensor, "exam 6 height width"], eye: Literal[0, 1]) -> Float[Tensor, " exam"]:
    """Return the share of the absolute attribution on the other eye; 0 for a map that is zero everywhere."""
    mass = maps.abs().reshape(len(maps), 2, -1).sum(dim=2)
    return mass[:, 1 - eye] / mass.sum(dim=1).clamp(min=torch.finfo(maps.dtype).tiny)


def _reason(
    heat: Float[Tensor, "6 height width"],
    seen: bool,
    eye: Literal[0, 1],
    measured: dict[str, tuple[Float[Tensor, " exam"] | None, float | None]],
    exam: int,
) -> str | None:
    if not seen:
        return f"no photograph of {EYES[eye]}"
    if not torch.isfinite(heat).all():
        return "the map holds NaN or infinity"
    for words, (values, limit) in measured.items():
        if values is not None and limit is not None and not values[exam] <= limit:
            return f"{words} {float(values[exam]):.2f} above {limit:g}"
    if not heat.any():
        return "the map is zero everywhere: nothing speaks for referable disease"
    return None
