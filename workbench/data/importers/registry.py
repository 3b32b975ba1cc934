"""Every layout that can be imported, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workbench.data.importers.csv_table import import_csv
from workbench.data.importers.eyepacs import import_eyepacs
from workbench.data.importers.folder import import_folder
from workbench.data.importers.idrid import import_idrid
from workbench.data.importers.odir5k import import_odir5k
from workbench.data.importers.result import ImportOptions, ImportResult
from workbench.schema.errors import WorkbenchError


@dataclass(frozen=True)
class Layout:
    """How a source lays out its files: one line that says so, and the importer ``(images, labels, options)``."""

    description: str
    read: Callable[[Path, Path | None, ImportOptions], ImportResult]


LAYOUTS: Final[dict[str, Layout]] = {
    "eyepacs": Layout("image,level and PATIENT_left.jpeg, PATIENT_right.jpeg (Kaggle 2015)", import_eyepacs),
    "odir5k": Layout("one line per patient, diagnostic keywords per eye", import_odir5k),
    "idrid": Layout("photographs with lesion masks; grades from the grading table if given", import_idrid),
    "csv": Layout("any table with image, patient_id and eye or exam_id", import_csv),
    "folder": Layout("photographs without labels, PATIENT_{left,right,OD,OS}", import_folder),
}


def layout_of(name: str) -> Layout:
    """Return the layout of a name.

    Raises:
        WorkbenchError: there is none; names the nearest.
    """
    if name not in LAYOUTS:
        near = difflib.get_close_matches(name, LAYOUTS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise WorkbenchError(f"no layout {name!r}", f"{hint}the layouts are {', '.join(LAYOUTS)}")
    return LAYOUTS[name]
