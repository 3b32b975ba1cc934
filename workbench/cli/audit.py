"""`workbench audit`: put a model under stress and keep every answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    predictions: Annotated[
        Path | None, typer.Option(help="instead of a model, its outputs: CSV, TSV or Parquet", metavar="FILE")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="with --predictions: the true grades", metavar="FILE")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="with --predictions: where a column has another name, e.g. eye=side", metavar="OURS=THEIRS"),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="with --predictions: P(referable), or expected grade, from which to call; 0.5, or grade 1.5"),
    ] = None,
    missing: Annotated[
        str | None,
        typer.Option(
            help="with --predictions: 'count' goes on where an eye has no prediction (then: no answer) or no label",
            metavar="refuse|count",
        ),
    ] = None,
) -> None:
    """Audit a model: draws, corruptions, attacks and maps, on the clean exams and under each stress.

    The run's folder holds every answer. An interrupted audit continues where it stopped; a changed one is refused.
    The exit code is 3 where the audit is whole but some measurements failed.

    [bold]Example[/]:

    workbench audit configs/audit/synthetic.yaml

    workbench audit configs/audit/synthetic.yaml draws=50 policy.referral_budget=0.1 --out runs/strict

    [bold]Any model, any manifest, the default stresses[/]:

    workbench audit --model workspace/demo/model --data workspace/demo/cohort --split test --out runs/first

    [bold]Outputs alone, without the model[/]: rows of image (10001_left, p7_OD) or patient_id and eye, with p0 to p4
    (ICDR grades), p0 and p1 or p (P(referable)), or expected_grade; a column draw where there are several per eye.
    Labels: image, level; quality, camera, site, age, sex where known. What needs the model is not assessed.

    workbench audit --predictions predictions.csv --labels labels.csv --out runs/theirs policy.referral_budget=0.1
    """
    changes = list(overrides or ())
    path: Path | None = None
    if config is not None and "=" in config:
        changes.insert(0, config)
    elif config is not None:
        path = Path(config)
    alone = {"labels": labels, "threshold": threshold, "missing": missing, "column": column}
    if predictions is not None:
        if model is not None or data is not None or split is not None:
            raise WorkbenchError("--predictions stands instead of --model, --data and --split", "leave those away")
        _audit_outputs(path, changes, predictions, alone, out)
        return
    given = next((name for name, value in alone.items() if value), None)
    if given is not None:
        raise WorkbenchError(f"--{given} without --predictions", "give the file of outputs too")
    from workbench.audit.config import AuditConfig
    from workbench.audit.runner import run_audit
    from workbench.schema.config import load_config

    for key, value in {"model": model, "data.manifest": data, "data.split": split}.items():
        if value is not None:
            changes.append(f"{key}={json.dumps(str(value))}")
    if path is None and not {"model", "data.manifest"} <= {change.partition("=")[0] for change in changes}:
        raise WorkbenchError("neither a config nor --model and --data", "see 'workbench audit --help'")
    run = run_audit(load_config(AuditConfig, path, changes), out)
    _tell(run)
    if run.summary.failed:
        raise typer.Exit(FAILED_EXIT)


def _audit_outputs(
    path: Path | None, changes: list[str], predictions: Path, options: dict[str, Any], out: Path | None
) -> None:
    from workbench.audit.predictions import PredictionsConfig, audit_predictions
    from workbench.schema.config import load_config

    changes = [*changes, f"predictions={json.dumps(str(predictions))}"]
    for name, value in options.items():
        if value is not None and name != "column":
            changes.append(f"{name}={json.dumps(str(value) if isinstance(value, Path) else value)}")
    for pair in options["column"] or ():
        ours, equals, theirs = pair.partition("=")
        if not (ours and equals and theirs):
            raise WorkbenchError(f"--column {pair!r} is not OURS=THEIRS", "write for instance --column eye=side")
        changes.append(f"columns.{ours}={json.dumps(theirs)}")
    _tell(audit_predictions(load_config(PredictionsConfig, path, changes), out))


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
    summary, absent = run.summary, "no photograph" if run.manifest.outputs is None else "no prediction"
    console.print(f"{summary.done} measured, {summary.failed} failed, {summary.skipped} skipped ({absent})")
    for reason, count in run.failures()["reason"].value_counts().head(5).items():
        console.print(f"  {count} × {reason}", markup=False)
    console.print(f"wrote {run.folder}\nNext: [bold]workbench report {run.folder}[/]")


def _cell(row: object) -> str:
    value, low, high = (getattr(row, name) for name in ("value", "low", "high"))
    if value != value:
        return "not assessed"
    interval = "" if low != low else f" ({100 * low:.0f}–{100 * high:.0f})"
    return f"{100 * value:.1f} %{interval}"
