"""A run of outputs alone in the app: it opens and says what it lacks, or is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.outputs_folder import invented, write_outputs
from workbench.audit.predictions import PredictionsConfig, audit_predictions
from workbench.audit.predictions_lacks import NO_EYE
from workbench.audit.results import Run
from workbench.review.desk import Desk
from workbench.review.worklist import make_worklist
from workbench.schema.errors import WorkbenchError


def made(folder: Path, table: pd.DataFrame | None = None) -> Run:
    predictions, labels = write_outputs(folder)
    if table is not None:
        table.to_csv(predictions, index=False)
    return audit_predictions(PredictionsConfig(predictions=predictions, labels=labels), folder / "run", resamples=20)


def test_the_app_opens_it_and_says_what_it_lacks(tmp_path: Path) -> None:
    run = made(tmp_path)
    desk = Desk(run.folder)
    try:
        worklist = make_worklist(run)
        assert len(worklist) == 30
        case = desk.case(str(worklist["exam_id"].iloc[0]))
        assert any("Outputs alone were audited" in flag.words for flag in case.flags)
        assert case.eyes["OD"].answer is not None
        assert case.stresses == ()
    finally:
        desk.close()


def test_outputs_without_a_grade_are_refused(tmp_path: Path) -> None:
    table = invented()[0]
    run = made(tmp_path, table[["image"]].assign(p=table[["p2", "p3", "p4"]].sum(axis=1)))
    with pytest.raises(WorkbenchError, match="binary outputs, no probability of a grade"):
        Desk(run.folder)


def test_one_answer_per_exam_is_refused(tmp_path: Path) -> None:
    table = invented()[0]
    patient = table.pop("image").str.split("_").str[0]
    run = made(tmp_path, table.groupby(patient).first().rename_axis("exam_id").reset_index())
    with pytest.raises(WorkbenchError, match=NO_EYE):
        Desk(run.folder)
