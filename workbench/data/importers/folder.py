"""A plain folder of photographs, no labels."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from workbench.data.importers.assemble import assemble
from workbench.data.importers.photographs import FORMATS, require_folder
from workbench.data.importers.result import ImportOptions, ImportResult, Listing, Remark, Row
from workbench.schema.errors import WorkbenchError

NAME: Final = re.compile(r"(?P<patient>.+)_(?P<side>left|right|OD|OS)", flags=re.IGNORECASE)
"""The one pattern from which patient and eye are read; any other name is a patient of its own, eye unknown."""

EYE_OF_SIDE: Final = {"left": "OS", "os": "OS", "right": "OD", "od": "OD"}


def import_folder(images: Path, labels: Path | None, options: ImportOptions) -> ImportResult:
    """Import every photograph below ``images``: ``PATIENT_{left,right,OD,OS}.jpg``, folders being part of PATIENT.

    Raises:
        WorkbenchError: a missing folder, a label table (the layout has none), or no photograph at all.
    """
    if labels is not None:
        raise WorkbenchError("the layout 'folder' takes no label table", "use the layout 'csv', or drop --labels")
    require_folder(images, "--images")
    listing = Listing([])
    for path in _files_below(images):
        name = path.relative_to(images).as_posix()
        if path.suffix.lower() in FORMATS:
            listing.rows.append({**_row(name), "image_path": path, "dataset": "folder"})
        else:
            listing.left_out.append(Remark(name, f"not a photograph's extension: {path.suffix or 'none'}"))
    return assemble(listing, options)


def photographs_below(folder: Path) -> list[tuple[Path, str, str]]:
    """Return every file below ``folder`` with the patient and the eye that its name says, 'unknown' where it does not.

    Raises:
        WorkbenchError: no such folder, or no file in it.
    """
    files = _files_below(require_folder(folder, "the folder of photographs"))
    if not files:
        raise WorkbenchError(f"no file below {folder}", "name the folder that holds the photographs")
    rows = [_row(path.relative_to(folder).as_posix()) for path in files]
    return [(path, str(row["patient_id"]), str(row["eye"])) for path, row in zip(files, rows, strict=True)]


def _files_below(folder: Path) -> list[Path]:
    below = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return sorted(path for path in below if not path.name.startswith("."))


def _row(name: str) -> Row:
    stem = name.rpartition(".")[0]
    match = NAME.fullmatch(stem)
    patient = match["patient"] if match else stem
    eye = EYE_OF_SIDE[match["side"].lower()] if match else "unknown"
    return {"patient_id": patient, "exam_id": patient, "eye": eye, "source": name, "ungraded": "no labels"}
