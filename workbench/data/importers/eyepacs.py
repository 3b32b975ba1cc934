"""EyePACS as Kaggle gave it out in 2015: ``image,level`` and ``{patient}_{left,right}.jpeg``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from workbench.data.importers.assemble import assemble
from workbench.data.importers.photographs import files_by_stem, require_folder, the_file
from workbench.data.importers.result import ImportOptions, ImportResult, Listing, Remark, Row
from workbench.data.importers.tables import LINE, at_line, grade_of, read_table, require_labels, text_of, whole_number
from workbench.schema.manifest import QUALITIES

NAME: Final = re.compile(r"(?P<patient>.+)_(?P<side>left|right)")
EYE_OF_SIDE: Final = {"left": "OS", "right": "OD"}


def import_eyepacs(images: Path, labels: Path | None, options: ImportOptions) -> ImportResult:
    """Import EyePACS; one visit per patient, so the exam bears the patient's name.

    ``quality.csv`` (``image,quality``: 0 good, 1 usable, 2 reject; EyeQ, Fu et al. 2019) is read where it lies beside
    the labels or is named by ``options.quality``.

    Raises:
        WorkbenchError: a missing folder, table or column, or no photograph at all.
    """
    table_path = require_labels(labels, "eyepacs")
    table = read_table(table_path, required=("image", "level"))
    files = files_by_stem(require_folder(images, "--images"))
    quality = _read_quality(table_path, options)
    listing = Listing([])
    for image, level, line in zip(table["image"], table["level"], table[LINE], strict=True):
        source = at_line(table_path, line)
        stem = _stem(image)
        path, fault = the_file(files.get(stem), stem)
        name = NAME.fullmatch(stem)
        if name is None or path is None:
            reason = fault if name else f"the name {stem!r} is not PATIENT_left or PATIENT_right"
            listing.left_out.append(Remark(source, reason))
            continue
        listing.rows.append({**_row(name, path, level), "source": source, "quality": quality.get(stem)})
    named = {Path(row["image_path"]).stem for row in listing.rows}
    listing.left_out.extend(
        Remark(path.name, f"not named in {table_path.name}")
        for stem, paths in files.items()
        if stem not in named
        for path in paths
    )
    return assemble(listing, options)


def _stem(cell: object) -> str:
    """Return an image's name; some copies of the tables name the file instead, with its extension."""
    return re.sub(r"\.(jpe?g|png|tiff?|bmp)$", "", text_of(cell), flags=re.IGNORECASE)


def _row(name: re.Match[str], path: Path, level: object) -> Row:
    grade, reason = grade_of(level)
    return {
        "patient_id": name["patient"],
        "exam_id": name["patient"],
        "eye": EYE_OF_SIDE[name["side"]],
        "image_path": path,
        "icdr_grade": grade,
        "ungraded": reason,
        "dataset": "EyePACS",
        "label_source": "EyePACS reader",
        "label_level": "eye",
    }


def _read_quality(labels: Path, options: ImportOptions) -> dict[str, str]:
    path = options.quality or labels.with_name("quality.csv")
    if options.quality is None and not path.is_file():
        return {}
    table = read_table(path, required=("image", "quality"))
    grades = ((_stem(image), whole_number(cell)) for image, cell in zip(table["image"], table["quality"], strict=True))
    return {stem: QUALITIES[grade] for stem, grade in grades if grade is not None and 0 <= grade < 3}
