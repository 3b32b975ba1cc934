"""What the maps are worth: how many were made and withheld, and what their checks say."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from workbench.audit.plan import units_of
from workbench.audit.results import Run, maps_id
from workbench.schema.maps import map_words


@dataclass(frozen=True)
class MethodSummary:
    """One explanation method over the run's eyes."""

    method: str
    eyes: int
    withheld: int
    failed: int
    reasons: tuple[tuple[str, int], ...]
    median_gap: float | None
    largest_gap: float | None
    median_fellow_share: float | None


def map_summaries(run: Run) -> tuple[MethodSummary, ...]:
    """Return one summary per method, read part by part; the values of the maps are not kept."""
    return tuple(_summary(run, method) for method in run.methods())


def _summary(run: Run, method: str) -> MethodSummary:
    units = units_of(run.manifest, run.exam_ids, run.manifest.measurement(maps_id(method)))
    parts = [run.part(maps_id(method), unit.chunk).drop(columns=["values", "agreeing"]) for unit in units]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["status", "withheld", "reason"])
    table = table[table["status"] != "skipped"].copy()
    refused = run.summary.maps_withheld.get(method)
    failed = table["status"] == "failed"
    passed = table[~failed & table["withheld"].isna()]
    table["withheld"] = table["withheld"].where(table["withheld"].notna() | failed, refused)
    return MethodSummary(
        method=map_words(method),
        eyes=len(table),
        withheld=int(table["withheld"].notna().sum()),
        failed=int(failed.sum()),
        reasons=_reasons(table["withheld"].dropna().astype(str)),
        median_gap=_quantile(passed["completeness_gap"], 0.5),
        largest_gap=_quantile(passed["completeness_gap"], 1.0),
        median_fellow_share=_quantile(passed["fellow_share"], 0.5),
    )


def _reasons(withheld: pd.Series) -> tuple[tuple[str, int], ...]:
    """Return each kind of reason, told by its first case, and its count; other numbers in it make no other kind."""
    groups = withheld.groupby(withheld.str.replace(r"\d+(\.\d+)?", "", regex=True), sort=False)
    return tuple((str(group.iloc[0]), len(group)) for _, group in groups)


def _quantile(values: pd.Series, share: float) -> float | None:
    known = values.dropna()
    return float(known.astype(float).quantile(share)) if len(known) else None
