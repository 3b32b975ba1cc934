"""All that the app works with: one run, its cases, the photographs as taken, the store of reads."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, cast

from workbench.audit import layout
from workbench.audit.map_credentials import MapCredentials
from workbench.audit.results import open_run
from workbench.review.cases import Case, CaseBook, refuse_without_grades, veiled
from workbench.review.disputes import Dispute, disputes
from workbench.review.draft import Draft, new_draft, submission_of, what_is_missing
from workbench.review.erasure import Erasure, erase_patient
from workbench.review.forgotten import Stamp, erased_in, forgotten, stamp_of
from workbench.review.panes import viewer_inputs
from workbench.review.people import People
from workbench.review.pictures import Originals
from workbench.review.protocols import STAGES, Protocol, Stage, visible_answer
from workbench.review.pseudonyms import Pseudonyms
from workbench.review.queues import Queues
from workbench.review.reader_study import reader_study
from workbench.review.reads import DraftPlace, SavedRead
from workbench.review.standing import FINAL_STAGE, Standing, standing
from workbench.review.store import ReviewStore
from workbench.review.stressed import stressed_pairs
from workbench.review.trust import Trust, TrustBook
from workbench.review.viewer import ViewerInputs
from workbench.review.worklist import ReaderWorklist, WorklistFilter
from workbench.review.worklist_index import WorklistIndex
from workbench.review.worklist_reads import ReaderProgress, ReadMirror
from workbench.schema.errors import WorkbenchError
from workbench.schema.reader_study import ReaderStudy

RUN_VARIABLE: Final = "WORKBENCH_REVIEW_RUN"
READER_VARIABLE: Final = "WORKBENCH_REVIEW_READER"
DATA_VARIABLE: Final = "WORKBENCH_REVIEW_DATA"
DATABASE_VARIABLE: Final = "WORKBENCH_REVIEW_DATABASE"
PROTOCOL_VARIABLE: Final = "WORKBENCH_REVIEW_PROTOCOL"
IDENTIFIERS_VARIABLE: Final = "WORKBENCH_REVIEW_IDENTIFIERS"
"""How `workbench review` tells the app, which runs in a process of its own, what to open."""

Identifiers = Literal["on_request", "never"]
"""Whether a page shows true identifiers to whoever may see them and asks, which is stored; or never."""

BLIND_PROTOCOLS: Final = ("blinded", "review_only")
"""Where nothing that the model said may be told by a page that is not the exam's own, its order of exams included."""

_OFFERED_NOT: Final = {
    "assisted": {"adjudication"},
    "blinded": {"adjudication", "overview"},
    "review_only": {"adjudication", "overview"},
    "adjudication": {"worklist"},
}


class Desk:
    """What is shared by every page and every tab.

    ``case`` returns all that is known of an exam, for no page of a reader: these ask for ``seen`` and ``viewer``.
    ``reader`` is the name with which a new tab begins; nobody logs in where one person works on one machine.
    ``identifiers`` says whether the true ones are ever shown; pages begin with pseudonyms.

    Args:
        folder: a finished run.
        data: the manifest of the photographs as taken; None shows what the model was given.
        database: the URL of a PostgreSQL database; None keeps the reads in ``reviews.sqlite`` of the run.
        protocol: how exams are read, one of `STAGES`.

    Raises:
        WorkbenchError: the run, the manifest or the store of reads cannot be opened, or there is no such protocol.
    """

    def __init__(
        self, folder: Path, data: Path | None = None, database: str | None = None, protocol: str = "assisted"
    ) -> None:
        if protocol not in STAGES:
            raise WorkbenchError(f"there is no protocol {protocol!r}", f"choose one of {', '.join(STAGES)}")
        self.protocol = cast("Protocol", protocol)
        self.run = open_run(folder)
        refuse_without_grades(self.run)
        self.run_id = self.run.manifest.run_id
        self.originals = Originals(data)
        self.names = Pseudonyms.open()
        self.store = ReviewStore(
            database or folder / "reviews.sqlite", erased=lambda patient_id: erased_in(folder)(patient_id)
        )
        self.reader = ""
        self.identifiers: Identifiers = "on_request"
        self.queues = Queues(self.store.database)
        self._opening = threading.Lock()
        self._look()

    def _look(self) -> None:
        """Open the worklist and begin every cache anew."""
        self.erasures: Stamp | None = stamp_of(self.run.folder)  # first: an erasure from here on is another stamp
        self.index = WorklistIndex(self.run)
        # A few exams are kept, so that going back and every press on the page are instant.
        self.case: Callable[[str], Case] = lru_cache(maxsize=64)(CaseBook(self.run, self.index).case)
        self.viewer: Callable[[str, str], ViewerInputs] = lru_cache(maxsize=8)(self._make_viewer)
        self.trust: Callable[[str], Trust] = lru_cache(maxsize=64)(TrustBook(self.run, self.index).trust)
        self.credentials: Callable[[str], tuple[str, ...]] = lru_cache(maxsize=64)(MapCredentials(self.run).paragraphs)
        self.study: Callable[[str], ReaderStudy] = lru_cache(maxsize=2)(self._make_study)
        self._disputes: Callable[[str], list[Dispute]] = lru_cache(maxsize=2)(self._find_disputes)
        self._mirror = ReadMirror(self.index, self.store.database, stage=FINAL_STAGE[self.protocol])

    def notice_erasures(self) -> None:
        """Let go of all that is kept of the run where a patient was erased since, by this process or another.

        What is under way with the former index ends with it; nothing that begins after sees the patient.

        Raises:
            WorkbenchError: the list of the erased is damaged.
        """
        if stamp_of(self.run.folder) == self.erasures:
            return
        with self._opening:
            if stamp_of(self.run.folder) != self.erasures:
                self._look()

    def was_erased(self, token: str) -> bool:
        """Return whether a token stood for an exam of a patient who was erased."""
        query = """SELECT count(*) FROM read_parquet($exams) WHERE left(sha256($run_id || '/' || exam_id), 16) = $token
            AND list_contains($patients, sha256($salt || patient_id))"""
        asked = {"exams": str(layout.exams_path(self.run.folder)), "run_id": self.run_id, "token": token}
        list_ = forgotten(self.run.folder)
        return bool(list_) and bool(self.index.one(query, {**asked, **list_})[0])

    def erase(self, patient: str, by: str) -> Erasure:
        """Erase a patient, by id or pseudonym, from the reads, their exports and this run's pages.

        Raises:
            WorkbenchError: there is no such patient, or a file cannot be written.
        """
        gone = erase_patient(self.store.database, patient.strip(), self.names, by=by, runs=[self.run.folder])
        self.notice_erasures()
        return gone

    @property
    def blind(self) -> bool:
        """Whether pages beside the exam's own must not tell what the model said, by no column, filter or order."""
        return self.protocol in BLIND_PROTOCOLS

    def offers(self, page: str) -> bool:
        """Return whether a page has a place under this protocol, whoever asks."""
        return page not in _OFFERED_NOT[self.protocol]

    def token(self, exam_id: str) -> str:
        """Return what stands for an exam in the browser's address bar, where no patient may be named."""
        return hashlib.sha256(f"{self.run_id}/{exam_id}".encode()).hexdigest()[:16]

    def exam_of(self, token: str) -> str | None:
        """Return the exam that a token stands for, None for a token of nothing here."""
        found = self.index.all("SELECT exam_id FROM index.exams WHERE token = ?", [token])
        return str(found[0][0]) if found else None

    def close(self) -> None:
        """Let go of the store and of the worklist's file."""
        self.store.close()
        self.index.close()

    def shown_names(self, patient_id: str, exam_id: str, *, true_names: bool) -> tuple[str, str]:
        """Return how a page calls a patient and an exam: by pseudonyms, the same as in every export, or as they are."""
        return (patient_id, exam_id) if true_names else (self.names.patient(patient_id), self.names.exam(exam_id))

    def worklist(
        self, reader: str, chosen: WorklistFilter | None = None, *, true_names: bool = False
    ) -> ReaderWorklist:
        """Return the exams that a filter lets through, in its order; all in the order of priority without one.

        Under a blind protocol what the model says neither sorts nor filters.
        """
        asked = chosen or WorklistFilter()
        asked = asked.blinded() if self.blind else asked
        return ReaderWorklist(self.index, self._mirror, reader, asked, self.names, true_names=true_names)

    def progress(self) -> list[ReaderProgress]:
        """Return how far every reader of this run is."""
        return self._mirror.progress()

    def _make_viewer(self, exam_id: str, visible: str) -> ViewerInputs:
        """Return what a stage may show; what it may not show is not among it, hence never in the browser."""
        now = Standing(self.protocol, None, visible)
        beside = self._other_visit(exam_id)
        other = None if beside is None else self.seen(beside, visible)
        seen = self.seen(exam_id, visible)
        # An attack tells which way the call goes: only with the maps.
        pairs = stressed_pairs(self.run, exam_id) if now.shows("maps") else {}
        inputs = viewer_inputs(self.run, self.originals, seen, other=other, comparisons=pairs, with_model=not now.blind)
        inputs = replace(inputs, exam=self.token(exam_id))
        if now.shows("maps"):
            return inputs
        right, left = (replace(pane, maps=()) for pane in inputs.panes)
        return replace(inputs, panes=(right, left))

    def _other_visit(self, exam_id: str) -> str | None:
        """Return the visit of the same patient that stands nearest before this one in the run, or else after it."""
        query = """SELECT other.exam_id FROM index.exams one JOIN index.exams other USING (patient_id)
            WHERE one.exam_id = ? AND other.exam_id <> one.exam_id
            ORDER BY other.position > one.position, abs(other.position - one.position) LIMIT 1"""
        found = self.index.all(query, [exam_id])
        return str(found[0][0]) if found else None

    def seen(self, exam_id: str, visible: str) -> Case:
        """Return an exam as a stage may show it."""
        return veiled(self.case(exam_id), visible)

    def standing(self, exam_id: str, reader: str) -> Standing:
        """Return how far a reader has come with an exam."""
        if self.protocol in ("assisted", "review_only"):
            return standing(self.protocol, (), ())
        mine = self.store.current(self.run_id, reader=reader, exam_id=exam_id, protocol=self.protocol)
        revealed = self.store.revealed(reader, self.run_id, exam_id, self.protocol)
        return standing(self.protocol, {read.stage for read in mine}, revealed)

    def place(self, exam_id: str, reader: str, stage: str) -> DraftPlace:
        """Return where a reader's draft, read or reveal of an exam belongs."""
        return DraftPlace(
            reader=reader, run_id=self.run_id, exam_id=exam_id, protocol=self.protocol, stage=cast("Stage", stage)
        )

    def current_reads(self, exam_id: str, reader: str, stage: str | None = None) -> dict[str, SavedRead]:
        """Return what this reader last saved about an exam under this protocol, by eye; at one stage if named."""
        found = self.store.current(
            self.run_id, reader=reader, exam_id=exam_id, protocol=self.protocol, stage=stage or None
        )
        return {read.eye: read for read in found}

    def draft(self, exam_id: str, reader: str, stage: str) -> Draft:
        """Return what a reader left unsaved of an exam at a stage, or else what was saved last."""
        place = self.place(exam_id, reader, stage)
        saved = list(self.current_reads(exam_id, reader, stage).values())
        first = list(self.current_reads(exam_id, reader, "first").values()) if stage == "second" else []
        draft = new_draft(place, self.case(exam_id), saved, first)
        kept = self.store.load_draft(place)
        if kept is not None:
            draft.restore(kept)
        return draft

    def keep(self, draft: Draft, case: Case) -> None:
        """Keep a draft in the store, so that it outlives the tab and the server.

        Raises:
            NotSavedError: it could not be kept; it is still in the tab.
        """
        self.store.save_draft(draft.place, case.patient_id, draft.content())

    def reveal(self, exam_id: str, reader: str, stage: str) -> None:
        """Store that a stage is now shown to a reader; only then may it be.

        Raises:
            NotSavedError: it could not be stored, or the blinded read is not saved yet.
        """
        case = self.case(exam_id)
        self.store.reveal(self.place(exam_id, reader, stage), case.patient_id, self._answer(case))

    def save(self, case: Case, draft: Draft, now: Standing, role: str = "reader") -> tuple[SavedRead, ...]:
        """Save what a reader says about the eyes of a case, with what the reader saw.

        Args:
            case: as it was shown (`seen`).
            draft: the entries.
            now: where the reader stands.
            role: in which the reader reads.

        Raises:
            WorkbenchError: something is still missing; `NotSavedError`: it could not be written.
        """
        missing = what_is_missing(case, draft)
        if missing:
            raise WorkbenchError(missing[0], "fill it in, then save")
        shown = visible_answer(self._answer(self.case(case.exam_id)), now.visible) if not now.blind else {}
        if now.form == "adjudication":
            dispute = self.dispute(case.exam_id)
            shown = {**shown, "reads": list(dispute.read_ids) if dispute else []}
        submission = submission_of(
            case, draft, role=role, model_hash=self.run.manifest.model_hash, visible=now.visible, shown=shown
        )
        return self.store.save(submission)

    def _answer(self, case: Case) -> dict[str, Any]:
        """Return the model's answer to an exam: of an eye's figures one per eye, and which maps there are."""
        of_eyes = {eye: case.model_answer(eye) for eye in case.eyes}
        names = dict.fromkeys(name for answer in of_eyes.values() for name in answer)
        whole: dict[str, Any] = {}
        for name in names:
            held = {eye: answer[name] for eye, answer in of_eyes.items() if name in answer}
            whole[name] = next(iter(held.values())) if name.startswith("exam_") else held
        return {**whole, "maps": list(self.run.methods())}

    def disputes(self) -> list[Dispute]:
        """Return the exams about which readers differ; found once per state of the trail."""
        return self._disputes(self.store.head())

    def _find_disputes(self, head: str) -> list[Dispute]:  # noqa: ARG002
        return disputes(self.store.current(self.run_id, of_several_readers=True))

    def dispute(self, exam_id: str) -> Dispute | None:
        """Return what readers differ in about one exam, None where they do not."""
        found = disputes(self.store.current(self.run_id, exam_id=exam_id))
        return found[0] if found else None

    def adjudicated(self) -> set[str]:
        """Return the exams that an adjudicator has decided."""
        return {exam_id for exam_id, _, _, stage in self.store.progress(self.run_id) if stage == "adjudication"}

    def _make_study(self, head: str) -> ReaderStudy:  # noqa: ARG002  # one study per state of the trail
        names = {user.subject: user.pseudonym for user in People(self.store.database).users()}
        return reader_study(self.run, self.store.current(self.run_id), names=names)


def desk_from_environment() -> Desk:
    """Open what `workbench review` named.

    Raises:
        WorkbenchError: nothing was named, or it cannot be opened.
    """
    folder = os.environ.get(RUN_VARIABLE)
    if not folder:
        raise WorkbenchError("no run was named", "start this app with 'workbench review RUN'")
    data = os.environ.get(DATA_VARIABLE)
    protocol = os.environ.get(PROTOCOL_VARIABLE) or "assisted"
    desk = Desk(Path(folder), Path(data) if data else None, os.environ.get(DATABASE_VARIABLE) or None, protocol)
    desk.reader = os.environ.get(READER_VARIABLE, "")
    if os.environ.get(IDENTIFIERS_VARIABLE) == "never":
        desk.identifiers = "never"
    return desk
