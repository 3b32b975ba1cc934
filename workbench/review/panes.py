"""An exam of a run as the viewer's two panes."""

from __future__ import annotations

from typing import Any, Final

from workbench.audit.results import HeatMap, Run
from workbench.review.cases import Case, EyeAnswer, EyeCase
from workbench.review.pictures import Originals, agreement_png, eye_picture, largest_of, map_picture
from workbench.review.viewer import Comparison, EyePane, MapLayer, Shown, ViewerInputs
from workbench.review.words import EYE_NAMES, call_words, grade_words
from workbench.schema.grades import EYES, GRADES
from workbench.schema.maps import map_words, speaks_for, without_options
from workbench.schema.words import percent

UNITS: Final = {
    "integrated_gradients": "change of P(referable) per pixel of the model's input",
    "grad_cam": "relative evidence, no units",
    "occlusion": "fall of P(referable) when a window loses its detail",
}
"""Of maps of P(referable), whatever the options, of draws or without."""
NO_SQUARE: Final = (0.0, 0.0, 1.0)
"""Of an eye without a photograph."""


def viewer_inputs(
    run: Run,
    originals: Originals,
    case: Case,
    *,
    other: Case | None = None,
    comparisons: dict[str, tuple[Comparison, ...]] | None = None,
    with_model: bool = True,
) -> ViewerInputs:
    """Return an exam for the viewer.

    Args:
        run: holds the exam.
        originals: the photographs as taken, where they are at hand.
        case: the exam.
        other: another visit of the same patient, to flicker with; both lie on the squares that the model saw, which
            lines up their fields of view, not their vessels. A run keeps no dates, so none is the earlier.
        comparisons: eye → further pairs to flicker between.
        with_model: False leaves out answers and maps, for a blinded read.
    """
    layers = _layers(run, case.exam_id) if with_model else {}
    panes = []
    for eye in EYES:
        pairs = (comparisons or {}).get(eye, ())
        if other is not None:
            pairs = (_other_visit(run, originals, other, eye), *pairs)
        panes.append(_pane(run, originals, case, eye, layers.get(eye, ()), pairs, with_model))
    return ViewerInputs(exam=case.exam_id, panes=(panes[0], panes[1]))


def _pane(
    run: Run,
    originals: Originals,
    case: Case,
    eye: str,
    layers: tuple[MapLayer, ...],
    pairs: tuple[Comparison, ...],
    with_model: bool,
) -> EyePane:
    one = case.eyes[eye]
    picture = eye_picture(run, originals, case.exam_id, one)
    about, shown = "", None
    if picture is not None:
        about = f"{picture.width} × {picture.height} pixels"
        if not picture.original:
            about += ", as the model saw it"
        elif not picture.native:
            about += ", scaled down"
        shown = Shown("This visit" if any(pair.name == OTHER_VISIT for pair in pairs) else "Photograph", picture)
    has_answer = with_model and one.answer is not None
    return EyePane(
        eye=eye,
        title=EYE_NAMES[eye],
        square=one.crop or (picture.crop if picture is not None else NO_SQUARE),
        shown=shown,
        about=about,
        status="" if one.status == "ok" else one.status,
        reason=one.reason,
        maps=layers,
        comparisons=pairs,
        answer=answer_of(one.answer) if has_answer and one.answer is not None else None,
        no_answer="" if has_answer or not with_model else "The model gave no answer to this eye.",
    )


OTHER_VISIT: Final = "Other visit"


def _other_visit(run: Run, originals: Originals, other: Case, eye: str) -> Comparison:
    one: EyeCase = other.eyes[eye]
    picture = eye_picture(run, originals, other.exam_id, one)
    return Comparison(OTHER_VISIT, None if picture is None else Shown(OTHER_VISIT, picture))


def _layers(run: Run, exam_id: str) -> dict[str, tuple[MapLayer, ...]]:
    """Return eye → its maps; both eyes of a method are drawn against one magnitude."""
    layers: dict[str, list[MapLayer]] = {eye: [] for eye in EYES}
    for method in run.methods():
        found = {eye: run.heat_map(exam_id, eye, method) for eye in EYES}
        shown = [heat for heat in found.values() if heat is not None and not heat.withheld]
        largest = largest_of([heat.values for heat in shown if heat.values is not None])
        for eye, heat in found.items():
            if heat is not None:
                layers[eye].append(_layer(heat, largest))
    return {eye: tuple(of_eye) for eye, of_eye in layers.items()}


def _layer(heat: HeatMap, largest: float) -> MapLayer:
    values = heat.values if not heat.withheld else None  # a reason to withhold stands above a map that is there
    return MapLayer(
        method=heat.method,
        name=map_words(heat.method),
        png=None if values is None else map_picture(values, largest).png,
        largest=largest,
        units=UNITS.get(without_options(heat.method), "units of the method"),
        withheld="" if values is not None else heat.withheld or "not made",
        about=speaks_for(heat.method),
        draws=heat.draws or 0,
        agreement=None if values is None or heat.agreement is None else agreement_png(heat.agreement),
    )


def answer_of(answer: EyeAnswer) -> dict[str, Any]:
    """Return what stands below a pane: the model's grade, its spread over the draws, one bar per grade."""
    if answer.p_referable is None:  # a stage that shows the grade and no more
        called = call_words(answer.called_referable)
        return {"grade": grade_words(answer.icdr_grade), "referable": called, "uncertainty": "", "bars": []}
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
