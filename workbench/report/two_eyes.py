"""Two eyes, one patient: whether the model answers one eye by what it sees in the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from workbench.audit.figures.two_eyes import FELLOW_HEALTHY, FELLOW_REFERABLE, SAME_GRADE
from workbench.audit.predictions_words import answer_name
from workbench.audit.results import Run
from workbench.report.figures import Figure, Figures
from workbench.report.words import counted, difference_words, full_words, points_words, value_words


@dataclass(frozen=True)
class Coupling:
    """One measure of how the two eyes agree: of the answers, of the truth, and how much the former exceeds it."""

    words: str
    answers: Figure
    truth: Figure
    excess: Figure


@dataclass(frozen=True)
class Beside:
    """How often eyes of one true state are called referable, beside a healthy and beside a referable fellow."""

    words: str
    healthy: Figure
    referable: Figure
    rise: Figure
    rise_same_grade: Figure


@dataclass(frozen=True)
class TwoEyes:
    """The section: its sentences, its tables, or why it is not assessed."""

    why: str | None
    sentences: tuple[str, ...]
    couplings: tuple[Coupling, ...]
    beside: tuple[Beside, ...]
    ranked: tuple[tuple[str, Figure], ...]
    both_right: Figure


_KAPPA: Final = "Quadratic weighted kappa of the grades"


def two_eyes(run: Run, figures: Figures) -> TwoEyes:
    """Return what the run's rows say about the two eyes of a patient."""
    name = answer_name(run.manifest)
    couplings = (
        _coupling(figures, "Calls (referable or not), phi", "calls"),
        _coupling(figures, f"{name}, Pearson; truth: referable or not", "pearson"),
        _coupling(figures, f"{name}, Spearman; truth: grade", "spearman"),
        Coupling(_KAPPA, *(figures.get(one) for one in ("eye_kappa", "eye_kappa_true", "eye_kappa_excess"))),
    )
    beside = (
        _beside(figures, "Healthy (grade 0–1)", "healthy"),
        _beside(figures, "Referable (grade 2–4)", "referable"),
    )
    ranked = [
        (f"{counted(at, 'grade')} apart", figures.get("worse_eye_ranked_higher", at=float(at))) for at in range(1, 5)
    ]
    found = TwoEyes(
        why=None,
        sentences=(),
        couplings=couplings,
        beside=beside,
        ranked=(("Any difference", figures.get("worse_eye_ranked_higher")), *ranked),
        both_right=figures.get("discordant_pair_right"),
    )
    calls = couplings[0]
    if calls.answers.value is None and beside[0].healthy.value is None:
        return _with(found, calls.answers.reason or "no value", ())
    return _with(found, None, tuple(_sentences(found, name)))


def _with(found: TwoEyes, why: str | None, sentences: tuple[str, ...]) -> TwoEyes:
    return TwoEyes(why, sentences, found.couplings, found.beside, found.ranked, found.both_right)


def _coupling(figures: Figures, words: str, of: str) -> Coupling:
    names = ("eye_correlation", "eye_correlation_true", "eye_correlation_excess")
    return Coupling(words, *(figures.get(name, of=of) for name in names))


def _beside(figures: Figures, words: str, own: str) -> Beside:
    called, rise = f"{own}_eye_called", f"{own}_eye_called_rise"
    return Beside(
        words,
        figures.get(called, of=FELLOW_HEALTHY),
        figures.get(called, of=FELLOW_REFERABLE),
        figures.get(rise),
        figures.get(rise, of=SAME_GRADE),
    )


def _sentences(found: TwoEyes, name: str) -> list[str]:
    """Return what the figures say, the answer first; a figure without a value says nothing here."""
    said = []
    calls, healthy, referable = found.couplings[0], *found.beside
    if calls.excess.value is not None:
        said.append(
            f"{_verdict(calls.excess)} Its calls of the two eyes correlate at {full_words(calls.answers)}, their true "
            f"status at {full_words(calls.truth)}: {difference_words(calls.excess)}. "
            f"{name} itself correlates at {value_words(found.couplings[1].answers)}."
        )
    if healthy.rise.value is not None:
        said.append(
            f"A healthy eye is called referable in {full_words(healthy.referable)} beside a referable fellow, in "
            f"{full_words(healthy.healthy)} beside a healthy one; among eyes of the same grade the difference is "
            f"{points_words(healthy.rise_same_grade)}."
        )
    if found.both_right.value is not None:
        said.append(
            f"Of {counted(found.both_right.n, 'pair')} with one referable eye, both eyes are called rightly in "
            f"{full_words(found.both_right)}; the referable eye is found in {value_words(referable.healthy)}, against "
            f"{value_words(referable.referable)} where its fellow is referable too."
        )
    anywhere = found.ranked[0][1]
    if anywhere.value is not None:
        said.append(
            f"Where the grades differ, the worse eye is ranked higher in {full_words(anywhere)} of "
            f"{counted(anywhere.n, 'pair')}; a coin would reach 50 %."
        )
    return said


def _verdict(excess: Figure) -> str:
    if excess.low is None or excess.high is None:
        return "Whether the model couples the eyes more than disease does cannot be said."
    if excess.low > 0:
        return "The model couples the eyes more than disease does."
    if excess.high < 0:
        return "The model couples the eyes less than disease does."
    return "The model is not shown to couple the eyes more or less than disease does."
