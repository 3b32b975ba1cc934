"""Every stress by its name, and a stress bound to its strength."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor

from workbench.schema.errors import WorkbenchError
from workbench.schema.specs import FIRST_AIM, StressSpec
from workbench.stress.attacks import ATTACKS
from workbench.stress.corruptions.catalogue import CORRUPTIONS, check_severity
from workbench.stress.corruptions.worst import WORST
from workbench.stress.exam import EXAM_STRESSES, check_exam_stress

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
        raise WorkbenchError(f"unknown stress {spec.name!r}", _nearest(spec.name, [*STRESSES, *EXAM_STRESSES]))
    stress = STRESSES[spec.name]
    _check_options(spec, stress)
    _check_aim(spec)
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


def _check_options(spec: StressSpec, stress: Callable[..., Tensor]) -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(stress).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in _BOUND
    }
    for option, value in spec.options.items():
        if option not in defaults:
            raise WorkbenchError(f"the stress {spec.name!r} has no option {option!r}", _nearest(option, defaults))
        wanted = int if isinstance(defaults[option], int) else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted):
            remedy = "it must be a whole number" if wanted is int else "it must be a number"
            raise WorkbenchError(f"{spec.name}: {option} is {value!r}", remedy)


def _check_aim(spec: StressSpec) -> None:
    """Refuse an aim that the stress cannot have: a corruption wants nothing, the first attacks only cross by linf."""
    if spec.name in CORRUPTIONS and spec.aim != FIRST_AIM:
        raise WorkbenchError(f"the corruption {spec.name!r} has no aim", "leave aim out; it damages whatever comes")


def _nearest(given: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.0)
    return f"did you mean {near[0]!r}?" if near else "it takes no option; remove it"
