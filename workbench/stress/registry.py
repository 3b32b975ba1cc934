"""Every stress by its name, and a stress bound to its strength."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor

from workbench.schema.errors import WorkbenchError, did_you_mean
from workbench.schema.specs import FIRST_AIM, StressSpec
from workbench.schema.threat import FITTED, UNIVERSAL
from workbench.stress.attacks import CLEVERHANS
from workbench.stress.auto_attack.apgd import apgd
from workbench.stress.auto_attack.descent import fgsm, pgd
from workbench.stress.auto_attack.ensemble import auto_attack
from workbench.stress.auto_attack.rays import rays
from workbench.stress.auto_attack.square import refuse_square, square
from workbench.stress.cleverhans.attacks import FROM_CLEVERHANS, INSTEAD, LEAST_KNOWLEDGE, NORM_OF
from workbench.stress.corruptions.catalogue import CORRUPTIONS, check_severity
from workbench.stress.corruptions.worst import WORST
from workbench.stress.exam import EXAM_STRESSES, check_exam_stress
from workbench.stress.universal import add_pattern, ascend_together

OURS: Final[Mapping[str, Callable[..., Tensor]]] = {
    "fgsm": fgsm,
    "pgd": pgd,
    "apgd": apgd,
    "square": square,
    "rays": rays,
    "auto_attack": auto_attack,
    **dict.fromkeys(UNIVERSAL, add_pattern),
}
"""Attacks of our own: their model is a `stress.target.Target`, so they know norm, goal and who still holds."""

ATTACKS: Final[Mapping[str, Callable[..., Tensor]]] = {**OURS, **CLEVERHANS, **FROM_CLEVERHANS}
MOVES_MAPS: Final = ("pgd", "apgd")
"""Attacks that can have the goal *explanation*: they climb a gradient, and read the goal's margin from the pixels."""
SEES_LABELS: Final = ("rays",)
"""Attacks that ask for the call alone."""
SEES_SCORES: Final = ("square", "auto_attack", *SEES_LABELS)
"""Attacks that do without gradients where the attacker has none."""

STRESSES: Final[Mapping[str, Callable[..., Tensor]]] = {**ATTACKS, **CORRUPTIONS, **WORST}

Stress = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, Sequence[torch.Generator]], Tensor]
"""``(model, x, y, generators) -> x'``; ``model`` is ``x -> logits`` with ``present`` bound."""

_BOUND: Final = {"corruption", "severity", "epsilon", "eyes", "threshold"}


def bind(spec: StressSpec, *, threshold: float = 0.5) -> Stress:
    """Return the stress that ``spec`` describes.

    Args:
        spec: its name, strength, eyes and options (keyword arguments of the function).
        threshold: P(referable) from which the model calls an exam referable; an attack aims at it.

    Raises:
        WorkbenchError: an unknown name or option (names the nearest valid one), a severity that is not from 0 to 5.
    """
    if spec.name not in STRESSES:
        raise WorkbenchError(f"unknown stress {spec.name!r}", did_you_mean(spec.name, [*STRESSES, *EXAM_STRESSES]))
    stress = STRESSES[spec.name]
    _check_options(spec, stress)
    _check_aim(spec)
    if spec.name in UNIVERSAL:
        return partial(_on_target, stress, {})
    if spec.name in OURS:
        return partial(_on_target, stress, {name: value for name, value in spec.options.items() if name != "draws"})
    if spec.name in ATTACKS:
        return partial(stress, epsilon=spec.strength, threshold=threshold, eyes=spec.eyes, **spec.options)
    check_severity(spec.strength)
    if spec.name in WORST:
        return partial(stress, severity=spec.strength, threshold=threshold, eyes=spec.eyes, **spec.options)
    return partial(stress, severity=spec.strength, eyes=spec.eyes, **spec.options)


def check_stress(spec: StressSpec) -> None:
    """Refuse a stress that cannot be, before anything is loaded.

    Raises:
        WorkbenchError: an unknown name or option, a strength out of range.
    """
    if spec.name in EXAM_STRESSES:
        check_exam_stress(spec)
    else:
        bind(spec)


def _on_target(
    attack: Callable[..., Tensor],
    options: Mapping[str, float | int | bool | str],
    target: Callable[[Tensor], Tensor],
    _: Tensor,
    __: Tensor,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Run one of our attacks, whose target holds the exams and their grades already."""
    return attack(target, generators, **options)


def _check_options(spec: StressSpec, stress: Callable[..., Tensor]) -> None:
    # The options of a pattern are those of its fit, `apply_universal.fit_universal`.
    told = ascend_together if spec.name in FITTED else stress
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(told).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in _BOUND
    }
    if spec.name in OURS and spec.name != "universal_noise":
        defaults["draws"] = 0  # behind each answer of the stochastic system, see `apply.apply_stress`
    for option, value in spec.options.items():
        if option not in defaults:
            raise WorkbenchError(
                f"the stress {spec.name!r} has no option {option!r}",
                did_you_mean(option, defaults, "it takes no option; remove it"),
            )
        kind = type(defaults[option])
        right = isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)
        if not right:
            wanted = {int: "a whole number", bool: "true or false"}.get(kind, "a number")
            raise WorkbenchError(f"{spec.name}: {option} is {value!r}", f"it must be {wanted}")


def _check_aim(spec: StressSpec) -> None:
    """Refuse an aim that the stress cannot have: a corruption wants nothing, an attack uses what its attacker sees."""
    if spec.name in CORRUPTIONS and spec.aim != FIRST_AIM:
        raise WorkbenchError(f"the corruption {spec.name!r} has no aim", "leave aim out; it damages whatever comes")
    _check_goal(spec)
    if spec.name in FROM_CLEVERHANS:
        _check_cleverhans(spec)
        return
    if spec.name == "square" or (spec.name, spec.aim.knowledge) == ("auto_attack", "scores"):
        refuse_square(spec.aim.norm)
    if spec.name in UNIVERSAL and spec.aim.norm != "linf":
        raise WorkbenchError(f"{spec.name} cannot be bound by {spec.aim.norm}", "choose linf")
    if spec.name == "sensor_locked" and spec.eyes == "worst_of_one":
        raise WorkbenchError("sensor_locked is the same in both eyes", "set eyes to both, OD or OS")
    if spec.name in CLEVERHANS and (spec.aim.norm, spec.aim.goal) != (FIRST_AIM.norm, FIRST_AIM.goal):
        raise WorkbenchError(
            f"{spec.name} only crosses the referable boundary in linf", "choose pgd, apgd, auto_attack"
        )
    if spec.name in ATTACKS and spec.aim.norm == "linf" and spec.strength > 255:
        raise WorkbenchError(f"epsilon is {spec.strength:g}", "give it in 1/255 of the pixel range, 0 to 255")
    if spec.name in ATTACKS and spec.aim.knowledge == "labels" and spec.name not in SEES_LABELS:
        remedy = f"give the attacker scores or gradients, or choose {' or '.join(SEES_LABELS)}"
        raise WorkbenchError(f"{spec.name} needs more than labels", remedy)
    if spec.name in ATTACKS and spec.aim.knowledge == "scores" and spec.name not in SEES_SCORES:
        raise WorkbenchError(f"{spec.name} needs gradients", f"with scores alone choose {' or '.join(SEES_SCORES)}")


def _check_goal(spec: StressSpec) -> None:
    """Refuse to move the map by what cannot."""
    if spec.aim.goal == "explanation" and (spec.name not in MOVES_MAPS or spec.options.get("draws")):
        remedy = f"choose {' or '.join(MOVES_MAPS)}, without draws"
        raise WorkbenchError(f"{spec.name} as planned does not move the map", remedy)


def _check_cleverhans(spec: StressSpec) -> None:
    """Refuse a norm that the attack does not work in, and an attacker who sees less than it needs."""
    norm, seen = NORM_OF[spec.name], ("labels", "scores", "gradients")
    if spec.strength and spec.aim.norm != norm:
        other = INSTEAD.get((spec.name, spec.aim.norm), "")
        raise WorkbenchError(f"{spec.name} works in {norm}, not {spec.aim.norm}", f"set aim: {{norm: {norm}}}{other}")
    if norm == "linf" and spec.strength > 255:
        raise WorkbenchError(f"epsilon is {spec.strength:g}", "give it in 1/255 of the pixel range, 0 to 255")
    needs = LEAST_KNOWLEDGE[spec.name]
    if seen.index(spec.aim.knowledge) < seen.index(needs):
        raise WorkbenchError(f"{spec.name} needs {needs}", f"set aim.knowledge to {needs}")
