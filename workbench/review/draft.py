"""What a reader has entered and not yet saved, what is still missing from it, and the submission that it becomes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from workbench.review.cases import Case
from workbench.review.drawn import Drawn
from workbench.review.protocols import is_blind, visible_answer
from workbench.review.reads import CHANGE_REASONS, REASONS, DraftPlace, EyeRead, SavedRead, Submission, agreement_with
from workbench.review.store import now

UNGRADABLE: Final = "ungradable"
"""What a reader chooses instead of a grade."""

FIELDS: Final = ("grade", "dme", "confidence", "reason", "note")
"""What is said about an eye."""

MONTHS: Final = 12
"""What *rescreen* begins with."""


@dataclass
class Draft:
    """One reader's entries about one exam at one stage; changed by the form, kept in the store until it is saved.

    Args:
        place: whose and of what; nobody else and no other exam is ever shown it.
        key: made anew with each change, so that pressing save twice stores once.
        eyes: eye → each of `FIELDS`.
        before: eye → the grade that this reader gave at the first read; empty where there is none.
        seconds_before: active time of earlier visits to the page.
        seconds_here: active time of this one.
        attempted: the active time that a save was tried with.
        failure: why the last save or the keeping of the draft failed; empty when it did not.
        saved_at: when these entries were saved; empty when they were not.
        touched: whether something was entered since.
    """

    place: DraftPlace
    eyes: dict[str, dict[str, Any]]
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    disposition: str | None = None
    months: int = MONTHS
    note: str = ""
    drawn: Drawn = field(default_factory=Drawn)
    before: dict[str, int | str] = field(default_factory=dict)
    opened_at: str = field(default_factory=now)
    seconds_before: float = 0.0
    seconds_here: float = 0.0
    attempted: float | None = None
    failure: str = ""
    saved_at: str = ""
    touched: bool = False

    @property
    def seconds(self) -> float | None:
        """Active time in all; None where the browser told none. A save that is tried again tells the same time."""
        return self.attempted or round(self.seconds_before + self.seconds_here, 1) or None

    def change(self) -> None:
        """Note that something was entered: what is stored from now on is another save."""
        self.touched, self.failure, self.key, self.attempted = True, "", uuid.uuid4().hex, None

    def content(self) -> dict[str, Any]:
        """Return what is kept in the store until it is saved, plain JSON."""
        kept = {name: getattr(self, name) for name in _KEPT}
        return {**kept, "drawn": self.drawn.model_dump(mode="json"), "seconds_before": self.seconds or 0.0}

    def restore(self, content: dict[str, Any]) -> None:
        """Take over what was kept; an eye or a field that this version does not ask for is left out."""
        for eye, said in content.get("eyes", {}).items():
            if eye in self.eyes:
                self.eyes[eye].update({name: said.get(name) for name in FIELDS if name in said})
        for name in _KEPT:
            if name != "eyes" and name in content:
                setattr(self, name, content[name])
        try:
            self.drawn = Drawn.model_validate(content.get("drawn", {}))
        except ValidationError:
            self.drawn = Drawn()
        self.seconds_before, self.touched = float(content.get("seconds_before", 0.0)), True


_KEPT: Final = ("key", "eyes", "disposition", "months", "note", "opened_at")


def new_draft(place: DraftPlace, case: Case, saved: Sequence[SavedRead] = (), first: Sequence[SavedRead] = ()) -> Draft:
    """Return a draft that begins with what this reader said last at this stage, or else at the first read.

    Args:
        place: whose and of what.
        case: which eyes there are.
        saved: the reads that hold at this place.
        first: this reader's first reads, where a second one is made.
    """
    said: dict[str, SavedRead] = {read.eye: read for read in (saved or first)}
    eyes = {eye: _said(said.get(eye), fresh=not saved) for eye in eyes_to_read(case)}
    draft = Draft(place, eyes, before={read.eye: _chosen(read) for read in first})
    for read in saved or first:
        draft.disposition, draft.months = read.disposition, read.rescreen_months or MONTHS
        draft.note, draft.drawn = read.patient_note, read.drawn
    draft.saved_at = max((read.saved_at for read in saved), default="")
    return draft


def _said(read: SavedRead | None, *, fresh: bool) -> dict[str, Any]:
    if read is None:
        return dict.fromkeys(FIELDS) | {"note": ""}
    values = {"dme": read.dme, "confidence": read.confidence, "reason": read.reason_code, "note": read.note}
    return {"grade": _chosen(read), **values, **({"reason": None} if fresh else {})}


def _chosen(read: SavedRead) -> int | str:
    return UNGRADABLE if read.icdr_grade is None else read.icdr_grade


def eyes_to_read(case: Case) -> tuple[str, ...]:
    """Return the eyes that have a photograph, OD first; one that the model could not grade is read too."""
    return tuple(name for name, eye in case.eyes.items() if eye.status != "missing")


def agreement_of(case: Case, eye: str, grade: int | str | None) -> str | None:
    """Return whether a chosen grade is the model's; None before a choice, or where no answer of the model is shown."""
    answer = case.eyes[eye].answer
    if grade is None:
        return None
    chosen = None if grade == UNGRADABLE else int(grade)
    return agreement_with(answer.icdr_grade if answer else None, chosen is not None, chosen)


def reasons_for(case: Case, draft: Draft, eye: str) -> dict[str, str]:
    """Return the reasons among which this reader must choose for an eye, code → words; empty where none is asked.

    A grade that is not the model's needs a reason, and so does one that changed since the first read, and every
    decision of an adjudicator.
    """
    grade = draft.eyes[eye]["grade"]
    if grade is None:
        return {}
    if draft.place.stage == "adjudication" or agreement_of(case, eye, grade) == "disagree":
        return REASONS
    return CHANGE_REASONS if eye in draft.before and draft.before[eye] != grade else {}


def what_is_missing(case: Case, draft: Draft) -> list[str]:
    """Return what a reader must still say before a save, in words; empty when nothing is.

    Args:
        case: as this reader sees it at this stage (`veiled`).
        draft: the entries.
    """
    missing = []
    for eye in eyes_to_read(case):
        said = draft.eyes.get(eye, {})
        if said.get("grade") is None:
            missing.append(f"{eye} has no grade")
            continue
        if draft.place.protocol == "blinded" and said.get("confidence") is None:
            missing.append(f"{eye} has no confidence")
        asked = reasons_for(case, draft, eye)
        if asked and said.get("reason") not in asked:
            missing.append(_without_a_reason(case, draft, eye))
    return missing


def _without_a_reason(case: Case, draft: Draft, eye: str) -> str:
    if draft.place.stage == "adjudication":
        return f"{eye} is decided without a reason"
    differs = agreement_of(case, eye, draft.eyes[eye]["grade"]) == "disagree"
    return f"{eye} differs from the model without a reason" if differs else f"{eye} was changed without a reason"


def submission_of(
    case: Case, draft: Draft, *, role: str, model_hash: str, visible: str, shown: dict[str, Any]
) -> Submission:
    """Return what a press of *save* stores.

    Args:
        case: as this reader sees it at this stage (`veiled`).
        draft: the entries, none missing.
        role: in which the reader reads.
        model_hash: of the model whose answer was on the page.
        visible: the stage whose rule said what was on the page.
        shown: what was shown of the exam as a whole.
    """
    blind = is_blind(visible)
    values = draft.place.model_dump() | {
        "submission_key": draft.key,
        "role": role,
        "model_hash": "" if blind else model_hash,
        "patient_id": case.patient_id,
        "opened_at": draft.opened_at,
        "seconds_active": draft.seconds,
        "disposition": draft.disposition,
        "rescreen_months": draft.months if draft.disposition == "rescreen" else None,
        "note": draft.note.strip(),
        "shown": shown,
        "drawn": draft.drawn,
        "eyes": tuple(_eye_read(case, draft, eye, visible) for eye in eyes_to_read(case)),
    }
    return Submission.model_validate(values)


def _eye_read(case: Case, draft: Draft, eye: str, visible: str) -> EyeRead:
    said = draft.eyes[eye]
    grade = None if said["grade"] == UNGRADABLE else int(said["grade"])
    blind = is_blind(visible)
    asked = reasons_for(case, draft, eye)
    return EyeRead.model_validate(
        {
            "eye": eye,
            "gradable": grade is not None,
            "icdr_grade": grade,
            "dme": said["dme"] if grade is not None else None,
            "confidence": said["confidence"],
            "agreement": None if blind else agreement_of(case, eye, said["grade"]),
            "reason_code": said["reason"] if said["reason"] in asked else None,
            "note": (said["note"] or "").strip(),
            "model_answer": {} if blind else visible_answer(case.model_answer(eye), visible),
            "image_sha256": case.eyes[eye].sha256,
        }
    )
