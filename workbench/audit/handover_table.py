"""Tables of cases that a model and a reader have both scored: read with their line numbers, or made from a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64
from pydantic import ValidationError

from workbench.audit.layout import CLEAN
from workbench.audit.predictions_table import Sheet, numbers, read_sheet
from workbench.audit.results import open_run
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import atomic_path, sha256_file
from workbench.uncertainty.handover import HandoverRule, ReadCases

REQUIRED = ("y_true", "y_model", "reader_score")
"""The columns of CoDoC's own tables: the truth (0 or 1), the model's score in [0, 1], the reader's call (0 or 1)."""
TUNING = ("tune", "tuning", "train")


@dataclass(frozen=True)
class HandoverTable:
    """The cases, whose they are (each case a patient of its own where no column says), and which are for tuning."""

    cases: ReadCases
    patients: Int64[np.ndarray, " n"]
    patients_known: bool
    tuning: Bool[np.ndarray, " n"] | None


def read_handover_table(path: Path) -> HandoverTable:
    """Read a table with the columns `REQUIRED`; `patient_id`, `uncertainty` and `split` are used where they are there.

    Raises:
        WorkbenchError: no such file, a column missing, or a value out of range, with the lines that hold it.
    """
    sheet = read_sheet(path)
    for name in REQUIRED:
        if not sheet.has(name):
            has = ", ".join(map(str, sheet.table.columns))
            raise WorkbenchError(
                f"{path.name} lacks the column {name!r}; it has {has}",
                f"the columns are {', '.join(REQUIRED)}, and if you like patient_id, uncertainty, split",
            )
    truth, score, reader = (numbers(sheet, name) for name in REQUIRED)
    for name, values in (("y_true", truth), ("reader_score", reader)):
        sheet.refuse(~values.isin([0, 1]), f"{name} is not 0 or 1", "write 1 for disease, 0 for none")
    sheet.refuse(~score.between(0, 1), "y_model is no number from 0 to 1", "give the model's probability")
    return HandoverTable(
        ReadCases(truth.to_numpy() == 1, score.to_numpy(dtype=float), reader.to_numpy() == 1, _uncertainty(sheet)),
        *_patients(sheet),
        _tuning(sheet),
    )


def _uncertainty(sheet: Sheet) -> Float[np.ndarray, " n"] | None:
    if not sheet.has("uncertainty"):
        return None
    values = numbers(sheet, "uncertainty")
    sheet.refuse(~np.isfinite(values), "uncertainty is no finite number", "every case needs one, or drop the column")
    return values.to_numpy(dtype=float)


def _patients(sheet: Sheet) -> tuple[Int64[np.ndarray, " n"], bool]:
    if not sheet.has("patient_id"):
        return np.arange(len(sheet.table), dtype=np.int64), False
    names = sheet.table["patient_id"]
    sheet.refuse(names.isna(), "patient_id is empty", "every case needs its patient, or drop the column")
    return pd.factorize(names.astype(str))[0].astype(np.int64), True


def _tuning(sheet: Sheet) -> Bool[np.ndarray, " n"] | None:
    if not sheet.has("split"):
        return None
    return sheet.table["split"].fillna("").astype(str).str.lower().isin(TUNING).to_numpy(dtype=bool)


def read_rule(path: Path) -> HandoverRule:
    """Read a rule.

    Raises:
        WorkbenchError: no such file, or not a rule.
    """
    try:
        return HandoverRule.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WorkbenchError(f"no rule at {path}", "make one with 'workbench handover fit'") from None
    except (ValidationError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())[:200]
        raise WorkbenchError(f"{path} is no rule: {line}", "make it again with 'workbench handover fit'") from None


def unseen(table: HandoverTable, path: Path, rule: HandoverRule) -> HandoverTable:
    """Return the cases that the rule was not learnt from.

    Raises:
        WorkbenchError: it is the very table that the rule was learnt from.
    """
    if sha256_file(path) == rule.table_sha256:
        raise WorkbenchError(f"{path.name} is the table that the rule was learnt from", "give other patients' cases")
    return table


def table_of_run(run_folder: Path, readers: Path, out: Path) -> int:
    """Write the table of a run's clean exams that a reader has scored, and return how many cases it has.

    The model's score is P(referable), the truth whether the exam is referable, the uncertainty the policy's score.

    Args:
        run_folder: a finished run.
        readers: a table with the columns ``exam_id`` and ``reader_score`` (0 or 1).
        out: the CSV to write.

    Raises:
        WorkbenchError: no such run or table, a column missing, a reader's call that is not 0 or 1, or no exam in both.
    """
    sheet = read_sheet(readers)
    for name in ("exam_id", "reader_score"):
        if not sheet.has(name):
            raise WorkbenchError(f"{readers.name} lacks the column {name!r}", "it needs exam_id and reader_score")
    calls = numbers(sheet, "reader_score")
    sheet.refuse(~calls.isin([0, 1]), "reader_score is not 0 or 1", "write 1 for referable, 0 for not")
    exams = sheet.table["exam_id"].astype("string")
    sheet.refuse(exams.duplicated(), "an exam_id stands twice", "give one call per exam")
    decided = open_run(run_folder).decisions()
    decided = decided[(decided["measurement"] == CLEAN) & decided["referable"].notna() & decided["p_referable"].notna()]
    read = pd.DataFrame({"exam_id": exams.to_numpy(), "reader_score": calls.astype(int).to_numpy()})
    table = decided.merge(read, on="exam_id")
    if table.empty:
        raise WorkbenchError(f"no exam of {readers.name} is in the run {run_folder}", "check its exam_id")
    written = pd.DataFrame(
        {
            "patient_id": table["patient_id"],
            "y_true": table["referable"].astype(int),
            "y_model": table["p_referable"].clip(0, 1),
            "reader_score": table["reader_score"],
            "uncertainty": table["score"],
        }
    ).dropna()
    with atomic_path(out) as temporary:
        written.to_csv(temporary, index=False)
    return len(written)
