"""A finished run becomes one HTML file that fetches nothing, and one JSON file with every figure in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jinja2
import yaml
from markupsafe import Markup

import workbench
from workbench.audit.results import Run, open_run
from workbench.report import attack_checks, charts, conditions, performance, subgroups, words
from workbench.report.cases import CaseGroup, case_groups
from workbench.report.cohort import cohort
from workbench.report.compare import Comparison, compare
from workbench.report.drawing import inline_svg
from workbench.report.explained import map_summaries
from workbench.report.figures import Figures
from workbench.report.headline import conditions as conditions_of
from workbench.report.headline import headline
from workbench.report.items import Evidence, Item, items
from workbench.schema.files import write_json, write_text
from workbench.schema.grades import GRADES
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


def write_report(run_folder: Path, compare: Sequence[Path] = ()) -> Path:
    """Write ``report.html`` and ``report.json`` into the run's folder, and return the path of the former.

    Args:
        run_folder: of a finished run.
        compare: folders of runs of the same model on another set, or of other models on the same exams.

    Raises:
        WorkbenchError: a run is not finished or damaged, a comparison makes no sense, the disk is full.
    """
    report = assemble(open_run(run_folder), [open_run(folder) for folder in compare])
    write_json(run_folder / "report.json", as_json(report))
    page = run_folder / "report.html"
    write_text(page, as_html(report))
    return page


def assemble(run: Run, others: Sequence[Run] = ()) -> Report:
    """Return what the report of a run says.

    Raises:
        WorkbenchError: a run to compare with shares neither model nor exams, or followed another policy.
    """
    comparisons = tuple(compare(run, other) for other in others)
    figures = Figures(run)
    found = conditions_of(run, figures)
    groups = case_groups(run)
    evidence = Evidence(
        run=run,
        figures=figures,
        headline=headline(run, found),
        cohort=cohort(run),
        attributes=tuple(subgroups.attributes(figures)),
        maps=map_summaries(run),
        credibility=attack_checks.credibility(figures, found),
        comparisons=comparisons,
        cases=sum(len(group.cases) for group in groups),
    )
    return Report(evidence, items(evidence), groups, tuple(conditions.failed_work(run)))


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
        "percent": percent,
    }
    environment.globals["counted"] = words.counted
    evidence = report.evidence
    page = environment.get_template("report.html.j2").render(
        report=report,
        run=evidence.run.manifest,
        summary=evidence.run.summary,
        evidence=evidence,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),  # our own file, not data
        charts=_charts(evidence.run),
        grades=GRADES,
        metrics=performance.clean_figures(evidence.figures),
        recalls=performance.recalls(evidence.figures),
        targets=performance.targets(evidence.figures),
        **_confusion(evidence.run),
        facts=conditions.facts(evidence.run),
        failed_work=report.failed_work,
        commands=conditions.commands(bool(evidence.comparisons)),
        counts={status: sum(one.status == status for one in report.items) for status in STATUSES},
        version=workbench.__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        small_group=words.SMALL_GROUP,
        config=yaml.safe_dump(evidence.run.manifest.config, sort_keys=False, allow_unicode=True),
    )
    return re.sub(r"\n\s*\n+", "\n", page)


STATUSES: Final = ("reported", "not assessed", "not applicable")


def _charts(run: Run) -> dict[str, Markup]:
    drawn: dict[str, Any] = {
        "rates": charts.three_rates_chart(run),
        "reliability": charts.reliability_chart(run),
        "referral": charts.referral_chart(run),
    }
    if charts.has_stress(run, "attack"):
        drawn["attack"] = charts.strength_chart(run, "attack")
    if charts.has_stress(run, "corruption"):
        drawn["corruption"] = charts.strength_chart(run, "corruption")
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
        "confusion": performance.confusion(evidence.run).tolist(),
        "cohort": asdict(evidence.cohort),
        "credibility": None if evidence.credibility is None else asdict(evidence.credibility),
        "maps": [asdict(one) for one in evidence.maps],
        "comparisons": [_comparison_json(one) for one in evidence.comparisons],
        "cases": [
            {"group": group.title, "total": group.total, "shown": [case.exam_id for case in group.cases]}
            for group in report.groups
        ],
        "failed_work": [
            {"measurement": measurement, "reason": reason, "eyes": count}
            for measurement, reason, count in report.failed_work
        ],
        "items": [asdict(one) for one in report.items],
    }


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    values = asdict(comparison)
    values["figures"] = [
        {"name": one.here.name, "here": one.here.as_json(), "there": one.there.as_json()}
        | {"difference": one.difference.as_json()}
        for one in comparison.figures
    ]
    return values
