"""What the pages call, on both kinds of database."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reader_words import blinded
from workbench.review.desk import DATABASE_VARIABLE, RUN_VARIABLE, Desk, desk_from_environment
from workbench.review.disputes import disputes
from workbench.review.draft import eyes_to_read
from workbench.review.reads import EyeRead, Submission
from workbench.review.standing import standing
from workbench.schema.errors import WorkbenchError


def test_a_read_made_at_the_desk_is_kept_in_the_database_that_was_named(
    where: Path | str, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{where}" if isinstance(where, Path) else where
    monkeypatch.setenv(RUN_VARIABLE, str(run_copy))
    monkeypatch.setenv(DATABASE_VARIABLE, url)
    desk = desk_from_environment()
    case = next(case for case in map(desk.case, desk.run.exam_ids) if len(eyes_to_read(case)) == 2)
    draft = desk.draft(case.exam_id, "Dr A", "single")
    for said in draft.eyes.values():
        said.update(grade="ungradable", reason="image_quality", note="=blur")
    desk.keep(draft, case)
    assert desk.draft(case.exam_id, "Dr A", "single").eyes == draft.eyes
    now = desk.standing(case.exam_id, "Dr A")
    saved = desk.save(case, draft, now)
    assert desk.save(case, draft, now) == saved
    assert desk.store.load_draft(draft.place) is None
    desk.close()
    again = Desk(run_copy, None, url)
    assert tuple(again.current_reads(case.exam_id, "Dr A").values()) == saved
    assert {read.model_hash for read in saved} == {again.run.manifest.model_hash}
    assert again.worklist("Dr A").counts()[1] == 1
    assert again.store.verify().first_bad is None
    again.close()
    assert not (run_copy / "reviews.sqlite").exists()


def test_the_blinded_protocol_reveals_one_stage_at_a_time() -> None:
    seen = []
    revealed: list[str] = []
    now = standing("blinded", {"first"}, revealed)
    while now.next_reveal is not None:
        assert now.form is None
        seen.append(now.visible)
        revealed.append(now.next_reveal)
        now = standing("blinded", {"first"}, revealed)
    assert seen == ["first", "grade", "uncertainty"]
    assert (now.form, now.visible) == ("second", "second")
    assert standing("blinded", (), ("map",)).form == "first"  # the store then refuses the blinded read


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (0, 0, ""),
        (0, 1, ""),
        (1, 2, "referable or not"),
        (3, 4, ""),
        (2, 4, "2 grades apart"),
        (None, 3, "gradable or not"),
        (None, None, ""),
    ],
)
def test_readers_differ_across_referable_by_two_grades_or_in_gradability(
    one: int | None, other: int | None, why: str, run_copy: Path
) -> None:
    desk = Desk(run_copy)
    for reader, grade in (("Dr A", one), ("Dr B", other)):
        eyes = (EyeRead(eye="OD", gradable=grade is not None, icdr_grade=grade),)
        read = blinded(f"key-{reader}", "first", reader=reader).model_dump() | {"run_id": desk.run_id, "eyes": eyes}
        desk.store.save(Submission.model_validate(read))
    found = desk.disputes()
    assert [dispute.why for dispute in found] == ([{"OD": why}] if why else [])
    assert disputes(reversed(desk.store.current(desk.run_id))) == found or not why
    desk.close()


def test_an_unknown_protocol_is_one_line(run_copy: Path) -> None:
    with pytest.raises(WorkbenchError, match="no protocol 'blind'"):
        Desk(run_copy, protocol="blind")
