"""What is to be measured on which exams: pending work is the plan minus the parts on disk. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.audit.layout import part_path
from workbench.audit.run_manifest import MeasurementSpec, RunManifest
from workbench.schema.seeds import seed_for
from workbench.schema.threat import OF_THE_REFERRAL, UNIVERSAL


@dataclass(frozen=True)
class Unit:
    """One measurement on one chunk of exams; it becomes one Parquet part."""

    measurement: MeasurementSpec
    chunk: int
    exam_ids: tuple[str, ...]

    @property
    def aims_at_referral(self) -> bool:
        """Whether it is an attack on the referral, which can begin once the clean exams are measured."""
        stress = self.measurement.stress
        silent = stress is not None and stress.aim.goal in OF_THE_REFERRAL
        return silent or self.measurement.kind == "credibility"

    @property
    def stage(self) -> int:
        """After how many other stages it can begin: that of the clean exams, and that of its own pattern."""
        stress, kind = self.measurement.stress, self.measurement.kind
        adds_a_pattern = stress is not None and stress.name in UNIVERSAL and kind != "pattern"
        return int(self.aims_at_referral) + int(adds_a_pattern)


def sample(exam_ids: Sequence[str], count: int | None, seed: int) -> list[str]:
    """Return ``count`` exams in their own order, drawn by a hash of seed and exam.

    The order of drawing is the same for every measurement, so a smaller sample lies within a larger one, and
    whether an exam is drawn does not depend on how the model answered it.
    """
    if count is None or count >= len(exam_ids):
        return list(exam_ids)
    drawn = set(sorted(exam_ids, key=lambda exam_id: seed_for(seed, exam_id, "sample"))[:count])
    return [exam_id for exam_id in exam_ids if exam_id in drawn]


def units_of(manifest: RunManifest, exam_ids: Sequence[str], measurement: MeasurementSpec) -> list[Unit]:
    """Return the units of one measurement, in the order of the exams; a pattern is one, of no exam."""
    if measurement.kind == "pattern":
        return [Unit(measurement, 0, ())]
    chosen = sample(exam_ids, measurement.exams, manifest.seed)
    chunk = manifest.chunk_of(measurement)
    starts = range(0, len(chosen), chunk)
    return [Unit(measurement, index, tuple(chosen[start : start + chunk])) for index, start in enumerate(starts)]


def all_units(manifest: RunManifest, exam_ids: Sequence[str]) -> list[Unit]:
    """Return every unit of the run, measurement by measurement."""
    return [unit for measurement in manifest.measurements for unit in units_of(manifest, exam_ids, measurement)]


def pending_units(folder: Path, manifest: RunManifest, exam_ids: Sequence[str]) -> list[Unit]:
    """Return the units whose part is not on disk."""
    planned = all_units(manifest, exam_ids)
    return [unit for unit in planned if not part_path(folder, unit.measurement.id, unit.chunk).exists()]


def missing_parts(folder: Path, manifest: RunManifest, exams: int) -> list[Path]:
    """Return the parts that are not on disk; the count of exams is enough, so a million of them take milliseconds."""
    missing: list[Path] = []
    for measurement in manifest.measurements:
        count = exams if measurement.exams is None else min(exams, measurement.exams)
        first = part_path(folder, measurement.id, 0)
        there = {path.name for path in first.parent.iterdir()} if first.parent.is_dir() else set()
        chunks = 1 if measurement.kind == "pattern" else -(-count // manifest.chunk_of(measurement))
        planned = (part_path(folder, measurement.id, chunk) for chunk in range(chunks))
        missing.extend(path for path in planned if path.name not in there)
    return missing
