"""Rows of maps, their checks and influences, and which methods the policy withholds. No torch here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from workbench.audit import schemas
from workbench.audit.figures.figure import Figure
from workbench.audit.figures.rows import row_of
from workbench.audit.results import Run
from workbench.audit.run_manifest import MeasurementSpec
from workbench.audit.schemas import INFLUENCES, SHARES_OF_THE_CHANGE, TRUST_CHECKS
from workbench.metrics import referral
from workbench.metrics.localisation import gain_over_all
from workbench.schema.maps import checked_as
from workbench.schema.specs import MapPolicySpec

WORDS: Final = {
    "map_randomised_likeness": "the method's maps hardly depend on what the model has learned: rank correlation "
    "{value:.2f} with those of a network with random weights, above {limit:g}",
    "map_deletion_gain": "the method was not shown to find what answers rest on better than chance: deletion gain "
    "{value:.2f}, its interval from {low:.2f}, not above {limit:g}",
    "map_repeatability": "the method's maps do not stay when a photograph hardly changes: rank correlation {value:.2f} "
    "under a camera's noise, below {limit:g}",
}
"""Why a method is withheld, by the row that says so."""


def map_rows(run: Run, *, resamples: int) -> pd.DataFrame:
    """Return the rows of every map, check and influence of a run, with patient-clustered intervals."""
    rows = [row_of(run.manifest, measurement, figure, resamples) for measurement, figure in _figures(run)]
    return pd.DataFrame(rows, columns=schemas.ROWS_SCHEMA.names)


def maps_withheld(run: Run, rows: pd.DataFrame) -> dict[str, str]:
    """Return the kinds of maps of a run none of which may be shown, and why; see `methods_withheld`.

    Maps over draws are judged as those of the model without draws.
    """
    refused = methods_withheld(rows, run.manifest.policy.maps)
    return {**refused, **{key: refused[checked_as(key)] for key in run.methods() if checked_as(key) in refused}}


def methods_withheld(rows: pd.DataFrame, policy: MapPolicySpec) -> dict[str, str]:
    """Return the methods that failed a check of the policy on the run's sample, and why.

    A check without a value (none planned, nothing to have it on) withholds nothing: *not assessed* is not *failed*.
    A gain counts as shown only if its interval lies above the limit; a gain of one patient has no interval and is not
    assessed.
    """
    refused: dict[str, str] = {}
    known = rows[rows["name"].isin(list(WORDS)) & rows["value"].notna() & rows["low"].notna()]
    for row in known.itertuples():
        limit, failed = judged(str(row.name), float(row.value), float(row.low), policy)
        if limit is not None and failed:
            refused.setdefault(str(row.of), WORDS[str(row.name)].format(value=row.value, low=row.low, limit=limit))
    return refused


def judged(name: str, value: float, low: float, policy: MapPolicySpec) -> tuple[float | None, bool]:
    """Return the policy's limit of a check, and whether the method is beyond it."""
    if name == "map_randomised_likeness":
        limit = policy.max_randomised_likeness
        return limit, limit is not None and value > limit
    if name == "map_deletion_gain":
        limit = policy.min_deletion_gain
        return limit, limit is not None and not low > limit
    limit = policy.min_repeatability
    return limit, limit is not None and value < limit


def with_withheld_rates(run: Run, refused: dict[str, str], *, resamples: int) -> pd.DataFrame:
    """Return the rows that say how often each method is withheld, over all its eyes and by reason."""
    rows = []
    for measurement in run.manifest.measurements:
        if measurement.kind != "maps" or measurement.method is None:
            continue
        table = _done(run, measurement, ["withheld"])
        reasons = table["withheld"].fillna(refused.get(measurement.method))
        kinds = reasons.dropna().astype(str).map(reason_kind)
        shares = {"all": reasons.notna(), **{f"reason={kind}": kinds.reindex(reasons.index) == kind for kind in kinds}}
        for subgroup, withheld in shares.items():
            figure = Figure(
                "map_withheld_rate",
                referral.mean,
                table["patient_id"].to_numpy(dtype=str),
                (withheld.to_numpy(dtype=float),),
                subgroup=subgroup,
                of=measurement.method,
            )
            rows.append(row_of(run.manifest, measurement, figure, resamples))
    return pd.DataFrame(rows, columns=schemas.ROWS_SCHEMA.names)


def reason_kind(reason: str) -> str:
    """Return a reason without its numbers: what many maps are withheld for is one kind."""
    return re.sub(r"\s+", " ", re.sub(r"[-−]?\d+(\.\d+)?", "…", reason)).strip()


def _figures(run: Run) -> Iterator[tuple[MeasurementSpec, Figure]]:
    for measurement in run.manifest.measurements:
        if measurement.kind == "influence":
            table = _done(run, measurement, schemas.INFLUENCE_SCHEMA.names[4:])
            yield from ((measurement, figure) for figure in _influence(table, run.referable_threshold))
        elif measurement.kind == "map_trust":
            table = _done(run, measurement, [*TRUST_CHECKS, "answer_change"])
            for name in TRUST_CHECKS:
                of_all = _gain if name in SHARES_OF_THE_CHANGE else _mean
                yield measurement, of_all(f"map_{name}", table, name, measurement)
        elif measurement.kind == "maps":
            table = _done(run, measurement, ["fellow_share", "outside_share"])
            for name in ("fellow_share", "outside_share"):
                yield measurement, _mean(f"map_{name}", table, name, measurement)


def _mean(name: str, table: pd.DataFrame, column: str, measurement: MeasurementSpec) -> Figure:
    known = table[table[column].notna()]
    patients = known["patient_id"].to_numpy(dtype=str)
    return Figure(name, referral.mean, patients, (known[column].to_numpy(dtype=float),), of=measurement.method)


def _gain(name: str, table: pd.DataFrame, column: str, measurement: MeasurementSpec) -> Figure:
    known = table[table[column].notna()]
    patients, gains = known["patient_id"].to_numpy(dtype=str), known[column].to_numpy(dtype=float)
    changes = known["answer_change"].fillna(1.0).to_numpy(dtype=float)  # a run made before it was kept: all alike
    return Figure(name, gain_over_all, patients, (gains, changes), of=measurement.method)


def _influence(table: pd.DataFrame, threshold: float) -> Iterator[Figure]:
    """Yield how far each change moves the answers, and how many calls."""
    for name in INFLUENCES:
        known = table[table[f"p_{name}"].notna()]
        patients = known["patient_id"].to_numpy(dtype=str)
        before, after = known["p"].to_numpy(dtype=float), known[f"p_{name}"].to_numpy(dtype=float)
        called, still = before >= threshold, after >= threshold
        yield Figure("influence_change", referral.mean, patients, (np.abs(before - after),), of=name)
        yield Figure("influence_rise", referral.mean, patients, (before - after,), of=name)
        yield Figure("influence_flipped_share", referral.mean, patients, ((called != still).astype(float),), of=name)
        gone = (~still[called]).astype(float)
        yield Figure("influence_called_by", referral.mean, patients[called], (gone,), of=name)


def _done(run: Run, measurement: MeasurementSpec, columns: list[str]) -> pd.DataFrame:
    """Return the measured eyes of a measurement and whose they are; the maps themselves are not kept."""
    table = run.rows_of(measurement, ["exam_id", "status", *columns])
    patients = run.eyes().drop_duplicates("exam_id").set_index("exam_id")["patient_id"]
    table = table[table["status"] == "done"].reset_index(drop=True)
    return table.assign(patient_id=table["exam_id"].map(patients).astype(str))
