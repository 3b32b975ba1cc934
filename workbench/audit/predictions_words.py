"""What the number is called by which a run's eyes are ranked and called: P(referable), or an expected grade."""

from __future__ import annotations

from workbench.audit.predictions_lacks import TOP_GRADE
from workbench.audit.run_manifest import RunManifest
from workbench.schema.words import percent


def is_expected_grade(run: RunManifest) -> bool:
    """Return whether the answers are expected grades, kept as shares of the scale in the place of P(referable)."""
    return run.outputs is not None and run.outputs.outputs == "expected_grade"


def answer_name(run: RunManifest) -> str:
    """Return ``P(referable)`` or ``expected grade``."""
    return "expected grade" if is_expected_grade(run) else "P(referable)"


def answer_value(run: RunManifest, p: float | None, digits: int = 0) -> str:
    """Return e.g. ``54 %``, or ``2.17`` of an expected grade."""
    if p is None or p != p or not is_expected_grade(run):
        return percent(p, digits)
    return f"{TOP_GRADE * p:.2f}"


def answer_words(run: RunManifest, p: float | None, digits: int = 0) -> str:
    """Return e.g. ``P(referable) 54 %`` or ``expected grade 2.17``."""
    return f"{answer_name(run)} {answer_value(run, p, digits)}"


def threshold_words(run: RunManifest, digits: int = 1) -> str:
    """Return from what on an exam is called referable, e.g. ``P(referable) ≥ 50.0 %``."""
    threshold = run.policy.referable_threshold
    used = run.referable_threshold if threshold is None else threshold
    return f"{answer_name(run)} ≥ {answer_value(run, used, digits)}"
