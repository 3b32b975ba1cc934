"""From parts to decisions and rows: the second half of an audit, made again at any time. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from workbench.audit import layout, run_manifest, schemas
from workbench.audit.attention import attention_tables
from workbench.audit.cross_fit import CrossFit, cross_fit, shown
from workbench.audit.figures.certified import certified_rows
from workbench.audit.figures.figure import Answered
from workbench.audit.figures.mildest import mildest_rows
from workbench.audit.figures.rows import figures, localisation_rows
from workbench.audit.figures.smallest import smallest_rows
from workbench.audit.intake import RunIntake, intake_of
from workbench.audit.layout import AnalysisSummary
from workbench.audit.map_gate import map_rows, maps_withheld, with_withheld_rates
from workbench.audit.patterns import refuse_other_pattern
from workbench.audit.plan import Unit, units_of
from workbench.audit.predictions_lacks import settle
from workbench.audit.results import CHECKED, Run, checks_of_part, draws_of_rows, open_run
from workbench.audit.run_manifest import MeasurementSpec
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import write_json
from workbench.schema.grades import UNGRADED
from workbench.schema.progress import track
from workbench.schema.threat import UNIVERSAL
from workbench.uncertainty import decisions
from workbench.uncertainty.flags import UNLIKE


def analyse(folder: Path, *, resamples: int = 1000) -> Run:
    """Reduce a run's draws to answers, decisions and rows, write them, and return the finished run.

    The cut-off of the uncertainty score is fixed on the clean exams; every stress is judged by the same one.

    Args:
        folder: the run's, with every part in it.
        resamples: of the patient-clustered bootstrap behind each interval.

    Raises:
        WorkbenchError: a part is missing or damaged, or there is no clean measurement.
    """
    run = Run(folder, run_manifest.read_manifest(folder))
    drawn = [measurement for measurement in run.manifest.measurements if measurement.kind == "draws"]
    if not drawn or drawn[0].id != layout.CLEAN:
        raise WorkbenchError(f"the run at {folder} has no clean measurement", "audit again into an empty folder")
    eyes, intake = run.eyes(), intake_of(run)
    cutoff: float | None = None
    clean: Answered | None = None
    fitted: CrossFit | None = None
    rows, tables, answers = [], [], []
    for measurement in track(drawn, "analysing", total=len(drawn)):
        answered = _answered(run, eyes, measurement, intake)
        fitted = fitted or cross_fit(run.manifest, answered)
        answered = replace(answered, refitted=fitted.apply(answered))
        cutoff = _cutoff(run, answered) if cutoff is None else cutoff
        answered = _decide(run, answered, cutoff, intake)
        clean = clean or answered
        rows.append(figures(run.manifest, answered, clean, resamples=resamples))
        tables.append(answered.decisions)
        answers.append(answered.eyes)
    of_maps = map_rows(run, resamples=resamples)
    refused = maps_withheld(run, of_maps)
    assert clean is not None
    proved = certified_rows(run, clean, resamples=resamples)
    searched, withheld = mildest_rows(run, resamples=resamples), with_withheld_rates(run, refused, resamples=resamples)
    smallest = smallest_rows(run, resamples=resamples)
    rows += [table for table in (searched, smallest, proved, of_maps, withheld) if len(table)]
    attention, means = attention_tables(run, withheld=set(refused))
    layout.write_table(layout.analysis_path(folder, "attention"), attention, schemas.ATTENTION_SCHEMA)
    layout.write_table(layout.analysis_path(folder, "mean_maps"), means, schemas.MEAN_MAPS_SCHEMA)
    if attention:
        patients = dict(zip(eyes["exam_id"], eyes["patient_id"], strict=True))
        rows.append(localisation_rows(run.manifest, run.attention(), patients, resamples=resamples))
    _write(folder, pd.concat(rows), pd.concat(tables), pd.concat(answers))
    _write_summary(run, cutoff, resamples, refused)
    return open_run(folder)


def cutoff_of_clean(folder: Path) -> float:
    """Return the cut-off of the referral score from an unfinished run's clean parts and intake."""
    run = Run(folder, run_manifest.read_manifest(folder))
    clean = run.manifest.measurement(layout.CLEAN)
    return _cutoff(run, _answered(run, run.eyes(), clean, intake_of(run)))


def _answered(run: Run, eyes: pd.DataFrame, measurement: MeasurementSpec, intake: RunIntake) -> Answered:
    """Return what was answered under one measurement, read part by part: draws are never held all at once."""
    units = units_of(run.manifest, run.exam_ids, measurement)
    exam_ids = [exam_id for unit in units for exam_id in unit.exam_ids]
    table = eyes[eyes["exam_id"].isin(exam_ids)].reset_index(drop=True)
    present = _flags(table, "ok")
    pieces: list[dict[str, np.ndarray]] = []
    checks: list[pd.DataFrame] = []
    for unit, part in _parts(run, measurement):
        if measurement.stress is not None:
            checks.append(part[list(CHECKED)])
            if measurement.stress.name in UNIVERSAL:
                refuse_other_pattern(run.folder, measurement.stress, part)
        drawn = draws_of_rows(part, run.manifest.draws, len(run.manifest.model.classes))
        first = unit.chunk * run.manifest.chunk_of(measurement)
        policy, threshold = run.manifest.policy, run.manifest.referable_threshold
        there = present[first : first + len(unit.exam_ids)]
        pieces.append(settle(run.manifest, decisions.eye_answers(drawn, there, policy, threshold)))
        pieces[-1] |= intake.answers(part)
    return Answered(
        measurement=measurement,
        table=table,
        present=present,
        photographed=_flags(table, "ok", "ungradable"),
        grade=_grades(table),
        answers={name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]},
        checks=checks_of_part(pd.concat(checks, ignore_index=True), measurement.id) if checks else None,
        decisions=pd.DataFrame(),
        eyes=pd.DataFrame(),
        unlike=intake.alone,
        turned=intake.turned_eyes(exam_ids),
    )


def _parts(run: Run, measurement: MeasurementSpec) -> Iterator[tuple[Unit, pd.DataFrame]]:
    for unit in units_of(run.manifest, run.exam_ids, measurement):
        yield unit, run.part(measurement.id, unit.chunk)


def _flags(eyes: pd.DataFrame, *statuses: str) -> Bool[np.ndarray, "exam 2"]:
    return eyes["status"].isin(statuses).to_numpy(dtype=bool).reshape(-1, 2)


def _grades(table: pd.DataFrame) -> Int[np.ndarray, "exam 2"]:
    return table["icdr_grade"].fillna(UNGRADED).to_numpy(dtype=np.int64).reshape(-1, 2)


def _cutoff(run: Run, clean: Answered) -> float:
    return decisions.clean_cutoff(clean.answers, clean.present, run.manifest.policy)


def _decide(run: Run, answered: Answered, cutoff: float, intake: RunIntake) -> Answered:
    """Return ``answered`` with its decisions and its table of eyes."""
    table = decisions.exam_decisions(
        answered.answers,
        answered.present,
        answered.grade,
        run.manifest.policy,
        threshold=run.manifest.referable_threshold,
        cutoff=cutoff,
        photographed=answered.photographed,
    )
    per_exam = answered.table.iloc[::2].reset_index(drop=True)
    policy = run.manifest.policy
    why = {
        "unsure": table["score"] > cutoff,
        "incomplete": table["incomplete"] & policy.refer_incomplete,
        UNLIKE: table["unlike_training"] & policy.refer_unlike_training,
    }
    table = table.assign(
        measurement=answered.measurement.id,
        exam_id=per_exam["exam_id"],
        patient_id=per_exam["patient_id"],
        referred_why=_why(why),
    )
    eyes = decisions.eye_table(answered.answers)
    eyes["exam_id"] = per_exam["exam_id"].to_numpy()[eyes["exam"]]
    eyes["icdr_grade"] = answered.table["icdr_grade"].to_numpy()
    eyes["measurement"] = answered.measurement.id
    eyes = eyes.assign(**shown(answered, run.manifest.policy))
    eyes = eyes.assign(**intake.columns(eyes))
    measured = eyes["p_referable"].notna()
    for grade in range(5):
        if f"p{grade}" not in eyes:
            eyes[f"p{grade}"] = np.nan
    return answered.decided(table[schemas.DECISIONS_SCHEMA.names], eyes.loc[measured, schemas.EYES_SCHEMA.names])


def _why(reasons: dict[str, pd.Series]) -> list[str | None]:
    held = zip(*(values.to_numpy(dtype=bool) for values in reasons.values()), strict=True)
    said = [", ".join(word for word, true in zip(reasons, exam, strict=True) if true) for exam in held]
    return [words or None for words in said]


def _write(folder: Path, rows: pd.DataFrame, tables: pd.DataFrame, answers: pd.DataFrame) -> None:
    layout.write_table(layout.analysis_path(folder, "eyes"), answers, schemas.EYES_SCHEMA)
    layout.write_table(layout.analysis_path(folder, "decisions"), tables, schemas.DECISIONS_SCHEMA)
    layout.write_table(layout.analysis_path(folder, "rows"), rows, schemas.ROWS_SCHEMA)


def _write_summary(run: Run, cutoff: float | None, resamples: int, refused: dict[str, str]) -> None:
    counts = {"done": 0, "failed": 0, "skipped": 0}
    for measurement in run.manifest.measurements:
        for _, part in _parts(run, measurement):
            for status, count in part["status"].value_counts().items():
                counts[str(status)] += int(count)
    finite = cutoff is not None and bool(np.isfinite(cutoff))
    reason = None if finite else "no exam is left to rank: every one is incomplete, or the budget is already spent"
    summary = AnalysisSummary(
        score_cutoff=cutoff if finite else None,
        score_cutoff_reason=reason,
        resamples=resamples,
        maps_withheld=refused,
        **counts,
    )
    write_json(layout.summary_path(run.folder), summary.model_dump())
