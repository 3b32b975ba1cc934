"""A study's table on disk: every figure as CSV, what is read as Markdown and as one HTML page."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from workbench.audit.results import Run
from workbench.audit.study.analysis import FIGURES
from workbench.audit.study.config import StudyConfig
from workbench.schema.files import write_text
from workbench.schema.words import SCORE_NAMES

CSV: Final = "study.csv"
MARKDOWN: Final = "study.md"
PAGE: Final = "study.html"

POOLING_NAMES: Final = {
    "mean": "mean",
    "log_mean": "log-mean (log-max)",
    "median": "median",
    "majority": "majority vote",
}
SHARES: Final = ("error_rate", "referral_rate", "silent_failure_rate")
"""Told in percent."""

STYLE: Final = (
    "body{font:15px/1.45 system-ui,sans-serif;color:#1b1f24;margin:2rem;max-width:80rem}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}"
    "th,td{padding:.3rem .6rem;text-align:left;vertical-align:top;border-bottom:1px solid #d8dde3}"
    "th{position:sticky;top:0;background:#fff}small{color:#59636e;display:block;white-space:nowrap}"
    "td{white-space:nowrap}.clear{color:#0b5cad;font-weight:600}"
)


def write_tables(table: pd.DataFrame, runs: Mapping[str, Run], config: StudyConfig, folder: Path) -> None:
    """Write `study.csv`, `study.md` and `study.html` into ``folder``, each whole or not at all."""
    write_text(folder / CSV, table.to_csv(index=False))
    write_text(folder / MARKDOWN, "\n".join(_markdown(table, runs, config)) + "\n")
    write_text(folder / PAGE, _page(table, runs, config))


def _markdown(table: pd.DataFrame, runs: Mapping[str, Run], config: StudyConfig) -> list[str]:
    lines = [f"# {_title(config)}", "", *_notes(table, runs, config), ""]
    heads = ["maker", "pooling", "score", *(name for _, name in FIGURES.values())]
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for (maker, pooling, score), group in table.groupby(["maker", "pooling", "score"], sort=False):
        cells = [f"{_value(row)}{_change(row)}" for row in group.to_dict("records")]
        lines.append("| " + " | ".join([maker, POOLING_NAMES[pooling], SCORE_NAMES[score], *cells]) + " |")
    return lines


def _page(table: pd.DataFrame, runs: Mapping[str, Run], config: StudyConfig) -> str:
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in ("maker", "pooling", "score"))
    heads += "".join(f"<th>{html.escape(name)}</th>" for _, name in FIGURES.values())
    rows = []
    for (maker, pooling, score), group in table.groupby(["maker", "pooling", "score"], sort=False):
        named = "".join(f"<td>{html.escape(text)}</td>" for text in (maker, POOLING_NAMES[pooling], SCORE_NAMES[score]))
        rows.append(f"<tr>{named}{''.join(_cell(row) for row in group.to_dict('records'))}</tr>")
    notes = "".join(f"<p>{html.escape(note.removeprefix('- '))}</p>" for note in _notes(table, runs, config) if note)
    title = html.escape(_title(config))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"<h1>{title}</h1>{notes}<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></html>\n"
    )


def _title(config: StudyConfig) -> str:
    return f"Who should draw, and how to pool: {len(config.makers)} makers on the same exams"


def _notes(table: pd.DataFrame, runs: Mapping[str, Run], config: StudyConfig) -> list[str]:
    first = table.iloc[0]
    run = next(iter(runs.values())).manifest
    exams = table.loc[table["figure"] == "error_rate", "n"].iloc[0]
    notes = [
        f"{run.dataset}, split {run.split}: {run.exams} exams, {exams} of them judged by every row. Referral budget "
        f"{100 * config.policy.referral_budget:g} %, the cut-off fixed on these exams without their labels.",
        f"Value (95 % interval over {config.resamples} resamples of patients); below it the difference to the first "
        f"row ({first['maker']}, {POOLING_NAMES[first['pooling']]}, {SCORE_NAMES[first['score']]}) with its paired "
        "interval, in bold where that leaves out 0. Many rows are compared: a single such difference is no finding.",
        "AUC, error, referred, silent failure and AURC per exam; QWK and ECE per eye. AURC and ECE: smaller is better. "
        "Each model's own threshold calls its exams; it was chosen for its single answer, so a maker or pooling that "
        "moves P(referable) also moves error, silent failure and AURC: AUC and QWK do not depend on it.",
        "",
    ]
    return notes + [
        f"- {name}: {one.manifest.draws} draws; {one.manifest.environment.draws_how}" for name, one in runs.items()
    ]


def _value(row: Mapping[str, Any]) -> str:
    if math.isnan(row["value"]):
        return "not assessed"
    interval = "" if math.isnan(row["low"]) else f" ({_number(row, row['low'])}–{_number(row, row['high'])})"
    return f"{_number(row, row['value'])}{'%' if row['figure'] in SHARES else ''}{interval}"


def _number(row: Mapping[str, Any], value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}" if row["figure"] in SHARES else f"{value:{sign}.3f}"


def _told(row: Mapping[str, Any]) -> str:
    """Return the difference with its interval, or nothing where there is none to tell."""
    if not row["difference"] or math.isnan(row["difference"]):
        return ""
    bounds = f"{_number(row, row['difference_low'], '+')} to {_number(row, row['difference_high'], '+')}"
    return f"{_number(row, row['difference'], '+')} ({bounds})"


def _is_clear(row: Mapping[str, Any]) -> bool:
    return row["difference_low"] > 0 or row["difference_high"] < 0


def _change(row: Mapping[str, Any]) -> str:
    told = _told(row)
    return f"<br>{f'**{told}**' if _is_clear(row) else told}" if told else ""


def _cell(row: Mapping[str, Any]) -> str:
    marked = ' class="clear"' if _is_clear(row) else ""
    told = _told(row)
    return f"<td>{_value(row)}{f'<small{marked}>{told}</small>' if told else ''}</td>"
