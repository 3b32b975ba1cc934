"""What an invented reader says, for every test of the store."""

from __future__ import annotations

from typing import Any

from workbench.review.drawn import Drawn, Mark
from workbench.review.reads import DraftPlace, EyeRead, Submission


def submission(key: str = "key-00000001", **changes: object) -> Submission:
    read = EyeRead(
        eye="OD",
        gradable=True,
        icdr_grade=2,
        dme=1,
        confidence=4,
        agreement="agree",
        note="soft exudate, temporal",
        model_answer={"icdr_grade": 2, "p_referable": 0.8124999},
        image_sha256="ab" * 32,
    )
    values: dict[str, object] = {
        "submission_key": key,
        "reader": "Dr A",
        "run_id": "run-1",
        "model_hash": "cd" * 32,
        "patient_id": "p1",
        "exam_id": "e1",
        "opened_at": "2026-01-02T03:04:05.678+00:00",
        "seconds_active": 41.25,
        "disposition": "rescreen",
        "rescreen_months": 12,
        "shown": {"exam_referred": True},
        "drawn": Drawn(marks=(Mark(id="m1", eye="OD", kind="microaneurysm", points=((12.5, 7.0),)),)),
        "eyes": (read, EyeRead(eye="OS", gradable=False)),
    }
    return Submission.model_validate(values | changes)


def blinded(key: str, stage: str, **changes: Any) -> Submission:
    """Return a submission of the blinded protocol; blind stages hold nothing of the model."""
    eyes = (EyeRead(eye="OD", gradable=True, icdr_grade=changes.pop("grade", 1)),)
    shown = {} if stage == "first" else {"exam_referred": False}
    return submission(key, protocol="blinded", stage=stage, shown=shown, eyes=eyes, **changes)


def place(reader: str = "Dr A", exam_id: str = "e1", **changes: Any) -> DraftPlace:
    return DraftPlace.model_validate({"reader": reader, "run_id": "run-1", "exam_id": exam_id, **changes})
