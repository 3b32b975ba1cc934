"""What an eye's answer was read from besides the eye: its fellow, its slot, and what is no eye at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from workbench.audit.layout import INFLUENCE
from workbench.audit.predictions_lacks import NEEDS_MODEL
from workbench.audit.results import Run
from workbench.report.figures import Figure, Figures
from workbench.report.words import counted, full_words, value_words

LEAST: Final = 0.05
"""A mean change of P(referable) that is surely above this is told as a finding."""

CHANGES: Final = {
    "blank": "Fellow eye said to be absent",
    "healthy": "Fellow replaced by a healthy eye of another patient",
    "mean": "Fellow replaced by the mean photograph",
    "exchanged": "Right and left filed the wrong way round",
    "outside": "All that lies outside the discs made one colour",
}


@dataclass(frozen=True)
class Change:
    """One thing that was done while the eye itself stayed as it is, and what the answers did."""

    words: str
    moved: Figure
    rise: Figure
    flipped: Figure
    no_longer: Figure


@dataclass(frozen=True)
class ReadFrom:
    """The section: its sentences and its table, or why it is not assessed."""

    why: str | None
    exposed: bool
    sentences: tuple[str, ...]
    changes: tuple[Change, ...]


def read_from(run: Run, figures: Figures) -> ReadFrom:
    """Return what the run's influence rows say."""
    if all(measurement.kind != "influence" for measurement in run.manifest.measurements):
        why = NEEDS_MODEL if run.manifest.outputs else "the plan of the run does not hold it"
        return ReadFrom(why, False, (), ())
    changes = {of: _change(figures, of, words) for of, words in CHANGES.items()}
    outside = changes["outside"]
    exposed = _surely(outside.moved)
    sentences = [_outside(outside, exposed=exposed), _fellow(changes["healthy"])]
    return ReadFrom(None, exposed, tuple(one for one in sentences if one), tuple(changes.values()))


def _change(figures: Figures, of: str, words: str) -> Change:
    names = ("influence_change", "influence_rise", "influence_flipped_share", "influence_called_by")
    return Change(words, *(figures.get(name, INFLUENCE, of=of) for name in names))


def _surely(moved: Figure) -> bool:
    return moved.low is not None and moved.low > LEAST


def _outside(change: Change, *, exposed: bool) -> str | None:
    if change.moved.value is None:
        return None
    told = (
        f"made one colour where no eye is, {value_words(change.flipped)} of the calls change and P(referable) moves by "
        f"{full_words(change.moved)} on average"
    )
    if exposed:
        return (
            f"This model reads its answers from outside the eye: {told}. It must not be used on photographs like these."
        )
    return f"The model is not shown to read its answers from outside the eye: {told}."


def _fellow(change: Change) -> str | None:
    if change.moved.value is None:
        return f"What the fellow eye does to an answer: not assessed ({change.moved.reason})."
    calls = (
        f" Of {counted(change.no_longer.n, 'eye')} called referable, {full_words(change.no_longer)} are called so "
        "no longer beside a healthy fellow."
        if change.no_longer.value is not None
        else ""
    )
    if change.moved.value == 0:
        return "The answer for an eye does not depend on its fellow: no replacement of the fellow changes it at all."
    return (
        f"Beside another patient's healthy eye, an eye's P(referable) moves by {full_words(change.moved)} on average."
        f"{calls}"
    )
