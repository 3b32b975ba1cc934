"""What names and numbers are called in front of a reader: one wording for the report and the app."""

from __future__ import annotations

import math
from typing import Final

from workbench.schema.specs import StressSpec

ATTACKS: Final = ("fgsm", "pgd")
"""Strength is epsilon in 1/255 of the pixel range for these, severity 1 to 5 for the rest."""

STRESS_NAMES: Final = {
    "fgsm": "FGSM attack",
    "pgd": "PGD attack",
    "noise": "Sensor noise",
    "defocus": "Defocus",
    "underexposure": "Under-exposure",
    "overexposure": "Over-exposure",
    "jpeg": "JPEG compression",
}

SCORE_NAMES: Final = {
    "predictive_entropy": "predictive entropy",
    "mutual_information": "mutual information",
    "p_referable_sd": "spread of P(referable)",
    "margin": "nearness to the threshold",
}


def stress_name(name: str) -> str:
    """Return a stress as a reader calls it, e.g. ``PGD attack``."""
    return STRESS_NAMES.get(name, name.replace("_", " ").capitalize())


def strength_words(stress: StressSpec) -> str:
    """Return e.g. ``severity 3 of 5`` or ``ε = 2/255``, and the eye where only one is stressed.

    >>> strength_words(StressSpec(name="pgd", strength=2))
    'ε = 2/255'
    """
    words = f"ε = {stress.strength:g}/255" if stress.name in ATTACKS else f"severity {stress.strength:g} of 5"
    return words + ("" if stress.eyes == "both" else f", {stress.eyes} only")


def stress_words(stress: StressSpec) -> str:
    """Return e.g. ``Defocus, severity 3 of 5`` or ``PGD attack, ε = 2/255``."""
    return f"{stress_name(stress.name)}, {strength_words(stress)}"


def percent(value: float | None, digits: int = 0) -> str:
    """Return a share in percent; ``not known`` for none or NaN.

    >>> percent(0.8149), percent(float("nan"))
    ('81 %', 'not known')
    """
    return "not known" if value is None or math.isnan(value) else f"{100 * value:.{digits}f} %"
