"""A finished run becomes one HTML file that fetches nothing, and one JSON file with every figure in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jinja2
import yaml
from markupsafe import Markup

import workbench
from workbench.audit.predictions_lacks import NEEDS_MODEL, why_no_figure
from workbench.audit.predictions_words import answer_name, threshold_words
from workbench.audit.results import Run, open_run
from workbench.report import (
    attack_checks,
    certified,
    charts,
    conditions,
    outputs_only,
    performance,
    severity,
    smallest,
    subgroups,
    uncertainty_charts,
    universal,
    words,
)
from workbench.report import readers as of_readers
from workbench.report.attention import MEAN_CAPTION, attention
from workbench.report.cases import CaseGroup, case_groups
from workbench.report.cohort import cohort
from workbench.report.compare import Comparison, compare
from workbench.report.drawing import inline_svg
from workbench.report.examined import examined
from workbench.report.explained import map_summaries
from workbench.report.figures import Figures
from workbench.report.headline import conditions as conditions_of
from workbench.report.headline import headline
from workbench.report.items import Evidence, Item, items
from workbench.report.map_checks import map_checks
from workbench.report.matrix import matrix
from workbench.report.read_from import read_from
from workbench.report.side_by_side import SideBySide, side_by_side
from workbench.report.two_eyes import two_eyes
from workbench.report.uncertainty import short, uncertainty
from workbench.report.weak_eye import weak_eyes
from workbench.report.worst_case import worst_cases
from workbench.schema.files import write_json, write_text
from workbench.schema.grades import GRADES
from workbench.schema.reader_study import ReaderStudy
from workbench.schema.words import percent

FORMAT_VERSION: Final = 1
TEMPLATES: Final = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Report:
    """Everything that a report says, before it is laid out."""

    evidence: Evidence
    items: tuple[Item, ...]
    groups: tuple[CaseGroup, ...]
    failed_work: tuple[tuple[str, str, int], ...]
    readers: ReaderStudy | None = None
    note: str = ""
    """A reviewer's own words on the attacks' figures."""


def write_report(
    run_folder: Path,
    compare: Sequence[Path] = (),
    *,
    cases: bool = True,
    readers: ReaderStudy | None = None,
    note: str | None = None,
) -> Path:
    """Write ``report.html`` and ``report.json`` into the run's folder, and return the path of the former.

    Args:
        run_folder: of a finished run.
        compare: folders of runs of the same model on another set, or of other models on the same exams.
        cases: show single exams; without them the report holds figures of groups only.
        readers: what the run's stored reads say; None where nobody read it.
        note: a reviewer's own words on the attacks' figures, kept in the run's folder; None: those that lie there.

    Raises:
        WorkbenchError: a run is not finished or damaged, a comparison makes no sense, the disk is full.
    """
    run, others = open_run(run_folder), [open_run(folder) for folder in compare]
    said = reviewer_note(run_folder, note)
    report = replace(assemble(run, others, cases=cases, readers=readers), note=said)
    write_json(run_folder / "report.json", as_json(report))
    page = run_folder / "report.html"
    write_text(page, as_html(report))
    return page


NOTE: Final = "reviewer_note.txt"


def reviewer_note(run_folder: Path, note: str | None) -> str:
    """Keep a note in the run's folder and return it; None returns the one that lies there."""
    path = run_folder / NOTE
    if note is not None:
        write_text(path, note)
    return path.read_text(encoding="utf-8") if path.exists() else ""


def assemble(run: Run, others: Sequence[Run] = (), *, cases: bool = True, readers: ReaderStudy | None = None) -> Report:
    """Return what the report of a run says.

    Raises:
        WorkbenchError: a run to compare with shares neither model nor exams, or followed another policy.
    """
    comparisons = tuple(compare(run, other) for other in others)
    figures = Figures(run)
    found = conditions_of(run, figures)
    worst = worst_cases(run, found)
    groups = tuple(group if cases else replace(group, cases=()) for group in case_groups(run))
    evidence = Evidence(
        run=run,
        figures=figures,
        headline=headline(run, found),
        cohort=cohort(run),
        attributes=tuple(subgroups.attributes(figures)),
        maps=map_summaries(run),
        credibility=attack_checks.credibility(figures, found, worst, examined(run, figures)),
        worst_cases=worst,
        weak_eyes=weak_eyes(run, found),
        one_for_all=universal.one_for_all(run, found),
        comparisons=comparisons,
        side_by_side=side_by_side(run, others),
        two_eyes=two_eyes(run, figures),
        read_from=read_from(run, figures),
        uncertainty=uncertainty(run, figures),
        cases=sum(len(group.cases) for group in groups),
    )
    found_items = items(evidence, {**outputs_only.findings(evidence), **of_readers.findings(readers)})
    return Report(evidence, found_items, groups, tuple(conditions.failed_work(run)), readers)


def as_html(report: Report) -> str:
    """Return the page: no script, no address, every text from data escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "literal": literal,
        "value": words.value_words,
        "interval": words.interval_words,
        "full": words.full_words,
        "difference": words.difference_words,
        "points": words.points_words,
        "percent": percent,
        "short": short,
    }
    environment.globals["counted"] = words.counted
    evidence = report.evidence
    page = environment.get_template("report.html.j2").render(
        report=report,
        run=evidence.run.manifest,
        summary=evidence.run.summary,
        evidence=evidence,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),  # our own file, not data
        charts=_charts(evidence.run, evidence.figures),
        grades=GRADES,
        metrics=outputs_only.reworded(performance.clean_figures(evidence.figures), evidence.run.manifest),
        recalls=performance.recalls(evidence.figures),
        targets=performance.targets(evidence.figures),
        **_confusion(evidence.run),
        attention=attention(evidence.run, evidence.figures),
        mean_caption=MEAN_CAPTION,
        facts=conditions.facts(evidence.run),
        failed_work=report.failed_work,
        map_checks=map_checks(evidence.run, evidence.figures),
        matrix=matrix(evidence.headline.conditions),
        weak_eyes=evidence.weak_eyes,
        searches=severity.searches(evidence.run, evidence.figures),
        smallest=smallest.smallest(evidence.run, evidence.figures),
        proved=certified.proved(evidence.run, evidence.figures),
        commands=conditions.commands(evidence.run, bool(evidence.comparisons)),
        counts={status: sum(one.status == status for one in report.items) for status in STATUSES},
        version=workbench.__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        small_group=words.SMALL_GROUP,
        needs_model=NEEDS_MODEL,
        answer_name=answer_name(evidence.run.manifest),
        threshold=threshold_words(evidence.run.manifest),
        lacks=why_no_figure(evidence.run.manifest),
        labels_in="file of labels" if evidence.run.manifest.outputs else "manifest",
        config=yaml.safe_dump(evidence.run.manifest.config, sort_keys=False, allow_unicode=True),
    )
    return re.sub(r"\n\s*\n+", "\n", page)


STATUSES: Final = ("reported", "not assessed", "not applicable")


def _charts(run: Run, figures: Figures) -> dict[str, Markup]:
    drawn: dict[str, Any] = {
        "rates": charts.three_rates_chart(figures),
        "referral": uncertainty_charts.referral_chart(figures),
    }
    if "brier" not in why_no_figure(run.manifest):
        drawn["reliability"] = uncertainty_charts.reliability_chart(figures)
        drawn["net_benefit"] = uncertainty_charts.net_benefit_chart(figures)
    if charts.has_two_eyes(figures):
        drawn["two_eyes"] = charts.two_eyes_chart(figures)
    if charts.has_stress(run, "attack"):
        drawn["attack"] = charts.strength_chart(figures, "attack")
    if charts.has_stress(run, "corruption"):
        drawn["corruption"] = charts.strength_chart(figures, "corruption")
    if found := severity.searches(run, figures):
        drawn["severity"] = severity.severity_chart(found)
    if least := smallest.smallest(run, figures):
        drawn["smallest"] = smallest.smallest_chart(least)
    if proved := certified.proved(run, figures):
        drawn["certified"] = certified.certified_chart(proved)
    return {name: inline_svg(chart, name) for name, chart in drawn.items()}


def _confusion(run: Run) -> dict[str, Any]:
    matrix = performance.confusion(run)
    far, eyes = performance.far_off(matrix)
    largest = [max(int(row.sum()), 1) for row in matrix]
    rows = [[(int(count), int(count) / largest[true]) for count in row] for true, row in enumerate(matrix)]
    return {"confusion": rows, "far_off": far, "judged_eyes": eyes}


def literal(text: object) -> Markup:
    """Return text from data as HTML that shows it letter by letter; ``bdi`` keeps right-to-left marks inside."""
    return Markup("<bdi>{}</bdi>").format(str(text))


def as_json(report: Report) -> dict[str, Any]:
    """Return every figure with interval, n and condition, and the items; what is absent is null."""
    evidence = report.evidence
    manifest = evidence.run.manifest
    told = evidence.headline
    lacks = why_no_figure(manifest)
    return {
        "format_version": FORMAT_VERSION,
        "workbench_version": workbench.__version__,
        "run": manifest.model_dump(mode="json", exclude={"measurements"}),
        "measurements": [one.model_dump(mode="json") for one in manifest.measurements],
        "summary": evidence.run.summary.model_dump(mode="json"),
        "headline": {
            "question": "When this model is wrong, does it know?",
            "answer": told.answer,
            "sentences": list(told.sentences),
            "errors_referred": [one.errors_referred.as_json() for one in told.conditions],
            "errors_referred_above_random": told.above_random.as_json(),
        },
        "figures": [one.as_json() for one in evidence.figures],
        "confusion": performance.confusion(evidence.run).tolist() if "accuracy" not in lacks else None,
        "cohort": asdict(evidence.cohort),
        "worst_cases": [asdict(one) for one in evidence.worst_cases],
        "one_for_all": universal.as_json(evidence.one_for_all),
        "weak_eyes": [asdict(one) | {"weak": one.weak} for one in evidence.weak_eyes],
        "credibility": None if evidence.credibility is None else asdict(evidence.credibility),
        "reviewer_note": report.note,
        "read_from": {"exposed": evidence.read_from.exposed, "sentences": list(evidence.read_from.sentences)},
        "maps": [asdict(one) for one in evidence.maps],
        "comparisons": [_comparison_json(one) for one in evidence.comparisons],
        "side_by_side": None if evidence.side_by_side is None else _beside_json(evidence.side_by_side),
        "cases": [
            {"group": group.title, "total": group.total, "shown": [case.exam_id for case in group.cases]}
            for group in report.groups
        ],
        "failed_work": [
            {"measurement": measurement, "reason": reason, "eyes": count}
            for measurement, reason, count in report.failed_work
        ],
        "items": [asdict(one) for one in report.items],
        "readers": None if report.readers is None else report.readers.model_dump(),
    }


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    values = asdict(comparison)
    values["figures"] = [
        {"name": one.here.name, "here": one.here.as_json(), "there": one.there.as_json()}
        | {"difference": one.difference.as_json()}
        for one in comparison.figures
    ]
    return values


def _beside_json(beside: SideBySide) -> dict[str, Any]:
    return {
        "models": [asdict(column) for column in beside.columns],
        "figures": [
            {
                **cell.figure.as_json(),
                "model": column.name,
                "difference": None if cell.difference is None else cell.difference.as_json(),
            }
            for block in beside.blocks
            for line in block.lines
            for column, cell in zip(beside.columns, line.cells, strict=True)
        ],
    }
