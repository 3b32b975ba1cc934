"""A map is shown only where it may be trusted that far: else it is withheld, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any, Final, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.explanation.draws import DrawnMaps, maps_of_draws
from workbench.explanation.integrated_gradients import LEAST_CHANGE, blurred_baseline
from workbench.explanation.registry import COMPLETE, EXPLANATIONS, FLOORS, OF_ALL_DRAWS, OF_SEVERAL, ONE_MAP_IF_EARLY
from workbench.explanation.shared_trunk import SHARED, DrawsBehindTrunk
from workbench.explanation.targets import EachDraw, MutualInformationTarget, ReferableTarget, target_named
from workbench.explanation.trust.influence import eye_only
from workbench.explanation.trust.likeness import outside_share, rank_correlation
from workbench.models.modes import measuring
from workbench.schema.errors import WorkbenchError, did_you_mean
from workbench.schema.grades import EYES
from workbench.schema.maps import MapSpec
from workbench.schema.specs import MapPolicySpec

STRICT: Final = MapPolicySpec.model_validate({})
"""What a map must pass where nothing else is said."""


@dataclass(frozen=True)
class ExplanationResult:
    """Maps of one eye's answer, and what is known of their worth.

    Attributes:
        method: a key of `EXPLANATIONS`.
        eye: 0 for OD, 1 for OS.
        maps: per pixel and channel; zero where withheld.
        completeness_gap: |Σ map − (f(x) − f(baseline))| ÷ max(|f(x) − f(baseline)|, 0.05); for methods that promise to
            add up (`registry.COMPLETE`).
        fellow_share: share of the absolute attribution that lies on the *other* eye; None where the method cannot tell
            the eyes apart (Grad-CAM with early fusion) or knows nothing of the model.
        withheld: per exam, why its map must not be shown, or None.
        outside_share: share of the explained eye's map that lies outside its disc.
        outside_change: |change of P(referable)| when what lies outside the discs is made one colour: what was read from
            there is no eye, and a map from a blurred baseline cannot show it.
        draws_likeness: rank correlation of a mean over draws with the map of the model without draws, by which its
            method is judged; None for the latter, and for what is of all draws at once.
    """

    method: str
    eye: Literal[0, 1]
    maps: Float[Tensor, "exam 6 height width"]
    completeness_gap: Float[Tensor, " exam"] | None
    fellow_share: Float[Tensor, " exam"] | None
    withheld: tuple[str | None, ...]
    outside_share: Float[Tensor, " exam"]
    outside_change: Float[Tensor, " exam"]
    draws_likeness: Float[Tensor, " exam"] | None = None

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
    target: str = "referable",
    policy: MapPolicySpec = STRICT,
    **options: Any,
) -> ExplanationResult:
    """Explain the answer to one eye of every exam, and withhold the maps that fail a check.

    Args:
        model: ``(x, present) -> logits``; held still meanwhile, and left as it was found.
        x: in [0, 1], OD RGB then OS RGB.
        present: which eyes were photographed.
        method: a key of `EXPLANATIONS`.
        eye: 0 for OD, 1 for OS.
        target: what of the answer is explained, by its name (`targets.target_named`).
        policy: what each map must pass; a null threshold lets everything through.
        options: keyword arguments of the method.

    Raises:
        WorkbenchError: an unknown method or target (names the nearest), or a model that the method cannot explain.
    """
    _check_method(method)
    explained = target_named(target, eye)
    maps = EXPLANATIONS[method](model, x, present, explained, **options)
    return _judged(_Answers(model, x, present), maps, method, eye, explained, policy)


def explain_eyes(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    *,
    method: str,
    target: str = "referable",
    policy: MapPolicySpec = STRICT,
    **options: Any,
) -> tuple[ExplanationResult, ExplanationResult]:
    """Explain the answers to both eyes, OD then OS; what both need is computed once.

    Args and Raises: as `explain`. Where an exam needs more points for one eye, the other's map has them, too.
    """
    _check_method(method)
    targets = target_named(target, 0), target_named(target, 1)
    if method in OF_SEVERAL:
        maps = OF_SEVERAL[method](model, x, present, targets, **options)
    else:
        maps = torch.stack([EXPLANATIONS[method](model, x, present, of_one, **options) for of_one in targets])
    answers = _Answers(model, x, present)
    return (
        _judged(answers, maps[0], method, 0, targets[0], policy),
        _judged(answers, maps[1], method, 1, targets[1], policy),
    )


def explain_draws(
    drawn: Any,
    model: nn.Module,
    x: Float[Tensor, "1 6 height width"],
    present: Bool[Tensor, "1 2"],
    *,
    method: str,
    eye: Literal[0, 1],
    target: str = "referable",
    policy: MapPolicySpec = STRICT,
    **options: Any,
) -> tuple[ExplanationResult, DrawnMaps | None]:
    """Explain what the draws of one exam answer: the mean of their maps, judged as any map is, and their agreement.

    Each draw is explained by itself, and the mean map is the map of the *mean over draws* of the target: of
    P(referable), of what is deployed. It must be like the map of the model without draws, by which the method is
    judged. Mutual information is of all draws at once; its one map has no agreement and no such likeness.

    Args:
        drawn: a module ``(x, present) -> logits[draw, row, 2, grade]`` with ``nets``, one per draw; a trunk that it
            shares (`DrawsBehindTrunk`) is made use of.
        model: that the draws are of.
        x: one exam, in [0, 1].
        present: its eyes.
        method: a key of `EXPLANATIONS`.
        eye: 0 for OD, 1 for OS.
        target: what of the answer is explained, by its name (`targets.target_named`).
        policy: what each map must pass.
        options: keyword arguments of the method.

    Raises:
        WorkbenchError: as `explain`; mutual information by a method that reads one pass of one network.
    """
    _check_method(method)
    found, alone, called = None, None, target_named(target, eye)
    explained: Any = called
    if isinstance(called, MutualInformationTarget):
        _check_all_draws(method, target)
        maps = EXPLANATIONS[method](drawn, x, present, explained, **options)
    else:
        shared = method in SHARED and isinstance(drawn, DrawsBehindTrunk)
        draws = drawn if shared else tuple(drawn.nets)
        found = maps_of_draws(draws, x, present, called, eye=eye, method=method, **options)
        explained, maps = EachDraw(called), found.maps
        alone = EXPLANATIONS[method](model, x, present, called, **options)
    return _judged(_Answers(drawn, x, present, model), maps, method, eye, explained, policy, alone), found


def check_map(spec: MapSpec) -> None:
    """Refuse maps that cannot be, before anything is loaded.

    Raises:
        WorkbenchError: an unknown method, target or option, or mutual information of a method that cannot explain it.
    """
    _check_method(spec.name)
    if isinstance(target_named(spec.target, 0), MutualInformationTarget):
        _check_all_draws(spec.name, spec.target)
    parameters = signature(EXPLANATIONS[spec.name]).parameters
    known = [name for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY]
    for option in spec.options:
        if option not in known:
            raise WorkbenchError(f"{spec.name} has no option {option!r}", did_you_mean(option, known))


def _check_method(method: str) -> None:
    if method not in EXPLANATIONS:
        raise WorkbenchError(f"unknown explanation {method!r}", did_you_mean(method, EXPLANATIONS))


def _check_all_draws(method: str, target: str) -> None:
    if method not in OF_ALL_DRAWS:
        raise WorkbenchError(
            f"{method} cannot explain {target}", f"all draws at once need one of {', '.join(OF_ALL_DRAWS)}"
        )


class _Answers:
    """The answers of a model, or of all its draws, that checks compare; computed when they are first asked for."""

    def __init__(self, net: nn.Module, x: Tensor, present: Tensor, model: nn.Module | None = None) -> None:
        self.net, self.x, self.present = net, x, present
        self.drawn, self.model = model is not None, net if model is None else model

    def _to(self, x: Tensor) -> Float[Tensor, "*draw exam 2 grade"]:
        with measuring(self.net), torch.no_grad():
            logits: Tensor = self.net(x, self.present)
        return logits

    @cached_property
    def exams(self) -> Float[Tensor, "*draw exam 2 grade"]:
        """To the exams as they are."""
        return self._to(self.x)

    @cached_property
    def baselines(self) -> Float[Tensor, "*draw exam 2 grade"]:
        """To the exams without detail."""
        return self._to(blurred_baseline(self.x, self.present))

    @cached_property
    def eyes_alone(self) -> Float[Tensor, "*draw exam 2 grade"]:
        """To the exams with all that lies outside the two discs in one colour."""
        return self._to(eye_only(self.x))


def _judged(
    answers: _Answers,
    maps: Float[Tensor, "exam 6 height width"],
    method: str,
    eye: Literal[0, 1],
    explained: Callable[[Tensor], Tensor],
    policy: MapPolicySpec,
    alone: Float[Tensor, "exam 6 height width"] | None = None,
) -> ExplanationResult:
    """Judge maps; ``alone``: those of the model without draws, where the maps are means over draws."""
    model, present = answers.model, answers.present
    referable: Callable[[Tensor], Tensor] = ReferableTarget(eye)
    gap = _completeness_gap(answers, explained, maps) if method in COMPLETE else None
    measured = {
        "completeness gap": (gap, policy.max_completeness_gap),
        "share of the map outside the disc": (outside_share(_own(maps, eye)), policy.max_outside_share),
        "change of P(referable) without what lies outside the disc": (
            _outside_change(answers, EachDraw(referable) if answers.drawn else referable),
            policy.max_outside_change,
        ),
    }
    likeness = None if alone is None else rank_correlation(_own(maps, eye), _own(alone, eye))
    withheld = tuple(
        _reason(maps[exam], bool(present[exam, eye]), eye, measured, exam)
        or _unlike_the_judged(likeness, policy.min_draws_likeness, exam)
        for exam in range(len(maps))
    )
    shown = torch.tensor([reason is None for reason in withheld], device=maps.device)[:, None, None, None]
    maps = torch.where(shown, maps, torch.zeros_like(maps))
    separable = not (method in ONE_MAP_IF_EARLY and getattr(model, "sees_both_eyes", True)) and method not in FLOORS
    _, outside, change = (values for values, _ in measured.values())
    assert outside is not None
    assert change is not None
    share = fellow_share(maps, eye) if separable else None
    return ExplanationResult(method, eye, maps, gap, share, withheld, outside, change, likeness)


def _own(maps: Float[Tensor, "exam 6 height width"], eye: Literal[0, 1]) -> Float[Tensor, "exam height width"]:
    return maps[:, 3 * eye : 3 * eye + 3].sum(dim=1)


def _completeness_gap(
    answers: _Answers, target: Callable[[Tensor], Tensor], maps: Float[Tensor, "exam 6 height width"]
) -> Float[Tensor, " exam"]:
    """Return by how much the maps miss what they must add up to, as a share of it (Sundararajan et al. 2017)."""
    change = target(answers.exams) - target(answers.baselines)
    return (maps.flatten(1).sum(dim=1) - change).abs() / change.abs().clamp(min=LEAST_CHANGE)


def _outside_change(answers: _Answers, target: Callable[[Tensor], Tensor]) -> Float[Tensor, " exam"]:
    """Return |change of the target| when all that lies outside the two discs is made one colour."""
    return (target(answers.exams) - target(answers.eyes_alone)).abs()


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


def _unlike_the_judged(likeness: Float[Tensor, " exam"] | None, least: float | None, exam: int) -> str | None:
    if likeness is None or least is None or likeness[exam] >= least:
        return None
    words = "rank correlation with the map without draws, by which the method is judged,"
    return f"{words} {float(likeness[exam]):.2f} below {least:g}"
