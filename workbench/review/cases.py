"""One exam as its page shows it: the two eyes, the model's answer, the flags, what happened under stress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from workbench.audit.layout import CLEAN
from workbench.audit.results import Run
from workbench.review.words import EYE_NAMES, call_words, grade_words, uncertainty_words
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import EYES, REFERABLE_GRADE
from workbench.schema.words import SCORE_NAMES, percent, strength_words, stress_name


@dataclass(frozen=True)
class EyeAnswer:
    """The model's answer to one eye: pooled probabilities with the 5th and 95th percentile over the draws."""

    icdr_grade: int
    called_referable: bool
    probabilities: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    p_referable: float
    p_referable_low: float
    p_referable_high: float
    rank: float | None
    uncertainty: str


@dataclass(frozen=True)
class EyeCase:
    """One eye of an exam; without an answer when it is missing, ungradable or failed."""

    eye: str
    status: str
    reason: str
    sha256: str
    crop: tuple[float, float, float] | None
    photo_size: tuple[int, int] | None
    answer: EyeAnswer | None


@dataclass(frozen=True)
class Flag:
    """One thing that a reader must know before trusting the page."""

    level: Literal["alert", "warning", "note", "fine"]
    words: str


@dataclass(frozen=True)
class StressOutcome:
    """What one stress did to this exam."""

    measurement: str
    stress: str
    strength: str
    called_referable: bool | None
    p_referable: float | None
    flipped: bool
    referred: bool

    @property
    def silent(self) -> bool:
        """Whether the call changed and nobody would have been asked."""
        return self.flipped and not self.referred


@dataclass(frozen=True)
class Case:
    """Everything that the page of one exam says, without the true grades."""

    exam_id: str
    patient_id: str
    about: str
    called_referable: bool | None
    p_referable: float | None
    score: float | None
    cutoff: float | None
    referred: bool
    eyes: dict[str, EyeCase]
    flags: tuple[Flag, ...]
    stresses: tuple[StressOutcome, ...]
    withheld: dict[str, dict[str, str]]

    def model_answer(self, eye: str) -> dict[str, Any]:
        """Return what the page showed about an eye, as plain JSON, to be stored with a read of it."""
        answer = self.eyes[eye].answer
        shown: dict[str, Any] = {
            "exam_called_referable": self.called_referable,
            "exam_p_referable": self.p_referable,
            "exam_score": self.score,
            "exam_referred": self.referred,
        }
        if answer is not None:
            shown |= {
                "icdr_grade": answer.icdr_grade,
                "probabilities": list(answer.probabilities),
                "p_referable": answer.p_referable,
                "p_referable_interval": [answer.p_referable_low, answer.p_referable_high],
            }
        return shown


class CaseBook:
    """The exams of a run, one `Case` at a time; the run's tables are read once."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._eyes = run.eyes().groupby("exam_id", sort=False)
        self._decisions = run.decisions().groupby("exam_id", sort=False)
        clean = run.eye_answers()
        clean = clean[clean["measurement"] == CLEAN]
        column = run.manifest.policy.referral_score
        score = clean[column if column in clean.columns else "predictive_entropy"]
        self._answers = clean.assign(rank=score.rank(pct=True)).groupby("exam_id", sort=False)

    def case(self, exam_id: str) -> Case:
        """Return one exam.

        Raises:
            WorkbenchError: the run has no such exam.
        """
        if exam_id not in self._eyes.groups:
            raise WorkbenchError(f"this run has no exam {exam_id!r}", "choose one from the worklist")
        rows = {row["eye"]: row for row in self._eyes.get_group(exam_id).to_dict("records")}
        decisions = _group(self._decisions, exam_id)
        clean = next((row for row in decisions if row["measurement"] == CLEAN), None)
        eyes = {eye: self._eye(exam_id, eye, rows.get(eye)) for eye in EYES}
        withheld = {eye: self._withheld(exam_id, eye) for eye in EYES}
        first = next(iter(rows.values()))
        return Case(
            exam_id=exam_id,
            patient_id=str(first["patient_id"]),
            about=_about(first),
            called_referable=_flag(clean and clean["called_referable"]),
            p_referable=_number(clean and clean["p_referable"]),
            score=_number(clean and clean["score"]),
            cutoff=self.run.summary.score_cutoff,
            referred=_flag(clean and clean["referred"]) is not False,
            eyes=eyes,
            flags=tuple(self._flags(eyes, clean, withheld)),
            stresses=self._stresses(clean, decisions),
            withheld=withheld,
        )

    def _eye(self, exam_id: str, eye: str, row: dict[str, Any] | None) -> EyeCase:
        if row is None:
            return EyeCase(eye, "missing", "no photograph", "", None, None, None)
        crop = (_number(row["crop_x"]), _number(row["crop_y"]), _number(row["crop_side"]))
        size = (_number(row["photo_width"]), _number(row["photo_height"]))
        return EyeCase(
            eye=eye,
            status=str(row["status"]),
            reason=_text(row["reason"]),
            sha256=_text(row["sha256"]),
            crop=None if None in crop else crop,  # type: ignore[arg-type]
            photo_size=None if size[0] is None or size[1] is None else (int(size[0]), int(size[1])),
            answer=self._answer(exam_id, eye),
        )

    def _answer(self, exam_id: str, eye: str) -> EyeAnswer | None:
        row = next((row for row in _group(self._answers, exam_id) if row["eye"] == eye), None)
        if row is None or _number(row["p_referable"]) is None or _number(row["grade_predicted"]) is None:
            return None
        draws = self.run.draws(CLEAN, exam_id)
        low, high = np.nanpercentile(draws[:, EYES.index(eye)], [5, 95], axis=0) if draws is not None else ((), ())
        referable = draws[:, EYES.index(eye), REFERABLE_GRADE:].sum(axis=1) if draws is not None else np.array([np.nan])
        p_low, p_high = np.percentile(referable, [5, 95])
        return EyeAnswer(
            icdr_grade=int(row["grade_predicted"]),
            called_referable=bool(row["p_referable"] >= referable_threshold(self.run)),
            probabilities=tuple(float(row[f"p{grade}"]) for grade in range(5)),
            low=tuple(map(float, low)),
            high=tuple(map(float, high)),
            p_referable=float(row["p_referable"]),
            p_referable_low=float(p_low),
            p_referable_high=float(p_high),
            rank=_number(row["rank"]),
            uncertainty=uncertainty_words(_number(row["rank"])),
        )

    def _withheld(self, exam_id: str, eye: str) -> dict[str, str]:
        """Return method → why an eye that was photographed has no map to show."""
        reasons = {}
        for method in self.run.methods():
            found = self.run.heat_map(exam_id, eye, method)
            if found is not None and found.values is None:
                reasons[method] = found.withheld or "not made"
        return reasons

    def _flags(
        self, eyes: dict[str, EyeCase], clean: dict[str, Any] | None, withheld: dict[str, dict[str, str]]
    ) -> list[Flag]:
        flags = []
        for eye, case in eyes.items():
            if case.status != "ok":
                reason = f": {case.reason}" if case.reason and case.reason != case.status else ""
                flags.append(Flag("alert", f"{EYE_NAMES[eye]} {case.status}{reason}"))
        if clean is None or _number(clean["p_referable"]) is None:
            flags.append(Flag("alert", "The model gave no answer to this exam"))
        else:
            call = call_words(_flag(clean["called_referable"]))
            flags.append(Flag("fine", f"Called {call}: P(referable) {percent(_number(clean['p_referable']))}"))
        if clean is not None and _flag(clean["referred"]):
            flags.append(Flag("warning", f"Referred to a human: {self._referred_why(clean)}"))
        flags.extend(_difference(*(case.answer for case in eyes.values())))
        for eye, reasons in withheld.items():
            for method, reason in reasons.items():
                if eyes[eye].status == "ok":
                    flags.append(Flag("note", f"Map withheld, {eye}, {method.replace('_', ' ')}: {reason}"))
        return flags

    def _referred_why(self, clean: dict[str, Any]) -> str:
        why = _text(clean["referred_why"]) or "uncertain"
        score, cutoff = _number(clean["score"]), self.run.summary.score_cutoff
        if score is None or cutoff is None or score <= cutoff:
            return why
        name = SCORE_NAMES[self.run.manifest.policy.referral_score]
        return f"{why} ({name} {score:.2f}, above the cut-off {cutoff:.2f})"

    def _stresses(self, clean: dict[str, Any] | None, decisions: list[dict[str, Any]]) -> tuple[StressOutcome, ...]:
        before = _flag(clean and clean["called_referable"])
        by_name = {row["measurement"]: row for row in decisions}
        outcomes = []
        for measurement in self.run.manifest.measurements:
            row = by_name.get(measurement.id)
            if measurement.stress is None or row is None:
                continue
            called = _flag(row["called_referable"])
            outcomes.append(
                StressOutcome(
                    measurement=measurement.id,
                    stress=stress_name(measurement.stress.name),
                    strength=strength_words(measurement.stress),
                    called_referable=called,
                    p_referable=_number(row["p_referable"]),
                    flipped=called is not None and before is not None and called != before,
                    referred=_flag(row["referred"]) is not False,
                )
            )
        return tuple(outcomes)


def referable_threshold(run: Run) -> float:
    """Return P(referable) from which an exam of this run is called referable: the policy's, or else the model's."""
    policys = run.manifest.policy.referable_threshold
    return run.manifest.referable_threshold if policys is None else policys


def eyes_disagree(grades: Int[np.ndarray, "exam 2"], called: Bool[np.ndarray, "exam 2"]) -> Bool[np.ndarray, " exam"]:
    """Return whether an exam's two eyes are called differently, or lie two grades or more apart."""
    return (called[:, 0] != called[:, 1]) | (np.abs(grades[:, 0] - grades[:, 1]) >= 2)


def stress_summary(case: Case) -> str:
    """Return one sentence on what the stresses did to an exam."""
    if not case.stresses:
        return "This exam was put under no stress."
    flipped = [outcome for outcome in case.stresses if outcome.flipped]
    silent = [outcome for outcome in flipped if outcome.silent]
    call = call_words(case.called_referable)
    if not flipped:
        return f"The call ({call}) held under all {len(case.stresses)} stresses."
    tail = "each time it would have been referred" if not silent else f"{len(silent)} of them without a referral"
    return f"The call ({call}) flipped under {len(flipped)} of {len(case.stresses)} stresses, {tail}."


def _group(groups: Any, exam_id: str) -> list[dict[str, Any]]:
    return groups.get_group(exam_id).to_dict("records") if exam_id in groups.groups else []


def _difference(right: EyeAnswer | None, left: EyeAnswer | None) -> list[Flag]:
    if right is None or left is None or right.icdr_grade == left.icdr_grade:
        return []
    words = f"OD {grade_words(right.icdr_grade)}, OS {grade_words(left.icdr_grade)}"
    grades = np.array([[right.icdr_grade, left.icdr_grade]])
    if eyes_disagree(grades, np.array([[right.called_referable, left.called_referable]]))[0]:
        return [Flag("warning", f"Eyes disagree: {words}")]
    return [Flag("note", f"Eyes differ by a grade: {words}")]


def _about(row: dict[str, Any]) -> str:
    age = _number(row["age"])
    parts = [f"age {age:.0f}" if age is not None else "", *(_text(row[name]) for name in ("sex", "camera", "site"))]
    return " · ".join(part for part in parts if part)


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _flag(value: Any) -> bool | None:
    return None if value is None or pd.isna(value) else bool(value)


def _text(value: Any) -> str:
    return "" if value is None or pd.isna(value) else str(value)
