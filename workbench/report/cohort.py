"""Who was audited: the way from the manifest's exams to those that count, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pandas as pd

from workbench.audit.layout import CLEAN
from workbench.audit.results import Run
from workbench.report.words import counted
from workbench.schema.grades import GRADES


@dataclass(frozen=True)
class FlowStep:
    """One box of the flow diagram: what is left, and what fell out on the way here."""

    kept: str
    words: str
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Cohort:
    """The audited exams, counted."""

    patients: int
    exams: int
    eyes: int
    duplicates: int | None
    """Photographs with the very bytes of another; None where no photograph was there to compare."""
    cameras: tuple[tuple[str, int], ...]
    sites: tuple[tuple[str, int], ...]
    sexes: tuple[tuple[str, int], ...]
    ages: str
    sources: tuple[str, ...]
    label_sources: tuple[str, ...]
    label_levels: tuple[str, ...]
    grades: tuple[tuple[str, int, int], ...]
    """Per grade, and for no grade: its name, right eyes, left eyes."""
    flow: tuple[FlowStep, ...]


def cohort(run: Run) -> Cohort:
    """Return who was audited."""
    eyes = run.eyes()
    exams = eyes.drop_duplicates("exam_id")
    photographed = eyes[eyes["status"] != "missing"]
    sources = (photographed["dataset"].fillna("not stated") + " " + photographed["dataset_version"].fillna("")).unique()
    hashes = photographed["sha256"].dropna()
    return Cohort(
        patients=int(eyes["patient_id"].nunique()),
        exams=len(exams),
        eyes=len(photographed),
        duplicates=int(hashes.duplicated().sum()) if len(hashes) else None,
        cameras=_counts(exams["camera"]),
        sites=_counts(exams["site"]),
        sexes=_counts(exams["sex"]),
        ages=_ages(exams["age"].dropna().astype(float)),
        sources=tuple(sorted(str(source).strip() for source in sources)),
        label_sources=_names(photographed["label_source"]),
        label_levels=_names(photographed["label_level"]),
        grades=_grades(photographed),
        flow=_flow(run, eyes),
    )


def _counts(column: pd.Series) -> tuple[tuple[str, int], ...]:
    return tuple((str(name), int(count)) for name, count in column.dropna().value_counts().items())


def _names(column: pd.Series) -> tuple[str, ...]:
    return tuple(sorted(map(str, column.dropna().unique())))


def _ages(ages: pd.Series) -> str:
    if not len(ages):
        return ""
    low, middle, high = (float(ages.quantile(share)) for share in (0.25, 0.5, 0.75))
    return f"median {middle:.0f} years (quartiles {low:.0f} to {high:.0f}), known for {counted(len(ages), 'exam')}"


def _grades(photographed: pd.DataFrame) -> tuple[tuple[str, int, int], ...]:
    named: list[tuple[str, int | None]] = [(f"{grade} {name}", grade) for grade, name in enumerate(GRADES)]
    rows = []
    for name, grade in [*named, ("no grade", None)]:
        found = photographed["icdr_grade"]
        chosen = photographed[found.isna() if grade is None else (found == grade).fillna(False).astype(bool)]
        sides = chosen["eye"].value_counts()
        rows.append((name, int(sides.get("OD", 0)), int(sides.get("OS", 0))))
    return tuple(rows)


_FLOW_WORDS: Final = {
    "model": (
        "photograph",
        "one per eye",
        ("given to the model", "ungradable before the model"),
        "without a photograph",
        "what an import left out before the manifest is in its own summary, not in the run",
    ),
    "predictions": (
        "eye",
        "predicted or labelled",
        ("with a prediction", "without a prediction"),
        "in neither file",
        "what was left out before the two files were made is not known",
    ),
}
"""Per kind of run: what is counted, the words of the flow's second and third box, and what lies before them."""


def _flow(run: Run, eyes: pd.DataFrame) -> tuple[FlowStep, ...]:
    missing, ungradable = (eyes[eyes["status"] == status] for status in ("missing", "ungradable"))
    clean = run.decisions()
    clean = clean[clean["measurement"] == CLEAN]
    unanswered = clean["p_referable"].isna()
    unknown = clean["referable"].isna() & ~unanswered
    reasons = [f"{reason}: {count}" for reason, count in ungradable["reason"].value_counts().items()]
    judged = int(clean["wrong"].notna().sum())
    noun, shown, given, without, beyond = _FLOW_WORDS[run.manifest.kind]
    patients = int(eyes["patient_id"].nunique())
    return (
        FlowStep(
            counted(run.manifest.exams, "exam"),
            f"of {counted(patients, 'patient')}, split: {run.manifest.split}",
            (beyond,),
        ),
        FlowStep(
            counted(len(eyes) - len(missing), noun),
            shown,
            (f"{counted(len(missing), 'eye')} {without}",),
        ),
        FlowStep(
            counted(len(eyes) - len(missing) - len(ungradable), noun),
            given[0],
            (f"{counted(len(ungradable), noun)} {given[1]}", *reasons),
        ),
        FlowStep(
            counted(int((~unanswered).sum()), "exam"),
            "answered for at least one eye",
            (f"{counted(int(unanswered.sum()), 'exam')} without an answer (kept in the referral rate)",),
        ),
        FlowStep(
            counted(judged, "exam"),
            "judged right or wrong",
            (f"{counted(int(unknown.sum()), 'exam')} whose true referable status is unknown",),
        ),
    )
