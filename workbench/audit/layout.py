"""The run folder: what lies where in it, and how its tables are written and read. No torch here."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, UInt8
from PIL import Image
from pydantic import BaseModel

from workbench.schema.errors import WorkbenchError
from workbench.schema.files import atomic_path

CLEAN: Final = "clean"
"""The measurement without a stress; the cut-off is fixed on it."""
PHOTOGRAPHS: Final = "photographs"
INTAKE: Final = "intake"
INFLUENCE: Final = "influence"
CREDIBILITY: Final = "credibility"
HEAD_MARGIN: Final = "head_margin"
MASKS: Final = "masks"
LESIONS: Final = "lesions"

Status = Literal["done", "failed", "skipped"]


class AnalysisSummary(BaseModel):
    """The content of ``analysis/summary.json``: what was fixed on the clean exams, and the count of what ran."""

    score_cutoff: float | None
    score_cutoff_reason: str | None = None
    resamples: int
    done: int
    failed: int
    skipped: int
    maps_withheld: dict[str, str] = {}
    """Methods no map of which may be shown, and why: a check that the policy asks for failed on the run's sample."""


def manifest_path(folder: Path) -> Path:
    """Return where ``run.json`` lies."""
    return folder / "run.json"


def exams_path(folder: Path) -> Path:
    """Return where the table of eyes lies."""
    return folder / "exams.parquet"


def reference_path(folder: Path) -> Path:
    """Return where the scores of the held-out training eyes lie, if the model has a reference."""
    return folder / "reference.parquet"


def part_path(folder: Path, measurement_id: str, chunk: int) -> Path:
    """Return where the part of a measurement's chunk lies."""
    return folder / "parts" / measurement_id / f"{chunk:05d}.parquet"


def analysis_path(folder: Path, table: Literal["rows", "decisions", "eyes", "attention", "mean_maps"]) -> Path:
    """Return where a table of the analysis lies."""
    return folder / "analysis" / f"{table}.parquet"


def summary_path(folder: Path) -> Path:
    """Return where the analysis' summary lies; it is written last, so its presence means a whole analysis."""
    return folder / "analysis" / "summary.json"


def table_of(rows: Sequence[dict[str, Any]] | pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """Return ``rows`` with exactly the columns of ``schema`` and no metadata, so that equal rows are equal bytes."""
    if isinstance(rows, pd.DataFrame):
        table = pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False)
        return table.replace_schema_metadata(None)
    return pa.Table.from_pylist(list(rows), schema=schema)


def write_table(path: Path, rows: Sequence[dict[str, Any]] | pd.DataFrame, schema: pa.Schema) -> None:
    """Write a Parquet file atomically; its bytes depend on the rows alone."""
    table = table_of(rows, schema)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", store_schema=False)


def read_table(path: Path, schema: pa.Schema, *, exam_id: str | None = None) -> pd.DataFrame:
    """Read a table of a run, or the rows of one exam; nullable integers and booleans stay nullable.

    Raises:
        WorkbenchError: the file is missing, cut or damaged.
    """
    filters = [("exam_id", "==", exam_id)] if exam_id is not None else None
    try:
        table = pq.read_table(path, schema=schema, filters=filters, partitioning=None)
    except FileNotFoundError:
        raise WorkbenchError(f"{path} is missing", "run the same audit command again: it makes only that") from None
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        line = " ".join(str(error).split())[:200]
        raise WorkbenchError(f"{path} is damaged: {line}", "delete it and run the same audit command again") from None
    return table.to_pandas(types_mapper=_NULLABLE.get)


def pack_map(values: Float[np.ndarray, "height width"]) -> dict[str, Any]:
    """Return a map as the columns of `MAPS_SCHEMA`: float16 of its share of the largest value, and that value."""
    height, width = values.shape
    scale = float(np.abs(values).max()) or 1.0
    packed = (values / scale).astype("<f2").tobytes()
    return {"height": height, "width": width, "scale": scale, "values": packed}


def unpack_map(row: Mapping[str, Any]) -> Float[np.ndarray, "height width"] | None:
    """Return the map of a row of `MAPS_SCHEMA`, or None where it holds none."""
    if row["values"] is None:
        return None
    flat = np.frombuffer(row["values"], dtype="<f2").astype(np.float32) * np.float32(row["scale"])
    return flat.reshape(int(row["height"]), int(row["width"]))


def pack_agreement(frequency: Float[np.ndarray, "height width"], draws: int) -> dict[str, Any]:
    """Return in which share of ``draws`` (at most 255) each pixel matters, as the columns of `MAPS_SCHEMA`."""
    return {"draws": draws, "agreeing": np.round(frequency * draws).astype(np.uint8).tobytes()}


def unpack_agreement(row: Mapping[str, Any]) -> Float[np.ndarray, "height width"] | None:
    """Return the share of draws in which each pixel matters, or None for a map that is of no draws."""
    if row["agreeing"] is None:
        return None
    counts = np.frombuffer(row["agreeing"], dtype=np.uint8).astype(np.float32)
    return counts.reshape(int(row["height"]), int(row["width"])) / np.float32(row["draws"])


def label_png(labels: UInt8[np.ndarray, "height width"]) -> bytes:
    """Return labels as the PNG that `MARKS_SCHEMA` keeps."""
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


def read_label_png(png: bytes) -> UInt8[np.ndarray, "height width"]:
    """Return the labels of `label_png`."""
    with Image.open(io.BytesIO(png)) as image:
        return np.array(image, dtype=np.uint8)


_NULLABLE: Final = {
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}
