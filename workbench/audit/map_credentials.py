"""What each map beside a case has passed, in words made of the run's own rows: numbers with intervals, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import pandas as pd

from workbench.audit.map_gate import judged
from workbench.audit.results import HeatMap, Run, trust_id
from workbench.schema.grades import EYES
from workbench.schema.maps import checked_as, map_words
from workbench.schema.words import percent

OF_THE_METHOD: Final = {
    "map_randomised_likeness": ("random weights", "rank correlation with maps of random weights {}"),
    "map_deletion_gain": ("deletion", "deletion beats random by {}"),
    "map_repeatability": ("repetition", "repeated on the same photograph under a camera's noise {}"),
}
"""Row of a check that the policy can ask of a method → its name, and what it found."""

BESIDE: Final = {
    "map_unlearned_likeness": ("permuted labels", "rank correlation with maps of a model that learned nothing {}"),
    "map_rephotograph_likeness": ("a second photograph", "in a second, simulated photograph {}"),
    "map_attack_likeness": ("an attack on the map", "under an attack on the map {}"),
}
"""Rows for which the policy has no limit."""

OF_A_MAP: Final = {
    "completeness_gap": "its sum misses by {}",
    "outside_share": "{} of it lies outside the disc",
    "outside_change": "without what lies outside the disc P(referable) moves by {}",
}
"""Field of a map that the gate looks at → what it found; the larger of both eyes."""


@dataclass(frozen=True)
class Check:
    """One check of a kind of maps.

    Attributes:
        name: of the check.
        words: what it found; empty where it was not assessed.
        passed: whether it kept the limit; None: no limit is asked for, or it was not assessed.
    """

    name: str
    words: str
    passed: bool | None


class MapCredentials:
    """The credentials of a run's maps; its rows are read once.

    Args:
        run: finished.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def _rows(self) -> dict[tuple[str, str], tuple[float | None, float | None, float | None]]:
        rows = self.run.rows()
        wanted = rows[rows["name"].isin([*OF_THE_METHOD, *BESIDE]) & (rows["subgroup"] == "all")]
        return {
            (str(row.measurement), str(row.name)): (_number(row.value), _number(row.low), _number(row.high))
            for row in wanted.itertuples(index=False)
        }

    def paragraphs(self, exam_id: str) -> tuple[str, ...]:
        """Return a paragraph per kind of maps that this exam has, shown or withheld."""
        told = (self._paragraph(exam_id, method) for method in self.run.methods())
        return tuple(words for words in told if words)

    def _paragraph(self, exam_id: str, method: str) -> str:
        found = {eye: self.run.heat_map(exam_id, eye, method) for eye in EYES}
        maps = {eye: heat for eye, heat in found.items() if heat is not None}
        shown = {eye: heat for eye, heat in maps.items() if heat.values is not None}
        why = {eye: heat.withheld or "not made" for eye, heat in maps.items() if heat.values is None}
        if not maps:
            return ""
        if not shown and len(set(why.values())) == 1:
            return f"{map_words(method)}, withheld: {next(iter(why.values()))}."
        sentences = self._of_method(method, list(shown.values())) if shown else []
        sentences += [f"{eye}: {words}" for eye, heat in shown.items() if (words := agreement_words(heat))]
        sentences += [f"{eye} withheld: {reason}." for eye, reason in why.items()]
        return f"{map_words(method)} {' '.join(sentences)}"

    def _of_method(self, method: str, shown: list[HeatMap]) -> list[str]:
        """Return what was asked and passed, what else was measured, and what was not checked."""
        alone = checked_as(method)
        if alone != method and alone in self.run.methods():
            return [f"is checked as {map_words(alone)}, without draws{_resemblance(shown)}."]
        checks, beside = [*self._checks(method), *self._gate(shown)], list(self._beside(method))
        asked = [one for one in checks if one.passed is not None]
        found = "; ".join(one.words for one in checks if one.words)
        also = "; ".join(one.words for one in beside if one.words)
        missing = ", ".join(one.name for one in (*checks, *beside) if not one.words)
        passed = sum(bool(one.passed) for one in asked)
        sentences = [f"passed {passed} of {len(asked)} checks asked for in this run{': ' + found if found else ''}."]
        sentences += [f"Also measured: {also}."] if also else []
        sentences += [f"Its method was checked without draws{_resemblance(shown)}."] if alone != method else []
        return [*sentences, *([f"Not checked: {missing}."] if missing else [])]

    def _checks(self, method: str) -> Iterator[Check]:
        """Yield what the run's sample says of the method, and whether the policy's limit is kept."""
        for row, (name, words) in OF_THE_METHOD.items():
            value, low, high = self._figure(method, row)
            if value is None:
                yield Check(name, "", None)
                continue
            limit, failed = judged(row, value, value if low is None else low, self.run.manifest.policy.maps)
            passed = None if limit is None or low is None else not failed
            yield Check(name, words.format(_with_interval(value, low, high)), passed)

    def _beside(self, method: str) -> Iterator[Check]:
        for row, (name, words) in BESIDE.items():
            value, low, high = self._figure(method, row)
            yield Check(name, "" if value is None else words.format(_with_interval(value, low, high)), None)

    def _gate(self, shown: list[HeatMap]) -> Iterator[Check]:
        """Yield what the gate asked of these very maps; one that is shown has passed."""
        for field, words in OF_A_MAP.items():
            values = [value for heat in shown if (value := getattr(heat, field)) is not None]
            if values and getattr(self.run.manifest.policy.maps, f"max_{field}") is not None:
                yield Check(field, "here " + words.format(percent(max(values))), passed=True)

    def _figure(self, method: str, row: str) -> tuple[float | None, float | None, float | None]:
        return self._rows.get((trust_id(checked_as(method)), row), (None, None, None))


def agreement_words(heat: HeatMap) -> str:
    """Return in a sentence how far the draws agree on one map; empty for a map of no draws."""
    if heat.draws is None or heat.agreement is None:
        return ""
    if heat.steadiness is None:
        return f"No place matters in a fifth of its {heat.draws} draws."
    share = percent(heat.steadiness)
    return f"Of what matters in a fifth of its {heat.draws} draws, {share} matters in nine tenths of them."


def _resemblance(shown: list[HeatMap]) -> str:
    """Return how like the checked map the mean of the draws is, the less like of both eyes; empty where not known."""
    known = [heat.draws_likeness for heat in shown if heat.draws_likeness is not None]
    return f", a map of rank correlation {min(known):.2f} with this one" if known else ""


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    """Return e.g. ``0.08 (0.03 to 0.13)``; one that resampling cannot give says so."""
    if low is None or high is None or low == high:
        return f"{value:.2f} (no interval)"
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
