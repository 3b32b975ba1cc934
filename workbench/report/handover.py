"""What a rule for handing cases to a reader does: a page, a table and every figure as JSON."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from workbench import __version__
from workbench.metrics.bootstrap import Interval
from workbench.report.write import TEMPLATES
from workbench.schema.files import write_json, write_text
from workbench.uncertainty.handover import HandoverRule
from workbench.uncertainty.handover_effect import HandoverEffect

FIGURES = ("sensitivity", "specificity", "accuracy")


def write_handover(rule: HandoverRule, effect: HandoverEffect, folder: Path, *, patients_known: bool) -> Path:
    """Write ``handover.html``, ``handover.md``, ``handover.csv`` and ``handover.json``; return the page's path.

    Args:
        rule: what was applied.
        effect: what it did.
        folder: made where it is missing.
        patients_known: whether intervals are over patients, or over cases for want of a column.
    """
    rows = pd.DataFrame(_rows(effect))
    buffer = io.StringIO()
    rows.to_csv(buffer, index=False)
    write_text(folder / "handover.csv", buffer.getvalue())
    figures = [{name: _plain(value) for name, value in row.items()} for row in rows.to_dict("records")]
    write_json(
        folder / "handover.json",
        {"version": __version__, "rule": rule.model_dump(mode="json"), "patients_known": patients_known,
         "cases": effect.cases, "patients": effect.patients, "diseased": effect.diseased, "figures": figures},
    )  # fmt: skip
    words = {
        "rule": rule_words(rule),
        "answer": answer_words(effect),
        "effect": effect,
        "workers": [_worker_words(worker) for worker in effect.workers],
        "differences": [_difference_words(one) for one in effect.differences],
        "with_costs": effect.workers[0].cost_per_case_found is not None,
        "by": "patients" if patients_known else "cases (the table names no patients: eyes of one patient count twice)",
        "version": __version__,
    }
    for name in ("handover.md", "handover.html"):
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES),
            autoescape=name.endswith("html"),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
        write_text(folder / name, environment.get_template(f"{name}.j2").render(**words, style=style))
    return folder / "handover.html"


def rule_words(rule: HandoverRule) -> str:
    """Return the rule as one would say it to a reader."""
    calls = (
        f"the model calls disease from a score of {rule.operating_point:.3f} on"
        if rule.operating_point <= 1
        else "the model calls none diseased"
    )
    if rule.unsure_above is not None:
        return f"Cases of an uncertainty above {rule.unsure_above:.4g} go to the reader; of the others, {calls}."
    if not rule.regions:
        return f"No case goes to the reader; {calls}."
    parts = " and ".join(f"{low:.3f} to {high:.3f}" for low, high in rule.regions)
    return f"Cases with a model score of {parts} go to the reader; of the others, {calls}."


def answer_words(effect: HandoverEffect) -> str:
    """Return whether the team beats the reader and the model, in one sentence for each."""
    sentences = []
    for other in ("reader alone", "model alone"):
        said = []
        for one in effect.differences:
            if one.other == other and one.figure != "accuracy":
                found = one.difference.difference
                clear = "" if found.low > 0 or found.high < 0 else " (the interval holds no difference)"
                said.append(f"{one.figure} {_points(found)}{clear}")
        sentences.append(f"Against the {other}: {', '.join(said)}.")
    return " ".join(sentences)


def _rows(effect: HandoverEffect) -> list[dict[str, Any]]:
    rows = []
    for worker in effect.workers:
        figures = {**worker.figures, "read_share": worker.read_share}
        if worker.cost_per_case_found is not None:
            figures["cost_per_case_found"] = worker.cost_per_case_found
        rows += [{"worker": worker.name, "minus": "", "figure": name, **_bounds(one)} for name, one in figures.items()]
    for one in effect.differences:
        row = {"worker": "team", "minus": one.other, "figure": one.figure, **_bounds(one.difference.difference)}
        tests = {"p_bootstrap": one.difference.p_value, "p_mcnemar": one.mcnemar.p_value}
        pairs = {"only_team_right": one.mcnemar.only_first, "only_other_right": one.mcnemar.only_second}
        rows.append({**row, **tests, **pairs})
    return rows


def _bounds(found: Interval) -> dict[str, float | int]:
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n, "clusters": found.clusters}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _worker_words(worker: Any) -> dict[str, str]:
    words = {name: _percent(worker.figures[name]) for name in FIGURES}
    cost = worker.cost_per_case_found
    told = "" if cost is None else f"{cost.value:.2f} ({cost.low:.2f} to {cost.high:.2f})"
    return {"name": worker.name, **words, "read": _percent(worker.read_share), "cost": told}


def _difference_words(one: Any) -> dict[str, str]:
    return {
        "other": one.other,
        "figure": one.figure,
        "difference": _points(one.difference.difference),
        "p_bootstrap": _p_words(one.difference.p_value),
        "p_mcnemar": _p_words(one.mcnemar.p_value),
        "pairs": f"{one.mcnemar.only_first} / {one.mcnemar.only_second}",
    }


def _p_words(p: float) -> str:
    return "not known" if math.isnan(p) else "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def _percent(found: Interval) -> str:
    if math.isnan(found.value):
        return "not known"
    return f"{100 * found.value:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"


def _points(found: Interval) -> str:
    if math.isnan(found.value):
        return "not known"
    return f"{100 * found.value:+.1f} points ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
