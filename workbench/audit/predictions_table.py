"""A file of outputs or labels becomes a table whose rows know their line, patient and eye. No torch here."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import EYES

LINES_NAMED: Final = 5
NAME: Final = r"^(?P<patient>.+?)[_\-. ](?P<eye>left|right|od|os)$"
"""Patient and eye in an image's name, e.g. ``10001_left`` or ``p7-OD.jpeg``: this layout defines it, case aside."""
SUFFIX: Final = r"\.(?:jpe?g|png|tiff?|bmp|dcm)$"
SIDES: Final = {"od": "OD", "right": "OD", "r": "OD", "os": "OS", "left": "OS", "l": "OS"}
ALSO: Final = {"level": ("icdr_grade", "grade"), "p": ("p_referable",), "image": ("image_id", "id_code")}
"""What a column may also be called."""


class Sheet:
    """One file: its rows as text by column name, the line of each row, and its name for messages."""

    def __init__(self, table: pd.DataFrame, file: str, unit: str) -> None:
        self.table = table
        self.file = file
        self.unit = unit

    def has(self, *names: str) -> bool:
        """Return whether the file has all these columns."""
        return set(names) <= set(self.table.columns)

    def keep(self, table: pd.DataFrame) -> Sheet:
        """Return the same file with other rows or columns."""
        return Sheet(table, self.file, self.unit)

    def refuse(self, wrong: pd.Series, what: str, remedy: str) -> None:
        """Refuse the file where ``wrong`` holds for a row, naming the first lines and how many there are.

        Raises:
            WorkbenchError: a row is wrong.
        """
        lines = list(dict.fromkeys(wrong.index[wrong.to_numpy(dtype=bool)].tolist()))
        if not lines:
            return
        named = ", ".join(str(line) for line in lines[:LINES_NAMED]) + (", …" if len(lines) > LINES_NAMED else "")
        one, are = (self.unit, "row") if len(lines) == 1 else (f"{self.unit}s", "rows")
        raise WorkbenchError(f"{self.file}: {what} in {len(lines):,} {are} ({one} {named})", remedy)


def read_sheet(path: Path, columns: Mapping[str, str] | None = None) -> Sheet:
    """Read a CSV, TSV (either may be gzipped) or Parquet file.

    Args:
        path: the kind is told by its ending; the separator of a text file by its first line.
        columns: our name → the file's own, where it differs.

    Raises:
        WorkbenchError: no such file, unreadable, no rows, or two columns of one name.
    """
    try:
        table, unit = _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_text(path)
    except (FileNotFoundError, IsADirectoryError):
        raise WorkbenchError(f"no table at {path}", "check the path; it may be a CSV, TSV or Parquet file") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, pa.ArrowInvalid) as error:
        line = " ".join(str(error).split())[:200]
        raise WorkbenchError(f"{path.name} is no readable table: {line}", "save it again as CSV, UTF-8") from None
    table.columns = pd.Index([_named(str(name), columns or {}) for name in table.columns])
    table = table[table.notna().any(axis=1)]
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise WorkbenchError(f"{path.name} has two columns for {twice[0]!r}", "take one away, or name it with --column")
    if table.empty:
        raise WorkbenchError(f"{path.name} holds no row", "check the file")
    return Sheet(table, path.name, unit)


def _read_text(path: Path) -> tuple[pd.DataFrame, str]:
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig") as handle:
        head = str(handle.readline())
    separator = max("\t;,", key=head.count)
    table = pd.read_csv(
        path, sep=separator, dtype="object", skip_blank_lines=False, keep_default_na=False, na_values=[""],
        encoding="utf-8-sig", skipinitialspace=True,
    )  # fmt: skip
    if not isinstance(table.index, pd.RangeIndex):
        raise pd.errors.ParserError("its rows have more fields than its first line")
    table.index = pd.Index(np.arange(2, len(table) + 2), name="line")
    return table, "line"


def _read_parquet(path: Path) -> tuple[pd.DataFrame, str]:
    table = pq.read_table(path).to_pandas()
    table.index = pd.Index(np.arange(1, len(table) + 1), name="row")
    return table, "row"


def _named(name: str, columns: Mapping[str, str]) -> str:
    """Return our name of a column of the file."""
    name = name.strip()
    ours = {theirs: our for our, theirs in columns.items()}
    if name in ours:
        return ours[name]
    lower = name.lower()
    lower = next((our for our, others in ALSO.items() if lower in others), lower)
    return f"{name} (not used)" if lower in columns else lower  # another column was named for this


def numbers(sheet: Sheet, name: str) -> pd.Series:
    """Return a column as floats, NaN where it is empty or no number."""
    return pd.to_numeric(sheet.table[name], errors="coerce").astype(float)


def image_names(column: pd.Series) -> pd.Series:
    """Return what names a photograph: without folders and the ending of an image file."""
    names = column.astype("string").str.strip().str.replace(r"^.*[/\\]", "", regex=True)
    return names.str.replace(SUFFIX, "", regex=True, case=False)


def identify(sheet: Sheet, known: pd.DataFrame | None = None) -> Sheet:
    """Return the sheet with ``patient_id, exam_id, eye``; a row without an eye of its own is of both eyes.

    Each comes from its column, else from what ``known`` says of the image, else from the image's name; an exam that
    is not named is the patient's only one.

    Args:
        sheet: of outputs or labels.
        known: ``patient_id, exam_id, eye`` by image name, from the other file.

    Raises:
        WorkbenchError: whose row it is, or which eye, cannot be told; an exam of two patients.
    """
    table = sheet.table.copy()
    sources = [_own_identity(sheet)]
    if sheet.has("image"):
        images = image_names(table["image"])
        if known is not None:
            sources.append(known.reindex(images).set_axis(table.index, axis=0))
        parsed = images.str.extract(NAME, flags=re.IGNORECASE)
        parsed = parsed.rename(columns={"patient": "patient_id"})
        sources.append(parsed.assign(eye=_sides(parsed["eye"])))
        table["image"] = images
    for name in ("patient_id", "exam_id", "eye"):
        found = pd.Series(pd.NA, index=table.index, dtype="string")
        for source in sources:
            if name in source:
                found = found.fillna(source[name])
        table[name] = found
    table["patient_id"] = table["patient_id"].fillna(table["exam_id"])
    table["exam_id"] = table["exam_id"].fillna(table["patient_id"])
    _refuse_unknown(sheet, table)
    return sheet.keep(table)


def _own_identity(sheet: Sheet) -> pd.DataFrame:
    names = [name for name in ("patient_id", "exam_id", "eye") if sheet.has(name)]
    own = sheet.table[names].astype("string").apply(lambda column: column.str.strip())
    if "eye" in own:
        sides = _sides(own["eye"])
        sheet.refuse(
            own["eye"].notna() & sides.isna(), "an eye that is neither OD nor OS", "write OD, OS, left or right"
        )
        own["eye"] = sides
    return own


def _sides(column: pd.Series) -> pd.Series:
    return column.str.lower().map(SIDES).astype("string")


def _refuse_unknown(sheet: Sheet, table: pd.DataFrame) -> None:
    remedy = "name images like 10001_left or 10001_OD, or give columns (--column patient_id=NAME --column eye=NAME)"
    if not sheet.has("image") and not (sheet.has("patient_id") or sheet.has("exam_id")):
        have = ", ".join(map(str, sheet.table.columns))
        raise WorkbenchError(f"{sheet.file} has no column image, patient_id or exam_id; it has {have}", remedy)
    sheet.refuse(table["patient_id"].isna(), "no patient can be told", remedy)
    if sheet.has("image") or sheet.has("eye"):
        sheet.refuse(table["eye"].isna(), "no eye can be told", remedy)
    patients = table.groupby("exam_id")["patient_id"].transform("nunique")
    sheet.refuse(patients > 1, "an exam of two patients", "give each exam a name of its own")


def is_per_exam(sheet: Sheet) -> bool:
    """Return whether the rows of an identified sheet are of whole exams, not of eyes."""
    return bool(sheet.table["eye"].isna().all())


def spread(sheet: Sheet) -> Sheet:
    """Return the sheet with two rows, OD and OS, for each that is of a whole exam."""
    if not is_per_exam(sheet):
        return sheet
    return sheet.keep(pd.concat([sheet.table.assign(eye=eye) for eye in EYES]))


def refuse_duplicates(sheet: Sheet, *keys: str) -> None:
    """Refuse rows that stand for the same thing twice.

    Raises:
        WorkbenchError: there are some; names their lines.
    """
    twice = sheet.table.duplicated(list(keys), keep=False)
    what = "one eye twice" if keys[-1] == "eye" else "one draw of an eye twice"
    first = sheet.table.loc[twice.to_numpy()].iloc[:1]
    named = "".join(f" (first {row.exam_id} {row.eye})" for row in first.itertuples())
    sheet.refuse(twice, f"{what}{named}", "keep one row of each; give exams and draws names, if that is what they are")
