"""Label tables: read as text, with the line that each row stands on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pandas as pd

from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import GRADES

LINE: Final = "line"
"""Column with the row's line in its file (the header is line 1)."""

_SEX: Final = {"m": "male", "male": "male", "f": "female", "female": "female"}


def require_labels(labels: Path | None, layout: str) -> Path:
    """Return ``labels``.

    Raises:
        WorkbenchError: the layout needs a label table and none was given.
    """
    if labels is None:
        raise WorkbenchError(f"the layout {layout!r} needs a label table", "add --labels FILE")
    return labels


def read_table(path: Path, required: Iterable[str]) -> pd.DataFrame:
    """Read a CSV as text (empty cells are null), with a column `LINE`; names are stripped of blanks.

    Raises:
        WorkbenchError: no such file, no readable CSV, a required column is missing or stands twice.
    """
    try:
        table = pd.read_csv(
            path, dtype="string", keep_default_na=False, na_values=[""], encoding="utf-8-sig", skip_blank_lines=False
        )
    except (FileNotFoundError, IsADirectoryError):
        raise WorkbenchError(f"no label table at {path}", "check --labels") from None
    except UnicodeDecodeError:
        raise WorkbenchError(
            f"{path} is not UTF-8 text", "save it as 'CSV UTF-8' (a spreadsheet can do that)"
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        line = " ".join(str(error).split())
        raise WorkbenchError(f"{path} is not a readable CSV: {line}", "mend the file at that place") from None
    table.columns = [str(name).strip() for name in table.columns]
    table = table.apply(lambda cells: cells.str.strip()).replace("", pd.NA)
    require_columns(table, required, path)
    return table.assign(**{LINE: range(2, len(table) + 2)}).dropna(how="all", subset=list(table.columns))


def require_columns(table: pd.DataFrame, required: Iterable[str], path: Path) -> None:
    """Check that ``table`` has each required column once.

    Raises:
        WorkbenchError: it does not; names the nearest column that is there.
    """
    names = list(table.columns)
    for name in required:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
            remedy = f"rename {near[0]!r} to {name!r}" if near else "check --labels and the layout"
            raise WorkbenchError(f"{path} lacks the column {name!r}; it has {', '.join(names)}", remedy)


def at_line(path: Path, line: int) -> str:
    """Name a line of a table as every summary does."""
    return f"{path.name} line {line}"


def whole_number(cell: object) -> int | None:
    """Return ``3`` for '3' or '3.0'; None for anything else.

    >>> whole_number("3.0"), whole_number("3.5"), whole_number("x"), whole_number(pd.NA)
    (3, None, None, None)
    """
    text = text_of(cell)
    try:
        number = float(text) if text else float("nan")
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def text_of(cell: object) -> str:
    """Return the cell's text; '' for a null."""
    return "" if cell is None or cell is pd.NA else str(cell)


def grade_of(cell: object) -> tuple[int | None, str]:
    """Return the ICDR grade of a cell, or None and why there is none."""
    if not text_of(cell):
        return None, "no grade"
    grade = whole_number(cell)
    if grade is None or not 0 <= grade < len(GRADES):
        return None, f"grade {text_of(cell)!r} is not 0 to {len(GRADES) - 1}"
    return grade, ""


def sex_of(cell: object) -> str | None:
    """Return 'male', 'female', or what else the cell says in lower case; None for an empty cell."""
    text = text_of(cell).lower()
    return _SEX.get(text, text) or None
