"""One exam as its page shows it: the two eyes, the model's answer, the flags, what happened under stress."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from workbench.audit.layout import CLEAN
from workbench.audit.outcomes import StressOutcome, searched, smallest, stress_outcomes
from workbench.audit.predictions_lacks import NO_EYE
from workbench.audit.results import Run
from workbench.review.protocols import VISIBLE
from workbench.review.words import EYE_NAMES, call_words, grade_words, uncertainty_words
from workbench.review.worklist_index import WorklistIndex
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import EYES, REFERABLE_GRADE
from workbench.schema.maps import map_words
from workbench.schema.words import SCORE_NAMES, percent

NO_PHOTOGRAPHS: Final = "Outputs alone were audited: no photographs but those of --data, no maps, no stress"


@dataclass(frozen=True)
class EyeAnswer:
    """The model's answer to one eye: pooled probabilities with the 5th and 95th percentile over the draws.

    What a stage does not show yet is None or empty (`veiled`).
    """

    icdr_grade: int
    called_referable: bool
    probabilities: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    p_referable: float | None
    p_referable_low: float | None
    p_referable_high: float | None
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
    """One thing that a reader must know before trusting the page.

    Args:
        level: how pressing; the words carry the meaning.
        words: for the reader.
        tells: the key of the model's answer (`protocols.VISIBLE`) that it gives away; empty for none.
    """

    level: Literal["alert", "warning", "note", "fine"]
    words: str
    tells: str = ""


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
    searched: tuple[str, ...]
    """What the severity searches found, a sentence each."""
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


def veiled(case: Case, stage: str) -> Case:
    """Return a case as a stage may show it: what the stage does not show is not in it at all.

    >>> from workbench.review.protocols import VISIBLE
    >>> "p_referable" in VISIBLE["grade"]
    False
    """
    shows = VISIBLE[stage]
    everything = "maps" in shows
    flags = [flag for flag in case.flags if not flag.tells or flag.tells in shows]
    if "exam_called_referable" in shows and "exam_p_referable" not in shows and case.called_referable is not None:
        flags.append(Flag("fine", f"Called {call_words(case.called_referable)}", "exam_called_referable"))
    return replace(
        case,
        called_referable=case.called_referable if "exam_called_referable" in shows else None,
        p_referable=case.p_referable if "exam_p_referable" in shows else None,
        score=case.score if "exam_score" in shows else None,
        cutoff=case.cutoff if "exam_score" in shows else None,
        referred=case.referred and "exam_referred" in shows,
        eyes={name: replace(eye, answer=_veiled_answer(eye.answer, shows)) for name, eye in case.eyes.items()},
        flags=tuple(flags),
        stresses=case.stresses if everything else (),
        searched=case.searched if everything else (),
        withheld=case.withheld if everything else {name: {} for name in case.withheld},
    )


def _veiled_answer(answer: EyeAnswer | None, shows: frozenset[str]) -> EyeAnswer | None:
    if answer is None or "icdr_grade" not in shows:
        return None
    if "p_referable" in shows:
        return answer
    return EyeAnswer(answer.icdr_grade, answer.called_referable, (), (), (), None, None, None, None, "")


class CaseBook:
    """The exams of a run, one `Case` at a time: only the rows of that exam are read.

    Args:
        run: finished.
        index: of the run, where it is open already.
    """

    def __init__(self, run: Run, index: WorklistIndex | None = None) -> None:
        self.run = run
        self._index = index or WorklistIndex(run)

    def case(self, exam_id: str) -> Case:
        """Return one exam.

        Raises:
            WorkbenchError: the run has no such exam.
        """
        rows = {row["eye"]: row for row in self._index.rows_of("exams", exam_id)}
        if not rows:
            raise WorkbenchError(f"this run has no exam {exam_id!r}", "choose one from the worklist")
        decisions = self._index.rows_of("decisions", exam_id)
        answers = {row["eye"]: row for row in self._index.rows_of("eyes", exam_id) if row["measurement"] == CLEAN}
        clean = next((row for row in decisions if row["measurement"] == CLEAN), None)
        eyes = {eye: self._eye(exam_id, eye, rows.get(eye), answers.get(eye)) for eye in EYES}
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
            stresses=stress_outcomes(self.run.manifest, decisions),
            searched=(*searched(self.run.mildest(exam_id)), *smallest(self.run.smallest(exam_id))),
            withheld=withheld,
        )

    def _eye(self, exam_id: str, eye: str, row: dict[str, Any] | None, answer: dict[str, Any] | None) -> EyeCase:
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
            answer=self._answer(exam_id, eye, answer),
        )

    def _answer(self, exam_id: str, eye: str, row: dict[str, Any] | None) -> EyeAnswer | None:
        if row is None or _number(row["p_referable"]) is None or _number(row["grade_predicted"]) is None:
            return None
        rank = _number(self._index.one(f"SELECT rank_{eye} FROM index.exams WHERE exam_id = ?", [exam_id])[0])
        draws = self.run.draws(CLEAN, exam_id)
        low, high = np.nanpercentile(draws[:, EYES.index(eye)], [5, 95], axis=0) if draws is not None else ((), ())
        referable = draws[:, EYES.index(eye), REFERABLE_GRADE:].sum(axis=1) if draws is not None else np.array([np.nan])
        p_low, p_high = np.percentile(referable, [5, 95])
        return EyeAnswer(
            icdr_grade=int(row["grade_predicted"]),
            called_referable=bool(row["p_referable"] >= self.run.referable_threshold),
            probabilities=tuple(float(row[f"p{grade}"]) for grade in range(5)),
            low=tuple(map(float, low)),
            high=tuple(map(float, high)),
            p_referable=float(row["p_referable"]),
            p_referable_low=float(p_low),
            p_referable_high=float(p_high),
            rank=rank,
            uncertainty=uncertainty_words(rank),
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
        if self.run.manifest.outputs is not None:
            flags.append(Flag("alert", NO_PHOTOGRAPHS))
        for eye, case in eyes.items():
            if case.status != "ok":
                reason = f": {case.reason}" if case.reason and case.reason != case.status else ""
                flags.append(Flag("alert", f"{EYE_NAMES[eye]} {case.status}{reason}"))
        if clean is None or _number(clean["p_referable"]) is None:
            flags.append(Flag("alert", "The model gave no answer to this exam", "icdr_grade"))
        else:
            call = call_words(_flag(clean["called_referable"]))
            words = f"Called {call}: P(referable) {percent(_number(clean['p_referable']))}"
            flags.append(Flag("fine", words, "exam_p_referable"))
        if clean is not None and _flag(clean["referred"]):
            flags.append(Flag("warning", f"Referred to a human: {self._referred_why(clean)}", "exam_referred"))
        elif clean is not None:
            flags.append(Flag("note", "Not referred: the model is sure enough by the policy", "exam_referred"))
        flags.extend(_difference(*(case.answer for case in eyes.values())))
        of_eyes: dict[tuple[str, str], list[str]] = {}  # what is withheld of both for one reason is said once
        for eye, reasons in withheld.items():
            for method, reason in reasons.items():
                if eyes[eye].status == "ok":
                    of_eyes.setdefault((method, reason), []).append(eye)
        for (method, reason), named in of_eyes.items():
            flags.append(Flag("note", f"Map withheld, {' and '.join(named)}, {map_words(method)}: {reason}", "maps"))
        return flags

    def _referred_why(self, clean: dict[str, Any]) -> str:
        why = _text(clean["referred_why"]) or "uncertain"
        score, cutoff = _number(clean["score"]), self.run.summary.score_cutoff
        if score is None or cutoff is None or score <= cutoff:
            return why
        name = SCORE_NAMES[self.run.manifest.policy.referral_score]
        return f"{why} ({name} {score:.2f}, above the cut-off {cutoff:.2f})"


def refuse_without_grades(run: Run) -> None:
    """Refuse a run whose answers are no grades of eyes, which every page of the app shows.

    Raises:
        WorkbenchError: it was made from outputs of another kind.
    """
    outputs = run.manifest.outputs
    if outputs is None or (outputs.outputs == "grades" and outputs.per == "eye"):
        return
    what = (
        NO_EYE if outputs.per == "exam" else f"{outputs.outputs.replace('_', ' ')} outputs, no probability of a grade"
    )
    raise WorkbenchError(f"the pages show grades of either eye, and this run has none ({what})", "see its report")


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


def _difference(right: EyeAnswer | None, left: EyeAnswer | None) -> list[Flag]:
    if right is None or left is None or right.icdr_grade == left.icdr_grade:
        return []
    words = f"OD {grade_words(right.icdr_grade)}, OS {grade_words(left.icdr_grade)}"
    grades = np.array([[right.icdr_grade, left.icdr_grade]])
    if eyes_disagree(grades, np.array([[right.called_referable, left.called_referable]]))[0]:
        return [Flag("warning", f"Eyes disagree: {words}", "icdr_grade")]
    return [Flag("note", f"Eyes differ by a grade: {words}", "icdr_grade")]


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
