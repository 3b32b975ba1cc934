"""A run's reads for other programs: iMRMC's text, CoDoC's tables, and the study's own tables as CSV and JSON.

No identifier is in any of them: readers are pseudonyms or numbers, exams are numbers.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from workbench.review.exports import write_csv
from workbench.review.readers import WITH, WITHOUT, ReadTables
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import write_json, write_text
from workbench.schema.reader_study import ReaderStudy
from workbench.schema.seeds import seed_for

CODOC_COLUMNS: Final = ("y_true", "y_model", "reader_score")
CODOC_PARTS: Final = {"tune": 0.5, "val": 0.25, "test": 0.25}
"""CoDoC's files and the share of the patients in each."""


def case_numbers(pairs: pd.DataFrame) -> dict[str, int]:
    """Return exam → the number that stands for it in an export, from 1, in the order of a hash of its name."""
    return {
        exam: number
        for number, exam in enumerate(sorted(pairs["exam_id"].unique(), key=lambda exam: seed_for(exam, "export")), 1)
    }


def imrmc_text(tables: ReadTables, *, calls: bool = False) -> str:
    """Return the pairs as an `.imrmc` file: readers and exams are numbers, nobody's name and no identifier is in it.

    Modality 1 is the read without the model, 2 the one with it. The score is the worse eye's ICDR grade, or the call
    (0 or 1). Exams need not be read by everybody.

    Gallas et al., iMRMC, https://github.com/DIDSR/iMRMC: front matter, ``BEGIN DATA:``, then one line per observation,
    ``reader,case,modality,score``; the truth has reader -1 and modality 0.

    Raises:
        WorkbenchError: no exam was read both ways.
    """
    pairs = _scored(tables, calls)
    if not len(pairs):
        raise WorkbenchError("no exam was read both without and with the model", "finish some second reads first")
    readers = {name: number for number, name in enumerate(pairs["reader"].drop_duplicates(), start=1)}
    numbers = case_numbers(pairs)
    cases = pairs.drop_duplicates("exam_id")
    score = "the reader's call (1 = referable)" if calls else "the worse eye's ICDR grade, 0 to 4"
    lines = [
        f"Reads of a run of the retina trust workbench; score: {score}",
        f"modality 1: {WITHOUT}; modality 2: {WITH}",
        "",
        f"NR: {len(readers)}",
        f"N0: {int((~cases['truth'].astype(bool)).sum())}",
        f"N1: {int(cases['truth'].astype(bool).sum())}",
        "NM: 2",
        "",
        "BEGIN DATA:",
    ]
    truths = sorted((numbers[exam], int(truth)) for exam, truth in zip(cases["exam_id"], cases["truth"], strict=True))
    lines += [f"-1,{case},0,{truth}" for case, truth in truths]
    column = "called" if calls else "grade"
    for modality, which in enumerate(("first", "second"), start=1):
        scores = zip(pairs["reader"], pairs["exam_id"], pairs[f"{which}_{column}"], strict=True)
        observed = sorted((readers[reader], numbers[exam], int(value)) for reader, exam, value in scores)
        lines += [f"{reader},{case},{modality},{value}" for reader, case, value in observed]
    return "\n".join(lines) + "\n"


def _scored(tables: ReadTables, calls: bool) -> pd.DataFrame:
    return tables.pairs if calls else tables.pairs.dropna(subset=["first_grade", "second_grade"])


def codoc_tables(tables: ReadTables, seed: int = 0) -> dict[str, str]:
    """Return the reads without the model as CoDoC's three files, every patient in one of them.

    One row per reader and exam: ``y_true`` (1 = referable), ``y_model`` (the model's P(referable)), ``reader_score``
    (the reader's call).

    Dvijotham et al. 2023, Nature Medicine 29; https://github.com/google-deepmind/codoc.

    Raises:
        WorkbenchError: no exam with a label and an answer was read without the model.
    """
    reads = tables.exams
    alone = reads["stage"].isin(("first", "review_only"))
    reads = reads[alone].dropna(subset=["called", "truth", "p_referable"]).drop_duplicates(["reader", "exam_id"])
    if not len(reads):
        raise WorkbenchError("no exam with a label was read without the model", "read some under a blinded protocol")
    part = reads["patient_id"].map({name: _part_of(name, seed) for name in reads["patient_id"].unique()})
    order = reads["exam_id"].map({exam: seed_for(seed, exam) for exam in reads["exam_id"].unique()})
    reads = reads.assign(part=part, order=order).sort_values("order", kind="stable")
    found = {}
    for name in CODOC_PARTS:
        own = reads[reads["part"] == name]
        values = zip(own["truth"], own["p_referable"], own["called"], strict=True)
        rows = [f"{int(truth)},{float(p)!r},{int(called)}" for truth, p, called in values]
        found[name] = "\n".join([",".join(CODOC_COLUMNS), *rows]) + "\n"
    return found


def _part_of(patient: str, seed: int) -> str:
    place = seed_for(seed, "codoc", patient) / 2**63
    ends = np.cumsum(list(CODOC_PARTS.values()))
    return list(CODOC_PARTS)[int(np.searchsorted(ends, place, side="right"))]


def write_study(study: ReaderStudy, tables: ReadTables, folder: Path) -> tuple[Path, ...]:
    """Write the study as JSON and CSV, and what can be had of the exports, and return what was written.

    Files: ``readers.json``, ``figures.csv``, one CSV per table, ``reads.imrmc`` (grades), ``calls.imrmc`` (calls),
    ``codoc/{tune,val,test}.csv``. What nothing could be written into is left out; the study says why.
    """
    rows = {"figures": [one.model_dump() for one in study.figures], **study.tables}
    written = [folder / "readers.json"]
    write_json(written[0], study.model_dump())
    for name, table in rows.items():
        if table:
            columns = list(dict.fromkeys(column for row in table for column in row))
            written.append(folder / f"{name.replace(' ', '_')}.csv")
            write_csv([{column: row.get(column) for column in columns} for row in table], written[-1])
    for name, text in _others(tables).items():
        written.append(folder / name)
        write_text(written[-1], text)
    return tuple(written)


def _others(tables: ReadTables) -> dict[str, str]:
    """Return what other programs read, by file name."""
    files = {}
    for name, calls in (("reads.imrmc", False), ("calls.imrmc", True)):
        if len(_scored(tables, calls)):
            files[name] = imrmc_text(tables, calls=calls)
    with suppress(WorkbenchError):  # nobody read without the model: the study says so
        files |= {f"codoc/{name}.csv": text for name, text in codoc_tables(tables).items()}
    return files
