import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from workbench.audit import schemas
from workbench.audit.results import open_run
from workbench.audit.row_names import ROW_NAMES
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import EYES


def test_every_table_has_exactly_its_columns(finished_run: Path) -> None:
    run = open_run(finished_run)
    assert list(run.eyes().columns) == schemas.EXAMS_SCHEMA.names
    assert list(run.rows().columns) == schemas.ROWS_SCHEMA.names
    assert list(run.decisions().columns) == schemas.DECISIONS_SCHEMA.names
    assert list(run.eye_answers().columns) == schemas.EYES_SCHEMA.names
    assert set(run.rows()["name"]) <= set(ROW_NAMES)


def test_two_rows_per_exam_right_eye_first(finished_run: Path) -> None:
    eyes = open_run(finished_run).eyes()
    assert eyes["eye"].to_list() == list(EYES) * (len(eyes) // 2)


def test_draws_are_probabilities_and_nan_for_a_missing_eye(finished_run: Path) -> None:
    run = open_run(finished_run)
    whole, one_eyed = run.draws("clean", "exam-000"), run.draws("clean", "exam-001")
    assert whole is not None
    assert one_eyed is not None
    assert whole.shape == (run.manifest.draws, 2, 5)
    np.testing.assert_allclose(whole.sum(axis=-1), 1, atol=1e-5)
    assert np.isnan(one_eyed[:, 1]).all()
    assert not np.isnan(one_eyed[:, 0]).any()


def test_what_was_not_measured_is_none(finished_run: Path) -> None:
    run = open_run(finished_run)
    assert run.draws("clean", "nobody") is None
    assert run.draws("no such stress@1", "exam-000") is None
    assert run.draws("pgd@2", "exam-005") is None  # it failed
    assert run.photograph("exam-001", "OS") is None
    assert run.heat_map("exam-001", "OS", "grad_cam") is None
    assert run.heat_map("exam-000", "OD", "no such method") is None


def test_a_photograph_is_a_jpeg_and_a_map_has_its_size(finished_run: Path) -> None:
    run = open_run(finished_run)
    photograph, heat = run.photograph("exam-000", "OD"), run.heat_map("exam-000", "OD", "grad_cam")
    assert photograph is not None
    assert photograph.startswith(b"\xff\xd8")
    assert heat is not None
    assert heat.values is not None
    assert heat.values.shape == (64, 64)
    assert heat.values.dtype == np.float32
    assert heat.withheld is None


def test_a_withheld_map_has_its_reason_and_no_values(finished_run: Path) -> None:
    heat = open_run(finished_run).heat_map("exam-004", "OD", "integrated_gradients")
    assert heat is not None
    assert heat.values is None
    assert "miss" in str(heat.withheld)
    assert heat.completeness_gap == pytest.approx(0.4)


def test_failures_and_counts_add_up_to_the_plan(finished_run: Path) -> None:
    run = open_run(finished_run)
    assert set(run.failures()["exam_id"]) == {"exam-005"}
    counted = run.summary.done + run.summary.failed + run.summary.skipped
    assert counted == 2 * len(run.exam_ids) * len(run.manifest.measurements)
    assert run.summary.failed == 2


def test_stress_checks_hold_a_row_per_exam_that_was_stressed(finished_run: Path) -> None:
    run = open_run(finished_run)
    checks = run.stress_checks()
    assert set(checks["measurement"]) == {m.id for m in run.manifest.measurements if m.stress}
    pgd = checks[checks["measurement"] == "pgd@2"].set_index("exam_id")
    assert len(pgd) == len(run.exam_ids) - 1
    assert np.isnan(pgd.loc["exam-001", "linf_os"])
    assert pgd.loc["exam-000", "linf_od"] == pytest.approx(2 / 255)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("run.json", "no run at"),
        ("exams.parquet", r"exams\.parquet is missing"),
        ("parts/jpeg@5/00001.parquet", r"not finished: 1 parts are missing, first .*jpeg@5"),
        ("analysis/rows.parquet", r"rows\.parquet is missing"),
        ("analysis/summary.json", r"summary\.json is missing"),
    ],
)
def test_what_is_missing_is_named(run_copy: Path, gone: str, said: str) -> None:
    (run_copy / gone).unlink()
    with pytest.raises(WorkbenchError, match=said):
        open_run(run_copy)


def test_reading_and_analysing_a_run_needs_no_torch() -> None:
    code = "import sys, workbench.audit.results, workbench.audit.analysis; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
