"""The worst case of each exam over the attacks of one budget: a mean over exams, never a minimum of means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.audit.results import Run
from workbench.metrics.bootstrap import clustered_interval
from workbench.metrics.referral import mean
from workbench.report.figures import Figure, exact_where_flat
from workbench.report.headline import Condition, figure_of
from workbench.schema.seeds import seed_for
from workbench.schema.words import strength_words


@dataclass(frozen=True)
class WorstCase:
    """Of several attacks with one budget, what the strongest does to each exam."""

    budget: str
    attacks: tuple[str, ...]
    error: Figure
    silent: Figure


def worst_cases(run: Run, found: tuple[Condition, ...]) -> tuple[WorstCase, ...]:
    """Return one per budget that several attacks share, on the exams that all of them were given."""
    budgets: dict[str, list[Condition]] = {}
    for one in found:
        if one.kind == "attack" and one.measurement.stress is not None:
            budgets.setdefault(strength_words(one.measurement.stress), []).append(one)
    shared = {budget: attacks for budget, attacks in budgets.items() if len(attacks) > 1}
    decisions = run.decisions() if shared else pd.DataFrame()
    return tuple(_worst_case(run, decisions, budget, attacks) for budget, attacks in shared.items())


def _worst_case(run: Run, decisions: pd.DataFrame, budget: str, attacks: list[Condition]) -> WorstCase:
    ids = [one.measurement.id for one in attacks]
    table = decisions[decisions["measurement"].isin(ids)]
    error, silent = (
        _figure(run, table, ids, name, column)
        for name, column in (("error_rate", "wrong"), ("silent_failure_rate", "silent_failure"))
    )
    return WorstCase(budget, tuple(one.words for one in attacks), error, silent)


def _figure(run: Run, table: pd.DataFrame, ids: list[str], name: str, column: str) -> Figure:
    by_attack = table.pivot(index=["exam_id", "patient_id"], columns="measurement", values=column)[ids].dropna()
    patients = by_attack.index.get_level_values("patient_id").to_numpy(dtype=str)
    broken = by_attack.to_numpy(dtype=bool).any(axis=1)
    seed = seed_for(run.manifest.seed, name, "worst case", *ids)
    found = clustered_interval(mean, patients, np.asarray(broken), resamples=run.summary.resamples, seed=seed)
    return exact_where_flat(figure_of(name, found, f"worst of {', '.join(ids)}"))
