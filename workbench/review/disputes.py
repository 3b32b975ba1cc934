"""Where two readers differ so far that a third must decide: found, shown without names, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from workbench.review.reads import SavedRead
from workbench.schema.files import canonical_hash
from workbench.schema.grades import EYES, REFERABLE_GRADE

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FAR: Final = 2
"""Grades apart from which two reads differ, whichever side of referable they lie on."""


@dataclass(frozen=True)
class Dispute:
    """An exam about which readers differ.

    Args:
        reads: one tuple per reader, their last word on each eye, in an order that names nobody.
        why: per eye that is in dispute, what about.
    """

    exam_id: str
    patient_id: str
    reads: tuple[tuple[SavedRead, ...], ...]
    why: dict[str, str]

    @property
    def read_ids(self) -> tuple[int, ...]:
        """What the adjudicator is shown, as stored with the decision."""
        return tuple(read.id for of_reader in self.reads for read in of_reader)


def differ(one: SavedRead, other: SavedRead) -> str:
    """Return what two reads of an eye differ in, empty where they are near enough.

    One grade apart matters across *referable*, two matter everywhere, and so does an eye that only one could grade.
    """
    if one.gradable != other.gradable:
        return "gradable or not"
    if one.icdr_grade is None or other.icdr_grade is None:
        return ""
    if (one.icdr_grade >= REFERABLE_GRADE) != (other.icdr_grade >= REFERABLE_GRADE):
        return "referable or not"
    apart = abs(one.icdr_grade - other.icdr_grade)
    return f"{apart} grades apart" if apart >= FAR else ""


def disputes(reads: Iterable[SavedRead]) -> list[Dispute]:
    """Return the exams about which two readers or more differ, in the order in which they were read.

    Args:
        reads: those that nothing supersedes, oldest first; of each reader the last word on an eye counts, whatever the
            protocol, and an adjudication is none.
    """
    last: dict[str, dict[str, dict[str, SavedRead]]] = {}
    for read in reads:
        if read.stage != "adjudication":
            last.setdefault(read.exam_id, {}).setdefault(read.reader, {})[read.eye] = read
    found = (_dispute(exam_id, list(of_reader.values())) for exam_id, of_reader in last.items())
    return [dispute for dispute in found if dispute is not None]


def _dispute(exam_id: str, readers: Sequence[dict[str, SavedRead]]) -> Dispute | None:
    why = {}
    for eye in EYES:
        of_eye = [reads[eye] for reads in readers if eye in reads]
        pairs = [differ(one, other) for place, one in enumerate(of_eye) for other in of_eye[place + 1 :]]
        said = [words for words in pairs if words]
        if said:
            why[eye] = said[0]
    if not why:
        return None
    any_read = next(iter(readers[0].values()))
    ordered = sorted(readers, key=lambda reads: _nameless(exam_id, next(iter(reads.values())).reader))
    shown = tuple(tuple(reads[eye] for eye in EYES if eye in reads) for reads in ordered)
    return Dispute(exam_id, any_read.patient_id, shown, why)


def _nameless(exam_id: str, reader: str) -> str:
    """Return a place in an order that changes from exam to exam, so that 'A' is not always the same person."""
    return canonical_hash([exam_id, reader])
