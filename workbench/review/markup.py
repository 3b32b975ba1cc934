"""The few pieces of HTML that the pages show; every text from data is escaped and kept from turning its neighbours."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Final

from workbench.review.cases import Case, Flag, StressOutcome
from workbench.review.words import call_words

STYLE: Final = """
<style>
[data-testid="stMainBlockContainer"] { padding: 4.4rem 1.4rem 1rem; }
[data-testid="stButtonGroup"] button { padding-inline: 0.6rem; }
[data-testid="stMainBlockContainer"] [data-testid="stVerticalBlock"] { gap: 0.55rem; }
.who { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 14px; }
.who h2 { font-size: 1.35rem; margin: 0; padding: 0; overflow-wrap: anywhere; }
.quiet { opacity: 0.72; font-size: 0.86rem; }
.chips { display: flex; flex-wrap: wrap; gap: 6px; }
.chip { border: 1px solid; border-radius: 6px; padding: 1px 9px; font-size: 0.86rem; overflow-wrap: anywhere; }
.chip.alert { border-color: #ff8f7a; background: rgba(255, 110, 84, 0.16); }
.chip.warning { border-color: #ffc857; background: rgba(255, 200, 87, 0.13); }
.chip.note { border-color: rgba(140, 150, 165, 0.6); }
.chip.fine { border-color: #4cc2ff; background: rgba(76, 194, 255, 0.12); }
table.stresses { border-collapse: collapse; font-size: 0.88rem; }
table.stresses th { text-align: left; font-weight: 600; padding: 3px 16px 3px 0; white-space: nowrap; }
table.stresses td { padding: 3px 10px; border: 1px solid rgba(140, 150, 165, 0.35); }
table.stresses td.referred { background: rgba(255, 200, 87, 0.13); }
table.stresses td.silent { background: rgba(255, 110, 84, 0.2); font-weight: 600; }
.answer p { font-size: 1.08rem; font-weight: 600; margin: 0 0 4px; }
.answer ul { margin: 0; padding-left: 1.1rem; font-size: 0.92rem; max-width: 110ch; }
table.rates { border-collapse: collapse; font-size: 0.9rem; }
table.rates th, table.rates td {
  text-align: right; padding: 4px 14px; border-bottom: 1px solid rgba(140, 150, 165, 0.3); white-space: nowrap;
}
table.rates th:first-child, table.rates td:first-child { text-align: left; padding-left: 0; }
</style>
"""

LEVEL_WORDS: Final = {"alert": "Attention: ", "warning": "", "note": "", "fine": ""}


def literal(text: str) -> str:
    """Return text as HTML that shows it letter by letter; ``bdi`` keeps right-to-left marks inside."""
    return f"<bdi>{html.escape(text)}</bdi>"


def heading(case: Case) -> str:
    """Return whose exam this is."""
    return (
        f'<div class="who"><h2>{literal(case.patient_id)}</h2>'
        f'<span class="quiet">exam {literal(case.exam_id)}</span><span class="quiet">{literal(case.about)}</span></div>'
    )


def reading_as(reader: str) -> str:
    """Return under whose name the form saves."""
    who = f"as {literal(reader)}" if reader else "set your name on the worklist first"
    return f'<b>Your reading</b> <span class="quiet">{who}</span>'


def chips(flags: Iterable[Flag]) -> str:
    """Return the flags as a row; the words carry the meaning, the colour only repeats it."""
    spans = (f'<span class="chip {flag.level}">{LEVEL_WORDS[flag.level]}{literal(flag.words)}</span>' for flag in flags)
    return f'<div class="chips">{"".join(spans)}</div>'


def stress_table(case: Case) -> str:
    """Return one line per kind of stress and one cell per strength: held, flipped and referred, flipped unnoticed."""
    families: dict[str, list[StressOutcome]] = {}
    for outcome in case.stresses:
        families.setdefault(outcome.stress, []).append(outcome)
    lines = []
    for name, outcomes in families.items():
        cells = "".join(_stress_cell(outcome) for outcome in outcomes)
        lines.append(f"<tr><th>{literal(name)}</th>{cells}</tr>")
    return f'<table class="stresses">{"".join(lines)}</table>'


def _stress_cell(outcome: StressOutcome) -> str:
    strength = literal(outcome.strength)
    if outcome.called_referable is None:
        return f"<td>{strength}: no answer</td>"
    if not outcome.flipped:
        also = ", referred" if outcome.referred else ""
        return f"<td>{strength}: held{also}</td>"
    now = f"flipped to {call_words(outcome.called_referable)}"
    if outcome.silent:
        return f'<td class="silent">{strength}: {now}, unnoticed</td>'
    return f'<td class="referred">{strength}: {now}, referred</td>'


def answer_box(answer: str, sentences: Iterable[str]) -> str:
    """Return the answer to the run's question, and what it stands on."""
    items = "".join(f"<li>{literal(sentence)}</li>" for sentence in sentences)
    return f'<div class="answer"><p>{literal(answer)}</p><ul>{items}</ul></div>'


def rates_table(lines: Iterable[tuple[str, ...]]) -> str:
    """Return the three rates per condition: condition, exams, error, referred, silent failure, all in words."""
    head = "".join(f"<th>{name}</th>" for name in ("Condition", "Exams", "Error", "Referred", "Silent failure"))
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>" for line in lines)
    return f'<table class="rates"><tr>{head}</tr>{body}</table>'
