"""What each stress did to the call of one exam, and the mildest that turned it. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from workbench.audit.layout import CLEAN
from workbench.audit.run_manifest import RunManifest
from workbench.schema.specs import SmallestSpec
from workbench.schema.words import epsilon_words, strength_words, stress_name


@dataclass(frozen=True)
class StressOutcome:
    """What one stress did to an exam."""

    measurement: str
    stress: str
    strength: str
    called_referable: bool | None
    p_referable: float | None
    flipped: bool
    referred: bool
    family: str = ""
    """The stress with all its settings but the strength: within it, a smaller ``size`` is milder."""
    size: float = 0.0

    @property
    def silent(self) -> bool:
        """Whether the call changed and nobody would have been asked."""
        return self.flipped and not self.referred


def stress_outcomes(run: RunManifest, decisions: Iterable[Mapping[str, Any]]) -> tuple[StressOutcome, ...]:
    """Return what every stress of a run did to one exam, in the order of the plan.

    Args:
        run: its plan.
        decisions: the exam's rows of `DECISIONS_SCHEMA`, one per measurement.
    """
    by_name = {row["measurement"]: row for row in decisions}
    before = _flag(by_name[CLEAN]["called_referable"]) if CLEAN in by_name else None
    outcomes = []
    for measurement in run.measurements:
        row = by_name.get(measurement.id)
        if measurement.kind != "draws" or measurement.stress is None or row is None:
            continue
        called = _flag(row["called_referable"])
        outcomes.append(
            StressOutcome(
                measurement=measurement.id,
                stress=stress_name(measurement.stress.name),
                strength=strength_words(measurement.stress),
                called_referable=called,
                p_referable=None if pd.isna(row["p_referable"]) else float(row["p_referable"]),
                flipped=called is not None and before is not None and called != before,
                referred=_flag(row["referred"]) is not False,
                family=measurement.stress.model_dump_json(exclude={"strength"}),
                size=measurement.stress.strength,
            )
        )
    return tuple(outcomes)


def what_would_flip(outcomes: Sequence[StressOutcome]) -> str:
    """Return in words the mildest measured strength of each stress that turned the call, empty where none did."""
    flipped = sorted((outcome for outcome in outcomes if outcome.flipped), key=lambda outcome: outcome.size)
    mildest = {outcome.family: outcome for outcome in reversed(flipped)}
    told = [
        f"{outcome.stress}, {outcome.strength} ({'nobody is asked' if outcome.silent else 'referred'})"
        for outcome in outcomes
        if mildest.get(outcome.family) is outcome
    ]
    return f"What would flip this call, mildest measured: {'; '.join(told)}." if told else ""


def searched(mildest: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return in words, per corruption, the mildest severity that flips a call and what graders would say of it.

    Args:
        mildest: by corruption an exam's row of `MILDEST_SCHEMA`, see `Run.mildest`.
    """
    return tuple(_of_search(stress_name(name), found) for name, found in mildest.items())


def smallest(found: Iterable[tuple[SmallestSpec, Mapping[str, Any]]]) -> tuple[str, ...]:
    """Return in words, per norm, the smallest ε that turns the call of an exam.

    Args:
        found: the searches with an exam's row of `SMALLEST_SCHEMA`, see `Run.smallest`.
    """
    return tuple(_of_smallest(spec, row) for spec, row in found)


def _of_smallest(spec: SmallestSpec, row: Mapping[str, Any]) -> str:
    whose = {"both": "both eyes", "worst_of_one": "the weaker eye alone"}.get(spec.eyes, f"{spec.eyes} only")
    which = f"Smallest attack, searched without draws ({spec.norm}, {whose})"
    if row["already"]:
        return f"{which}: the call is wrong without any."
    if row["epsilon"] is None or pd.isna(row["epsilon"]):
        return f"{which}: none up to {epsilon_words(spec.norm, spec.largest)} turns it."
    saved = "" if row["survives_8bit"] else ", but not once saved as an 8-bit picture"
    return f"{which}: turns at {epsilon_words(spec.norm, row['epsilon'])}{saved}."


def _of_search(corruption: str, found: Mapping[str, Any]) -> str:
    if found["severity"] is None:
        return f"{corruption}, searched without draws: no severity up to 5 flips it."
    accepted = "graders would still accept" if found["accepted"] else "graders would reject"
    back = "" if found["steady"] else "; a higher level flips it back"
    at = f"from severity {found['severity']:.3g}"
    return f"{corruption}, searched without draws: flipped {at}, at a quality that {accepted}{back}."


def _flag(value: Any) -> bool | None:
    return None if value is None or pd.isna(value) else bool(value)
