"""One perturbation for all exams: what it looks like, and what is left of it when it must lie on the camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from workbench.audit.layout import CLEAN
from workbench.audit.patterns import StoredPattern
from workbench.audit.results import Run
from workbench.metrics.bootstrap import clustered_interval
from workbench.metrics.referral import mean
from workbench.report.figures import FLAT, Figure, exact_where_flat, not_measured
from workbench.report.headline import Condition, figure_of
from workbench.report.pictures import pattern_uri
from workbench.report.words import counted, full_words, points_words
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import EYES
from workbench.schema.seeds import seed_for
from workbench.schema.specs import StressSpec
from workbench.schema.threat import UNIVERSAL
from workbench.schema.words import percent, stress_name, stress_words

FREE, LOCKED, NOISE = UNIVERSAL
TURNED: Final = "turned_share"
SURVIVES: Final = "turned_ratio"


@dataclass(frozen=True)
class Drawn:
    """A pattern as pictures, one per stressed eye (one for both where they are alike), and what they say."""

    words: str
    pictures: tuple[tuple[str, str], ...]
    scale: str
    fitted: str


@dataclass(frozen=True)
class Budget:
    """One budget: the share of exams that each pattern turns, of those that were not there already.

    Attributes:
        words: the budget.
        turned: by stress.
        survives: of the universal attack's success, what the sensor-locked one has.
        above_noise: what the universal one (or else the sensor-locked one) turns more than signs by lot.
        sentence: what survives, or why that is not known.
    """

    words: str
    turned: dict[str, Figure]
    survives: Figure
    above_noise: Figure
    sentence: str


@dataclass(frozen=True)
class OneForAll:
    """All budgets, the strongest pattern of each stress, and on whom they were fitted."""

    budgets: tuple[Budget, ...]
    patterns: tuple[Drawn, ...]
    fitted_on: str


def one_for_all(run: Run, found: tuple[Condition, ...]) -> OneForAll | None:
    """Return what a run says of perturbations that are one for all exams; None where it holds none."""
    stresses = [one.measurement.stress for one in found if one.measurement.stress is not None]
    fitted = [stress for stress in stresses if stress.name in UNIVERSAL]
    if not fitted:
        return None
    checks, patients, decisions = run.stress_checks(), _patients(run), run.decisions()
    truth = decisions[decisions["measurement"] == CLEAN].set_index("exam_id")["referable"]
    families: dict[str, dict[str, StressSpec]] = {}
    for stress in fitted:
        families.setdefault(stress.model_dump_json(exclude={"name", "options"}), {})[stress.name] = stress
    strongest: dict[str, StressSpec] = {}
    for stress in sorted(fitted, key=lambda one: one.strength):
        strongest[stress.model_dump_json(exclude={"strength", "options"})] = stress
    told = run.manifest.fitted_on
    return OneForAll(
        tuple(_budget(run, checks, patients, truth, family) for family in families.values()),
        tuple(drawn for stress in strongest.values() if (drawn := _drawn(run, stress)) is not None),
        "" if told is None else f"{counted(told.exams, 'exam')} of other patients: {told.words}",
    )


def _patients(run: Run) -> dict[str, str]:
    eyes = run.eyes()
    return dict(zip(eyes["exam_id"], eyes["patient_id"], strict=True))


def _budget(
    run: Run, checks: pd.DataFrame, patients: dict[str, str], truth: pd.Series, family: dict[str, StressSpec]
) -> Budget:
    turned = _turned(checks, family)
    whose = np.array([patients[exam_id] for exam_id in turned.index], dtype=str)
    any_of = next(iter(family.values()))
    words = stress_words(any_of).removeprefix(f"{stress_name(any_of.name)}, ")

    def measured(name: str, metric: Callable[..., float], *of: str) -> Figure:
        lacking = [stress_name(one).lower() for one in of if one not in turned]
        if lacking:
            return not_measured(name, f"{lacking[0]} is not in the plan at this budget")
        values = [turned[one].to_numpy(dtype=bool) for one in of]
        seed = seed_for(run.manifest.seed, name, *(family[one].measurement_id for one in of))
        interval = clustered_interval(metric, whose, *values, resamples=run.summary.resamples, seed=seed)
        return figure_of(name, interval, family[of[0]].measurement_id)

    shares = {name: exact_where_flat(measured(TURNED, mean, name)) for name in UNIVERSAL}
    survives = measured(SURVIVES, _ratio, FREE, LOCKED)
    if survives.has_interval and survives.low == survives.high:  # the same exams, or none: not a binomial count
        survives = replace(survives, low=None, high=None, interval_by=None, reason=FLAT)
    if survives.value is None and {FREE, LOCKED} <= set(turned):
        survives = replace(survives, reason="the universal attack turns no exam")
    strongest = FREE if FREE in turned else LOCKED
    above = measured("turned_share_difference", _difference, strongest, NOISE)
    sentence = _sentence(words, survives, above) + (_which_way(turned, truth) if any_of.aim.goal == "cross" else "")
    return Budget(words, shares, survives, above, sentence)


def _turned(checks: pd.DataFrame, family: dict[str, StressSpec]) -> pd.DataFrame:
    """Return exam × stress: is the goal reached, of exams that all were given and that were not there already."""
    ids = {stress.measurement_id: name for name, stress in family.items()}
    own = checks[checks["measurement"].isin(ids) & checks["success"].notna()]
    own = own.assign(measurement=own["measurement"].map(ids))
    reached, already = (
        own.pivot(index="exam_id", columns="measurement", values=column).dropna().astype(bool)
        for column in ("success", "already")
    )
    return reached[~already.any(axis=1)]


def _ratio(free: Bool[np.ndarray, " n"], locked: Bool[np.ndarray, " n"]) -> float:
    return float(locked.sum() / free.sum()) if free.any() else float("nan")


def _difference(one: Bool[np.ndarray, " n"], other: Bool[np.ndarray, " n"]) -> float:
    return float(one.mean() - other.mean())


def _sentence(words: str, survives: Figure, above: Figure) -> str:
    if above.low is not None and above.low <= 0:
        return f"At {words}, more success than of signs by lot is not shown: {points_words(above)}."
    told = "survives when the pattern must be the same in both eyes"
    if survives.value is None:
        return f"At {words}, how much of the universal attack's success {told} is not known: {survives.reason}."
    return f"At {words}, {full_words(survives)} of the universal attack's success {told}."


def _which_way(turned: pd.DataFrame, truth: pd.Series) -> str:
    """Say whom a pattern across the boundary turns: it can go one way for most only."""
    name = LOCKED if LOCKED in turned else FREE
    if name not in turned or not turned[name].any():
        return ""
    theirs = truth.reindex(turned.index[turned[name]]).dropna().astype(bool)
    told = f"{counted(int((~theirs).sum()), 'false alarm')} and {counted(int(theirs.sum()), 'missed referable exam')}"
    return f" The {stress_name(name).removesuffix(' attack').lower()} pattern makes {told}."


def _drawn(run: Run, stress: StressSpec) -> Drawn | None:
    try:
        pattern = run.pattern(stress.measurement_id)
    except WorkbenchError:  # it could not be made; the failed work is listed where all of it is
        return None
    stressed = [place for place, eye in enumerate(EYES) if stress.eyes in ("both", "worst_of_one", eye)]
    alike = len(stressed) == 2 and np.array_equal(pattern.values[:3], pattern.values[3:])
    shown = [("OD and OS alike", 0)] if alike else [(EYES[place], place) for place in stressed]
    size = stress.threat.size
    pictures = tuple((name, pattern_uri(_picture(pattern, place), size)) for name, place in shown)
    scale = f"grey: no change; black and full colour: −{stress.strength:g} and +{stress.strength:g} grey levels of 255"
    return Drawn(stress_words(stress), pictures, scale, _fitted(pattern))


def _picture(pattern: StoredPattern, place: int) -> Float[np.ndarray, "height width 3"]:
    return pattern.values[3 * place : 3 * place + 3].transpose(1, 2, 0)


def _fitted(pattern: StoredPattern) -> str:
    if not pattern.fitted_on:
        return "not fitted: each sign by lot"
    words = f"fitted on {counted(pattern.fitted_on, 'exam')}"
    if pattern.success is None:
        return words
    return f"{words}; there it reaches its goal on {percent(pattern.success)} ({percent(pattern.already)} without it)"


def as_json(told: OneForAll | None) -> dict[str, Any] | None:
    """Return the figures without the pictures."""
    if told is None:
        return None
    budgets = [
        {"budget": one.words, "sentence": one.sentence, "survives": one.survives.as_json()}
        | {"above_noise": one.above_noise.as_json()}
        | {"turned": {name: share.as_json() for name, share in one.turned.items()}}
        for one in told.budgets
    ]
    return {"fitted_on": told.fitted_on, "budgets": budgets}
