from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.audit import layout, schemas
from workbench.audit.plan import all_units, missing_parts, pending_units, sample, units_of
from workbench.audit.run_manifest import MeasurementSpec, read_manifest
from workbench.schema.errors import WorkbenchError

EXAMS = [f"exam {number}" for number in range(100)]


def test_a_smaller_sample_lies_within_a_larger_one_and_keeps_the_order() -> None:
    small, large = sample(EXAMS, 10, seed=1), sample(EXAMS, 30, seed=1)
    assert len(small) == 10
    assert set(small) < set(large)
    assert [exam for exam in EXAMS if exam in large] == large
    assert sample(EXAMS, None, seed=1) == sample(EXAMS, 100, seed=1) == EXAMS


def test_another_seed_draws_others_and_an_exam_is_drawn_whatever_its_place() -> None:
    assert sample(EXAMS, 10, seed=1) != sample(EXAMS, 10, seed=2)
    assert set(sample(EXAMS[::-1], 10, seed=1)) == set(sample(EXAMS, 10, seed=1))


@pytest.mark.parametrize("exams", [None, 1, 7, 12, 50])
def test_units_cover_each_exam_of_the_sample_once(finished_run: Path, exams: int | None) -> None:
    manifest = read_manifest(finished_run)
    units = units_of(manifest, EXAMS, MeasurementSpec(id="x", kind="draws", exams=exams))
    covered = [exam for unit in units for exam in unit.exam_ids]
    assert covered == sample(EXAMS, exams, manifest.seed)
    assert all(len(unit.exam_ids) == manifest.chunk for unit in units[:-1])
    assert [unit.chunk for unit in units] == list(range(len(units)))


def test_a_measurement_may_have_smaller_units_and_without_them_the_plan_is_as_it_was(finished_run: Path) -> None:
    manifest, few = read_manifest(finished_run), MeasurementSpec(id="x", kind="map_trust", exams=7, chunk=2)
    assert [len(unit.exam_ids) for unit in units_of(manifest, EXAMS, few)] == [2, 2, 2, 1]
    assert len(missing_parts(finished_run, manifest.model_copy(update={"measurements": (few,)}), len(EXAMS))) == 4
    assert MeasurementSpec.model_validate(few.for_the_plan()) == few
    assert "chunk" not in MeasurementSpec(id="x", kind="map_trust").for_the_plan()


def test_what_is_pending_is_the_plan_minus_the_parts(run_copy: Path) -> None:
    manifest = read_manifest(run_copy)
    exams = [f"exam-{number:03d}" for number in range(12)]
    assert pending_units(run_copy, manifest, exams) == []
    layout.part_path(run_copy, "pgd@2", 1).unlink()
    assert [(unit.measurement.id, unit.chunk) for unit in pending_units(run_copy, manifest, exams)] == [("pgd@2", 1)]
    assert pending_units(run_copy.parent / "empty", manifest, exams) == all_units(manifest, exams)


def test_equal_rows_are_equal_bytes_and_come_back(tmp_path: Path) -> None:
    rows = [{"name": "error_rate", "value": 0.25, "n": 4}, {"name": "error_rate", "reason": "why"}]
    layout.write_table(tmp_path / "one.parquet", rows, schemas.ROWS_SCHEMA)
    layout.write_table(tmp_path / "two.parquet", rows, schemas.ROWS_SCHEMA)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    table = layout.read_table(tmp_path / "one.parquet", schemas.ROWS_SCHEMA)
    assert list(table.columns) == schemas.ROWS_SCHEMA.names
    assert table["value"].to_list()[0] == 0.25
    assert table["n"].isna().to_list() == [False, True]


def test_a_table_goes_through_pandas_with_its_nulls(tmp_path: Path) -> None:
    frame = pd.DataFrame({name: pd.Series([None], dtype=object) for name in schemas.DECISIONS_SCHEMA.names})
    frame["wrong"] = pd.array([None], dtype="boolean")
    layout.write_table(tmp_path / "t.parquet", frame, schemas.DECISIONS_SCHEMA)
    assert layout.read_table(tmp_path / "t.parquet", schemas.DECISIONS_SCHEMA)["wrong"].isna().all()


@pytest.mark.parametrize("size", [1.0, 1e-6, 300.0])
def test_a_map_keeps_its_values_however_small_they_are(size: float) -> None:
    values = (size * np.random.default_rng(0).normal(size=(9, 7))).astype(np.float32)
    again = layout.unpack_map(layout.pack_map(values))
    assert again is not None
    np.testing.assert_allclose(again, values, atol=1e-3 * np.abs(values).max())


def test_a_map_of_zeros_stays_zero() -> None:
    again = layout.unpack_map(layout.pack_map(np.zeros((4, 4), np.float32)))
    assert again is not None
    assert not again.any()


@pytest.mark.parametrize("damage", [lambda data: data[:50], lambda data: b"x" * len(data), lambda data: b""])
def test_a_damaged_part_is_named(run_copy: Path, damage: object) -> None:
    path = layout.part_path(run_copy, "clean", 0)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(WorkbenchError, match=r"clean/00000\.parquet is damaged"):
        layout.read_table(path, schemas.DRAWS_SCHEMA)


def test_no_run_and_a_broken_run_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="no run at"):
        read_manifest(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(WorkbenchError, match="is damaged"):
        read_manifest(tmp_path)
