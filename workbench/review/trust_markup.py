"""The model's doubt as small drawings and words; grey, blue and shape carry it, no two colours must be told apart."""

from __future__ import annotations

import html
from typing import Final

import numpy as np

from workbench.review.markup import literal
from workbench.review.trust import NOT_ASSESSED, EyeTrust, Trust, draws_words, flag_words
from workbench.review.words import EYE_NAMES
from workbench.schema.words import percent

_DRAW_BINS: Final = 25
_RIGHT: Final = 0.6
"""Share of the width from which a word stands on the left of its line."""


def trust_panel(trust: Trust) -> str:
    """Return everything about the model's doubt in one exam."""
    eyes = "".join(_eye(eye, trust) for eye in trust.eyes)
    about = " ".join(filter(None, (trust.eyes_words, trust.set_promise if _has_sets(trust) else "")))
    flags = "".join(f"<li>{literal(flag_words(eye))}</li>" for eye in trust.eyes)
    return (
        f'<div class="trust"><section><h4>How sure is the model of this exam?</h4>{strip(trust)}'
        f"<p>{literal(trust.place_words)}</p></section>{eyes}"
        f'<section class="wide"><p class="quiet">{literal(about)}</p><ul class="quiet">{flags}</ul></section></div>'
    )


def _has_sets(trust: Trust) -> bool:
    return any(eye.grades != NOT_ASSESSED for eye in trust.eyes)


def strip(trust: Trust) -> str:
    """Return the run's exams from the surest to the least sure, the cut-off, and this exam; empty without a scale."""
    if not trust.counts:
        return ""
    bars = "".join(_bar(count, max(trust.counts), "") for count in trust.counts)
    marks = _cut(trust.cut_at, "referred from here →") if trust.cut_at is not None else ""
    if trust.at is not None:
        marks += f'<i class="here" style="left:{100 * trust.at:.1f}%"></i>'
    return _drawing(bars + marks, "surest", "least sure", trust.place_words)


def _eye(eye: EyeTrust, trust: Trust) -> str:
    calibrated = NOT_ASSESSED if eye.calibrated is None else percent(eye.calibrated)
    likely = f"P(referable) {percent(eye.raw)} as the model says it, {calibrated} calibrated"
    likely += " on other patients" if eye.calibrated is not None else ""
    grades = f"The true grade: {eye.grades}" if eye.grades != NOT_ASSESSED else f"Set of grades: {NOT_ASSESSED}"
    if eye.odd(trust.threshold):
        likely += f"; no single grade is likelier than {eye.grade}, yet the referable ones together pass the threshold"
        likely = likely if eye.raw >= trust.threshold else likely.replace("pass", "do not pass")
    return (
        f"<section><h4>{EYE_NAMES[eye.eye]}: {literal(draws_words(eye, trust.threshold))}</h4>"
        f"{draws_chart(eye, trust.threshold)}<p>{literal(grades)}.</p><p class='quiet'>{literal(likely)}.</p></section>"
    )


def draws_chart(eye: EyeTrust, threshold: float) -> str:
    """Return the draws of P(referable) from 0 to 100 %, with the threshold; empty where there is but one answer."""
    if not eye.draws:
        return ""
    counts, edges = np.histogram(eye.draws, bins=_DRAW_BINS, range=(0, 1))
    sides = ["above" if low >= threshold - 1e-9 else "below" for low in edges[:-1]]
    bars = "".join(_bar(int(count), int(counts.max()), side) for count, side in zip(counts, sides, strict=True))
    cut = _cut(threshold, f"referable from {percent(threshold)} →")
    return _drawing(bars + cut, "0 %", "P(referable) 100 %", draws_words(eye, threshold))


def _bar(count: int, tallest: int, kind: str) -> str:
    return f'<b class="{kind}" style="height:{76 * count / max(1, tallest):.0f}%"></b>'


def _cut(place: float, words: str) -> str:
    side = "right:2px" if place > _RIGHT else "left:3px"
    return f'<i class="cut" style="left:{100 * place:.1f}%"><span style="{side}">{words}</span></i>'


def _drawing(inside: str, low: str, high: str, words: str) -> str:
    return (
        f'<div class="plot" role="img" aria-label="{html.escape(words)}">{inside}</div>'
        f'<div class="ends"><span>{low}</span><span>{high}</span></div>'
    )
