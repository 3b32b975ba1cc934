"""All that the app works with: one run, its cases, the photographs as taken, the store of reads."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pandas as pd

from workbench.audit.results import open_run
from workbench.review.cases import Case, CaseBook
from workbench.review.pictures import Originals
from workbench.review.reads import EyeRead, SavedRead, Submission, agreement_with
from workbench.review.store import ReviewStore
from workbench.review.viewer import viewer_data
from workbench.review.worklist import make_worklist, with_reads
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import canonical_hash

RUN_VARIABLE: Final = "WORKBENCH_REVIEW_RUN"
READER_VARIABLE: Final = "WORKBENCH_REVIEW_READER"
DATA_VARIABLE: Final = "WORKBENCH_REVIEW_DATA"
"""How `workbench review` tells the app, which runs in a process of its own, what to open."""

UNGRADABLE: Final = "ungradable"
"""What a reader chooses instead of a grade."""


class Desk:
    """What is shared by every page and every tab.

    ``case`` and ``viewer`` return an exam, as a `Case` and as what the viewer shows.
    ``reader`` is the name with which a new tab begins; nobody logs in where one person works on one machine.

    Args:
        folder: a finished run.
        data: the manifest of the photographs as taken; None shows what the model was given.

    Raises:
        WorkbenchError: the run, the manifest or the store of reads cannot be opened.
    """

    def __init__(self, folder: Path, data: Path | None = None) -> None:
        self.run = open_run(folder)
        self.run_id = self.run.manifest.run_id
        self.originals = Originals(data)
        # A few exams are kept, so that going back and every press on the page are instant.
        self.case: Callable[[str], Case] = lru_cache(maxsize=64)(CaseBook(self.run).case)
        self.viewer: Callable[[str], dict[str, Any]] = lru_cache(maxsize=8)(self._make_viewer)
        self.store = ReviewStore(folder / "reviews.sqlite")
        self.reader = ""
        self._worklist = make_worklist(self.run)
        self._exams = {self.token(exam_id): exam_id for exam_id in self.run.exam_ids}

    def token(self, exam_id: str) -> str:
        """Return what stands for an exam in the browser's address bar, where no patient may be named."""
        return canonical_hash([self.run_id, exam_id])[:16]

    def exam_of(self, token: str) -> str | None:
        """Return the exam that a token stands for, None for a token of nothing here."""
        return self._exams.get(token)

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()

    def worklist(self, reader: str) -> pd.DataFrame:
        """Return the exams in the order in which they need a human, with what was read so far."""
        return with_reads(self._worklist, self.store.current(self.run_id), reader)

    def _make_viewer(self, exam_id: str) -> dict[str, Any]:
        return viewer_data(self.run, self.originals, self.case(exam_id))

    def current_reads(self, exam_id: str, reader: str) -> dict[str, SavedRead]:
        """Return what this reader last saved about an exam, by eye."""
        return {read.eye: read for read in self.store.current(self.run_id, reader=reader, exam_id=exam_id)}

    def save(self, case: Case, reader: str, key: str, drafts: dict[str, dict[str, Any]]) -> tuple[SavedRead, ...]:
        """Save what a reader says about the eyes of a case, with what the reader saw.

        Args:
            case: as it was shown.
            reader: who reads.
            key: made once per draft, so that pressing save twice stores it once.
            drafts: eye → ``grade`` (0 to 4 or `UNGRADABLE`), ``reason`` (a code or None), ``note``.

        Raises:
            WorkbenchError: something is still missing; `NotSavedError`: it could not be written.
        """
        missing = what_is_missing(case, reader, drafts)
        if missing:
            raise WorkbenchError(missing[0], "fill it in, then save")
        submission = Submission(
            submission_key=key,
            reader=reader,
            run_id=self.run_id,
            patient_id=case.patient_id,
            exam_id=case.exam_id,
            eyes=tuple(_eye_read(case, eye, draft) for eye, draft in drafts.items()),
        )
        return self.store.save(submission)


def desk_from_environment() -> Desk:
    """Open what `workbench review` named.

    Raises:
        WorkbenchError: nothing was named, or it cannot be opened.
    """
    folder = os.environ.get(RUN_VARIABLE)
    if not folder:
        raise WorkbenchError("no run was named", "start this app with 'workbench review RUN'")
    data = os.environ.get(DATA_VARIABLE)
    desk = Desk(Path(folder), Path(data) if data else None)
    desk.reader = os.environ.get(READER_VARIABLE, "")
    return desk


def eyes_to_read(case: Case) -> tuple[str, ...]:
    """Return the eyes that have a photograph, OD first; one that the model could not grade is read too."""
    return tuple(name for name, eye in case.eyes.items() if eye.status != "missing")


def agreement_of(case: Case, eye: str, grade: int | str | None) -> str | None:
    """Return whether a chosen grade is the model's; None before a choice, or where the model gave no answer."""
    answer = case.eyes[eye].answer
    if grade is None:
        return None
    chosen = None if grade == UNGRADABLE else int(grade)
    return agreement_with(answer.icdr_grade if answer else None, chosen is not None, chosen)


def what_is_missing(case: Case, reader: str, drafts: dict[str, dict[str, Any]]) -> list[str]:
    """Return what a reader must still say before a save, in words; empty when nothing is."""
    missing = [] if reader.strip() else ["your name is not set"]
    for eye in eyes_to_read(case):
        draft = drafts.get(eye, {})
        if draft.get("grade") is None:
            missing.append(f"{eye} has no grade")
        elif agreement_of(case, eye, draft["grade"]) == "disagree" and not draft.get("reason"):
            missing.append(f"{eye} differs from the model without a reason")
    return missing


def _eye_read(case: Case, eye: str, draft: dict[str, Any]) -> EyeRead:
    grade = None if draft["grade"] == UNGRADABLE else int(draft["grade"])
    agreement = agreement_of(case, eye, draft["grade"])
    return EyeRead.model_validate(
        {
            "eye": eye,
            "gradable": grade is not None,
            "icdr_grade": grade,
            "agreement": agreement,
            "reason_code": draft.get("reason") if agreement == "disagree" else None,
            "note": (draft.get("note") or "").strip(),
            "model_answer": case.model_answer(eye),
            "image_sha256": case.eyes[eye].sha256,
        }
    )
