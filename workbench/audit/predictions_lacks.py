"""What outputs alone cannot say: which scores and figures a run has no ground for, and why. No torch here."""

from __future__ import annotations

from typing import Final

import numpy as np

from workbench.audit.run_manifest import RunManifest
from workbench.schema.grades import UNGRADED
from workbench.uncertainty.decisions import EyeAnswers

NEEDS_MODEL: Final = "needs the model: only its outputs were audited"
NEEDS_DRAWS: Final = "needs several draws per eye"
NO_GRADE: Final = "binary outputs, no grade"
NO_PROBABILITY: Final = "expected grade, no probability"
NO_EYE: Final = "one answer per exam, none per eye"

TOP_GRADE: Final = 4.0
"""An expected grade stands in a run as its share of this, in the place of P(referable)."""

_OF_DRAWS: Final = ("expected_entropy", "mutual_information", "p_referable_sd")
_OF_PROBABILITIES: Final = ("predictive_entropy", "expected_entropy", "mutual_information")
_OF_GRADES: Final = ("quadratic_weighted_kappa", "accuracy", "recall_of_grade", "eye_kappa", "eye_kappa_excess")
_OF_CALIBRATION: Final = ("brier", "expected_calibration_error")
_OF_BENEFIT: Final = ("net_benefit", "net_benefit_gain")
_OF_EYES: Final = (
    *_OF_GRADES,
    *_OF_CALIBRATION,
    "auc_referable_eye",
    *("eye_correlation", "eye_correlation_true", "eye_correlation_excess", "eye_kappa_true"),
    *("worse_eye_ranked_higher", "discordant_pair_right", "healthy_eye_called", "referable_eye_called"),
    *("healthy_eye_called_rise", "referable_eye_called_rise"),
)


def why_no_score(run: RunManifest) -> dict[str, str]:
    """Return each uncertainty score that the run's answers do not allow, with the reason."""
    reasons = dict.fromkeys(_OF_DRAWS, NEEDS_DRAWS) if run.draws == 1 else {}
    if run.outputs is not None and run.outputs.outputs == "expected_grade":
        reasons |= dict.fromkeys(_OF_PROBABILITIES, NO_PROBABILITY)
    if run.outputs is not None and run.outputs.per == "exam":
        reasons["eye_disagreement"] = NO_EYE
    return reasons


def why_no_figure(run: RunManifest) -> dict[str, str]:
    """Return each row, by its name, for which the run's answers give no ground, with the reason."""
    card = run.outputs
    if card is None:
        return {}
    reasons: dict[str, str] = {}
    if card.outputs == "binary":
        reasons |= dict.fromkeys(_OF_GRADES, NO_GRADE)
    if card.outputs == "expected_grade":
        reasons |= dict.fromkeys((*_OF_CALIBRATION, *_OF_BENEFIT), NO_PROBABILITY)
    if card.per == "exam":
        reasons |= dict.fromkeys(_OF_EYES, NO_EYE)
    return reasons


def why_not(run: RunManifest, name: str, of: str | None) -> str | None:
    """Return why a row is not to be had, or None; a calibration that is named says for itself what it lacks."""
    if of is not None and name in _OF_CALIBRATION:
        return None
    return why_no_figure(run).get(name) or why_no_score(run).get(of or "")


def settle(run: RunManifest, answers: EyeAnswers) -> EyeAnswers:
    """Return the answers with nothing in them that the outputs do not say; those of a model's run stay as they are.

    Binary outputs and expected grades lie in the draws as (1 − s, 0, s, 0, 0): s is right as P(referable) or as what
    ranks the eyes, the five columns are no probabilities of grades. The grade of an expected grade is the nearest one.
    """
    unknown = {name: np.full_like(answers[name], np.nan) for name in why_no_score(run) if name in answers}
    card = run.outputs
    if card is not None and card.outputs != "grades":
        score = answers["p_referable"]
        unknown |= {f"p{grade}": np.full_like(score, np.nan) for grade in range(len(card.classes))}
        unknown["grade_predicted"] = np.full_like(answers["grade_predicted"], UNGRADED)
        if card.outputs == "expected_grade":
            unknown["grade_predicted"] = nearest_grade(score)
    return answers | unknown


def nearest_grade(score: np.ndarray) -> np.ndarray:
    """Return the grade nearest to a share of the scale, the higher of two; `UNGRADED` where there is none."""
    nearest = np.floor(TOP_GRADE * np.nan_to_num(score, nan=0.0) + 0.5).astype(np.int64)
    return np.where(np.isnan(score), UNGRADED, nearest)
