"""Any table with one line per photograph; the user says which column is which."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pandas as pd

from workbench.data.importers.assemble import assemble
from workbench.data.importers.photographs import inside, require_folder
from workbench.data.importers.result import ImportOptions, ImportResult, Listing, Remark, Row
from workbench.data.importers.tables import (
    LINE,
    at_line,
    grade_of,
    read_table,
    require_columns,
    require_labels,
    sex_of,
    text_of,
    whole_number,
)
from workbench.schema.errors import WorkbenchError
from workbench.schema.manifest import COLUMNS, QUALITIES, SPLITS

IMAGE: Final = "image"
MASK: Final = "mask"
FIELDS: Final = (
    IMAGE,
    MASK,
    *(name for name in COLUMNS if name not in ("image_path", "mask_path", "sha256")),
)
"""What ``--column FIELD=COLUMN`` may name; a column that already bears the field's name needs no mapping."""

EYE_WORDS: Final = {
    **dict.fromkeys(("od", "right", "r", "re"), "OD"),
    **dict.fromkeys(("os", "left", "l", "le"), "OS"),
    **dict.fromkeys(("", "unknown"), "unknown"),
}
SPLIT_WORDS: Final = {**{name: name for name in SPLITS}, "training": "train", "val": "validation", "testing": "test"}
BOOLEAN_WORDS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def import_csv(images: Path, labels: Path | None, options: ImportOptions) -> ImportResult:
    """Import a table that has at least ``image``, ``patient_id`` and one of ``eye`` and ``exam_id``.

    ``image`` is a path below the images folder. Without ``exam_id`` a patient counts as one visit; without ``eye``
    the laterality is unknown. A ``split`` column is respected; patients without one are split as usual.

    Raises:
        WorkbenchError: a missing folder, table or column, a mapping to nothing, an unknown split, no photograph at all.
    """
    table_path = require_labels(labels, "csv")
    table = _renamed(table_path, options.columns)
    require_folder(images, "--images")
    listing = Listing([])
    for cells in table.to_dict("records"):
        source = at_line(table_path, cells[LINE])
        path, fault = inside(images, text_of(cells[IMAGE]) or "(empty cell)")
        if path is None or not text_of(cells["patient_id"]):
            listing.left_out.append(Remark(source, fault or "no patient_id"))
            continue
        row = {**_row(cells, source), "image_path": path, "source": source}
        listing.rows.append({"dataset": "csv", "label_level": "eye", **row})
    _resolve_masks(listing.rows, options, images)
    return assemble(listing, options)


def _renamed(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    for field in columns:
        if field not in FIELDS:
            what = f"--column {field}={columns[field]}: no field {field!r}"
            raise WorkbenchError(what, f"the fields are {', '.join(FIELDS)}")
    table = read_table(path, required=columns.values())
    # A column that only happens to bear a mapped field's name gives way to the one that the user named.
    table = table.drop(columns=[name for name in columns if name in table.columns and name not in columns.values()])
    table = table.rename(columns={column: field for field, column in columns.items()})
    require_columns(table, (IMAGE, "patient_id"), path)
    if "eye" not in table.columns and "exam_id" not in table.columns:
        raise WorkbenchError(f"{path} has neither a column 'eye' nor 'exam_id'", "name one with --column eye=COLUMN")
    return table


def _row(cells: dict[str, Any], source: str) -> Row:
    """Return the manifest's values of one line; what cannot be read becomes null, with a remark."""
    cells = {name: text_of(value) for name, value in cells.items() if name in FIELDS}
    grade, reason = grade_of(cells.get("icdr_grade"))
    doubts: list[str] = []
    age = cells.get("age", "")
    row: Row = {
        **{name: cells.get(name) or None for name in ("camera", "site", "dataset_version", "label_source", MASK)},
        **{name: cells[name] for name in ("dataset", "label_level") if cells.get(name)},
        "patient_id": cells["patient_id"],
        "exam_id": cells.get("exam_id") or cells["patient_id"],
        "eye": _word(cells, "eye", EYE_WORDS, "unknown", doubts),
        "icdr_grade": grade,
        "ungraded": reason,
        "dme": whole_number(cells.get("dme")),
        "gradable": _word(cells, "gradable", BOOLEAN_WORDS, None, doubts),
        "quality": _word(cells, "quality", {name: name for name in QUALITIES}, None, doubts),
        "age": float(age) if age.replace(".", "", 1).isdecimal() else None,
        "sex": sex_of(cells.get("sex")),
        "split": _split(cells.get("split", ""), source),
    }
    for name in ("dme", "age"):
        if cells.get(name) and row[name] is None:
            doubts.append(f"{name} {cells[name]!r} is not a number")
    return {**row, "remark": "; ".join(doubts)}


def _word(cells: dict[str, Any], field: str, words: dict[str, Any], otherwise: Any, doubts: list[str]) -> Any:
    text = cells.get(field, "").lower()
    if text and text not in words:
        doubts.append(f"{field} {cells[field]!r} is not understood ({', '.join(word for word in words if word)})")
    return words.get(text, otherwise)


def _split(text: str, source: str) -> str | None:
    if text and text.lower() not in SPLIT_WORDS:
        raise WorkbenchError(f"{source}: split is {text!r}", f"it must be one of {', '.join(SPLITS)}")
    return SPLIT_WORDS.get(text.lower())


def _resolve_masks(rows: list[Row], options: ImportOptions, images: Path) -> None:
    folder = options.masks or images
    for row in rows:
        name = row.pop(MASK)
        if name:
            row["mask_path"], fault = inside(folder, name)
            row["remark"] = "; ".join(filter(None, [row["remark"], fault and f"mask: {fault}"]))
