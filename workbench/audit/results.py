"""Read a finished run: its eyes, rows, decisions, draws, photographs and maps. No torch here."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float, UInt8
from pydantic import ValidationError

from workbench.audit import layout, run_manifest, schemas
from workbench.audit.layout import AnalysisSummary, part_path, read_table
from workbench.audit.patterns import StoredPattern, read_pattern
from workbench.audit.plan import missing_parts, units_of
from workbench.audit.run_manifest import MeasurementSpec, RunManifest
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import EYES
from workbench.schema.specs import SmallestSpec, StressSpec


@dataclass(frozen=True)
class HeatMap:
    """One explanation of one eye, or the reason why it is withheld.

    ``values`` are summed over the colours, in the units of the method; positive speaks for what is explained, most
    often *referable*. ``agreement``: in which share of ``draws`` a pixel is in the strongest tenth; ``steadiness``: of
    the pixels that are in at least a fifth of the draws, the share that is in nine tenths; ``draws_likeness``: rank
    correlation with the map of the model without draws, by which the method is judged. None: a map of no draws.
    """

    method: str
    values: Float[np.ndarray, "height width"] | None
    withheld: str | None
    fellow_share: float | None
    completeness_gap: float | None
    outside_share: float | None = None
    outside_change: float | None = None
    agreement: Float[np.ndarray, "height width"] | None = None
    draws: int | None = None
    steadiness: float | None = None
    draws_likeness: float | None = None


class Run:
    """A finished audit, read from its folder; every method returns a copy of what is stored."""

    def __init__(self, folder: Path, manifest: RunManifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @cached_property
    def summary(self) -> AnalysisSummary:
        """The cut-off fixed on the clean exams, and how many planned rows were done, failed or skipped."""
        path = layout.summary_path(self.folder)
        try:
            return AnalysisSummary.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError):
            raise WorkbenchError(f"{path} is damaged", "delete it and run the same audit command again") from None

    @cached_property
    def exam_ids(self) -> tuple[str, ...]:
        """Every exam, in the run's order."""
        eyes = read_table(layout.exams_path(self.folder), schemas.EXAMS_SCHEMA)
        return tuple(eyes["exam_id"].drop_duplicates())

    @property
    def referable_threshold(self) -> float:
        """P(referable) from which an exam of this run is called referable: the policy's, or else the model's."""
        policys = self.manifest.policy.referable_threshold
        return self.manifest.referable_threshold if policys is None else policys

    def eyes(self) -> pd.DataFrame:
        """Two rows per exam, OD then OS: identity, status, reason, manifest columns, crop geometry."""
        return read_table(layout.exams_path(self.folder), schemas.EXAMS_SCHEMA)

    def rows(self) -> pd.DataFrame:
        """Every measured figure with its conditions; a figure that could not be had holds its reason."""
        return read_table(layout.analysis_path(self.folder, "rows"), schemas.ROWS_SCHEMA)

    def decisions(self) -> pd.DataFrame:
        """One row per measurement and exam."""
        return read_table(layout.analysis_path(self.folder, "decisions"), schemas.DECISIONS_SCHEMA)

    def eye_answers(self) -> pd.DataFrame:
        """One row per measurement, exam and eye that was measured."""
        return read_table(layout.analysis_path(self.folder, "eyes"), schemas.EYES_SCHEMA)

    def attention(self) -> pd.DataFrame:
        """One row per map and kind of mark: how much of the map lies on it; empty for a run that is older."""
        return self._table_or_none("attention", schemas.ATTENTION_SCHEMA)

    def mean_maps(self) -> pd.DataFrame:
        """Attention over eyes laid on each other's optic disc, one row per method and grade; empty where unknown."""
        return self._table_or_none("mean_maps", schemas.MEAN_MAPS_SCHEMA)

    def _table_or_none(self, name: Literal["attention", "mean_maps"], schema: pa.Schema) -> pd.DataFrame:
        path = layout.analysis_path(self.folder, name)
        return read_table(path, schema) if path.exists() else layout.table_of([], schema).to_pandas()

    def stress_checks(self) -> pd.DataFrame:
        """One row per stressed measurement and exam: was the budget kept, did the answer really flip."""
        frames = [
            checks_of_part(self.part(measurement.id, unit.chunk), measurement.id)
            for measurement in self.manifest.measurements
            if measurement.kind == "draws" and measurement.stress is not None
            for unit in units_of(self.manifest, self.exam_ids, measurement)
        ]
        columns = ["measurement", "exam_id", "linf_od", "linf_os", *_CHECKS, "notes"]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)

    def failures(self) -> pd.DataFrame:
        """Every planned piece of work that failed, with its reason: measurement, exam_id, eye, reason."""
        frames = []
        for measurement in self.manifest.measurements:
            for unit in units_of(self.manifest, self.exam_ids, measurement):
                part = self.part(measurement.id, unit.chunk)
                failed = part.loc[part["status"] == "failed", ["exam_id", "eye", "reason"]]
                frames.append(failed.assign(measurement=measurement.id))
        return pd.concat(frames, ignore_index=True)[["measurement", "exam_id", "eye", "reason"]]

    def draws(self, measurement: str, exam_id: str) -> Float[np.ndarray, "draw 2 grade"] | None:
        """Return the probabilities of one exam, NaN where an eye has none; None when the exam was not measured."""
        part = self._exam_part(measurement, exam_id)
        if part is None or not (part["status"] == "done").any():
            return None
        return draws_of_rows(part, self.manifest.draws, len(self.manifest.model.classes))[:, 0]

    def flags(self, exam_id: str) -> dict[str, str]:
        """Return why each photograph of an exam is flagged before it is graded; an eye without a flag is not there."""
        answers = self.eye_answers()
        own = answers[(answers["measurement"] == layout.CLEAN) & (answers["exam_id"] == exam_id)]
        flagged = own[own["flag"].notna()]
        return dict(zip(flagged["eye"], flagged["flag"], strict=True))

    def photograph(self, exam_id: str, eye: str) -> bytes | None:
        """Return the JPEG of what the model was given, at its resolution; None when there is none."""
        row = self._eye_row(layout.PHOTOGRAPHS, exam_id, eye)
        return None if row is None or row["jpeg"] is None else bytes(row["jpeg"])

    def stressed_photograph(self, exam_id: str, eye: str, stress: str) -> tuple[bytes, bytes] | None:
        """Return what the model was given, clean and under a stress such as ``pgd@2``, as PNG; None if not kept."""
        row = self._eye_row(stressed_id(stress), exam_id, eye)
        return None if row is None or row["png"] is None else (bytes(row["clean_png"]), bytes(row["png"]))

    def pattern(self, stress: str) -> StoredPattern:
        """Return the perturbation that a stress such as ``universal@2`` adds to every exam.

        Raises:
            WorkbenchError: it could not be made.
        """
        return read_pattern(self.folder, stress)

    def kept_stresses(self) -> tuple[StressSpec, ...]:
        """Return the stresses under which photographs were kept."""
        return tuple(m.stress for m in self.manifest.measurements if m.kind == "stressed" and m.stress is not None)

    def methods(self) -> tuple[str, ...]:
        """Return the explanation methods of this run."""
        return tuple(m.method for m in self.manifest.measurements if m.kind == "maps" and m.method is not None)

    def heat_map(self, exam_id: str, eye: str, method: str) -> HeatMap | None:
        """Return one eye's map at model resolution, or why it is withheld; None when none was asked for."""
        row = self._eye_row(maps_id(method), exam_id, eye)
        if row is None or row["status"] == "skipped":
            return None
        refused = self.summary.maps_withheld.get(method)
        withheld = row["reason"] if row["status"] == "failed" else row["withheld"] or refused
        return HeatMap(
            method=method,
            values=layout.unpack_map(row) if withheld is None else None,
            withheld=withheld,
            fellow_share=_number(row["fellow_share"]),
            completeness_gap=_number(row["completeness_gap"]),
            outside_share=_number(row["outside_share"]),
            outside_change=_number(row["outside_change"]),
            agreement=layout.unpack_agreement(row) if withheld is None else None,
            draws=None if row["draws"] is None else int(row["draws"]),
            steadiness=_number(row["steadiness"]) if withheld is None else None,
            draws_likeness=_number(row["draws_likeness"]),
        )

    def influence(self, exam_id: str, eye: str) -> dict[str, Any] | None:
        """Return one eye's row of `INFLUENCE_SCHEMA`: what its answer becomes when the fellow is changed; or None."""
        row = self._eye_row(layout.INFLUENCE, exam_id, eye)
        return row if row is not None and row["status"] == "done" else None

    def mildest(self, exam_id: str) -> dict[str, dict[str, Any]]:
        """Return by corruption what the severity search found for an exam, a row of `MILDEST_SCHEMA`."""
        searched = [one for one in self.manifest.measurements if one.kind == "mildest"]
        found = {one.method or "": [self._eye_row(one.id, exam_id, eye) for eye in EYES] for one in searched}
        done = {name: [row for row in rows if row and row["status"] == "done"] for name, rows in found.items()}
        return {name: rows[0] for name, rows in done.items() if rows}

    def smallest(self, exam_id: str) -> tuple[tuple[SmallestSpec, dict[str, Any]], ...]:
        """Return of each search for the smallest ε what it found for an exam, a row of `SMALLEST_SCHEMA`."""
        found = []
        for one in self.manifest.measurements:
            rows = [self._eye_row(one.id, exam_id, eye) for eye in EYES] if one.search is not None else []
            done = [row for row in rows if row and row["status"] == "done"]
            if one.search is not None and done:
                found.append((one.search, done[0]))
        return tuple(found)

    def marks(self, measurement: str, exam_id: str, eye: str) -> UInt8[np.ndarray, "height width"] | None:
        """Return the labels of one eye by 'masks' or 'lesions' (places in `schema.lesions.LABELS`), or None."""
        row = self._eye_row(measurement, exam_id, eye)
        return None if row is None or row["labels"] is None else layout.read_label_png(row["labels"])

    def examined(self) -> pd.DataFrame:
        """Return what was found of the attack under examination, one row per exam; empty where none was examined."""
        if all(one.id != layout.CREDIBILITY for one in self.manifest.measurements):
            return pd.DataFrame(columns=schemas.CREDIBILITY_SCHEMA.names)
        rows = self.rows_of(self.manifest.measurement(layout.CREDIBILITY))
        return rows[rows["status"] == "done"].drop_duplicates("exam_id").reset_index(drop=True)

    def rows_of(self, measurement: MeasurementSpec, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the rows of every part of a measurement; ``columns``: of each part only these are kept."""
        units = units_of(self.manifest, self.exam_ids, measurement)
        parts = (self.part(measurement.id, unit.chunk) for unit in units)
        return pd.concat([part if columns is None else part[[*columns]] for part in parts], ignore_index=True)

    def exams_of(self, measurement: MeasurementSpec) -> pd.DataFrame:
        """Return one row per exam that was measured, by its id, of what both of its rows say alike."""
        rows = self.rows_of(measurement)
        return rows[rows["status"] == "done"].groupby("exam_id", sort=False).first()

    def part(self, measurement: str, chunk: int) -> pd.DataFrame:
        """Return one stored part."""
        kind = self.manifest.measurement(measurement).kind
        return read_table(part_path(self.folder, measurement, chunk), schemas.PART_SCHEMAS[kind])

    def _exam_part(self, measurement_id: str, exam_id: str) -> pd.DataFrame | None:
        if all(measurement.id != measurement_id for measurement in self.manifest.measurements):
            return None
        chunk = self._chunk_of(measurement_id, exam_id)
        if chunk is None:
            return None
        measurement = self.manifest.measurement(measurement_id)
        part = read_table(
            part_path(self.folder, measurement_id, chunk), schemas.PART_SCHEMAS[measurement.kind], exam_id=exam_id
        )
        return part if len(part) else None  # a sample need not hold the exam

    def _chunk_of(self, measurement_id: str, exam_id: str) -> int | None:
        """Return the chunk that holds an exam if any does; a sample's chunks stand in the order of the exams."""
        place = self._place_of(exam_id)
        measurement = self.manifest.measurement(measurement_id)
        if place is None:
            return None
        if measurement.exams is None or measurement.exams >= len(self._exam_column) // len(EYES):
            return place // self.manifest.chunk_of(measurement)

        def first_place(chunk: int) -> int:
            path = part_path(self.folder, measurement_id, chunk)
            return self._place_of(str(pq.read_table(path, columns=["exam_id"], partitioning=None)[0][0])) or 0

        chunks = range(-(-measurement.exams // self.manifest.chunk_of(measurement)))
        return max(0, bisect_right(chunks, place, key=first_place) - 1)

    @cached_property
    def _exam_column(self) -> pa.ChunkedArray:
        """The exam of every row of the table of eyes, kept as Arrow holds it: a million exams take some 50 MB."""
        return pq.read_table(layout.exams_path(self.folder), columns=["exam_id"])["exam_id"]

    def _place_of(self, exam_id: str) -> int | None:
        """Return where an exam stands in the run."""
        row = pc.index(self._exam_column, exam_id).as_py()
        return None if row < 0 else row // len(EYES)

    def _eye_row(self, measurement_id: str, exam_id: str, eye: str) -> dict[str, Any] | None:
        part = self._exam_part(measurement_id, exam_id)
        if part is None:
            return None
        rows = part[part["eye"] == eye].to_dict("records")
        return {key: None if pd.isna(value) else value for key, value in rows[0].items()} if rows else None


_CHECKS = ("within_budget", "in_box", "flipped", "survives_8bit", "success", "already")
CHECKED = ("exam_id", "eye", "status", "linf", *_CHECKS, "notes")
"""What `checks_of_part` reads of a part."""


def trust_id(method: str) -> str:
    """Return the measurement that holds a method's checks."""
    return f"trust.{method}"


def stressed_id(stress: str) -> str:
    """Return the measurement that holds the photographs under a stress."""
    return f"stressed.{stress}"


def maps_id(method: str) -> str:
    """Return the measurement that holds a method's maps."""
    return f"maps.{method}"


def checks_of_part(part: pd.DataFrame, measurement: str) -> pd.DataFrame:
    """Return one row per exam of a stressed part that was measured."""
    done = part[part["status"] == "done"]
    linf = done.pivot(index="exam_id", columns="eye", values="linf").reindex(columns=list(EYES))
    first = done.groupby("exam_id", sort=False)[[*_CHECKS, "notes"]].first()
    table = first.join(linf).rename(columns={"OD": "linf_od", "OS": "linf_os"}).reset_index()
    return table.assign(measurement=measurement)[["measurement", "exam_id", "linf_od", "linf_os", *_CHECKS, "notes"]]


def draws_of_rows(rows: pd.DataFrame, draws: int, grades: int) -> Float[np.ndarray, "draw exam 2 grade"]:
    """Return the draws of a part's rows, two per exam, OD first; an eye without draws is NaN."""
    array = np.full((len(rows), draws, grades), np.nan, dtype=np.float32)
    done = np.flatnonzero(rows["status"] == "done")
    if len(done):
        array[done] = np.stack(rows["probabilities"].iloc[done].to_list()).reshape(-1, draws, grades)
    return array.reshape(-1, len(EYES), draws, grades).transpose(2, 0, 1, 3)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _count_exams(folder: Path) -> int:
    path = layout.exams_path(folder)
    try:
        return int(pq.read_metadata(path).num_rows) // len(EYES)
    except FileNotFoundError:
        raise WorkbenchError(f"{path} is missing", "run the same audit command again: it makes only that") from None
    except (pa.ArrowInvalid, OSError) as error:
        line = " ".join(str(error).split())[:200]
        raise WorkbenchError(f"{path} is damaged: {line}", "delete it and run the same audit command again") from None


def open_run(folder: Path) -> Run:
    """Open a finished run.

    Raises:
        WorkbenchError: no run there, parts still pending, or the analysis missing.
    """
    manifest = run_manifest.read_manifest(folder)
    run = Run(folder, manifest)
    missing = missing_parts(folder, manifest, _count_exams(folder))
    if missing:
        raise WorkbenchError(
            f"the run at {folder} is not finished: {len(missing)} parts are missing, first {missing[0]}",
            "run the same audit command again: it makes only what is missing",
        )
    for path in (*(layout.analysis_path(folder, name) for name in _TABLES), layout.summary_path(folder)):
        if not path.exists():
            raise WorkbenchError(f"{path} is missing", "run the same audit command again: it only analyses")
    return run


_TABLES: tuple[Any, ...] = ("rows", "decisions", "eyes")
