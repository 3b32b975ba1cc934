"""Exams: two eyes of one visit, from the cache to tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from workbench.data.cache import PixelCache, build_cache
from workbench.data.crop import CropGeometry
from workbench.data.decode import UnreadablePhotograph
from workbench.data.preprocess import preprocess_photograph
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import EYES, UNGRADED
from workbench.schema.manifest import COLUMNS
from workbench.schema.seeds import seed_for
from workbench.schema.specs import PreprocessSpec

EXAM_LEVEL: Final = ("split", "dataset", "dataset_version", "site", "camera", "age", "sex")
"""What is true of both eyes of an exam, and so is told of a missing eye too."""

GEOMETRY: Final = {
    "crop_x": "Float64",
    "crop_y": "Float64",
    "crop_side": "Float64",
    "photo_width": "Int64",
    "photo_height": "Int64",
}


@dataclass(frozen=True)
class ExamBatch:
    """Some exams as tensors: ``x`` in [0, 1], OD RGB then OS RGB, zeros where an eye is not present.

    ``grade`` is −1 where the manifest has none; the grade of an eye that is not present is −1 too (no model may be
    trained or judged on an eye that it was not shown), and stays in `Exams.eyes`.
    """

    x: Float[Tensor, "exam 6 height width"]
    present: Bool[Tensor, "exam 2"]
    grade: Int64[Tensor, "exam 2"]
    exam_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]


class Exams:
    """A sequence of exams over a pixel cache; holds a table and file names, never the pixels.

    Attributes:
        eyes: exactly two rows per exam, OD then OS: ``exam_id, patient_id, eye, status, reason``, then the
            manifest's other columns, then the crop's geometry. ``status`` is 'ok', 'missing' or 'ungradable'.
        spec: how the photographs were prepared.
        exam_ids: in the order of the indices.
    """

    def __init__(self, eyes: pd.DataFrame, spec: PreprocessSpec, cache: PixelCache, slots: Int64[np.ndarray, " eye"]):
        """Bind the table to its pixels; ``slots[row]`` is the cache's slot of an eye, or −1."""
        self.eyes = eyes
        self.spec = spec
        self.exam_ids: list[str] = [str(text) for text in eyes["exam_id"].iloc[::2]]
        self._patient_ids = [str(text) for text in eyes["patient_id"].iloc[::2]]
        self._grades = eyes["icdr_grade"].fillna(UNGRADED).to_numpy(dtype=np.int64).reshape(-1, 2)
        self._slots = slots.reshape(-1, 2)
        self._cache = cache

    def __len__(self) -> int:
        """Return the number of exams."""
        return len(self.exam_ids)

    def batch(self, indices: Sequence[int]) -> ExamBatch:
        """Return the exams at ``indices``, in that order.

        Raises:
            IndexError: an index beyond the last exam.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        slots = self._slots[chosen]
        present = slots >= 0
        size = self.spec.size
        pixels = np.zeros((len(chosen), 2, 3, size, size), np.float32)
        stored = self._cache.open()
        for exam, eye in zip(*np.nonzero(present), strict=True):
            np.divide(stored[slots[exam, eye]], np.float32(255), out=pixels[exam, eye])
        return ExamBatch(
            x=torch.from_numpy(pixels.reshape(len(chosen), 6, size, size)),
            present=torch.from_numpy(present),
            grade=torch.from_numpy(np.where(present, self._grades[chosen], UNGRADED)),
            exam_ids=tuple(self.exam_ids[index] for index in chosen),
            patient_ids=tuple(self._patient_ids[index] for index in chosen),
        )

    def pixels(self, index: int, eye: Literal["OD", "OS"]) -> UInt8[np.ndarray, "height width 3"] | None:
        """Return one eye's prepared pixels, or None where it is not present."""
        slot = self._slots[index, EYES.index(eye)]
        return np.ascontiguousarray(self._cache.open()[slot].transpose(1, 2, 0)) if slot >= 0 else None

    def photograph_square(self, index: int, eye: Literal["OD", "OS"], size: int) -> UInt8[np.ndarray, "height width 3"]:
        """Return the square around an eye's field, without equalisation, at ``size`` pixels from the photograph itself.

        Where the photograph is gone or is no finer than the prepared pixels, those are returned as they are.
        """
        row = self.eyes.iloc[2 * index + EYES.index(eye)]
        plain = self.spec.model_copy(update={"size": size, "clahe": False, "local_average": False})
        prepared = self.pixels(index, eye)
        if prepared is not None and plain == self.spec:
            return prepared
        try:
            return preprocess_photograph(Path(str(row["image_path"])), plain).pixels
        except UnreadablePhotograph:
            if prepared is None:
                raise
            return prepared

    def geometry(self, index: int, eye: Literal["OD", "OS"]) -> CropGeometry | None:
        """Return where one eye's pixels lie in its photograph, or None where it is not present."""
        row = self.eyes.iloc[2 * index + EYES.index(eye)]
        if row["status"] != "ok":
            return None
        x, y, side, width, height = (row[name] for name in GEOMETRY)
        return CropGeometry(float(x), float(y), float(side), int(width), int(height), self.spec.size)

    def with_grades_of(self, order: Sequence[int]) -> Exams:
        """Return the same exams, each with the two grades of the exam that ``order`` names in its place."""
        eyes = self.eyes.copy()
        eyes["icdr_grade"] = self.subset(order).eyes["icdr_grade"].array
        return Exams(eyes, self.spec, self._cache, self._slots.ravel())

    def subset(self, indices: Sequence[int]) -> Exams:
        """Return the exams at ``indices``, in that order, over the same cache."""
        chosen = np.asarray(indices, dtype=np.int64)
        rows = (2 * chosen[:, None] + np.arange(2)).reshape(-1)
        eyes = self.eyes.iloc[rows].reset_index(drop=True)
        return Exams(eyes, self.spec, self._cache, self._slots[chosen].reshape(-1))


def open_exams(
    manifest: pd.DataFrame,
    spec: PreprocessSpec,
    *,
    cache: Path,
    split: str | None = None,
    limit: int | None = None,
    workers: int | None = None,
) -> Exams:
    """Return the manifest's exams, sorted by exam_id, with every photograph prepared and cached.

    Args:
        manifest: see `workbench.schema.manifest`.
        spec: the preprocessing.
        cache: the folder of caches; one is made below it unless it is there already.
        split: only this split.
        limit: only this many exams, chosen by a hash of their ids, so that it is always the same ones.
        workers: threads; None: one per core.

    Raises:
        WorkbenchError: two photographs of one eye, two patients or two splits in one exam; an empty selection.
    """
    chosen = _select(manifest, split, limit)
    _refuse_conflicts(chosen)
    placed = chosen[chosen["eye"].isin(EYES)].sort_values(["exam_id", "eye"]).reset_index(drop=True)
    built = build_cache(placed["image_path"].tolist(), placed["sha256"].tolist(), spec, cache, workers=workers)
    eyes = _lay_out(chosen, pd.concat([placed, built.index], axis=1))
    slots = eyes.pop("slot").fillna(-1).to_numpy(dtype=np.int64)
    return Exams(eyes, spec, built, slots)


def _select(manifest: pd.DataFrame, split: str | None, limit: int | None) -> pd.DataFrame:
    chosen = manifest if split is None else manifest[manifest["split"] == split]
    if chosen.empty:
        known = ", ".join(sorted(map(str, manifest["split"].dropna().unique()))) or "no split at all"
        raise WorkbenchError(f"no photograph in the split {split!r}", f"the manifest holds {known}")
    if limit is not None:
        if limit < 1:
            raise WorkbenchError(f"limit is {limit}", "ask for one exam or more")
        ids = sorted(map(str, chosen["exam_id"].unique()), key=lambda exam: seed_for("limit", exam))
        chosen = chosen[chosen["exam_id"].isin(ids[:limit])]
    return chosen


def _refuse_conflicts(manifest: pd.DataFrame) -> None:
    known = manifest[manifest["eye"].isin(EYES)]
    twice = known[known.duplicated(["exam_id", "eye"])]
    if len(twice):
        row = twice.iloc[0]
        raise WorkbenchError(
            f"exam {row['exam_id']} has two photographs of the eye {row['eye']}",
            "keep one of them in the manifest, or give them two exam_ids",
        )
    for column, noun in (("patient_id", "patients"), ("split", "splits")):
        counts = manifest.groupby("exam_id")[column].nunique()
        if (counts > 1).any():
            exam = counts.index[counts > 1][0]
            raise WorkbenchError(f"exam {exam} belongs to two {noun}", f"correct {column} in the manifest")


def _lay_out(chosen: pd.DataFrame, placed: pd.DataFrame) -> pd.DataFrame:
    """Return two rows per exam, OD and OS, missing eyes filled in with what is known of their exam."""
    exam_ids = sorted(map(str, chosen["exam_id"].unique()))
    every = pd.MultiIndex.from_product([exam_ids, EYES], names=["exam_id", "eye"])
    eyes = placed.set_index(["exam_id", "eye"]).reindex(every).reset_index()
    exam_level = chosen.groupby("exam_id")[["patient_id", *EXAM_LEVEL]].first()
    for column in exam_level.columns:
        eyes[column] = eyes[column].fillna(eyes["exam_id"].map(exam_level[column]))
    unplaced = eyes["exam_id"].isin(set(chosen.loc[~chosen["eye"].isin(EYES), "exam_id"]))
    absent = eyes["status"].isna()
    eyes.loc[absent, "reason"] = np.where(unplaced[absent], "laterality unknown", "no photograph")
    eyes.loc[absent, "status"] = "missing"
    first = ["exam_id", "patient_id", "eye", "status", "reason"]
    rest = [name for name in COLUMNS if name not in first]
    kinds = {name: COLUMNS[name] for name in ("exam_id", "patient_id", "eye", *rest)}
    kinds |= {"status": "string", "reason": "string", "slot": "Int64", **GEOMETRY}
    return eyes[[*first, *rest, *GEOMETRY, "slot"]].astype(kinds)
