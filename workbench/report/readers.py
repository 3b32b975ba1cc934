"""What a report says of the people who read the run: agreement of graders, and readers with the model."""

from __future__ import annotations

from collections.abc import Mapping

from workbench.report.items import Finding, not_assessed, reported
from workbench.report.words import counted
from workbench.schema.reader_study import ReaderStudy

GRADERS, HUMAN = 12, 28
"""The numbers of the two items."""


def findings(study: ReaderStudy | None) -> Mapping[int, Finding]:
    """Return the two items, by number, where reads were stored; none for a run that nobody read."""
    if study is None or not study.readers:
        return {}
    return {GRADERS: _graders(study), HUMAN: _human(study)}


def _graders(study: ReaderStudy) -> Finding:
    said = study.sentences.get("agreement", ())
    alone = study.get("krippendorff_alpha_without")
    if alone is None and study.get("krippendorff_alpha_with") is None:
        return not_assessed(study.not_assessed.get("agreement", "no eye was graded by two readers"))
    twice = any(row["condition"] == "without the model, twice" for row in study.tables.get("pairs of readers", ()))
    lacking = [] if alone is not None else ["agreement without the model (all read with its answer in sight)"]
    lacking += [] if twice else ["agreement of a grader with themselves (no eye was read twice without the model)"]
    words = f"{counted(len(study.readers), 'reader')} of this run. {' '.join(said)}"
    return reported(words.strip(), lacking="; ".join(lacking))


def _human(study: ReaderStudy) -> Finding:
    if study.get("error_change") is None:
        return not_assessed(study.not_assessed.get("reveal", "no exam was read both without and with the model"))
    said = [sentence for section in ("reveal", "team", "multi-reader") for sentence in study.sentences.get(section, ())]
    missing = [
        f"{section} ({why})" for section, why in study.not_assessed.items() if section.startswith("multi-reader")
    ]
    return reported(" ".join(said), lacking="; ".join([*missing, "sample size planned beforehand"]))
