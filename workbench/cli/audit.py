"""`workbench audit`: put a model under stress and keep every answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from workbench.schema.errors import WorkbenchError
from workbench.schema.progress import console

if TYPE_CHECKING:
    from workbench.audit.results import Run

FAILED_EXIT = 3
"""The audit is whole, but some of its measurements failed; each has its reason in the run."""


def audit(
    config: Annotated[
        str | None, typer.Argument(help="a YAML file such as configs/audit/synthetic.yaml", metavar="CONFIG")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="fields to change, e.g. draws=50", metavar="FIELD=VALUE")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="the model's folder (instead of the config's)")] = None,
    data: Annotated[Path | None, typer.Option(help="the manifest, or its folder (instead of the config's)")] = None,
    split: Annotated[str | None, typer.Option(help="train, validation or test")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the run; a second call continues there")] = None,
) -> None:
    """Audit a model: draws, corruptions, attacks and maps, on the clean exams and under each stress.

    The run's folder holds every answer. An interrupted audit continues where it stopped; a changed one is refused.
    The exit code is 3 where the audit is whole but some measurements failed.

    [bold]Example[/]:

    workbench audit configs/audit/synthetic.yaml

    workbench audit configs/audit/synthetic.yaml draws=50 policy.referral_budget=0.1 --out runs/strict

    [bold]Any model, any manifest, the default stresses[/]:

    workbench audit --model workspace/demo/model --data workspace/demo/cohort --split test --out runs/first
    """
    from workbench.audit.config import AuditConfig
    from workbench.audit.runner import run_audit
    from workbench.schema.config import load_config

    changes = list(overrides or ())
    path: Path | None = None
    if config is not None and "=" in config:
        changes.insert(0, config)
    elif config is not None:
        path = Path(config)
    for key, value in {"model": model, "data.manifest": data, "data.split": split}.items():
        if value is not None:
            changes.append(f"{key}={json.dumps(str(value))}")
    if path is None and not {"model", "data.manifest"} <= {change.partition("=")[0] for change in changes}:
        raise WorkbenchError("neither a config nor --model and --data", "see 'workbench audit --help'")
    run = run_audit(load_config(AuditConfig, path, changes), out)
    _tell(run)
    if run.summary.failed:
        raise typer.Exit(FAILED_EXIT)


def _tell(run: Run) -> None:
    """Print the three rates of every measurement, what failed, and the next command."""
    from rich.table import Table

    rows = run.rows()
    names = ("error_rate", "referral_rate", "silent_failure_rate")
    headline = rows[(rows["subgroup"] == "all") & rows["name"].isin(names)]
    table = Table("measurement", "exams", "error", "referred", "silent failures", title="share of exams, 95 % interval")
    for measurement, group in headline.groupby("measurement", sort=False):
        cells = {row.name: row for row in group.itertuples(index=False)}
        table.add_row(escape(str(measurement)), str(cells["referral_rate"].n), *(_cell(cells[name]) for name in names))
    console.print(table)
    summary = run.summary
    console.print(f"{summary.done} measured, {summary.failed} failed, {summary.skipped} skipped (no photograph)")
    for reason, count in run.failures()["reason"].value_counts().head(5).items():
        console.print(f"  {count} × {reason}", markup=False)
    console.print(f"wrote {run.folder}\nNext: [bold]workbench report {run.folder}[/]")


def _cell(row: object) -> str:
    value, low, high = (getattr(row, name) for name in ("value", "low", "high"))
    if value != value:
        return "not assessed"
    interval = "" if low != low else f" ({100 * low:.0f}–{100 * high:.0f})"
    return f"{100 * value:.1f} %{interval}"
