"""Which eye is the weak one: a stress of OD alone beside the same stress of OS alone, on the same exams."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import pandas as pd

from workbench.audit.results import Run
from workbench.metrics.bootstrap import clustered_interval
from workbench.metrics.referral import mean
from workbench.report.figures import Figure, not_measured
from workbench.report.headline import RATES, Condition, figure_of
from workbench.schema.seeds import seed_for
from workbench.schema.threat import Eyes
from workbench.schema.words import size_words, stress_name

ERROR, _, SILENT = RATES
_COLUMNS: Final = {ERROR: "wrong", SILENT: "silent_failure"}
NOT_PLANNED: Final = "not in the plan"


@dataclass(frozen=True)
class OneEye:
    """One stress at one strength: a rate with each eye stressed, and OS minus OD on exams that have both eyes."""

    stress: str
    rate: Literal["error", "silent failure"]
    of_eyes: dict[Eyes, Figure]
    difference: Figure

    @property
    def weak(self) -> str:
        """Say which eye is the weak one, as far as the interval says it."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None:
            return "cannot be said"
        return "OS" if low > 0 else "OD" if high < 0 else "not shown"


def weak_eyes(run: Run, found: tuple[Condition, ...]) -> tuple[OneEye, ...]:
    """Return two lines, error and silent failure, per stress that was put on OD alone and on OS alone."""
    families: dict[str, dict[Eyes, Condition]] = {}
    for one in found:
        if (stress := one.measurement.stress) is not None:
            families.setdefault(stress.model_dump_json(exclude={"eyes"}), {})[stress.eyes] = one
    paired = [family for family in families.values() if {"OD", "OS"} <= set(family)]
    decisions = _with_both_eyes(run) if paired else pd.DataFrame()
    return tuple(_one_eye(run, decisions, family, name) for family in paired for name in _COLUMNS)


def _with_both_eyes(run: Run) -> pd.DataFrame:
    eyes = run.eyes()
    both = (eyes["status"] == "ok").groupby(eyes["exam_id"]).all()
    decisions = run.decisions()
    return decisions[decisions["exam_id"].map(both).astype(bool)]


def _one_eye(run: Run, decisions: pd.DataFrame, family: dict[Eyes, Condition], name: str) -> OneEye:
    stress = family["OD"].measurement.stress
    assert stress is not None
    shown: tuple[Eyes, ...] = ("OD", "OS", "both", "worst_of_one")
    figures = {
        eyes: (family[eyes].error if name == ERROR else family[eyes].silent)
        if eyes in family
        else not_measured(name, NOT_PLANNED)
        for eyes in shown
    }
    goal = "" if stress.aim.goal == "cross" else f", goal: {stress.aim.goal}"
    words = f"{stress_name(stress.name)}, {size_words(stress)}{goal}"
    ids = (family["OD"].measurement.id, family["OS"].measurement.id)
    rate: Literal["error", "silent failure"] = "error" if name == ERROR else "silent failure"
    return OneEye(words, rate, figures, _difference(run, decisions, ids, name))


def _difference(run: Run, decisions: pd.DataFrame, ids: tuple[str, str], name: str) -> Figure:
    """Return OS minus OD, exam by exam; patients are resampled."""
    table = decisions[decisions["measurement"].isin(ids)]
    values = table.pivot(index=["exam_id", "patient_id"], columns="measurement", values=_COLUMNS[name])
    values = values.reindex(columns=list(ids)).dropna().astype(float)
    right, left = (values[one].to_numpy() for one in ids)
    patients = values.index.get_level_values("patient_id").to_numpy(dtype=str)
    seed = seed_for(run.manifest.seed, name, "weak eye", *ids)
    found = clustered_interval(mean, patients, left - right, resamples=run.summary.resamples, seed=seed)
    figure = figure_of(f"{name}_difference", found, f"{ids[1]} minus {ids[0]}")
    if figure.has_interval and np.allclose(left, right):
        return replace(figure, low=None, high=None, reason="every exam answers alike, so no width")
    return figure
