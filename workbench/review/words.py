"""What the app says to a reader, beyond the wording that it shares with the report (`schema.words`)."""

from __future__ import annotations

import math
from typing import Final

from workbench.schema.grades import GRADES

EYE_NAMES: Final = {"OD": "Right eye (OD)", "OS": "Left eye (OS)"}

SURE_WORDS: Final = {1: "a guess", 2: "unsure", 3: "fairly sure", 4: "sure", 5: "certain"}
"""Confidence 1 to 5 as a reader means it."""

PLAN_WORDS: Final = {"refer": "Refer", "rescreen": "Rescreen"}
"""What happens to the patient: code and words."""

PROTOCOL_WORDS: Final = {
    "assisted": "Assisted: the model's answer stands beside the photographs",
    "blinded": "Blinded: first without the model, then its answer in stages, then again",
    "adjudication": "Adjudication: exams about which readers differ",
    "review_only": "Review only: no model",
}
"""How exams are read, as the page says it."""


def grade_words(grade: int | None) -> str:
    """Return e.g. ``2 moderate NPDR``, or ``no answer``.

    >>> grade_words(2), grade_words(None)
    ('2 moderate NPDR', 'no answer')
    """
    return "no answer" if grade is None else f"{grade} {GRADES[grade]}"


def call_words(called: bool | None) -> str:
    """Return what a call says."""
    return "no answer" if called is None else ("referable" if called else "not referable")


def uncertainty_words(rank: float | None) -> str:
    """Return how sure the model is, from the share of the run's eyes about which it is surer.

    >>> uncertainty_words(0.95)
    'very unsure: the model is surer about 95 % of this run’s eyes'
    """
    if rank is None or math.isnan(rank):
        return "uncertainty not known"
    if rank < 0.5:
        return f"sure: among the surest {max(1, math.ceil(rank * 100))} % of this run’s eyes"
    word = "fairly sure" if rank < 0.75 else ("unsure" if rank < 0.9 else "very unsure")
    return f"{word}: the model is surer about {min(99, round(rank * 100))} % of this run’s eyes"
