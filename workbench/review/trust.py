"""How sure the model is of one exam, in words that a clinician reads: its place, its draws, its set of grades."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from workbench.audit.layout import CLEAN
from workbench.audit.results import Run
from workbench.review.words import EYE_NAMES
from workbench.review.worklist_index import WorklistIndex
from workbench.schema.grades import EYES, REFERABLE_GRADE
from workbench.schema.words import percent, set_words

NOT_ASSESSED: Final = "not assessed"
"""Stands where a run's analysis does not hold a figure."""
BINS: Final = 40


@dataclass(frozen=True)
class EyeTrust:
    """What is known of the model's doubt about one eye.

    Args:
        draws: P(referable) of each draw; empty where there is but one answer.
        raw: P(referable) as the model answers.
        calibrated: the same after calibration on other patients; None: not assessed.
        grades: the set of grades in words.
        flag: why the photograph is flagged before it is graded; empty for no flag, None: not assessed.
        grade: the likeliest.
    """

    eye: str
    draws: tuple[float, ...]
    raw: float
    calibrated: float | None
    grades: str
    flag: str | None
    grade: int = 0

    def odd(self, threshold: float) -> bool:
        """Whether the likeliest grade and the call are on different sides of *referable*."""
        return (self.grade >= REFERABLE_GRADE) != (self.raw >= threshold)


@dataclass(frozen=True)
class Trust:
    """What is known of the model's doubt about one exam.

    Args:
        place: share of the run's exams of which the model is surer; None where the exam has no score.
        cut: the share from which on exams are referred; None where there is no cut-off.
        referred: whether this one is.
        why: the reason, where it is not its doubt.
        budget: share of exams that the policy refers.
        coverage: how often a set of grades holds the true one.
        threshold: P(referable) from which an eye is called referable.
        counts: exams of the run per doubt, from the surest to the least sure, `BINS` of them by score.
        at: where on that scale this exam lies, 0 to 1.
        cut_at: where the cut-off lies.
        eyes: OD first; only those that the model answered.
    """

    place: float | None
    cut: float | None
    referred: bool
    why: str
    budget: float
    coverage: float
    threshold: float
    counts: tuple[int, ...]
    at: float | None
    cut_at: float | None
    eyes: tuple[EyeTrust, ...]

    @property
    def place_words(self) -> str:
        """Where the exam stands on the referral curve."""
        budget = f"the {percent(self.budget)} budget"
        if self.place is None:
            where = "Its doubt is not ranked"
        elif self.place >= 0.5:
            where = f"Less sure than of {percent(self.place)} of this run’s exams"
        else:
            where = f"Surer than of {percent(1 - self.place)} of this run’s exams"
        if self.referred:
            return f"{where}; referred to a human{f' ({self.why})' if self.why else f' at {budget}'}."
        return f"{where}; not referred at {budget}."

    @property
    def set_promise(self) -> str:
        """What a set of grades promises, and what not."""
        tenths = round(10 * self.coverage, 6)
        often = f"{tenths:g} of 10" if tenths == int(tenths) else f"{100 * self.coverage:g} of 100"
        return f"The set holds the true grade in {often} eyes on average; no promise for this one."

    @property
    def eyes_words(self) -> str:
        """How far the two eyes are apart; empty where there are not two answers."""
        if len(self.eyes) < 2:
            return ""
        right, left = self.eyes
        apart = abs(right.raw - left.raw)
        sides = (right.raw >= self.threshold) != (left.raw >= self.threshold)
        tail = "one is called referable, the other is not" if sides else "both lie on the same side of the threshold"
        return f"Between the eyes P(referable) differs by {100 * apart:.0f} points; {tail}."


def draws_words(eye: EyeTrust, threshold: float) -> str:
    """Return how the draws of an eye lie about the threshold.

    >>> draws_words(EyeTrust("OD", (0.2, 0.6), 0.4, None, "", None), 0.5)
    '1 of 2 draws call it referable'
    """
    if not eye.draws:
        return "one answer only: its spread is not assessed"
    above = sum(value >= threshold for value in eye.draws)
    which = "no draw calls" if not above else f"{above} of {len(eye.draws)} draws call"
    return f"{which} it referable"


class TrustBook:
    """What a run knows of its own doubt, one exam at a time.

    Args:
        run: finished; what its analysis does not hold is *not assessed*.
        index: of the run.
    """

    def __init__(self, run: Run, index: WorklistIndex) -> None:
        self._run = run
        self._index = index
        self._checked = any(measurement.kind == "intake" for measurement in run.manifest.measurements)

    def trust(self, exam_id: str) -> Trust:
        """Return what is known of the model's doubt about an exam; empty where the model gave no answer."""
        policy, cutoff = self._run.manifest.policy, self._run.summary.score_cutoff
        score, referred, why = self._index.one(
            "SELECT score, referred, referred_why FROM index.exams WHERE exam_id = ?", [exam_id]
        )
        low, high = self._index.one("SELECT min(score), max(score) FROM index.exams")
        rows = {row["eye"]: row for row in self._index.rows_of("eyes", exam_id) if row["measurement"] == CLEAN}
        draws = self._run.draws(CLEAN, exam_id)
        found = (self._eye(eye, rows[eye], draws) for eye in EYES if eye in rows)
        by_doubt = score is not None and cutoff is not None and score > cutoff
        return Trust(
            place=self._share_below(score),
            cut=self._share_below(cutoff),
            referred=bool(referred),
            why="" if by_doubt else str(why or ""),
            budget=policy.referral_budget,
            coverage=policy.conformal_coverage,
            threshold=self._run.referable_threshold,
            counts=self._counts(low, high),
            at=_between(score, low, high),
            cut_at=_between(cutoff, low, high),
            eyes=tuple(eye for eye in found if eye is not None),
        )

    def _share_below(self, score: float | None) -> float | None:
        if score is None:
            return None
        below, known = self._index.one("SELECT count(*) FILTER (score < ?), count(score) FROM index.exams", [score])
        return float(below) / known if known else None

    def _counts(self, low: float | None, high: float | None) -> tuple[int, ...]:
        if low is None or high is None or high <= low:
            return ()
        found = self._index.all(
            "SELECT least(?, floor((score - ?) / ? * ?))::INTEGER AS bin, count(*) FROM index.exams "
            "WHERE score IS NOT NULL GROUP BY bin",
            [BINS - 1, low, high - low, BINS],
        )
        counted = dict(found)
        return tuple(int(counted.get(number, 0)) for number in range(BINS))

    def _eye(self, eye: str, row: dict[str, Any], draws: np.ndarray | None) -> EyeTrust | None:
        raw = _number(row.get("p_referable"))
        if raw is None:
            return None
        spread = () if draws is None else draws[:, EYES.index(eye), REFERABLE_GRADE:].sum(axis=1)
        low, high = _number(row.get("set_low")), _number(row.get("set_high"))
        unlike = row.get("unlike_training")
        assessed = self._checked or not (unlike is None or pd.isna(unlike))
        flag = row.get("flag")
        return EyeTrust(
            eye=eye,
            draws=tuple(float(value) for value in spread if np.isfinite(value)) if len(spread) > 1 else (),
            raw=raw,
            calibrated=_number(row.get("p_referable_calibrated")),
            grades=NOT_ASSESSED if low is None or high is None else set_words(int(low), int(high)),
            flag=(None if not assessed else "") if flag is None or pd.isna(flag) else str(flag),
            grade=int(_number(row.get("grade_predicted")) or 0),
        )


def flag_words(eye: EyeTrust) -> str:
    """Return what was found about the photograph before it was graded.

    >>> flag_words(EyeTrust("OD", (), 0.4, None, "", None))
    'Right eye (OD): likeness to the training photographs and laterality not assessed'
    """
    name = EYE_NAMES[eye.eye]
    if eye.flag is None:
        return f"{name}: likeness to the training photographs and laterality {NOT_ASSESSED}"
    return f"{name}: {eye.flag}" if eye.flag else f"{name}: nothing unusual about the photograph"


def _between(value: float | None, low: float | None, high: float | None) -> float | None:
    if value is None or low is None or high is None or high <= low:
        return None
    return min(1.0, max(0.0, (value - low) / (high - low)))


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)
