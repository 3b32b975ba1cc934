"""A reader's words about one eye, before and after they are saved."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, model_validator

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
    "borderline": "Borderline between two grades",
    "other": "Other (say it in the note)",
}
"""Why a reader disagrees with the model: the code that is stored, and the words that are shown."""

Agreement = Literal["agree", "disagree"]


class EyeRead(Config):
    """What a reader says about one eye, and what the reader saw while saying it.

    Args:
        model_answer: the model's answer as shown, plain JSON; empty when none was shown.
        image_sha256: the hash of the photograph as imported.
    """

    eye: Literal["OD", "OS"]
    gradable: bool
    icdr_grade: int | None = Field(None, ge=0, le=4)
    agreement: Agreement | None = None
    reason_code: str | None = None
    note: str = Field("", max_length=4000)
    model_answer: dict[str, Any] = Field(default_factory=dict)
    image_sha256: str = ""

    @model_validator(mode="after")
    def _whole(self) -> EyeRead:
        if self.gradable != (self.icdr_grade is not None):
            raise ValueError("an eye is either graded 0 to 4 or not gradable")
        if self.agreement == "disagree" and self.reason_code not in REASONS:
            raise ValueError(f"a disagreement needs a reason, one of {', '.join(REASONS)}")
        return self


class Submission(Config):
    """What one press of *save* holds: one patient visit, one or both eyes, one key that makes a retry harmless."""

    submission_key: str = Field(min_length=8, max_length=64)
    reader: str = Field(min_length=1, max_length=200)
    run_id: str = Field(min_length=1)
    patient_id: str
    exam_id: str = Field(min_length=1)
    protocol: str = "assisted"
    stage: str = "single"
    eyes: tuple[EyeRead, ...] = Field(min_length=1, max_length=2)

    @model_validator(mode="after")
    def _each_eye_once(self) -> Submission:
        if len({read.eye for read in self.eyes}) != len(self.eyes):
            raise ValueError("one eye stands twice in the submission")
        return self


class SavedRead(EyeRead):
    """One stored row."""

    id: int
    submission_key: str
    saved_at: str
    reader: str
    protocol: str
    stage: str
    run_id: str
    patient_id: str
    exam_id: str
    supersedes: int | None = None


def agreement_with(model_grade: int | None, gradable: bool, icdr_grade: int | None) -> Agreement | None:
    """Return whether a reader's grade is the model's; None where the model gave no answer to this eye.

    >>> agreement_with(2, True, 2), agreement_with(2, True, 1), agreement_with(2, False, None)
    ('agree', 'disagree', 'disagree')
    """
    if model_grade is None:
        return None
    return "agree" if gradable and icdr_grade == model_grade else "disagree"
