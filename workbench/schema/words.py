"""What names and numbers are called in front of a reader: one wording for the report and the app."""

from __future__ import annotations

import math
from typing import Final

from workbench.schema.specs import StressSpec

ATTACKS: Final = (
    *("fgsm", "pgd", "apgd", "square", "rays", "auto_attack", "cleverhans_fgsm", "cleverhans_pgd"),
    *("cleverhans_cw", "cleverhans_spsa", "cleverhans_hop_skip_jump", "cleverhans_sparse_l1"),
    *("universal", "sensor_locked", "universal_noise"),
)
"""Strength is epsilon in 1/255 of the pixel range for these, severity 1 to 5 for the rest."""
MIX_UPS: Final = ("swapped_eyes", "wrong_eye", "missing_eye")
"""These happen or not."""

STRESS_NAMES: Final = {
    "fgsm": "FGSM attack",
    "pgd": "PGD attack",
    "apgd": "Auto-PGD attack",
    "square": "Square attack",
    "rays": "RayS attack (calls alone)",
    "auto_attack": "Attack ensemble",
    "cleverhans_fgsm": "FGSM attack (CleverHans)",
    "cleverhans_pgd": "PGD attack (CleverHans)",
    "cleverhans_cw": "Carlini–Wagner attack (CleverHans)",
    "cleverhans_spsa": "SPSA attack (CleverHans)",
    "cleverhans_hop_skip_jump": "HopSkipJump attack (CleverHans)",
    "cleverhans_sparse_l1": "Sparse L1 attack (CleverHans)",
    "universal": "Universal attack",
    "sensor_locked": "Sensor-locked attack",
    "universal_noise": "Signs by lot, the same for all",
    "noise": "Gaussian noise",
    "defocus": "Defocus",
    "underexposure": "Under-exposure",
    "overexposure": "Over-exposure",
    "jpeg": "JPEG compression",
}

SCORE_NAMES: Final = {
    "predictive_entropy": "predictive entropy",
    "expected_entropy": "expected entropy",
    "mutual_information": "mutual information",
    "p_referable_sd": "spread of P(referable)",
    "margin": "nearness to the threshold",
    "eye_disagreement": "disagreement between the eyes",
    "appearance": "unlikeness of the photograph's look",
    "mahalanobis": "Mahalanobis distance from the training photographs",
    "nearest_neighbours": "distance to the nearest training photographs",
    "energy": "energy of the logits",
}


CALIBRATION_NAMES: Final = {
    "none": "as the model answers",
    "temperature": "temperature scaling",
    "vector": "vector scaling",
    "isotonic": "isotonic regression",
    "logistic": "logistic (Platt) scaling",
}

CONFORMAL_NAMES: Final = {
    "ordinal": "contiguous sets",
    "class_conditional": "contiguous sets, a threshold for each grade",
    "lac": "least ambiguous sets (LAC)",
    "aps": "adaptive sets (APS)",
}


def stress_name(name: str) -> str:
    """Return a stress as a reader calls it, e.g. ``PGD attack``."""
    return STRESS_NAMES.get(name, name.replace("_", " ").capitalize())


def strength_words(stress: StressSpec) -> str:
    """Return e.g. ``severity 3 of 5`` or ``ε = 2/255``, and the eye where only one is stressed.

    >>> strength_words(StressSpec(name="pgd", strength=2))
    'ε = 2/255'
    """
    return size_words(stress) + whose_words(stress)


def size_words(stress: StressSpec) -> str:
    """Return the strength alone, e.g. ``severity 3 of 5`` or ``ε = 2/255``; ``once`` for what happens or not."""
    if stress.name in MIX_UPS:
        return "once"
    if stress.name not in ATTACKS:
        return f"severity {stress.strength:g} of 5"
    size = {"linf": f"ε = {stress.strength:g}/255", "l0": f"{stress.strength:g} pixels"}
    return size.get(stress.aim.norm, f"{stress.aim.norm} ε = {stress.strength:g}")


def epsilon_words(norm: str, epsilon: float) -> str:
    """Return a size as found, to two digits.

    >>> epsilon_words("linf", 0.1234), epsilon_words("l2", 1.5)
    ('ε = 0.12/255', 'l2 ε = 1.5')
    """
    return f"ε = {epsilon:.2g}/255" if norm == "linf" else f"{norm} ε = {epsilon:.2g}"


def whose_words(stress: StressSpec) -> str:
    """Return which eyes are stressed and what for, where that is not both and the call, e.g. ``, OD only``."""
    eyes = {"both": "", "worst_of_one": ", the worse of one eye"}.get(stress.eyes, f", {stress.eyes} only")
    return eyes + ("" if stress.aim.goal == "cross" else f", goal: {stress.aim.goal}")


def stress_words(stress: StressSpec) -> str:
    """Return e.g. ``Defocus, severity 3 of 5`` or ``PGD attack, ε = 2/255``."""
    return f"{stress_name(stress.name)}, {strength_words(stress)}"


def percent(value: float | None, digits: int = 0) -> str:
    """Return a share in percent; ``not known`` for none or NaN.

    >>> percent(0.8149), percent(float("nan"))
    ('81 %', 'not known')
    """
    return "not known" if value is None or math.isnan(value) else f"{100 * value:.{digits}f} %"


def set_words(low: int | None, high: int | None, highest: int = 4) -> str:
    """Return a set of grades as a clinician reads it.

    >>> [set_words(1, 1), set_words(1, 2), set_words(0, 2), set_words(0, 4), set_words(None, None)]
    ['grade 1', 'grade 1 or 2', 'any grade from 0 to 2', 'cannot be narrowed down', 'no answer']
    """
    if low is None or high is None:
        return "no answer"
    if low == 0 and high == highest:
        return "cannot be narrowed down"
    if low == high:
        return f"grade {low}"
    return f"grade {low} or {high}" if high == low + 1 else f"any grade from {low} to {high}"
