"""`workbench study`: compare who makes the draws, how they are pooled and what refers, on the same exams."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.schema.progress import console


def study(
    config: Annotated[Path, typer.Argument(help="a YAML file such as configs/study/draws.yaml", metavar="CONFIG")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="fields to change, e.g. resamples=10000", metavar="FIELD=VALUE")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the study; a second call continues there")] = None,
) -> None:
    """Compare makers of draws, poolings and scores: one table with patient-clustered intervals.

    Each maker is an audit of the clean exams in a folder of its own; an interrupted study continues with the parts
    that are missing. Writes study.csv, study.md and study.html.

    [bold]Example[/]:

    workbench study configs/study/draws.yaml

    workbench study configs/study/draws.yaml data.limit=100 'poolings=[mean, median]' --out runs/quick
    """
    from workbench.audit.study.config import StudyConfig
    from workbench.audit.study.measure import run_study
    from workbench.schema.config import load_config

    table, folder = run_study(load_config(StudyConfig, config, list(overrides or ())), out)
    compared = table[["maker", "pooling", "score"]].drop_duplicates()
    console.print(f"{len(compared)} rows compared; wrote {folder / 'study.html'}, study.md, study.csv", highlight=False)
