"""How an exam may be read: which stages a protocol has, and what of the model each stage shows."""

from __future__ import annotations

from typing import Any, Final, Literal

Protocol = Literal["assisted", "blinded", "adjudication", "review_only"]

Stage = Literal["single", "first", "grade", "uncertainty", "map", "second", "adjudication", "review_only"]

STAGES: Final[dict[str, tuple[str, ...]]] = {
    "assisted": ("single",),
    "blinded": ("first", "grade", "uncertainty", "map", "second"),
    "adjudication": ("adjudication",),
    "review_only": ("review_only",),
}
"""Protocol → its stages, in order. `blinded`: a first read without the model, three reveals, a second read."""

STAGE_NAMES: Final[dict[str, str]] = {
    "single": "Read with the model's answer",
    "first": "First read, blinded",
    "grade": "After the model's grade",
    "uncertainty": "After its uncertainty",
    "map": "After its map",
    "second": "Second read",
    "adjudication": "Adjudication",
    "review_only": "Read without a model",
}

_GRADE: Final = frozenset({"icdr_grade", "exam_called_referable"})
_UNCERTAINTY: Final = _GRADE | {
    "probabilities",
    "p_referable",
    "p_referable_interval",
    "exam_p_referable",
    "exam_score",
    "exam_referred",
}
_MAP: Final = _UNCERTAINTY | {"maps"}

VISIBLE: Final[dict[str, frozenset[str]]] = {
    "single": _MAP,
    "first": frozenset(),
    "grade": _GRADE,
    "uncertainty": _UNCERTAINTY,
    "map": _MAP,
    "second": _MAP,
    "adjudication": _MAP | {"reads"},
    "review_only": frozenset(),
}
"""Stage → the keys of the model's answer that it may show; `reads` are the ids of the reads being adjudicated."""


def is_blind(stage: str) -> bool:
    """Return whether a stage shows nothing of the model.

    >>> is_blind("first"), is_blind("second")
    (True, False)
    """
    return not VISIBLE[stage]


def visible_answer(answer: dict[str, Any], stage: str) -> dict[str, Any]:
    """Return what a stage may show of a model's answer (`Case.model_answer`): nothing at a blinded read.

    >>> visible_answer({"icdr_grade": 2, "p_referable": 0.7}, "grade")
    {'icdr_grade': 2}
    """
    return {name: value for name, value in answer.items() if name in VISIBLE[stage]}


def stage_after(protocol: str, stage: str) -> str | None:
    """Return the next stage of a protocol, None after its last.

    >>> stage_after("blinded", "first"), stage_after("assisted", "single")
    ('grade', None)
    """
    stages = STAGES[protocol]
    place = stages.index(stage) + 1
    return stages[place] if place < len(stages) else None
