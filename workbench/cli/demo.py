"""`workbench demo`: the whole job on the synthetic cohort, one step after the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from workbench.schema.bundled import bundled
from workbench.schema.progress import console


def demo(
    fields: Annotated[
        list[str] | None, typer.Argument(help="Fields of the audit to change, e.g. draws=10.", metavar="FIELD=VALUE")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the cohort, the model and the run.")] = Path("workspace/demo"),
    patients: Annotated[int, typer.Option(min=60, help="Patients of the synthetic cohort.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the cohort.")] = 0,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the review app.")] = 8501,
    app: Annotated[bool, typer.Option("--app/--no-app", help="Open the review app at the end.")] = True,
) -> None:
    """Make a synthetic cohort, train, audit, report, and open the review app.

    A second call continues where the first one stopped: what is already there is not made again.

    [bold]Example[/]:

    workbench demo --out workspace/demo --no-app

    workbench demo draws=10 explanations.trust_exams=2
    """
    cohort, model, run = out / "cohort", out / "model", out / "run"
    _announce(1, f"Make a synthetic cohort of {patients} patients, both eyes", cohort)
    _make_cohort(cohort, patients, seed)
    _announce(2, "Train a paired-eye model: both eyes as one six-channel input", model)
    _train(cohort, model)
    _announce(3, "Audit it: uncertainty, corruptions, attacks, explanations", run)
    _audit(cohort, model, run, fields or [])
    _announce(4, "Write the trust report", run / "report.html")
    _report(run)
    if not app:
        console.print(f"Next: [bold]workbench review {run} --data {cohort}[/]", soft_wrap=True)
        return
    _announce(5, "Review the exams in the browser", run / "reviews.sqlite")
    from workbench.cli.review import start_app

    start_app(run, port=port, data=cohort)


def _announce(step: int, what: str, where: Path) -> None:
    console.rule(f"[bold]{step} of 5[/]  {what}  →  {where}", align="left")


def _make_cohort(cohort: Path, patients: int, seed: int) -> None:
    from workbench.data.synthetic.cohort import write_cohort

    write_cohort(cohort, patients=patients, seed=seed)


def _train(cohort: Path, model: Path) -> None:
    from workbench.schema.config import load_config
    from workbench.training.config import TrainConfig
    from workbench.training.loop import train

    changes = [_override("data.manifest", cohort / "manifest.csv"), _override("out", model)]
    settings = load_config(TrainConfig, bundled("configs") / "train" / "synthetic.yaml", changes)
    train(settings, model)
    from workbench.cli.model import add_reference

    add_reference(model, settings.data.manifest, settings.data.cache)


def _audit(cohort: Path, model: Path, run: Path, fields: list[str]) -> None:
    from workbench.audit.config import AuditConfig
    from workbench.audit.runner import run_audit
    from workbench.schema.config import load_config

    changes = [_override("data.manifest", cohort / "manifest.csv"), _override("model", model), _override("out", run)]
    run_audit(load_config(AuditConfig, bundled("configs") / "audit" / "synthetic.yaml", [*changes, *fields]), run)


def _report(run: Path) -> None:
    from workbench.report.write import write_report

    write_report(run)


def _override(key: str, path: Path) -> str:
    return f"{key}={json.dumps(str(path))}"
