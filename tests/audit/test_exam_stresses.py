"""Mix-ups of exams and worst cases as measurements of a run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.audit.conftest import Small
from workbench.audit.layout import part_path
from workbench.audit.results import Run
from workbench.audit.runner import run_audit
from workbench.schema.errors import WorkbenchError

MIXED = (
    "stresses=[{name: swapped_eyes, strengths: [1]}, {name: missing_eye, strengths: [1], eyes: OS}, "
    "{name: wrong_eye, strengths: [1]}, {name: worst_dust, strengths: [4], options: {tries: 2, steps: 1}}, "
    "{name: haze, strengths: [2.5], eyes: OD}]"
)

SEARCH = "severity_search={corruptions: [underexposure], exams: null}"


@pytest.fixture(scope="module")
def mixed(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_audit(small.config(MIXED, SEARCH, "explanations.methods=[]"), tmp_path_factory.mktemp("mixed") / "run")


def rows_of(run: Run, measurement: str) -> pd.DataFrame:
    parts = pd.concat([run.part(measurement, chunk) for chunk in range(2)])
    return parts.set_index(["exam_id", "eye"])


def test_every_planned_row_is_done_failed_or_skipped(mixed: Run) -> None:
    summary = mixed.summary
    planned = 2 * 6 * len(mixed.manifest.measurements)
    assert summary.done + summary.failed + summary.skipped == planned
    assert summary.failed == 0


def test_an_eye_that_was_taken_away_is_said_and_its_exam_is_incomplete(mixed: Run) -> None:
    rows = rows_of(mixed, "missing_eye@1.OS")
    assert rows.loc[("e0", "OS"), "status"] == "skipped"
    assert rows.loc[("e0", "OS"), "reason"] == "taken away by the stress"
    assert rows.loc[("e0", "OD"), "status"] == "done"
    decisions = mixed.decisions().query("measurement == 'missing_eye@1.OS'").set_index("exam_id")
    assert decisions.loc["e0", "referred_why"] == "incomplete"


def test_swapped_eyes_answer_for_each_other_and_one_eye_cannot_be_swapped(mixed: Run) -> None:
    rows = rows_of(mixed, "swapped_eyes@1")
    assert (rows.loc["e1", "status"] == "skipped").all()
    assert "not applicable" in rows.loc[("e1", "OD"), "reason"]
    assert (rows.loc["e0", "status"] == "done").all()


def test_another_patients_eye_does_not_depend_on_the_chunk(mixed: Run, small: Small, tmp_path: Path) -> None:
    again = run_audit(small.config(MIXED, SEARCH, "explanations.methods=[]", "batch_size=6"), tmp_path / "run")
    one, other = rows_of(mixed, "wrong_eye@1"), again.part("wrong_eye@1", 0).set_index(["exam_id", "eye"])
    assert (one["linf"].dropna() > 0).sum() >= 5
    pd.testing.assert_series_equal(one["linf"], other["linf"])


def test_a_stress_of_an_exam_is_checked_before_anything_is_loaded(small: Small, tmp_path: Path) -> None:
    for stress, says in (
        ("{name: swapped_eyes, strengths: [3]}", "strength is 3"),
        ("{name: swaped_eyes, strengths: [1]}", "swapped_eyes"),
    ):
        with pytest.raises(WorkbenchError, match=says):
            run_audit(small.config(f"stresses=[{stress}]"), tmp_path / "run")
    assert not part_path(tmp_path / "run", "clean", 0).exists()


def test_the_mildest_severity_becomes_rows(mixed: Run) -> None:
    rows = mixed.rows().query("name == 'flipped_up_to' and measurement == 'mildest.underexposure'")
    assert len(rows) == 10
    wide = rows.pivot(index="at", columns="of", values="value")
    assert (wide["accepted"] <= wide["any quality"]).all()
    assert wide["any quality"].is_monotonic_increasing
    assert (rows["n"] == 6).all()


def test_an_unknown_corruption_to_search_is_told_before_anything_is_loaded(small: Small, tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="severity_search: unknown corruption 'fog'"):
        run_audit(small.config("severity_search.corruptions=[fog]"), tmp_path / "run")
