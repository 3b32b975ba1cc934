"""Which exams need a human, the most pressing first. The true grades are not in here: a reader must not see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import pandas as pd

from workbench.audit.layout import CLEAN
from workbench.audit.results import Run
from workbench.review.cases import eyes_disagree, referable_threshold
from workbench.review.reads import SavedRead
from workbench.schema.grades import EYES

REFERRED, AT_RISK, ROUTINE = 0, 1, 2
TIERS: Final = {REFERRED: "referred", AT_RISK: "check", ROUTINE: "routine"}
"""Referred by the policy; not referred, but with a sign of a silent failure; neither."""


def make_worklist(run: Run) -> pd.DataFrame:
    """Return one row per exam, ordered by what needs a human.

    First the exams that the policy referred, those without an answer before all, then by uncertainty. Then those that
    were *not* referred but whose call flips unnoticed under a stress, or whose eyes disagree, by how often. Then the
    rest, by uncertainty.

    Columns: ``exam_id, patient_id, tier, called_referable, p_referable, score, rank, referred, referred_why,
    grade_OD, grade_OS, status_OD, status_OS, incomplete, eyes_disagree, silent_flips, stresses, why``.
    """
    decisions = run.decisions()
    clean = decisions[decisions["measurement"] == CLEAN].set_index("exam_id")
    table = _identity(run)
    kept = clean[["called_referable", "p_referable", "score", "referred", "referred_why"]]
    table = table.join(kept, on="exam_id").join(_grades(run), on="exam_id").join(_flips(decisions), on="exam_id")
    table["referred"] = table["referred"].fillna(True).astype(bool)  # no decision at all: a human must look
    table["rank"] = table["score"].rank(pct=True)
    for column in ("silent_flips", "stresses"):
        table[column] = table[column].fillna(0).astype(int)
    table["eyes_disagree"] = table["eyes_disagree"].fillna(False).astype(bool)
    at_risk = (table["silent_flips"] > 0) | table["eyes_disagree"]
    table["tier"] = np.where(table["referred"], REFERRED, np.where(at_risk, AT_RISK, ROUTINE))
    table["why"] = [_why(row) for row in table.itertuples()]
    return _ordered(table)


def _identity(run: Run) -> pd.DataFrame:
    eyes = run.eyes()
    statuses = eyes.pivot(index="exam_id", columns="eye", values="status").reindex(columns=list(EYES))
    statuses = statuses.fillna("missing").add_prefix("status_")
    table = eyes[["exam_id", "patient_id"]].drop_duplicates("exam_id").join(statuses, on="exam_id")
    table["incomplete"] = (statuses != "ok").any(axis=1).reindex(table["exam_id"]).to_numpy()
    return table.reset_index(drop=True)


def _grades(run: Run) -> pd.DataFrame:
    answers = run.eye_answers()
    clean = answers[answers["measurement"] == CLEAN]
    eyes = list(EYES)
    grades = clean.pivot(index="exam_id", columns="eye", values="grade_predicted").reindex(columns=eyes).astype("Int64")
    p_referable = clean.pivot(index="exam_id", columns="eye", values="p_referable").reindex(columns=eyes)
    both = grades.notna().all(axis=1).to_numpy()
    called = p_referable.to_numpy(float) >= referable_threshold(run)
    disagree = both & eyes_disagree(grades.fillna(0).to_numpy(np.int64), called)
    return grades.add_prefix("grade_").assign(eyes_disagree=disagree)


def _flips(decisions: pd.DataFrame) -> pd.DataFrame:
    """Count, per exam, the stresses and those under which the call flips without a referral."""
    clean = decisions[decisions["measurement"] == CLEAN].set_index("exam_id")["called_referable"]
    stressed = decisions[decisions["measurement"] != CLEAN]
    before = stressed["exam_id"].map(clean)
    flipped = (stressed["called_referable"] != before).fillna(False).astype(bool)
    silent = flipped & ~stressed["referred"].fillna(True).astype(bool)
    counts = pd.DataFrame({"exam_id": stressed["exam_id"], "silent_flips": silent, "stresses": True})
    return counts.groupby("exam_id").sum()


def _why(row: tuple[object, ...]) -> str:
    values = row._asdict()  # type: ignore[attr-defined]
    reasons = []
    for eye, name in (("OD", "right eye"), ("OS", "left eye")):
        if values[f"status_{eye}"] != "ok":
            reasons.append(f"{name} {values[f'status_{eye}']}")
    if values["referred"] and not values["incomplete"]:
        reasons.append("model unsure")
    if values["eyes_disagree"]:
        reasons.append("eyes disagree")
    if values["silent_flips"]:
        reasons.append(f"flips unnoticed under {values['silent_flips']} of {values['stresses']} stresses")
    return ", ".join(reasons)


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    risk = np.where(table["tier"] == AT_RISK, table["silent_flips"] + 0.5 * table["eyes_disagree"], 0.0)
    keys = table.assign(_no_answer=table["score"].isna(), _risk=risk)
    order = keys.sort_values(
        ["tier", "_no_answer", "_risk", "score", "exam_id"], ascending=[True, False, False, False, True]
    ).index
    return table.loc[order].reset_index(drop=True)


def with_reads(worklist: pd.DataFrame, current: Sequence[SavedRead], reader: str) -> pd.DataFrame:
    """Add ``read_by`` (names) and ``decided``: this reader has read every eye that has a photograph."""
    mine: dict[str, set[str]] = {}
    readers: dict[str, list[str]] = {}
    for read in current:
        if read.reader == reader:
            mine.setdefault(read.exam_id, set()).add(read.eye)
        if read.reader not in readers.setdefault(read.exam_id, []):
            readers[read.exam_id].append(read.reader)
    decided = []
    for row in worklist.itertuples():
        to_read = {eye for eye in EYES if getattr(row, f"status_{eye}") != "missing"}
        decided.append(row.exam_id in mine and to_read <= mine[row.exam_id])
    read_by = [", ".join(readers.get(exam_id, ())) for exam_id in worklist["exam_id"]]
    return worklist.assign(read_by=read_by, decided=decided)


@dataclass(frozen=True)
class WorklistFilter:
    """What a reader wants to see; every condition must hold.

    Args:
        referred: only exams that the policy referred.
        undecided: only exams that this reader has not read.
        incomplete: only exams with a missing or ungradable eye.
        eyes_disagree: only exams whose eyes disagree.
        grades: only exams with an eye of one of these grades, as the model says; all when empty.
        search: part of a patient's or exam's name.
    """

    referred: bool = False
    undecided: bool = False
    incomplete: bool = False
    eyes_disagree: bool = False
    grades: tuple[int, ...] = ()
    search: str = ""

    @property
    def active(self) -> bool:
        """Whether anything is left out."""
        return any(getattr(self, field.name) for field in fields(self))

    def apply(self, worklist: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a worklist with reads that pass, in their order."""
        keep = pd.Series(True, index=worklist.index)
        if self.undecided:
            keep &= ~worklist["decided"]
        for column in ("referred", "incomplete", "eyes_disagree"):
            if getattr(self, column):
                keep &= worklist[column]
        if self.grades:
            keep &= worklist["grade_OD"].isin(self.grades) | worklist["grade_OS"].isin(self.grades)
        if self.search.strip():
            names = worklist["patient_id"].astype(str) + "\n" + worklist["exam_id"].astype(str)
            keep &= names.str.contains(self.search.strip(), case=False, regex=False)
        return worklist[keep.astype(bool)]


def neighbours(worklist: pd.DataFrame, exam_id: str) -> tuple[str | None, str | None]:
    """Return the exams before and after this one, None at either end."""
    exams = list(worklist["exam_id"])
    if exam_id not in exams:
        return None, None
    place = exams.index(exam_id)
    return (exams[place - 1] if place else None), (exams[place + 1] if place + 1 < len(exams) else None)


def next_undecided(worklist: pd.DataFrame, after: str | None = None) -> str | None:
    """Return the most pressing exam that is not decided; the next one down the list when ``after`` is given."""
    exams, decided = list(worklist["exam_id"]), list(worklist["decided"])
    start = exams.index(after) + 1 if after in exams else 0
    for place in (*range(start, len(exams)), *range(start)):
        if not decided[place] and exams[place] != after:
            return str(exams[place])
    return None
