"""Two runs side by side: one model on another set (external), or another model on the same set (rivals)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd

from workbench.audit.layout import CLEAN
from workbench.audit.predictions_words import threshold_words
from workbench.audit.results import Run
from workbench.audit.run_manifest import RunManifest
from workbench.metrics import agreement, bootstrap, calibration, discrimination, referral
from workbench.report.figures import Figure, Figures, not_measured
from workbench.report.headline import RATES, figure_of
from workbench.report.performance import CLEAN_FIGURES, judged_eyes
from workbench.report.words import FIGURE_NAMES, SMALL_GROUP, counted, difference_words, full_words
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import REFERABLE_GRADE
from workbench.schema.seeds import seed_for
from workbench.schema.words import percent

COMPARED: Final = (*RATES, *(name for name in CLEAN_FIGURES if name != "missing_rate"))
HEADLINE: Final = ("auc_referable_exam", "error_rate", "silent_failure_rate")
DIFFERENCE_BY: Final = {
    "external": "square-and-add of the two intervals, the sets being independent (Newcombe 1998; Zou, Donner 2008)",
    "rival": "bootstrap of patients, both models on the same resampled patients",
}

Relation = Literal["external", "rival"]


@dataclass(frozen=True)
class ComparedFigure:
    """One figure of both runs, and the other's minus this one's."""

    words: str
    here: Figure
    there: Figure
    difference: Figure


@dataclass(frozen=True)
class Comparison:
    """Another run beside this one."""

    relation: Relation
    here: str
    name: str
    run_id: str
    exams: int
    small: bool
    difference_by: str
    notes: tuple[str, ...]
    figures: tuple[ComparedFigure, ...]

    @property
    def sentence(self) -> str:
        """Return what has changed, of the figures that matter most."""
        kind = "external set" if self.relation == "external" else "rival"
        told = [
            f"{one.words} {full_words(one.there)}, here {full_words(one.here)}: {difference_words(one.difference)}"
            for one in self.figures
            if one.here.name in HEADLINE
        ]
        return f"The {kind} {self.name}, {counted(self.exams, 'exam')}: {'; '.join(told)}."


def compare(here: Run, there: Run) -> Comparison:
    """Return the clean figures of both runs with their differences.

    Raises:
        WorkbenchError: the runs share neither the model nor the exams, are the same, or followed different policies.
    """
    relation = relation_of(here, there)
    mine, theirs = Figures(here), Figures(there)
    figures = []
    for name in COMPARED:
        one, other = mine.get(name), theirs.get(name)
        if relation == "external":
            difference = independent_difference(one, other)
        elif one.value is None or other.value is None:
            difference = not_measured(f"{name}_difference", "not measured in both runs")
        else:
            difference = paired_difference(here, there, name)
        figures.append(ComparedFigure(FIGURE_NAMES[name], one, other, difference))
    manifest = there.manifest
    return Comparison(
        relation=relation,
        here=_name(here, relation),
        name=_name(there, relation),
        run_id=manifest.run_id,
        exams=manifest.exams,
        small=manifest.exams < SMALL_GROUP,
        difference_by=DIFFERENCE_BY[relation],
        notes=tuple(_notes(here, there, relation)),
        figures=tuple(figures),
    )


def _name(run: Run, relation: Relation) -> str:
    """Return what tells the two runs apart."""
    return run.manifest.model.name if relation == "rival" else f"{run.manifest.dataset} ({run.manifest.split})"


def relation_of(here: Run, there: Run) -> Relation:
    """Return how the other run relates to this one.

    Raises:
        WorkbenchError: it does not, in one line.
    """
    one, other = here.manifest, there.manifest
    same_exams = one.manifest_hash == other.manifest_hash and set(here.exam_ids) == set(there.exam_ids)
    same_model = one.model_hash == other.model_hash or (not same_exams and _same_by_name(one, other))
    between = f"{here.folder} and {there.folder}"
    if same_model and same_exams:
        raise WorkbenchError(f"{between} are the same model on the same exams", "compare with another set or model")
    if not same_model and not same_exams:
        raise WorkbenchError(
            f"{between} share neither the model ({one.model_hash[:12]}…, {other.model_hash[:12]}…) nor the exams",
            "compare one model on two sets, or two models on the same exams",
        )
    _refuse_other_policy(one, other, between)
    return "external" if same_model else "rival"


def _same_by_name(one: RunManifest, other: RunManifest) -> bool:
    """Return whether two sets of outputs are said to be of one model; without a stated name each is its own."""
    return one.outputs is not None and other.outputs is not None and one.outputs.name == other.outputs.name


def _refuse_other_policy(one: RunManifest, other: RunManifest, between: str) -> None:
    """The three rates mean the same only under the same policy."""
    before, after = one.policy.model_dump(), other.policy.model_dump()
    changed = [name for name in before if before[name] != after[name]]
    if changed:
        told = ", ".join(f"{name} is {before[name]} and {after[name]}" for name in changed)
        raise WorkbenchError(f"{between} follow different policies: {told}", "audit one of them again with the other's")


def _notes(here: Run, there: Run, relation: Relation) -> list[str]:
    budget = percent(here.manifest.policy.referral_budget)
    notes = [f"Each run's cut-off is fixed on its own clean exams, so that both meet the same budget of {budget}."]
    if relation == "external":
        shared = set(here.eyes()["sha256"].dropna()) & set(there.eyes()["sha256"].dropna())
        found = (
            f"{len(shared)} photographs are in both sets." if shared else "No photograph is known to be in both sets."
        )
        notes.append(f"{found} Whether a patient is in both is not known across sources.")
        if here.manifest.model_hash != there.manifest.model_hash:
            notes.append("That both are outputs of one model is said by its name, and not verified.")
    else:
        thresholds = (threshold_words(here.manifest), threshold_words(there.manifest))
        notes.append(f"Called referable from {thresholds[0]} here, {thresholds[1]} there.")
    if here.manifest.environment.precision != there.manifest.environment.precision:
        notes.append("The two runs were made at different precisions.")
    return notes


def independent_difference(here: Figure, there: Figure) -> Figure:
    """Return ``there - here`` of two independent sets, with the square-and-add interval.

    Newcombe 1998, Statist. Med. 17; Zou, Donner 2008, Statist. Med. 27: the distances of each value to its own bounds
    are added as squares, so that skewed intervals stay skewed.
    """
    name = f"{here.name}_difference"
    if here.value is None or there.value is None:
        return not_measured(name, "not measured in both runs")
    difference = there.value - here.value
    known = (here.low, here.high, there.low, there.high)
    n, clusters = here.n + there.n, here.clusters + there.clusters
    if any(bound is None for bound in known):
        return Figure(name, difference, None, None, n, clusters, "no interval in one of the runs", None)
    low_here, high_here, low_there, high_there = (float(bound) for bound in known if bound is not None)
    low = difference - float(np.hypot(there.value - low_there, high_here - here.value))
    high = difference + float(np.hypot(high_there - there.value, here.value - low_here))
    return Figure(name, difference, low, high, n, clusters, None, "square and add")


def paired_difference(here: Run, there: Run, name: str, measurement: str = CLEAN) -> Figure:
    """Return ``there - here`` of two models on the same exams, resampling patients once for both."""
    arrays = _paired_arrays(here, there, name, measurement)
    if arrays is None:
        return not_measured(f"{name}_difference", "the same photographs: not a property of the model")
    patients, metric, truth, mine, theirs = arrays
    shared = () if truth is None else (truth,)
    seed = seed_for(here.manifest.seed, there.manifest.model_hash, name)
    found = bootstrap.paired_difference(
        metric, patients, (*shared, theirs), (*shared, mine), resamples=here.summary.resamples, seed=seed
    )
    return figure_of(f"{name}_difference", found.difference, measurement)


_OF_EXAMS: Final[dict[str, tuple[Callable[..., float], str | None, str]]] = {
    "error_rate": (referral.mean, None, "wrong"),
    "referral_rate": (referral.mean, None, "referred"),
    "silent_failure_rate": (referral.mean, None, "silent_failure"),
    "auc_referable_exam": (discrimination.roc_auc, "referable", "p_referable"),
    "sensitivity": (discrimination.sensitivity, "referable", "called_referable"),
    "specificity": (discrimination.specificity, "referable", "called_referable"),
}
_OF_EYES: Final[dict[str, tuple[Callable[..., float], str, str]]] = {
    "auc_referable_eye": (discrimination.roc_auc, "referable", "p_referable"),
    "quadratic_weighted_kappa": (agreement.quadratic_weighted_kappa, "icdr_grade", "grade_predicted"),
    "accuracy": (agreement.accuracy, "icdr_grade", "grade_predicted"),
    "expected_calibration_error": (calibration.expected_calibration_error, "referable", "p_referable"),
    "brier": (calibration.brier, "referable", "p_referable"),
}
"""Figure → metric, column of the truth, column of the answer."""

_Arrays = tuple[np.ndarray, Callable[..., float], np.ndarray | None, np.ndarray, np.ndarray]


def _paired_arrays(here: Run, there: Run, name: str, measurement: str) -> _Arrays | None:
    if name in _OF_EXAMS:
        metric, truth, answer = _OF_EXAMS[name]
        keys = ["exam_id"]
        one, other = (run.decisions()[lambda table: table["measurement"] == measurement] for run in (here, there))
    elif name in _OF_EYES:
        metric, truth, answer = _OF_EYES[name]
        keys = ["exam_id", "eye"]
        one, other = (
            eyes.assign(referable=(eyes["icdr_grade"] >= REFERABLE_GRADE)) for eyes in map(judged_eyes, (here, there))
        )
    else:
        return None
    both = one.merge(other[[*keys, answer]], on=keys, suffixes=("", "_there"))
    needed = [answer, f"{answer}_there", *([truth] if truth else [])]
    both = both[both[needed].notna().all(axis=1)]
    patients = both["patient_id"].to_numpy(dtype=str)
    kept = None if truth is None else _plain(both[truth])
    return patients, metric, kept, _plain(both[answer]), _plain(both[f"{answer}_there"])


def _plain(column: pd.Series) -> np.ndarray:
    """Return a column without nulls as the array that the metrics take."""
    if pd.api.types.is_bool_dtype(column):
        return column.to_numpy(dtype=bool)
    if pd.api.types.is_integer_dtype(column):
        return column.to_numpy(dtype=np.int64)
    return column.to_numpy(dtype=float)
