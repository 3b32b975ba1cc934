"""Run an audit: plan, measure what is missing, analyse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from workbench.audit.analysis import analyse, cutoff_of_clean
from workbench.audit.bench import Bench
from workbench.audit.config import AuditConfig
from workbench.audit.layout import manifest_path
from workbench.audit.lock import run_lock
from workbench.audit.plan import Unit, all_units, pending_units
from workbench.audit.preparation import adopt, describe, measurements_of, open_bench, table_of_eyes
from workbench.audit.results import Run
from workbench.audit.run_manifest import RunManifest, read_manifest
from workbench.audit.workers import run_units, run_units_in_processes
from workbench.schema.progress import console, progress_bar


def run_audit(config: AuditConfig, out: Path | None = None) -> Run:
    """Audit a model and return the finished run; an interrupted one continues with the parts that are missing.

    Args:
        config: the whole job.
        out: the run's folder; it goes before the config's own.

    Raises:
        WorkbenchError: a mistake in the config, model or manifest; another audit or another runner in ``out``; a full
            disk.
    """
    folder = out or config.out_folder()
    measurements_of(config)  # a misspelt stress is told before anything is loaded
    config = _with_engine_of(folder, config)
    bench, card, manifest = open_bench(config)
    config = config.model_copy(update={"engine": bench.engine})  # every worker computes with the same
    eyes = table_of_eyes(bench.exams)
    described = describe(config, bench, card, manifest, eyes)
    with run_lock(folder):
        run = adopt(folder, described, eyes, bench)
        _sweep(folder)
        pending = pending_units(folder, run, bench.exams.exam_ids)
        planned = len(all_units(run, bench.exams.exam_ids))
        if pending and len(pending) < planned:
            console.print(f"continuing {folder}: {planned - len(pending)} of {planned} parts are there")
        for stage in sorted({unit.stage for unit in pending}):
            now = [unit for unit in pending if unit.stage == stage]
            if bench.cutoff is None and any(unit.aims_at_referral for unit in now):
                # A function of the clean parts, all of stage 0, so a resumption finds the same.
                bench = replace(bench, cutoff=cutoff_of_clean(folder))
            _measure(bench, config, run, now, folder)
        return analyse(folder)


def _with_engine_of(folder: Path, config: AuditConfig) -> AuditConfig:
    """Return the config with the engine of the run that is there, where none is asked for: parts must be alike."""
    if config.engine != "auto" or not manifest_path(folder).exists():
        return config
    return config.model_copy(update={"engine": read_manifest(folder).environment.engine})


def _sweep(folder: Path) -> None:
    """Remove what a killed runner left half written."""
    for leftover in [*folder.glob(".*.tmp"), *folder.glob("parts/*/.*.tmp"), *folder.glob("analysis/.*.tmp")]:
        leftover.unlink(missing_ok=True)


def _measure(bench: Bench, config: AuditConfig, run: RunManifest, pending: Sequence[Unit], folder: Path) -> None:
    processes = min(config.processes, len(pending))
    done = (
        run_units_in_processes(bench, config, pending, folder, processes)
        if processes > 1
        else run_units(bench, pending, folder)
    )
    left: dict[str, int] = {}
    for unit in pending:
        left[unit.measurement.id] = left.get(unit.measurement.id, 0) + 1
    with progress_bar() as bar:
        total = sum(len(unit.exam_ids) for unit in pending)
        task = bar.add_task(f"auditing {run.exams} exams", total=total, info=next(iter(left), ""))
        for unit in done:
            left[unit.measurement.id] -= 1
            under_way = next((name for name, count in left.items() if count), "")
            bar.update(task, advance=len(unit.exam_ids), info=under_way)
