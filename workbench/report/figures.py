"""A run's rows as figures: one value, its interval, what it stands on, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import pandas as pd

from workbench.audit.layout import CLEAN
from workbench.audit.results import Run
from workbench.metrics.proportions import binomial_interval

SHARES: Final = frozenset(
    {
        "error_rate",
        "referral_rate",
        "silent_failure_rate",
        "accuracy",
        "sensitivity",
        "specificity",
        "recall_of_grade",
        "flipped_share",
        "success_share",
        "flipped_up_to",
        "flips_back_share",
        "holds_up_to",
        "smallest_survives_8bit_share",
        "search_beaten_share",
        "certified_accuracy",
        "certified_sensitivity",
        "abstention_rate",
        "smoothed_agreement",
        "smoothed_called_share",
        "within_budget_share",
        "survives_8bit_share",
        "ungradable_rate",
        "missing_rate",
        "errors_referred_share",
        "reliability_observed",
        "conformal_coverage",
        "conformal_coverage_patient",
        "conformal_coverage_of_grade",
        "conformal_single_share",
        "conformal_contiguous_share",
        "worse_eye_ranked_higher",
        "discordant_pair_right",
        "healthy_eye_called",
        "referable_eye_called",
        "influence_flipped_share",
        "influence_called_by",
        "map_withheld_rate",
        "turned_share",
        "turned_ratio",
    }
)
"""Figures that count cases; where all or none count, resampling has no width and the binomial interval is given."""

BOOTSTRAP: Final = "bootstrap of patients"
BINOMIAL: Final = "exact binomial on patients"
FLAT: Final = "no interval: every resample gives this value"


@dataclass(frozen=True)
class Figure:
    """One measured value with its 95 % interval; ``reason`` says why a value or an interval is absent."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int
    reason: str | None
    interval_by: str | None
    measurement: str = CLEAN
    subgroup: str = "all"
    at: float | None = None
    of: str | None = None

    @property
    def has_interval(self) -> bool:
        """Whether it has an interval."""
        return self.low is not None and self.high is not None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON; what is absent is null."""
        return asdict(self)


def not_measured(name: str, reason: str) -> Figure:
    """Return a figure that is not there, with the reason."""
    return Figure(name, None, None, None, 0, 0, reason, None)


def exact_where_flat(figure: Figure) -> Figure:
    """Return a share of all or of none with the exact binomial interval (Clopper, Pearson 1934), patients counted.

    The bootstrap of 0 failures among 20 patients is 0 to 0, as if a 21st could not fail. Another figure whose resamples
    are all alike has no interval, and says so.
    """
    if not figure.has_interval or figure.low != figure.high:
        return figure
    if figure.name not in SHARES or figure.value not in (0.0, 1.0):
        return replace(figure, low=None, high=None, interval_by=None, reason=FLAT)
    low, high = binomial_interval(0 if figure.value == 0.0 else figure.clusters, figure.clusters)
    return replace(figure, low=low, high=high, interval_by=BINOMIAL)


def _number(value: Any) -> float | None:
    return None if pd.isna(value) or math.isinf(float(value)) else float(value)


class Figures:
    """Every row of a run, found by name and condition.

    Attributes:
        run: whose they are.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._figures = [_figure(row) for row in run.rows().to_dict("records")]
        self._found = {(one.name, one.measurement, one.subgroup, one.at, one.of): one for one in self._figures}

    def __iter__(self) -> Iterator[Figure]:
        return iter(self._figures)

    def get(
        self,
        name: str,
        measurement: str = CLEAN,
        *,
        subgroup: str = "all",
        at: float | None = None,
        of: str | None = None,
    ) -> Figure:
        """Return one figure; one that the run does not hold says so."""
        absent = not_measured(name, "not in this run")
        return self._found.get((name, measurement, subgroup, at, of), replace(absent, measurement=measurement))

    def along(self, name: str, measurement: str = CLEAN, *, of: str | None = None) -> list[Figure]:
        """Return a figure's points along a curve, in the order of ``at``."""
        wanted = (name, measurement, of)
        points = [one for one in self._figures if (one.name, one.measurement, one.of) == wanted]
        return sorted((one for one in points if one.at is not None), key=lambda one: one.at or 0.0)

    def subgroups(self, measurement: str = CLEAN) -> list[str]:
        """Return the subgroups of a measurement, in the order of the rows."""
        names = (one.subgroup for one in self._figures if one.measurement == measurement and one.subgroup != "all")
        return list(dict.fromkeys(names))


def _figure(row: dict[str, Any]) -> Figure:
    low, high = _number(row["low"]), _number(row["high"])
    figure = Figure(
        name=str(row["name"]),
        value=_number(row["value"]),
        low=low,
        high=high,
        n=0 if pd.isna(row["n"]) else int(row["n"]),
        clusters=0 if pd.isna(row["clusters"]) else int(row["clusters"]),
        reason=None if pd.isna(row["reason"]) else str(row["reason"]),
        interval_by=BOOTSTRAP if low is not None and high is not None else None,
        measurement=str(row["measurement"]),
        subgroup=str(row["subgroup"]),
        at=_number(row["at"]),
        of=None if pd.isna(row["of"]) else str(row["of"]),
    )
    return exact_where_flat(figure)
