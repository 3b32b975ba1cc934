"""The few pieces of HTML that the pages show; every text from data is escaped and kept from turning its neighbours."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Final

from workbench.audit.outcomes import StressOutcome
from workbench.review.cases import Case, Flag
from workbench.review.people import Session
from workbench.review.words import call_words

STYLE: Final = """
<style>
@media (min-width: 2400px) { html:root { font-size: 20px; } }
@media (min-width: 3200px) { html:root { font-size: 26px; } }
@media (max-width: 1500px) { .st-key-entry [data-testid="stButton"] kbd { display: none; } }
[data-testid="stButton"] button { padding-inline: 0.55rem; }
[data-testid="stBaseButton-primary"]:not(:disabled) { color: light-dark(#ffffff, #06202f); }
[data-testid="stBaseButton-primary"] kbd { color: inherit; opacity: 0.85; }
ul.told { margin: 0; padding-left: 1.1rem; font-size: 0.9rem; }
.st-key-theme { position: absolute; }
[data-testid="stMainBlockContainer"] { padding: 4.4rem 1.4rem 1rem; }
[data-testid="stButtonGroup"] button { padding-inline: 0.6rem; }
[data-testid="stMainBlockContainer"] [data-testid="stVerticalBlock"] { gap: 0.55rem; }
.who { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 14px; }
.who h2 { font-size: 1.35rem; margin: 0; padding: 0; overflow-wrap: anywhere; }
.who .how { border: 1px solid #4cc2ff; border-radius: 6px; padding: 0 8px; font-size: 0.86rem; }
.who .how:has(bdi:empty) { display: none; }
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
.st-key-entry [data-testid="stVerticalBlock"], .st-key-entry { gap: 0.3rem; }
.st-key-entry [data-testid="stButtonGroup"] {
  display: flex; flex-direction: row; align-items: center; gap: 8px; border-radius: 6px; padding-left: 6px;
}
.st-key-entry [data-testid="stButtonGroup"] > label { flex: 0 0 2.9rem; min-width: 2.9rem; margin: 0; min-height: 0; }
.st-key-entry [data-testid="stButtonGroup"] button { min-height: 1.65rem; padding: 0 0.55rem; }
.st-key-entry [data-testid="stButtonGroup"][data-here] { box-shadow: -3px 0 0 0 #4cc2ff; }
.st-key-entry [data-testid="stTextInputRootElement"] { height: 2rem; } .st-key-entry input { padding: 2px 8px; }
.st-key-entry [data-testid="stSelectbox"] [role="group"], .st-key-entry [data-baseweb="select"] > div {
  min-height: 2rem; height: 2rem;
}
.st-key-entry [data-testid="stNumberInputContainer"] { height: 2rem; }
.st-key-entry .eye { line-height: 1.25; margin-top: 4px; }
.st-key-entry [data-testid="stAlertContainer"] { padding: 0.3rem 0.7rem; min-height: 0; }
table.reads { border-collapse: collapse; font-size: 0.86rem; width: 100%; }
table.reads th, table.reads td { text-align: left; vertical-align: top; padding: 3px 8px 3px 0; }
table.reads td { border-top: 1px solid rgba(140, 150, 165, 0.35); overflow-wrap: anywhere; }
ol.steps { margin: 2px 0; padding-left: 1.2rem; font-size: 0.9rem; }
ol.steps li.done { opacity: 0.72; } ol.steps li.next { font-weight: 600; }
.answer p { font-size: 1.08rem; font-weight: 600; margin: 0 0 4px; }
.answer ul { margin: 0; padding-left: 1.1rem; font-size: 0.92rem; max-width: 110ch; }
.trust { display: grid; grid-template-columns: repeat(auto-fit, minmax(15.6rem, 1fr)); gap: 6px 28px; }
.trust section { max-width: 27rem; } .trust section.wide { grid-column: 1 / -1; max-width: none; }
.trust h4 { font-size: 0.95rem; margin: 0 0 4px; padding: 0; } .trust p { margin: 2px 0; font-size: 0.9rem; }
.trust ul { margin: 2px 0; padding-left: 1.1rem; }
.trust .plot { position: relative; display: flex; align-items: flex-end; gap: 1px; height: 2.75rem; }
.trust .plot { border-bottom: 1px solid rgba(140, 150, 165, 0.6); }
.trust .plot b { flex: 1; background: rgba(140, 150, 165, 0.55); } .trust .plot b.above { background: #4cc2ff; }
.trust .plot i.cut { position: absolute; top: 0; bottom: 0; border-left: 2px dashed currentColor; }
.trust .plot i.cut span { position: absolute; top: -3px; font-size: 0.7rem; font-style: normal; white-space: nowrap; }
.trust .plot i.here { position: absolute; bottom: -1px; margin-left: -7px; border: 7px solid transparent; }
.trust .plot i.here { border-bottom: 13px solid #4cc2ff; }
.trust .ends { display: flex; justify-content: space-between; font-size: 0.72rem; opacity: 0.75; }
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


def heading(patient: str, exam: str, about: str, how: str = "") -> str:
    """Return whose exam this is, by the names that the page may show, and how it is read."""
    return (
        f'<div class="who"><h2>{literal(patient)}</h2>'
        f'<span class="how">{literal(how)}</span>'
        f'<span class="quiet">exam {literal(exam)}</span><span class="quiet">{literal(about)}</span></div>'
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


def picture_strip(pictures: Iterable[tuple[str, str, str]]) -> str:
    """Return small pictures in a row that wraps: data URI, its title, what it is of."""
    figures = "".join(
        f'<figure style="margin:0;width:152px"><img src="{html.escape(uri)}" width="152" height="152"'
        f' alt="{html.escape(title)}, {html.escape(of)}" style="border-radius:6px">'
        f'<figcaption><b>{literal(title)}</b><br><span class="quiet">{literal(of)}</span></figcaption></figure>'
        for uri, title, of in pictures
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:12px 14px">{figures}</div>'


def session_table(sessions: Iterable[Session]) -> str:
    """Return one line per login: its state, when it began, was last used and ends."""
    head = "".join(f"<th>{name}</th>" for name in ("", "State", "Began", "Last used", "Ends"))
    lines = []
    for number, session in enumerate(sessions, start=1):
        times = (session.created_at, session.last_seen_at, session.expires_at)
        cells = "".join(f"<td>{html.escape(when[:16].replace('T', ' '))}</td>" for when in times)
        lines.append(f"<tr><td>{number}</td><td>{session.state}</td>{cells}</tr>")
    return f'<table class="rates"><tr>{head}</tr>{"".join(lines)}</table>'


def reads_table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return reads of one exam side by side: what it is of, then one column per read."""
    head = "".join(f"<th>{literal(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{literal(cell)}</td>' for cell in line)}</tr>" for line in lines)
    return f'<table class="reads"><tr>{head}</tr>{body}</table>'


def steps(done: Iterable[str], following: str | None) -> str:
    """Return the reveals that were made, and the one that comes next."""
    items = "".join(f'<li class="done">{literal(words)}: shown</li>' for words in done)
    last = f'<li class="next">{literal(following)}: next</li>' if following else ""
    return f'<ol class="steps">{items}{last}</ol>'
