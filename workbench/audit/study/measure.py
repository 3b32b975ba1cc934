"""Run a study: one audit per maker, continued where parts are missing, then the comparison."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from workbench.audit.runner import run_audit
from workbench.audit.study.analysis import compare
from workbench.audit.study.config import StudyConfig
from workbench.audit.study.tables import write_tables
from workbench.schema.progress import console


def run_study(config: StudyConfig, out: Path | None = None) -> tuple[pd.DataFrame, Path]:
    """Measure what is missing, compare, write the tables; return the long table and the folder.

    Raises:
        WorkbenchError: a mistake in the config, a model or the manifest; another study in the folder.
    """
    folder = out or config.out
    runs = {}
    for maker in config.makers:
        console.print(f"[bold]{maker.name}[/] ({maker.draws_from})", highlight=False)
        runs[maker.name] = run_audit(config.audit_of(maker), folder / maker.name)
    table = compare(runs, config)
    write_tables(table, runs, config, folder)
    return table, folder
