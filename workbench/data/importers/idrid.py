"""IDRiD: photographs centred on the macula, with lesion masks; grades where the grading table is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from workbench.data.importers.assemble import assemble
from workbench.data.importers.photographs import files_by_stem, require_folder, the_file
from workbench.data.importers.result import ImportOptions, ImportResult, Listing, Remark, Row
from workbench.data.importers.tables import LINE, at_line, grade_of, read_table, text_of, whole_number
from workbench.data.masks import read_labels
from workbench.schema.lesions import LABELS, OPTIC_DISC

IMAGE, GRADE, EDEMA = "Image name", "Retinopathy grade", "Risk of macular edema"
NO_TABLE: Final = "no grading table was given"


def import_idrid(images: Path, labels: Path | None, options: ImportOptions) -> ImportResult:
    """Import IDRiD; the source says neither whose eye it is nor which, so each photograph is its own patient.

    Which eye it is follows from a mask that marks the optic disc, and is unknown without one.

    Masks are looked for in ``masks/`` beside the images, or in ``options.masks``, under the photograph's name.
    ``labels`` may be the table of the grading part; it is matched by the whole name, because IDRiD_01 of the
    segmentation part and IDRiD_001 of the grading part are different photographs.

    Raises:
        WorkbenchError: a missing folder, table or column, or no photograph at all.
    """
    files = files_by_stem(require_folder(images, "--images"))
    listing = Listing([])
    if labels is None:
        told: list[tuple[str, str, Row]] = [
            (stem, f"{stem}{paths[0].suffix}", {"icdr_grade": None, "ungraded": NO_TABLE})
            for stem, paths in files.items()
        ]
    else:
        told = _read_grades(labels)
        named = {stem for stem, _, _ in told}
        listing.left_out.extend(Remark(stem, f"not named in {labels.name}") for stem in files if stem not in named)
    masks = _mask_files(images, options)
    for stem, source, grades in told:
        path, fault = the_file(files.get(stem), stem)
        if path is None:
            listing.left_out.append(Remark(source, fault))
            continue
        marked = _mask(path, masks.get(stem))
        eye = {"eye": _eye_of(marked["mask_path"])} if "mask_path" in marked else {}
        listing.rows.append({**_row(stem, path), **grades, **marked, **eye, "source": source})
    return assemble(listing, options)


def _row(stem: str, path: Path) -> Row:
    return {
        "patient_id": stem,
        "exam_id": stem,
        "eye": "unknown",
        "image_path": path,
        "dataset": "IDRiD",
        "camera": "Kowa VX-10 alpha",
        "site": "Nanded, India",
        "label_source": "IDRiD reader",
        "label_level": "eye",
    }


def _read_grades(labels: Path) -> list[tuple[str, str, Row]]:
    table = read_table(labels, required=(IMAGE, GRADE, EDEMA))
    return [_grades(cells, labels) for cells in table.to_dict("records")]


def _grades(cells: dict[str, Any], labels: Path) -> tuple[str, str, Row]:
    grade, reason = grade_of(cells[GRADE])
    values: Row = {"icdr_grade": grade, "ungraded": reason, "dme": whole_number(cells[EDEMA])}
    return text_of(cells[IMAGE]), at_line(labels, cells[LINE]), values


def _mask_files(images: Path, options: ImportOptions) -> dict[str, list[Path]]:
    if options.masks is not None:
        return files_by_stem(require_folder(options.masks, "--masks"))
    beside = images.parent / "masks"
    return files_by_stem(beside) if beside.is_dir() else {}


def _mask(photograph: Path, candidates: list[Path] | None) -> Row:
    """Return the mask's path when it is there and of the photograph's size; else say why not."""
    if not candidates:
        return {"remark": "no lesion mask"}
    try:
        with Image.open(candidates[0]) as mask, Image.open(photograph) as image:
            sizes = mask.size, image.size
    except (UnidentifiedImageError, OSError):
        return {"remark": f"the lesion mask cannot be read: {candidates[0].name}"}
    if sizes[0] != sizes[1]:
        return {"remark": f"the lesion mask has another size than its photograph: {candidates[0].name}"}
    return {"mask_path": candidates[0]}


def _eye_of(mask: Path) -> str:
    """Return which eye a photograph centred on the macula shows: the optic disc lies nasally, right in a right eye.

    'unknown' where no disc is marked, or it lies within a tenth of the width from the middle.
    """
    marked = np.flatnonzero((read_labels(mask) == LABELS.index(OPTIC_DISC)).any(axis=0))
    with Image.open(mask) as image:
        away = (float(marked.mean()) + 0.5) / image.width - 0.5 if len(marked) else 0.0
    return "unknown" if abs(away) < 0.1 else "OD" if away > 0 else "OS"
