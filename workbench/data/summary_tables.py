"""A manifest's summary as it stands in a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from workbench.data.importers.result import Remark
from workbench.data.summary import NO_GRADE, by_reason
from workbench.schema.grades import GRADES


def print_summary(summary: dict[str, Any], console: Console, title: str) -> None:
    """Print `workbench.data.summary.summarise`'s counts: totals, grades by eye, and by split."""
    totals = Table(title=Text(title), show_header=False, title_justify="left")
    for name, text in _totals(summary):
        totals.add_row(name, Text(text))
    console.print(totals)
    console.print(_grade_table(summary))


def _grade_table(summary: dict[str, Any]) -> Table:
    table = Table("grade", title="Photographs by grade", title_justify="left")
    groups = {**summary["grades"], **summary["grades_by_split"]}
    for group in groups:
        table.add_column(group, justify="right")
    for grade in [*map(str, range(len(GRADES))), NO_GRADE]:
        name = grade if grade == NO_GRADE else f"{grade} {GRADES[int(grade)]}"
        table.add_row(name, *(f"{counts.get(grade, 0):,}" for counts in groups.values()))
    return table


def _totals(summary: dict[str, Any]) -> Iterable[tuple[str, str]]:
    eyes = summary["eyes"]
    yield "patients", f"{summary['patients']:,}"
    yield "exams", f"{summary['exams']:,}, of which complete pairs {summary['complete_pairs']:,}"
    yield "photographs", f"{summary['photographs']:,} ({', '.join(f'{eye} {count:,}' for eye, count in eyes.items())})"
    yield "patients by split", ", ".join(f"{name} {count:,}" for name, count in summary["patients_by_split"].items())
    if summary["quality"]:
        yield "quality, where known", ", ".join(f"{name} {count:,}" for name, count in summary["quality"].items())
    if summary["with_mask"]:
        yield "with lesion mask", f"{summary['with_mask']:,}"


def print_remarks(title: str, remarks: Iterable[Remark], console: Console, shown: int = 3) -> None:
    """Print remarks by reason with their number and the first few; nothing when there are none."""
    groups = by_reason(remarks)
    if not groups:
        return
    table = Table("reason", "count", "the first", title=title, title_justify="left")
    for reason, sources in groups.items():
        more = f" … and {len(sources) - shown:,} more" if len(sources) > shown else ""
        table.add_row(Text(reason), f"{len(sources):,}", Text("; ".join(sources[:shown]) + more))
    console.print(table)
