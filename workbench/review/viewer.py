"""What the viewer component is given: pixels, words and bars; plain JSON."""

from __future__ import annotations

from typing import Any, Final

from workbench.audit.results import Run
from workbench.review.cases import Case, EyeAnswer, EyeCase
from workbench.review.pictures import Originals, Picture, as_text, eye_picture, viewer_maps
from workbench.review.words import EYE_NAMES, call_words, grade_words
from workbench.schema.grades import EYES, GRADES
from workbench.schema.words import percent

METHOD_NAMES: Final = {"integrated_gradients": "Integrated gradients", "grad_cam": "Grad-CAM"}


def viewer_data(run: Run, originals: Originals, case: Case) -> dict[str, Any]:
    """Return an exam for the viewer: OD first, so that it stands on the left of the screen."""
    return {
        "exam": case.exam_id,
        "eyes": [_eye(case.eyes[eye], eye_picture(run, originals, case.exam_id, case.eyes[eye])) for eye in EYES],
        "maps": viewer_maps(run, case.exam_id),
        "method_names": {method: METHOD_NAMES.get(method, method.replace("_", " ")) for method in run.methods()},
        "withheld": case.withheld,
    }


def _eye(eye: EyeCase, picture: Picture | None) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "eye": eye.eye,
        "title": EYE_NAMES[eye.eye],
        "status": "" if eye.status == "ok" else eye.status,
        "reason": eye.reason,
        "jpeg": None,
        "about": "",
        "answer": None if eye.answer is None else _answer(eye.answer),
        "no_answer": "" if eye.answer is not None else "The model gave no answer to this eye.",
    }
    if picture is not None:
        size = f"{picture.width} × {picture.height} pixels"
        about = size if picture.original else f"{size}, as the model saw it"
        shown |= {"jpeg": as_text(picture.jpeg), "crop": list(picture.crop), "about": about}
    return shown


def _answer(answer: EyeAnswer) -> dict[str, Any]:
    return {
        "grade": grade_words(answer.icdr_grade),
        "referable": (
            f"{call_words(answer.called_referable)} · P(referable) {percent(answer.p_referable)}, "
            f"draws {percent(answer.p_referable_low)} to {percent(answer.p_referable_high)}"
        ),
        "uncertainty": answer.uncertainty.capitalize(),
        "bars": [_bar(answer, grade) for grade in range(len(GRADES))],
    }


def _bar(answer: EyeAnswer, grade: int) -> dict[str, Any]:
    share = answer.probabilities[grade]
    low, high = (answer.low[grade], answer.high[grade]) if answer.low else (None, None)
    return {
        "label": f"{grade} {GRADES[grade]}",
        "share": share,
        "low": low,
        "high": high,
        "words": percent(share),
        "title": f"{percent(share)}; 9 of 10 draws between {percent(low)} and {percent(high)}",
        "chosen": grade == answer.icdr_grade,
    }
