"""The team against the reader alone and the model alone, on cases that the rule has not seen."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from workbench.metrics import agreement, discrimination, proportions, referral
from workbench.metrics.bootstrap import RESAMPLES, Interval, PairedDifference, clustered_interval, paired_difference
from workbench.metrics.costs import Costs, cost_per_case_found
from workbench.schema.seeds import seed_for
from workbench.uncertainty.handover import HandoverRule, ReadCases

Calls = Bool[np.ndarray, " n"]

METRICS: Final = {
    "sensitivity": discrimination.sensitivity,
    "specificity": discrimination.specificity,
    "accuracy": agreement.accuracy,
}


class Worker(NamedTuple):
    """One way to work: its figures, the share of cases that a human reads, and what a found case costs."""

    name: str
    figures: dict[str, Interval]
    read_share: Interval
    cost_per_case_found: Interval | None


class Against(NamedTuple):
    """The team minus another way to work: the difference of a figure, and McNemar's test of it."""

    other: str
    figure: str
    difference: PairedDifference
    mcnemar: proportions.McNemar


class HandoverEffect(NamedTuple):
    """What a rule does on a table of cases."""

    cases: int
    patients: int
    diseased: int
    workers: tuple[Worker, ...]
    differences: tuple[Against, ...]


def handover_effect(
    rule: HandoverRule,
    cases: ReadCases,
    patients: Int64[np.ndarray, " n"],
    *,
    patients_known: bool = True,
    costs: Costs | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> HandoverEffect:
    """Return the figures of team, reader and model with intervals, and the team's differences to either.

    The model alone works at the threshold that made it as specific as the reader on the tuning cases. Intervals are
    over resamples of patients, exact where all or none are right; McNemar's test is clustered where the patients are
    known, exact where each case is one.

    Args:
        rule: of `workbench.uncertainty.handover`.
        cases: others than it was learnt from.
        patients: whose case it is.
        patients_known: whether ``patients`` says so, or just counts the cases.
        costs: for the cost per case found; None leaves it out.
        resamples: of patients.
        seed: of the resampling.
    """
    handed = rule.handed_over(cases.score, cases.uncertainty)
    nobody, everybody = np.zeros(len(handed), dtype=bool), np.ones(len(handed), dtype=bool)
    calls = {
        "team": (np.where(handed, cases.reader, rule.machine_calls(cases.score)), handed),
        "reader alone": (cases.reader, everybody),
        "model alone": (cases.score >= rule.machine_alone, nobody),
    }
    drawn = _Drawn(cases.y_true, patients, resamples, seed)
    workers = tuple(drawn.worker(name, called, read, costs) for name, (called, read) in calls.items())
    differences = tuple(
        drawn.against(other, figure, calls["team"][0], calls[other][0], patients_known)
        for other in ("reader alone", "model alone")
        for figure in METRICS
    )
    sick = int(cases.y_true.sum())
    return HandoverEffect(len(handed), len(np.unique(patients)), sick, workers, differences)


class _Drawn(NamedTuple):
    """The cases as they are resampled."""

    y_true: Bool[np.ndarray, " n"]
    patients: Int64[np.ndarray, " n"]
    resamples: int
    seed: int

    def worker(self, name: str, called: Calls, read: Calls, costs: Costs | None) -> Worker:
        right = called == self.y_true
        figures = {figure: self._share(right, self.group(figure), figure) for figure in METRICS}
        share = clustered_interval(
            referral.mean, self.patients, read, resamples=self.resamples, seed=seed_for(self.seed, "read")
        )
        return Worker(name, figures, share, None if costs is None else self._cost(called, read, costs))

    def group(self, figure: str) -> Calls:
        """Return the cases that a figure counts: only the diseased can be found, only the healthy spared."""
        everybody = np.ones(len(self.y_true), dtype=bool)
        return {"sensitivity": self.y_true, "specificity": ~self.y_true}.get(figure, everybody)

    def _share(self, hits: Calls, group: Calls, name: str) -> Interval:
        """Return a share of the group; where all or none are hits, with the exact interval on its patients."""
        found = clustered_interval(
            referral.mean, self.patients[group], hits[group], resamples=self.resamples, seed=seed_for(self.seed, name)
        )
        if found.value not in (0.0, 1.0):
            return found
        low, high = proportions.binomial_interval(int(found.value) * found.clusters, found.clusters)
        return found._replace(low=low, high=high)

    def _cost(self, called: Calls, read: Calls, costs: Costs) -> Interval:
        missed = self.y_true & ~called
        spent = costs.photograph + costs.human_grade * read + costs.missed_case * missed
        return clustered_interval(
            cost_per_case_found,
            self.patients,
            spent.astype(float),
            self.y_true & called,
            resamples=self.resamples,
            seed=seed_for(self.seed, "cost"),
        )

    def against(self, other: str, figure: str, team: Calls, others: Calls, patients_known: bool) -> Against:
        difference = paired_difference(
            METRICS[figure],
            self.patients,
            (self.y_true, team),
            (self.y_true, others),
            resamples=self.resamples,
            seed=seed_for(self.seed, other, figure),
        )
        group = self.group(figure)
        right, other_right = (team == self.y_true)[group], (others == self.y_true)[group]
        clusters = self.patients[group] if patients_known else None
        return Against(other, figure, difference, proportions.mcnemar(right, other_right, clusters))
