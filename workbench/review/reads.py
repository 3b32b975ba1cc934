"""A reader's words about one eye and one patient, before and after they are saved."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from workbench.review.drawn import Drawn
from workbench.review.protocols import STAGES, Protocol, Stage, is_blind
from workbench.schema.config import Config

REASONS: Final[dict[str, str]] = {
    "missed_microaneurysms": "Missed microaneurysms",
    "missed_haemorrhages": "Missed haemorrhages or exudates",
    "missed_neovascularisation": "Missed neovascularisation",
    "artefact": "Took an artefact for a lesion",
    "laser_scars": "Laser scars",
    "other_disease": "Another disease",
    "image_quality": "Image quality",
    "laterality": "Wrong eye (laterality)",
    "label_error": "The reference label is wrong",
    "borderline": "Borderline between two grades",
    "other": "Other (say it in the note)",
}
"""Why a reader disagrees with the model: the code that is stored, and the words that are shown."""

CHANGE_REASONS: Final[dict[str, str]] = {
    "overlooked": "I had overlooked a lesion",
    "no_lesion": "What I took for a lesion is none",
    "looked_again": "Read otherwise on a second look",
    "model_persuaded": "Followed the model, not sure of my own",
    "borderline": "Borderline between two grades",
    "slip": "A slip in the first entry",
    "other": "Other (say it in the note)",
}
"""Why a reader's second grade is not the first, where it is the model's now: code and words."""

DME_GRADES: Final = ("no DME", "mild DME", "moderate DME", "severe DME")
"""Diabetic macular oedema, 0 to 3 (Wilkinson et al. 2003)."""

Agreement = Literal["agree", "disagree"]
Disposition = Literal["refer", "rescreen"]
Role = Literal["reader", "adjudicator", "admin", "auditor"]


def _storable(text: str) -> str:
    """Return text that every database can hold: no NUL and no half of a surrogate pair."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


Words = Annotated[str, AfterValidator(_storable)]


class EyeRead(Config):
    """What a reader says about one eye, and what the reader saw while saying it.

    Args:
        dme: diabetic macular oedema, an index of `DME_GRADES`; None when not judged.
        confidence: 1 (guess) to 5 (certain).
        model_answer: the model's answer as shown, plain JSON; empty when none was shown.
        image_sha256: the hash of the photograph as imported.
    """

    eye: Literal["OD", "OS"]
    gradable: bool
    icdr_grade: int | None = Field(None, ge=0, le=4)
    dme: int | None = Field(None, ge=0, le=3)
    confidence: int | None = Field(None, ge=1, le=5)
    agreement: Agreement | None = None
    reason_code: str | None = None
    note: Words = Field("", max_length=4000)
    model_answer: dict[str, Any] = Field(default_factory=dict)
    image_sha256: str = ""

    @model_validator(mode="after")
    def _whole(self) -> EyeRead:
        if self.gradable != (self.icdr_grade is not None):
            raise ValueError("an eye is either graded 0 to 4 or not gradable")
        if self.agreement == "disagree" and self.reason_code not in REASONS:
            raise ValueError(f"a disagreement needs a reason, one of {', '.join(REASONS)}")
        return self


class DraftPlace(Config):
    """Whose draft it is and of what: nobody else and no other exam is ever shown it."""

    reader: Words = Field(min_length=1, max_length=200)
    run_id: str = Field(min_length=1)
    exam_id: Words = Field(min_length=1)
    protocol: Protocol = "assisted"
    stage: Stage = "single"

    @model_validator(mode="after")
    def _stage_of_its_protocol(self) -> DraftPlace:
        if self.stage not in STAGES[self.protocol]:
            raise ValueError(f"{self.protocol} has the stages {', '.join(STAGES[self.protocol])}, not {self.stage}")
        return self


class Submission(DraftPlace):
    """What one press of *save* holds: one patient visit, one or both eyes, one key that makes a retry harmless.

    Args:
        submission_key: made by the client, once per draft.
        role: in which the reader reads.
        model_hash: of the weights that gave the answer; empty when no model was shown.
        opened_at: when the exam was opened, ISO 8601.
        seconds_active: time spent on it, without the time away.
        disposition: what happens to the patient; *rescreen* comes with ``rescreen_months``.
        note: about the patient.
        shown: what was shown of the exam as a whole, plain JSON.
        drawn: lesion marks, rulers and grids on both eyes.
    """

    submission_key: str = Field(min_length=8, max_length=64)
    role: Role = "reader"
    model_hash: str = Field("", max_length=64)
    patient_id: Words
    opened_at: str | None = Field(None, max_length=40)
    seconds_active: float | None = Field(None, ge=0, allow_inf_nan=False)
    disposition: Disposition | None = None
    rescreen_months: int | None = Field(None, ge=1, le=120)
    note: Words = Field("", max_length=4000)
    shown: dict[str, Any] = Field(default_factory=dict)
    drawn: Drawn = Drawn()
    eyes: tuple[EyeRead, ...] = Field(min_length=1, max_length=2)

    @model_validator(mode="after")
    def _whole(self) -> Submission:
        if len({read.eye for read in self.eyes}) != len(self.eyes):
            raise ValueError("one eye stands twice in the submission")
        if (self.disposition == "rescreen") != (self.rescreen_months is not None):
            raise ValueError("'rescreen' needs the number of months, and nothing else has one")
        if self.stage == "adjudication" and self.role != "adjudicator":
            raise ValueError(f"an adjudication is made by an adjudicator, not by a {self.role}")
        if is_blind(self.stage) and (self.shown or any(read.model_answer or read.agreement for read in self.eyes)):
            raise ValueError(f"the stage {self.stage!r} shows nothing of the model, this submission holds its answer")
        return self


class SavedRead(Config):
    """One eye of a stored submission, as it was stored; never judged again by the rules of a later version.

    Args:
        event_id: the submission that it came with, and its row in the audit trail.
        patient_note: the note about the patient that came with it.
    """

    id: int
    event_id: int = 0
    submission_key: str
    saved_at: str
    reader: str
    role: str = "reader"
    protocol: str
    stage: str
    run_id: str
    model_hash: str = ""
    patient_id: str
    exam_id: str
    opened_at: str | None = None
    seconds_active: float | None = None
    disposition: str | None = None
    rescreen_months: int | None = None
    patient_note: str = ""
    shown: dict[str, Any] = Field(default_factory=dict)
    drawn: Drawn = Drawn()
    eye: Literal["OD", "OS"]
    gradable: bool
    icdr_grade: int | None = None
    dme: int | None = None
    confidence: int | None = None
    agreement: str | None = None
    reason_code: str | None = None
    note: str = ""
    model_answer: dict[str, Any] = Field(default_factory=dict)
    image_sha256: str = ""
    supersedes: int | None = None


def agreement_with(model_grade: int | None, gradable: bool, icdr_grade: int | None) -> Agreement | None:
    """Return whether a reader's grade is the model's; None where the model gave no answer to this eye.

    >>> agreement_with(2, True, 2), agreement_with(2, True, 1), agreement_with(2, False, None)
    ('agree', 'disagree', 'disagree')
    """
    if model_grade is None:
        return None
    return "agree" if gradable and icdr_grade == model_grade else "disagree"
