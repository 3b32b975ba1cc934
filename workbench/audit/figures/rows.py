"""The rows of one measurement: every figure with its patient-clustered interval, or why there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from workbench.audit.figures.attention import attention_figures
from workbench.audit.figures.calibration import calibration_figures
from workbench.audit.figures.conformal import conformal_figures
from workbench.audit.figures.eyes import per_eye
from workbench.audit.figures.figure import NOTHING, Answered, Figure, Found
from workbench.audit.figures.intake import intake_figures
from workbench.audit.figures.rates import changes, checked, per_exam, photographs
from workbench.audit.figures.referral import referral_figures
from workbench.audit.figures.subgroups import subgroups
from workbench.audit.figures.two_eyes import two_eye_figures
from workbench.audit.predictions_lacks import why_not
from workbench.audit.run_manifest import MeasurementSpec, RunManifest
from workbench.audit.schemas import ROWS_SCHEMA
from workbench.metrics import bootstrap
from workbench.schema.seeds import seed_for
from workbench.uncertainty.decisions import referable_threshold


def figures(run: RunManifest, answered: Answered, clean: Answered, *, resamples: int) -> pd.DataFrame:
    """Return the rows of one measurement.

    Args:
        run: the conditions that every row is given.
        answered: the measurement.
        clean: the same run's clean exams, for what has changed on the same exams.
        resamples: of the bootstrap, see `workbench.metrics.bootstrap`.
    """
    wanted: list[Figure | Found] = [
        *per_exam(answered),
        *per_eye(answered),
        *referral_figures(answered, resamples=resamples, seed=seed_for(run.seed, answered.measurement.id)),
        *subgroups(answered),
    ]
    wanted += [*calibration_figures(answered, run.policy), *conformal_figures(answered, run.policy)]
    wanted += list(intake_figures(answered, clean))
    if answered.measurement.stress is None:
        threshold = referable_threshold(run.policy, run.referable_threshold)
        wanted += [*photographs(answered), *two_eye_figures(answered, threshold)]
    else:
        wanted += [*changes(answered, clean), *checked(answered)]
    rows = [row_of(run, answered.measurement, _possible(run, figure), resamples) for figure in wanted]
    return pd.DataFrame(rows, columns=ROWS_SCHEMA.names)


def _possible(run: RunManifest, figure: Figure | Found) -> Figure | Found:
    """Return the figure, or why the run's outputs give no ground for it."""
    reason = why_not(run, figure.name, figure.of)
    if reason is None:
        return figure
    return Found(figure.name, NOTHING, figure.subgroup, figure.at, figure.of, reason)


def localisation_rows(
    run: RunManifest, table: pd.DataFrame, patients: dict[str, str], *, resamples: int
) -> pd.DataFrame:
    """Return the rows of where maps lie; their measurement is that of the maps, or the floor's name."""
    rows = []
    for method, wanted in attention_figures(table, patients).items():
        known = method if method.startswith("floor.") else f"maps.{method}"
        measurement = MeasurementSpec(id=known, kind="maps", method=method)
        rows += [row_of(run, measurement, figure, resamples) for figure in wanted]
    return pd.DataFrame(rows, columns=ROWS_SCHEMA.names)


def figure_seed(run: RunManifest, measurement: MeasurementSpec, figure: Figure | Found) -> int:
    """Return the seed of a figure's resamples."""
    parts = [measurement.id, figure.name, figure.subgroup, f"{figure.at}", *([figure.of] if figure.of else [])]
    return seed_for(run.seed, *parts)


def row_of(run: RunManifest, measurement: MeasurementSpec, figure: Figure | Found, resamples: int) -> dict[str, Any]:
    """Return the row of one figure, with its interval or why there is none."""
    seed = figure_seed(run, measurement, figure)
    found = bootstrap.Interval(np.nan, np.nan, np.nan, 0, 0)
    if isinstance(figure, Found):
        found = figure.interval
    elif len(figure.patients):
        found = bootstrap.clustered_interval(
            figure.metric, figure.patients, *figure.arrays, resamples=resamples, seed=seed
        )
    stress = measurement.stress
    return {
        "name": figure.name,
        "value": _known(found.value),
        "low": _known(found.low),
        "high": _known(found.high),
        "n": found.n,
        "clusters": found.clusters,
        "measurement": measurement.id,
        "stress": None if stress is None else stress.name,
        "strength": None if stress is None else stress.strength,
        "subgroup": figure.subgroup,
        "at": figure.at,
        "of": figure.of,
        "seed": seed,
        "model_hash": run.model_hash,
        "manifest_hash": run.manifest_hash,
        "workbench_version": run.workbench_version,
        "reason": (figure.reason if isinstance(figure, Found) else None) or _reason(found, resamples),
    }


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _reason(found: bootstrap.Interval, resamples: int) -> str | None:
    if not found.n:
        return "nothing to measure: no answer whose truth is known"
    if np.isnan(found.value):
        return "not defined on these: one class only"
    if found.clusters < 2:
        return "no interval: one patient only"
    if np.isnan(found.low):
        return f"no interval: {found.undefined} of {resamples} resamples hold one class only"
    return None
