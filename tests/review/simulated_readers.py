"""Readers whose skill and whose trust in the model are known: what a study of them must find again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.audit.layout import CLEAN
from workbench.audit.results import Run
from workbench.review.reads import SavedRead
from workbench.schema.grades import EYES


class InventedRun(Run):
    """A run of any number of exams whose tables are made up in memory: quick, and only what a study of readers needs.

    Exam 1 lacks its left eye, exam 3 has no label, and the model is wrong in about one exam of five.
    """

    def __init__(self, like: Run, exams: int, seed: int = 0) -> None:
        super().__init__(like.folder, like.manifest)
        generator = np.random.default_rng(seed)
        names = [f"exam-{number:03d}" for number in range(exams)]
        self.exam_ids = tuple(names)
        truth = generator.choice(5, size=exams, p=[0.4, 0.1, 0.3, 0.1, 0.1])
        called = (truth >= 2) ^ (generator.random(exams) < 0.2)
        p = np.where(called, generator.uniform(0.5, 1, exams), generator.uniform(0, 0.5, exams))
        patients = [f"patient-{number * 10 // 11:03d}" for number in range(exams)]
        exam = pd.DataFrame({"exam_id": names, "patient_id": patients})
        labels = pd.array(truth, dtype="Int64")
        labels[3] = pd.NA
        answer = {"referable": labels >= 2, "called_referable": pd.array(called), "p_referable": p}
        self._decisions = exam.assign(measurement=CLEAN, **answer)
        eyes = exam.assign(icdr_grade=labels, grade_predicted=np.where(called, np.maximum(truth, 2), 0))
        self._eyes = pd.concat([eyes.assign(eye=eye, status="ok", measurement=CLEAN) for eye in EYES])
        missing = (self._eyes["exam_id"] == names[1]) & (self._eyes["eye"] == "OS")
        self._eyes.loc[missing, ["status", "icdr_grade", "grade_predicted"]] = ["missing", pd.NA, pd.NA]

    def eyes(self) -> pd.DataFrame:
        """Return what `Run.eyes` has, as far as it is needed."""
        return self._eyes.drop(columns=["measurement", "grade_predicted"])

    def eye_answers(self) -> pd.DataFrame:
        """Return what `Run.eye_answers` has, as far as it is needed."""
        return self._eyes.loc[self._eyes["status"] == "ok", ["measurement", "exam_id", "eye", "grade_predicted"]]

    def decisions(self) -> pd.DataFrame:
        """Return what `Run.decisions` has, as far as it is needed."""
        return self._decisions


@dataclass(frozen=True)
class Trust:
    """One simulated reader.

    Args:
        skill: chance that the first grade of an exam is the label.
        follows_wrong: chance to take the model's call when the reader was right and the model is wrong.
        follows_right: chance to take it when the reader was wrong and the model is right.
    """

    name: str
    skill: float = 0.8
    follows_wrong: float = 0.3
    follows_right: float = 0.6


def simulate(run: Run, readers: list[Trust], *, seed: int = 0, exams: int | None = None) -> list[SavedRead]:
    """Return a blinded first and a second read of every exam by every reader; both eyes get the exam's grade."""
    generator = np.random.default_rng(seed)
    decided = run.decisions()
    decided = decided[decided["measurement"] == CLEAN].set_index("exam_id")
    called = decided[["referable", "called_referable"]].fillna(False).astype(bool)
    eyes = run.eyes()
    photographed = eyes[eyes["status"] != "missing"].groupby("exam_id")["eye"].apply(list)
    patient = eyes.drop_duplicates("exam_id").set_index("exam_id")["patient_id"]
    reads: list[SavedRead] = []
    for reader in readers:
        for exam in list(run.exam_ids)[:exams]:
            truth, model = called.loc[exam, ["referable", "called_referable"]]
            first = truth if generator.random() < reader.skill else not truth
            chance = reader.follows_right if model == truth else reader.follows_wrong
            second = model if first != model and generator.random() < chance else first
            for stage, call in (("first", first), ("second", second)):
                grade = int(generator.choice([2, 3, 4]) if call else generator.choice([0, 1]))
                confidence = int(np.clip(round(generator.normal(4 if call == truth else 3, 0.8)), 1, 5))
                seconds = float(generator.gamma(4, 8 if stage == "first" else 4))
                shown = {} if stage == "first" else {"exam_called_referable": model}
                for eye in photographed[exam]:
                    reads.append(
                        saved(
                            len(reads) + 1,
                            reader.name,
                            patient[exam],
                            exam,
                            eye,
                            stage,
                            run_id=run.manifest.run_id,
                            icdr_grade=grade,
                            confidence=confidence,
                            seconds_active=seconds,
                            model_answer=shown,
                        )
                    )
    return reads


def saved(number: int, reader: str, patient: str, exam: str, eye: str, stage: str, **more: Any) -> SavedRead:
    """Return a stored read of an eye; `more` overrides or adds fields."""
    assert eye in EYES
    grade = more.get("icdr_grade")
    values = {
        "id": number,
        "event_id": number,
        "submission_key": f"key-of-read-{number:06d}",
        "saved_at": "2026-01-02T03:04:05.000+00:00",
        "reader": reader,
        "protocol": "blinded",
        "stage": stage,
        "run_id": "run",
        "patient_id": patient,
        "exam_id": exam,
        "eye": eye,
        "gradable": grade is not None,
    }
    return SavedRead.model_validate(values | more)
