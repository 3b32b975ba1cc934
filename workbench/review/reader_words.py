"""What the page says of a study of readers, in sentences, by section."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from workbench.schema.reader_study import Cell, ReaderFigure, ReaderStudy
from workbench.schema.words import percent

FIGURE_WORDS: Final[dict[str, str]] = {
    "over_reliance": "over-reliance: switched to wrong, of right first reads that met a wrong answer of the model",
    "under_reliance": "under-reliance: stayed wrong, of wrong first reads that met a right answer of the model",
    "harmful_switches": "reads that went from right to wrong",
    "beneficial_switches": "reads that went from wrong to right",
    "followed": "took the model's call, of first reads that differed from it",
    "error_before": "error without the model",
    "error_after": "error with the model",
    "error_change": "change of the error (below 0: better with the model)",
    "error_of_model": "error of the model alone",
    "sensitivity_before": "sensitivity without the model",
    "sensitivity_after": "sensitivity with the model",
    "sensitivity_change": "change of the sensitivity",
    "sensitivity_of_model": "sensitivity of the model alone",
    "specificity_before": "specificity without the model",
    "specificity_after": "specificity with the model",
    "specificity_change": "change of the specificity",
    "specificity_of_model": "specificity of the model alone",
    "team_against_model": "error of reader and model together minus that of the model alone",
    "team_against_best": "error of reader and model together minus that of the better of the two alone",
    "confidence_without": "mean confidence (1 to 5) without the model",
    "confidence_with": "mean confidence (1 to 5) with the model",
    "confidence_auc_without": "chance that a right call has more confidence than a wrong one, without the model",
    "confidence_auc_with": "chance that a right call has more confidence than a wrong one, with the model",
    "seconds_first": "median time of the read without the model, seconds",
    "seconds_after": "median time of the read with the model, seconds",
    "seconds_change": "median of the difference in time, seconds",
    "krippendorff_alpha_without": "Krippendorff's alpha of the ICDR grade (ordinal), without the model",
    "krippendorff_alpha_with": "Krippendorff's alpha of the ICDR grade (ordinal), with the model",
    "fleiss_kappa_without": "Fleiss' kappa of the ICDR grade, without the model",
    "fleiss_kappa_with": "Fleiss' kappa of the ICDR grade, with the model",
    "fleiss_kappa_referable_without": "Fleiss' kappa of referable or not, without the model",
    "fleiss_kappa_referable_with": "Fleiss' kappa of referable or not, with the model",
}
"""Every figure as the reader of a page reads it."""

FEW: Final = 10
"""A share of fewer reads than this is told together with how few they are."""


def sentences(study: ReaderStudy) -> dict[str, tuple[str, ...]]:
    """Return what there is to say, by section; a section without a figure says why."""
    sections = {
        "reveal": tuple(_reveal(study)),
        "team": tuple(_team(study)),
        "confidence": tuple(_confidence(study)),
        "time": tuple(_time(study)),
        "agreement": tuple(_agreement(study)),
        "multi-reader": tuple(_compared(study)),
    }
    silent = {name: (f"Not assessed: {why}.",) for name, why in study.not_assessed.items() if not sections.get(name)}
    return {name: said for name, said in sections.items() if said} | silent


def share_words(figure: ReaderFigure | None) -> str:
    """Return a share with interval and how many reads it is of, or why there is none."""
    if figure is None or figure.value is None:
        return f"not known ({figure.reason})" if figure is not None and figure.reason else "not known"
    interval = f" ({percent(figure.low)} to {percent(figure.high)})" if figure.low is not None else ""
    return f"{percent(figure.value)}{interval} of {figure.n}"


def change_words(figure: ReaderFigure | None) -> str:
    """Return a change in percentage points with its interval."""
    if figure is None or figure.value is None:
        return "not known"
    interval = ""
    if figure.low is not None and figure.high is not None:
        interval = f" ({100 * figure.low:+.1f} to {100 * figure.high:+.1f})"
    return f"{100 * figure.value:+.1f} points{interval}"


def number_words(figure: ReaderFigure | None, digits: int = 2) -> str:
    """Return a number with its interval."""
    if figure is None or figure.value is None:
        return "not known"
    interval = ""
    if figure.low is not None and figure.high is not None:
        interval = f" ({figure.low:.{digits}f} to {figure.high:.{digits}f})"
    return f"{figure.value:.{digits}f}{interval}"


def _reveal(study: ReaderStudy) -> Iterator[str]:
    error = study.get("error_change")
    if error is None:
        return
    readers = f"{len(study.readers)} reader{'s' if len(study.readers) != 1 else ''}"
    yield f"{error.n} reads of exams by {readers}, {study.design}; {error.how or error.reason}."
    yield (
        f"The error went from {share_words(study.get('error_before'))} to {share_words(study.get('error_after'))}: "
        f"{change_words(error)}; the model alone was wrong in {percent(_value(study, 'error_of_model'))}."
    )
    for name in ("sensitivity", "specificity"):
        yield f"The {name} changed by {change_words(study.get(f'{name}_change'))}."
    over, under = (_switched(study, name) for name in ("over_reliance", "under_reliance"))
    yield f"Over-reliance, right first reads that became wrong after a wrong answer: {over}."
    yield f"Under-reliance, wrong first reads that stayed wrong after a right answer: {under}."
    helped, harmed = _value(study, "beneficial_switches"), _value(study, "harmful_switches")
    yield f"{percent(helped, 1)} of all reads went from wrong to right, {percent(harmed, 1)} from right to wrong."


def _switched(study: ReaderStudy, name: str) -> str:
    figure = study.get(name)
    few = f" (only {figure.n} such reads)" if figure is not None and 0 < figure.n < FEW else ""
    return "there was no such read" if figure is None or not figure.n else share_words(figure) + few


def _value(study: ReaderStudy, name: str) -> float | None:
    figure = study.get(name)
    return None if figure is None else figure.value


def _team(study: ReaderStudy) -> Iterator[str]:
    against = study.get("team_against_best")
    if against is None or against.value is None:
        return
    if against.low is None or against.high is None:
        verdict = "is not settled, for want of an interval"
    elif against.high < 0:
        verdict = "is better than either alone"
    elif against.low > 0:
        verdict = "is worse than the better of the two alone"
    else:
        verdict = "is neither shown to be better nor to be worse than the better of the two alone"
    yield f"Reader and model together {verdict}: error {change_words(against)}."


def _confidence(study: ReaderStudy) -> Iterator[str]:
    for name, words in (("without", "Without the model"), ("with", "With the model")):
        mean, known = study.get(f"confidence_{name}"), study.get(f"confidence_auc_{name}")
        if mean is not None:
            yield (
                f"{words}: mean confidence {number_words(mean, 1)} of 5; a right call has more confidence than a wrong "
                f"one with a chance of {number_words(known)} (0.5: the reader does not know)."
            )


def _time(study: ReaderStudy) -> Iterator[str]:
    first, after = study.get("seconds_first"), study.get("seconds_after")
    if first is not None:
        yield (
            f"Median time {number_words(first, 0)} s without the model, {number_words(after, 0)} s with it; median "
            f"difference {number_words(study.get('seconds_change'), 0)} s."
        )


def _agreement(study: ReaderStudy) -> Iterator[str]:
    for name, words in (("without", "without the model"), ("with", "with the model")):
        alpha = study.get(f"krippendorff_alpha_{name}")
        if alpha is not None:
            yield (
                f"Readers among themselves, {words}: Krippendorff's alpha {number_words(alpha)}, Fleiss' kappa "
                f"{number_words(study.get(f'fleiss_kappa_{name}'))}, of referable or not "
                f"{number_words(study.get(f'fleiss_kappa_referable_{name}'))}; {alpha.n} grades."
            )


def _compared(study: ReaderStudy) -> Iterator[str]:
    for row in study.tables.get("multi-reader", ()):
        wanted = "fixed readers, random cases" if row["readers"] == 1 else "random readers, random cases"
        if (row["method"], row["scope"]) != ("Obuchowski-Rockette", wanted):
            continue
        name = str(row["figure"])
        name = name[:1].upper() + name[1:]
        if row["reason"]:
            yield f"{name}: no test ({row['reason']})."
            continue
        interval = f"{_number(row['low'], '+')} to {_number(row['high'], '+')}"
        yield (
            f"{name}: {_number(row['without'])} without, {_number(row['with'])} with the model; difference "
            f"{_number(row['difference'], '+')} ({interval}), p = {_number(row['p'])}; Obuchowski-Rockette, {wanted}, "
            f"{row['readers']} readers, {row['exams']} exams."
        )


def _number(value: Cell, sign: str = "") -> str:
    return "not known" if not isinstance(value, float) else f"{value:{sign}.3f}"
