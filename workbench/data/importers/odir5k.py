"""ODIR-5K: one line per patient, a file and free-text keywords per eye."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from workbench.data.importers.assemble import assemble
from workbench.data.importers.photographs import inside, require_folder
from workbench.data.importers.result import ImportOptions, ImportResult, Listing, Remark, Row
from workbench.data.importers.tables import LINE, at_line, read_table, require_labels, sex_of, text_of, whole_number

EYES_OF_LINE: Final = (("OS", "Left"), ("OD", "Right"))
COLUMNS: Final = (
    "ID",
    "Patient Age",
    "Patient Sex",
    *(f"{side}-{what}" for _, side in EYES_OF_LINE for what in ("Fundus", "Diagnostic Keywords")),
)

SEPARATORS: Final = re.compile(r"[,，;；、]")
"""The file separates keywords by full-width commas; a spreadsheet may have turned some into others."""

GRADE_OF_KEYWORD: Final = {
    "normal fundus": 0,
    "mild non proliferative retinopathy": 1,
    "moderate non proliferative retinopathy": 2,
    "severe non proliferative retinopathy": 3,
    "proliferative diabetic retinopathy": 4,
    "severe proliferative diabetic retinopathy": 4,
}
"""Keyword, spelled as `keywords_of` spells it → ICDR grade. The whole keyword must match."""

LEAST_AGE: Final = 2
"""Ages below this are the file's placeholder for 'not known' (it has 1 beside degenerative myopia)."""


def import_odir5k(images: Path, labels: Path | None, options: ImportOptions) -> ImportResult:
    """Import ODIR-5K; an eye whose keywords do not state a grade stays ungraded, with its keywords as the reason.

    Raises:
        WorkbenchError: a missing folder, table or column, or no photograph at all.
    """
    table_path = require_labels(labels, "odir5k")
    table = read_table(table_path, required=COLUMNS)
    require_folder(images, "--images")
    listing = Listing([])
    for cells in table.to_dict("records"):
        for eye, side in EYES_OF_LINE:
            source = f"{at_line(table_path, cells[LINE])} {eye}"
            path, fault = inside(images, text_of(cells[f"{side}-Fundus"]) or "(empty cell)")
            if path is None or not text_of(cells["ID"]):
                listing.left_out.append(Remark(source, fault or "no patient ID"))
                continue
            listing.rows.append({**_row(cells, eye, side), "image_path": path, "source": source})
    return assemble(listing, options)


def _row(cells: dict[str, Any], eye: str, side: str) -> Row:
    grade, reason = grade_of_keywords(text_of(cells[f"{side}-Diagnostic Keywords"]))
    age = whole_number(cells["Patient Age"])
    believable = age is not None and age >= LEAST_AGE
    return {
        "patient_id": text_of(cells["ID"]),
        "exam_id": text_of(cells["ID"]),
        "eye": eye,
        "icdr_grade": grade,
        "ungraded": reason,
        "age": age if believable else None,
        "remark": "" if believable else f"age {text_of(cells['Patient Age']) or 'empty'} taken as not known",
        "sex": sex_of(cells["Patient Sex"]),
        "dataset": "ODIR-5K",
        "label_source": "ODIR-5K keywords",
        "label_level": "eye",
    }


def keywords_of(cell: str) -> list[str]:
    """Return a cell's keywords: lower case, single blanks, 'non proliferative retinopathy' in one spelling.

    >>> keywords_of("Mild nonproliferative retinopathy，lens dust")
    ['mild non proliferative retinopathy', 'lens dust']
    """
    keywords = (" ".join(part.lower().split()) for part in SEPARATORS.split(cell))
    spelled = (re.sub(r"\bnon[ -]?proliferative (diabetic )?", "non proliferative ", word) for word in keywords)
    return [word for word in spelled if word]


def grade_of_keywords(cell: str) -> tuple[int | None, str]:
    """Return the ICDR grade that an eye's keywords state, or None and why they state none.

    'normal fundus' states grade 0. Another disease alone does not: that the reader named a cataract says nothing
    certain about the retina behind it. 'suspected ...' and a bare 'diabetic retinopathy' leave the eye ungraded.
    """
    keywords = keywords_of(cell)
    told = ", ".join(keywords)
    stated = {GRADE_OF_KEYWORD[word] for word in keywords if word in GRADE_OF_KEYWORD}
    others = [word for word in keywords if word not in GRADE_OF_KEYWORD]
    if any("diabetic" in word or "proliferative" in word for word in others):
        return None, f"diabetic retinopathy without a certain grade: {told}"
    if len(stated) > 1:
        return None, f"keywords contradict each other: {told}"
    if not stated:
        return None, f"no keyword about diabetic retinopathy: {told or 'empty cell'}"
    return stated.pop(), ""
