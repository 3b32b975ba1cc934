"""Which exams need a human, the most pressing first, a page at a time. The true grades are not in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Int

from workbench.audit.results import Run
from workbench.review.pseudonyms import Pseudonyms
from workbench.review.worklist_index import AT_RISK, BLIND_ORDER, ORDERS, REFERRED, ROUTINE, TIERS, WorklistIndex
from workbench.review.worklist_reads import ReadMirror
from workbench.schema.errors import WorkbenchError

__all__ = [
    "AT_RISK",
    "ORDERS",
    "REFERRED",
    "ROUTINE",
    "TIERS",
    "ReaderWorklist",
    "WorklistFilter",
    "make_worklist",
    "neighbours",
    "next_undecided",
]

_FLAGS: Final = ("referred", "incomplete", "eyes_disagree", "flagged")
_MINE: Final = "by_priority IN (SELECT place FROM finished WHERE reader = $reader)"
_BY_READERS: Final = {
    "undecided": f"NOT ({_MINE})",
    "unread": "by_priority NOT IN (SELECT place FROM read_log)",
    "assigned": "by_priority IN (SELECT place FROM given WHERE reader = $reader)",
}
_BY_PSEUDONYM: Final = "by_priority IN (SELECT place FROM pseudonyms WHERE contains(shown, $search))"
COLUMNS: Final = (
    "exam_id, patient_id, tier, called_referable, p_referable, score, rank, risk, referred, referred_why, grade_OD, "
    "grade_OS, status_OD, status_OS, incomplete, eyes_disagree, flag, silent_flips, stresses, camera, site, token"
)


@dataclass(frozen=True)
class WorklistFilter:
    """What a reader wants to see, and in which order; every condition must hold.

    Args:
        referred: only exams that the policy referred.
        undecided: only exams that this reader has not read.
        unread: only exams that nobody has read any eye of.
        assigned: only exams that were given to this reader.
        incomplete: only exams with a missing or ungradable eye.
        eyes_disagree: only exams whose eyes disagree.
        flagged: only exams with an eye that was flagged before grading, as unlike the training photographs or turned.
        grades: only exams with an eye of one of these grades, as the model says; all when empty.
        camera: only of this camera; all when empty.
        site: only of this site; all when empty.
        search: part of a patient's or exam's pseudonym, or of the true name where that is shown.
        order: one of `ORDERS`.
    """

    referred: bool = False
    undecided: bool = False
    unread: bool = False
    assigned: bool = False
    incomplete: bool = False
    eyes_disagree: bool = False
    flagged: bool = False
    grades: tuple[int, ...] = ()
    camera: str = ""
    site: str = ""
    search: str = ""
    order: str = "priority"

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise WorkbenchError(f"the worklist has no order {self.order!r}", f"choose one of {', '.join(ORDERS)}")

    @property
    def active(self) -> bool:
        """Whether anything is left out."""
        return any(value for name, value in asdict(self).items() if name != "order")

    def blinded(self) -> WorklistFilter:
        """Return the filter without what the model said, in an order that has nothing to do with it."""
        no_model: dict[str, Any] = dict.fromkeys(("referred", "eyes_disagree", "flagged"), False)
        return replace(self, **no_model, grades=(), order=BLIND_ORDER)

    @classmethod
    def from_kept(cls, kept: Mapping[str, Any]) -> WorklistFilter:
        """Return a filter as it was kept; what this version does not know, or knows as another kind, is left out."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            value = kept.get(field.name, field.default)
            value = tuple(value) if isinstance(value, list) else value
            values[field.name] = value if isinstance(value, type(field.default)) else field.default
        if values["order"] not in ORDERS:
            values["order"] = "priority"
        values["grades"] = tuple(grade for grade in values["grades"] if isinstance(grade, int))
        return cls(**values)

    def kept(self) -> dict[str, Any]:
        """Return the filter as plain JSON, without what is at its default."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen = {name: value for name, value in values.items() if value not in (False, (), "")}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()}

    def conditions(self, reader: str, *, true_names: bool = False) -> tuple[list[str], dict[str, Any]]:
        """Return the conditions in SQL over the index, and what they are to be given.

        Args:
            reader: whose reads count.
            true_names: whether the search looks at true identifiers too; else at pseudonyms alone, since finding a
                patient by the true name would tell whose exam it is.
        """
        found = [name for name in _FLAGS if getattr(self, name)]
        found += [words for name, words in _BY_READERS.items() if getattr(self, name)]
        given: dict[str, Any] = {"reader": reader} if self.undecided or self.assigned else {}
        if self.grades:
            found.append("(list_contains($grades, grade_OD) OR list_contains($grades, grade_OS))")
            given["grades"] = list(self.grades)
        for name in ("camera", "site"):
            if value := getattr(self, name):
                found.append(f"{name} = ${name}")
                given[name] = value
        if words := self.search.strip().lower():
            found.append(f"({_BY_PSEUDONYM}{' OR contains(names, $search)' if true_names else ''})")
            given["search"] = words
        return found, given


class ReaderWorklist:
    """The exams that a reader's filter lets through, in its order; every answer is a query, no table is held.

    Args:
        index: of the run.
        mirror: of what was read and given.
        reader: whose reads count as decided.
        chosen: the filter.
        names: makes pseudonyms.
        true_names: whether this reader's page shows the true identifiers.
    """

    def __init__(
        self,
        index: WorklistIndex,
        mirror: ReadMirror,
        reader: str,
        chosen: WorklistFilter,
        names: Pseudonyms,
        *,
        true_names: bool = False,
    ) -> None:
        self.index = index
        self.reader = reader
        self.chosen = chosen
        self._mirror = mirror
        self._true_names = true_names
        if chosen.search.strip():
            index.ready_for(names)
        self._place = f"by_{chosen.order}"
        mirror.refresh()

    def __len__(self) -> int:
        """Return how many exams pass."""
        return len(self._passing()) if self.chosen.active else len(self.index)

    def counts(self) -> tuple[int, int]:
        """Return how many exams pass, and how many of them this reader has read."""
        if not self.chosen.active:
            read = self.index.one("SELECT count(*) FROM finished WHERE reader = ?", [self.reader])
            return len(self.index), int(read[0])
        where, given = self._where()
        query = f"SELECT count(*), count(*) FILTER ({_MINE}) FROM index.exams WHERE {where}"
        passing, read_of_them = self.index.one(query, {**given, "reader": self.reader})
        return int(passing), int(read_of_them)

    def page(self, begin: int, count: int) -> pd.DataFrame:
        """Return exams ``begin`` to ``begin + count`` of those that pass.

        Columns: those of `COLUMNS`; ``why``, in words; ``decided``: this reader has read every eye that has a
        photograph; ``read_by``: names; ``assigned_to``: names.
        """
        places = self._places(begin, count)
        with self.index.connection.cursor() as cursor:
            rows = cursor.execute(
                f"""SELECT {COLUMNS}, {_MINE} AS decided,
                    coalesce((SELECT string_agg(reader, ', ' ORDER BY came) FROM (
                        SELECT reader, min(event_id) AS came FROM read_log
                        WHERE place = by_priority GROUP BY reader)), '') AS read_by,
                    coalesce((SELECT string_agg(reader, ', ' ORDER BY reader) FROM given
                        WHERE place = by_priority), '') AS assigned_to
                FROM (SELECT * FROM index.exams WHERE {self._place} IN (SELECT unnest($places::INTEGER[])))
                ORDER BY {self._place}""",
                {"places": places, "reader": self.reader},
            ).df()
        rows["why"] = [_why(row._asdict()) for row in rows.itertuples()]
        return rows

    def first(self, count: int) -> list[tuple[str, str]]:
        """Return the first exams that pass, as (patient, exam)."""
        where, given = self._where()
        query = f"SELECT patient_id, exam_id FROM index.exams WHERE {where} ORDER BY {self._place} LIMIT $count"
        return [(str(patient), str(exam)) for patient, exam in self.index.all(query, {**given, "count": count})]

    def neighbours(self, exam_id: str) -> tuple[str | None, str | None]:
        """Return the exams before and after this one, None at either end; it need not pass itself."""
        place = self._place_of(exam_id)
        if place is None:
            return None, None
        return self._beside(place, "<", "DESC"), self._beside(place, ">", "ASC")

    def next_undecided(self, after: str | None = None) -> str | None:
        """Return the most pressing exam that is not decided; the next one down the list when ``after`` is given."""
        place = None if after is None else self._place_of(after)
        below = None if place is None else self._beside(place, ">", "ASC", undecided=True)
        if below is not None:
            return below
        return self._beside(len(self.index) if place is None else place, "<", "ASC", undecided=True)

    def _beside(self, place: int, side: str, direction: str, *, undecided: bool = False) -> str | None:
        where, given = self._where(*([_BY_READERS["undecided"]] if undecided else []))
        given = {**given, "place": place, **({"reader": self.reader} if undecided else {})}
        query = (
            f"SELECT exam_id FROM index.exams WHERE {self._place} {side} $place AND {where} "
            f"ORDER BY {self._place} {direction} LIMIT 1"
        )
        found = self.index.all(query, given)
        return str(found[0][0]) if found else None

    def _place_of(self, exam_id: str) -> int | None:
        found = self.index.all(f"SELECT {self._place} FROM index.exams WHERE exam_id = ?", [exam_id])
        return int(found[0][0]) if found else None

    def _places(self, begin: int, count: int) -> list[int]:
        """Return the places of a page; only whole numbers are sorted, the rows are fetched after."""
        if not self.chosen.active:
            return list(range(begin, min(begin + count, len(self.index))))
        return [int(place) for place in self._passing()[begin : begin + count]]

    def _passing(self) -> Int[np.ndarray, " exam"]:
        """Return the places of all that pass, in order; kept until somebody reads or is given an exam."""
        where, given = self._where()
        return self.index.places_of(where, given, self._place, self._mirror.stamp)

    def _where(self, *more: str) -> tuple[str, dict[str, Any]]:
        conditions, given = self.chosen.conditions(self.reader, true_names=self._true_names)
        return " AND ".join([*conditions, *more]) or "true", given


def _why(row: Mapping[str, Any]) -> str:
    reasons = []
    for eye, name in (("OD", "right eye"), ("OS", "left eye")):
        if row[f"status_{eye}"] != "ok":
            reasons.append(f"{name} {row[f'status_{eye}']}")
    if row["referred"] and not row["incomplete"]:
        reasons.append("model unsure")
    if row["eyes_disagree"]:
        reasons.append("eyes disagree")
    if row["silent_flips"]:
        reasons.append(f"flips unnoticed under {row['silent_flips']} of {row['stresses']} stresses")
    if isinstance(row["flag"], str):
        reasons.append(f"flagged: {row['flag']}")
    return ", ".join(reasons)


def make_worklist(run: Run) -> pd.DataFrame:
    """Return the whole index of a run as a table, in the order of priority: for scripts, not for a page."""
    index = WorklistIndex(run)
    with index.connection.cursor() as cursor:
        table = cursor.execute(f"SELECT {COLUMNS} FROM index.exams ORDER BY by_priority").df()
    index.close()
    return table.assign(why=[_why(row._asdict()) for row in table.itertuples()])


def neighbours(worklist: ReaderWorklist, exam_id: str) -> tuple[str | None, str | None]:
    """Return the exams before and after this one, None at either end."""
    return worklist.neighbours(exam_id)


def next_undecided(worklist: ReaderWorklist, after: str | None = None) -> str | None:
    """Return the most pressing exam that is not decided; the next one down the list when ``after`` is given."""
    return worklist.next_undecided(after)
