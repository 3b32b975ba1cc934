"""The worst cases: silent failures first, then what was wrong and referred, then what broke under attack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from workbench.audit.layout import CLEAN
from workbench.audit.map_credentials import MapCredentials, agreement_words
from workbench.audit.outcomes import searched, smallest, stress_outcomes, what_would_flip
from workbench.audit.predictions_lacks import NEEDS_MODEL
from workbench.audit.predictions_words import answer_value, answer_words, threshold_words
from workbench.audit.results import HeatMap, Run
from workbench.report.headline import kind_of
from workbench.report.pictures import agreement_uri, difference_uri, largest_of, map_uri, photograph_uri
from workbench.report.words import counted
from workbench.schema.grades import EYES, GRADES
from workbench.schema.maps import map_words
from workbench.schema.words import strength_words, stress_name

SILENT_SHOWN: Final = 6
REFERRED_SHOWN: Final = 3
ATTACKED_SHOWN: Final = 3


@dataclass(frozen=True)
class MapPicture:
    """One map as a picture, or why it is withheld."""

    method: str
    uri: str | None
    withheld: str
    agreement_uri: str | None = None
    agreement: str = ""


@dataclass(frozen=True)
class StressedPicture:
    """An eye under an attack: what the model was given, and what was changed, magnified ``times`` times."""

    stress: str
    photograph: str
    difference: str
    times: int


@dataclass(frozen=True)
class EyePicture:
    """One eye of a case: its photograph, its maps, its true and its predicted grade."""

    eye: str
    photograph: str | None
    absent: str
    maps: tuple[MapPicture, ...]
    true_grade: str
    predicted: str
    p_referable: str
    stressed: tuple[StressedPicture, ...] = ()


@dataclass(frozen=True)
class Case:
    """One exam that went wrong, as the report shows it."""

    exam_id: str
    title: str
    decision: str
    stresses: tuple[str, ...]
    flips: tuple[str, ...]
    credentials: tuple[str, ...]
    eyes: tuple[EyePicture, ...]


@dataclass(frozen=True)
class CaseGroup:
    """Cases of one kind: how many there are, and those that are shown."""

    title: str
    meaning: str
    total: int
    cases: tuple[Case, ...]


def case_groups(run: Run) -> tuple[CaseGroup, ...]:
    """Return the groups of worst cases, missed disease before false alarms, the graver grade first."""
    decisions = run.decisions()
    clean = _ranked(run, decisions[decisions["measurement"] == CLEAN])
    wrong = clean["wrong"].fillna(False).astype(bool)
    referred = clean["referred"].astype(bool)
    silent, caught = clean[wrong & ~referred], clean[wrong & referred]
    attacked = _silent_under_attack(run, decisions, clean[~wrong & clean["wrong"].notna()])
    clean_groups = (
        _group(run, "Silent failures on clean photographs", "wrong, confident and not referred", silent, SILENT_SHOWN),
        _group(run, "Wrong on clean photographs, and referred", "wrong, but the model knew", caught, REFERRED_SHOWN),
    )
    if run.manifest.outputs is not None:
        return clean_groups
    return (
        *clean_groups,
        _group(
            run,
            "Right on clean photographs, silently wrong under attack",
            "a small change of the pixels turns the call, and nobody is asked",
            attacked,
            ATTACKED_SHOWN,
        ),
    )


def _ranked(run: Run, table: pd.DataFrame) -> pd.DataFrame:
    """Return the exams with missed disease first, the graver the earlier, then false alarms, the surer the earlier."""
    worse = run.eyes().groupby("exam_id")["icdr_grade"].max()
    ranked = table.assign(
        worse_grade=table["exam_id"].map(worse).astype("Float64").fillna(-1),
        missed=table["referable"].fillna(False).astype(bool),
    )
    # Missed disease: the lower P(referable), the worse; a false alarm: the higher, the worse.
    ranked["surety"] = ranked["p_referable"].where(ranked["missed"], 1 - ranked["p_referable"])
    order = ["missed", "worse_grade", "surety", "exam_id"]
    return ranked.sort_values(order, ascending=[False, False, True, True], kind="stable")


def _silent_under_attack(run: Run, decisions: pd.DataFrame, right: pd.DataFrame) -> pd.DataFrame:
    """Return the exams that were right and become silent failures, those broken by the weakest attack first."""
    attacks = [one for one in run.manifest.measurements if one.kind == "draws" and kind_of(one) == "attack"]
    strength = {one.id: one.stress.strength for one in attacks if one.stress is not None}
    broken = decisions[decisions["measurement"].isin(strength) & decisions["silent_failure"].fillna(False)]
    weakest = broken.assign(strength=broken["measurement"].map(strength)).groupby("exam_id")["strength"].min()
    found = right[right["exam_id"].isin(weakest.index)]
    return found.assign(weakest=found["exam_id"].map(weakest)).sort_values(["weakest"], kind="stable")


def _group(run: Run, title: str, meaning: str, table: pd.DataFrame, shown: int) -> CaseGroup:
    rows = table.head(shown).to_dict("records")
    return CaseGroup(title, meaning, len(table), tuple(_case(run, row) for row in rows))


def _case(run: Run, row: dict[str, Any]) -> Case:
    exam_id = str(row["exam_id"])
    called = "referable" if row["called_referable"] else "not referable"
    truth = "referable" if row["referable"] else "not referable"
    title = (
        f"called {called}, is {truth}"
        if called != truth
        else f"called {called}, rightly, while the photograph is clean"
    )
    if "weakest" in row:
        title += f"; silently wrong from ε = {row['weakest']:g}/255"
    under_stress, flips = tuple(_under_stress(run, exam_id)), tuple(_flips(run, exam_id))
    credentials = MapCredentials(run).paragraphs(exam_id)
    return Case(exam_id, title, _decision(run, row), under_stress, flips, credentials, tuple(_eyes(run, exam_id)))


def _decision(run: Run, row: dict[str, Any]) -> str:
    why = {"unsure": "the score is above the cut-off", "incomplete": "an eye is missing or has no answer"}
    cutoff = run.summary.score_cutoff
    score = "no score" if pd.isna(row["score"]) else f"{row['score']:.3f}"
    limit = "no cut-off" if cutoff is None else f"{cutoff:.3f}"
    reasons = "" if pd.isna(row["referred_why"]) else str(row["referred_why"])
    told = " and ".join(why.get(one, one) for one in reasons.split(", ") if one)
    referred = f"referred: {told}" if row["referred"] else "not referred"
    return (
        f"{answer_words(run.manifest, row['p_referable'], 1)}, called from {threshold_words(run.manifest)}; "
        f"uncertainty {score}, cut-off {limit}; {referred}."
    )


def _under_stress(run: Run, exam_id: str) -> Iterator[str]:
    """Yield one line per stress: under which strengths the exam is right, wrong and referred, or silently wrong."""
    decisions = run.decisions()
    of_exam = decisions[decisions["exam_id"] == exam_id].set_index("measurement")
    lines: dict[str, dict[str, list[str]]] = {}
    for one in run.manifest.measurements:
        if one.kind != "draws" or one.stress is None or one.id not in of_exam.index:
            continue
        row = of_exam.loc[one.id]
        state = "no answer"
        if not pd.isna(row["wrong"]):
            state = "right" if not row["wrong"] else "silently wrong" if row["silent_failure"] else "wrong, referred"
        strength = strength_words(one.stress)
        lines.setdefault(stress_name(one.stress.name), {}).setdefault(state, []).append(strength)
    if not lines:
        yield "not among the stressed exams" if run.manifest.outputs is None else f"not assessed ({NEEDS_MODEL})"
    for name, states in lines.items():
        if len(states) == 1:
            yield f"{name}: {next(iter(states))} at every strength"
        else:
            yield f"{name}: " + "; ".join(f"{state} at {', '.join(at)}" for state, at in states.items())


def _flips(run: Run, exam_id: str) -> Iterator[str]:
    """Yield what would flip the call: of each stress the mildest strength measured, and what was searched for."""
    decisions = run.decisions()
    outcomes = stress_outcomes(run.manifest, decisions[decisions["exam_id"] == exam_id].to_dict("records"))
    if outcomes:
        held = f"None of the {counted(len(outcomes), 'measured stress', 'measured stresses')} flips this call."
        yield what_would_flip(outcomes) or held
    yield from searched(run.mildest(exam_id))
    yield from smallest(run.smallest(exam_id))


def _eyes(run: Run, exam_id: str) -> Iterator[EyePicture]:
    answers = run.eye_answers()
    answers = answers[(answers["measurement"] == CLEAN) & (answers["exam_id"] == exam_id)].set_index("eye")
    table = run.eyes()
    of_exam = table[table["exam_id"] == exam_id].set_index("eye")
    pictures = {eye: run.photograph(exam_id, eye) for eye in EYES}
    maps = {method: {eye: run.heat_map(exam_id, eye, method) for eye in EYES} for method in run.methods()}
    largest = {
        method: largest_of([one.values for one in found.values() if one is not None and one.values is not None])
        for method, found in maps.items()
    }
    for eye in EYES:
        row, jpeg = of_exam.loc[eye], pictures[eye]
        answer = answers.loc[eye] if eye in answers.index else None
        yield EyePicture(
            eye=eye,
            photograph=None if jpeg is None else photograph_uri(jpeg),
            absent="" if jpeg is not None else f"{row['status']}: {row['reason'] or 'no photograph in the run'}",
            maps=tuple(_map(method, found[eye], jpeg, largest[method]) for method, found in maps.items()),
            true_grade=_grade(row["icdr_grade"]),
            predicted="no answer" if answer is None else _grade(answer["grade_predicted"]),
            p_referable="no answer" if answer is None else _answer(run, answer),
            stressed=tuple(_stressed(run, exam_id, eye)),
        )


def _stressed(run: Run, exam_id: str, eye: str) -> Iterator[StressedPicture]:
    """Yield the eye under each attack of which photographs were kept."""
    for stress in run.kept_stresses():
        kept = run.stressed_photograph(exam_id, eye, stress.measurement_id)
        if kept is not None:
            name = f"{stress_name(stress.name)}, {strength_words(stress)}"
            yield StressedPicture(name, photograph_uri(kept[1]), *difference_uri(*kept))


def _answer(run: Run, answer: pd.Series) -> str:
    """Return the answer to an eye, with its spread over the draws where there are several."""
    words = answer_words(run.manifest, answer["p_referable"], 1)
    if pd.isna(answer["p_referable_sd"]):
        return words
    spread = answer_value(run.manifest, answer["p_referable_sd"], 1).removesuffix(" %")
    return f"{words} ± {spread}"


def _map(method: str, heat: HeatMap | None, jpeg: bytes | None, largest: float) -> MapPicture:
    words = map_words(method)
    if heat is None or jpeg is None:
        return MapPicture(words, None, "not among the explained exams" if jpeg is not None else "no photograph")
    if heat.values is None or heat.withheld:
        return MapPicture(words, None, heat.withheld or "no map is stored")
    uri = map_uri(jpeg, heat.values, largest)
    if heat.agreement is None:
        return MapPicture(words, uri, "")
    agreement = agreement_uri(jpeg, heat.values, heat.agreement)
    return MapPicture(words, uri, "", agreement, agreement_words(heat))


def _grade(grade: Any) -> str:
    return "no grade" if pd.isna(grade) else f"{int(grade)} {GRADES[int(grade)]}"
