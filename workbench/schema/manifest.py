"""The manifest: a table with one row per eye photograph."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from workbench.schema.errors import WorkbenchError
from workbench.schema.files import canonical_hash, write_text
from workbench.schema.grades import EYES

COLUMNS: Final[dict[str, str]] = {
    "patient_id": "string",
    "exam_id": "string",
    "eye": "string",
    "image_path": "string",
    "sha256": "string",
    "icdr_grade": "Int64",
    "dme": "Int64",
    "gradable": "boolean",
    "quality": "string",
    "camera": "string",
    "site": "string",
    "age": "Float64",
    "sex": "string",
    "split": "string",
    "dataset": "string",
    "dataset_version": "string",
    "label_source": "string",
    "label_level": "string",
    "mask_path": "string",
}
"""Every column with its pandas type; all are nullable but the first five and `split`."""

REQUIRED: Final = ("patient_id", "exam_id", "eye", "image_path", "sha256", "split")
SPLITS: Final = ("train", "validation", "test")
QUALITIES: Final = ("good", "usable", "reject")

BLOCKING: Final = ("same eye twice", "duplicate image", "patient in two splits", "exam of two patients")
"""The conflicts that contradict themselves; 'unknown laterality' is told too, but is an honest answer."""


@dataclass(frozen=True)
class Conflict:
    """One thing wrong with a manifest: what kind, which rows, and a line that says it."""

    kind: str
    rows: tuple[int, ...]
    message: str


def empty_manifest() -> pd.DataFrame:
    """Return a manifest with every column and no row."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})


def as_manifest(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``table`` with exactly the manifest's columns and types; absent columns become null.

    Raises:
        WorkbenchError: a required column is missing, or a value does not fit its column.
    """
    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        raise WorkbenchError(
            f"the manifest lacks the column {missing[0]!r}; it has {', '.join(map(str, table.columns))}",
            "import the photographs again with 'workbench data import'",
        )
    typed: dict[str, pd.Series] = {}
    for name, kind in COLUMNS.items():
        values = table[name] if name in table.columns else pd.Series(pd.NA, index=table.index)
        try:
            typed[name] = values.astype(kind)
        except (TypeError, ValueError) as error:
            raise WorkbenchError(f"column {name!r} of the manifest: {error}", f"it must hold {kind} values") from None
    return pd.DataFrame(typed).reset_index(drop=True)


def read_manifest(path: Path) -> pd.DataFrame:
    """Read ``manifest.csv`` (or the folder that holds it); relative image paths are resolved beside it.

    Raises:
        WorkbenchError: no such file, not a CSV, a missing column, a value out of range.
    """
    file = path / "manifest.csv" if path.is_dir() else path
    try:
        table = pd.read_csv(file, dtype="string", keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise WorkbenchError(
            f"no manifest at {file}", "make one with 'workbench data import' or 'data synth'"
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise WorkbenchError(f"{file} is not a readable CSV: {line}", "import the photographs again") from None
    manifest = as_manifest(_parse_booleans(table))
    _check_values(manifest, file)
    for column in ("image_path", "mask_path"):
        manifest[column] = (
            manifest[column].map(lambda text: str(file.parent / text), na_action="ignore").astype("string")
        )
    return manifest


def _parse_booleans(table: pd.DataFrame) -> pd.DataFrame:
    if "gradable" in table.columns:
        words = {"true": True, "1": True, "false": False, "0": False}
        table = table.assign(gradable=table["gradable"].str.lower().map(words, na_action="ignore"))
    return table


def _check_values(manifest: pd.DataFrame, file: Path) -> None:
    for column in REQUIRED:
        empty = manifest.index[manifest[column].isna()]
        if len(empty):
            raise WorkbenchError(f"{file} line {int(empty[0]) + 2}: {column} is empty", f"every row needs a {column}")
    allowed = {"eye": (*EYES, "unknown"), "split": SPLITS, "quality": QUALITIES, "icdr_grade": range(5)}
    for column, values in allowed.items():
        present = manifest[column].dropna()
        wrong = present[~present.isin(list(values))]
        if len(wrong):
            raise WorkbenchError(
                f"{file} line {int(wrong.index[0]) + 2}: {column} is {wrong.iloc[0]!r}",
                f"it must be one of {', '.join(map(str, values))}",
            )


def write_manifest(manifest: pd.DataFrame, path: Path) -> None:
    """Write ``manifest`` as CSV, atomically; image paths below its folder are stored relative to it."""
    table = as_manifest(manifest).copy()
    root = path.parent.resolve()
    for column in ("image_path", "mask_path"):
        table[column] = table[column].map(lambda text: _relative(text, root), na_action="ignore").astype("string")
    buffer = io.StringIO()
    table.to_csv(buffer, index=False)
    write_text(path, buffer.getvalue())


def _relative(text: str, root: Path) -> str:
    resolved = Path(text).resolve()
    return str(resolved.relative_to(root)) if resolved.is_relative_to(root) else str(resolved)


def manifest_hash(manifest: pd.DataFrame) -> str:
    """Return the sha256 of what the manifest says, whatever folder it lies in."""
    columns = [name for name in COLUMNS if name not in ("image_path", "mask_path")]
    table = as_manifest(manifest)[columns].sort_values(["exam_id", "eye", "sha256"])
    return canonical_hash(table.to_csv(index=False))


def find_conflicts(manifest: pd.DataFrame) -> list[Conflict]:
    """Return every conflict: one eye twice, one image twice, a patient in two splits, an exam of two patients, no side.

    ``Conflict.rows`` are labels of the manifest's index; the order of kinds is that of `BLOCKING`, then the unknown.
    """
    found: list[Conflict] = []
    known = manifest[manifest["eye"].isin(EYES)]
    for (exam, eye), rows in _repeated(known, ["exam_id", "eye"]):
        found.append(_conflict("same eye twice", rows, f"exam {exam} has {len(rows)} photographs of the eye {eye}"))
    for (digest,), rows in _repeated(manifest, ["sha256"]):
        names = ", ".join(f"{row.exam_id}/{row.eye}" for row in rows.itertuples())
        message = f"the same image (sha256 {str(digest)[:12]}) stands for {names}"
        found.append(_conflict("duplicate image", rows, message))
    for patient, rows, splits in _divided(manifest, "patient_id", "split"):
        found.append(_conflict("patient in two splits", rows, f"patient {patient} is in the splits {splits}"))
    for exam, rows, patients in _divided(manifest, "exam_id", "patient_id"):
        found.append(_conflict("exam of two patients", rows, f"exam {exam} is of the patients {patients}"))
    unknown = manifest[manifest["eye"] == "unknown"]
    return found + [
        Conflict("unknown laterality", (int(row.Index),), f"exam {row.exam_id}: which eye is unknown")
        for row in unknown.itertuples()
    ]


def _repeated(manifest: pd.DataFrame, columns: list[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Yield the groups of more than one row; the others are not looked at, so a large manifest is quick."""
    yield from manifest[manifest.duplicated(columns, keep=False)].groupby(columns)


def _divided(manifest: pd.DataFrame, name: str, value: str) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Yield each ``name`` that has more than one ``value``: the name, its rows, its values."""
    counts = manifest.groupby(name)[value].nunique()
    divided = manifest[manifest[name].isin(counts.index[counts > 1])]
    for key, rows in divided.groupby(name):
        yield str(key), rows, ", ".join(sorted(rows[value].dropna().unique()))


def _conflict(kind: str, rows: pd.DataFrame, message: str) -> Conflict:
    return Conflict(kind, tuple(map(int, rows.index)), message)
