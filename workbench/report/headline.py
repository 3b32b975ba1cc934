"""What comes first: whether the model knows when it is wrong, answered from the rows alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool

from workbench.audit.layout import CLEAN
from workbench.audit.predictions_lacks import NEEDS_MODEL
from workbench.audit.results import Run
from workbench.audit.run_manifest import MeasurementSpec
from workbench.metrics.bootstrap import Interval, clustered_interval
from workbench.metrics.referral import mean
from workbench.report.figures import BOOTSTRAP, Figure, Figures, exact_where_flat
from workbench.report.words import counted, full_words, points_words, value_words
from workbench.schema.model_card import PredictionsCard
from workbench.schema.seeds import seed_for
from workbench.schema.words import ATTACKS, percent, stress_words

RATES: Final = ("error_rate", "referral_rate", "silent_failure_rate")
FEW_ERRORS: Final = 20
"""Below so many wrong exams, what share of them is referred is hardly known."""

Kind = Literal["clean", "attack", "corruption"]


@dataclass(frozen=True)
class Condition:
    """One measurement with its three rates, and what became of its errors."""

    measurement: MeasurementSpec
    words: str
    kind: Kind
    exams: int
    sampled: bool
    error: Figure
    referral: Figure
    silent: Figure
    errors_referred: Figure
    silent_change: Figure


@dataclass(frozen=True)
class Headline:
    """The answer to the question: one phrase, and the sentences that it stands on."""

    answer: str
    sentences: tuple[str, ...]
    errors_referred: Figure
    above_random: Figure
    conditions: tuple[Condition, ...]


def conditions(run: Run, figures: Figures) -> tuple[Condition, ...]:
    """Return every measurement of answers, clean first."""
    drawn = [measurement for measurement in run.manifest.measurements if measurement.kind == "draws"]
    tables = dict(iter(run.decisions().groupby("measurement", sort=False)))
    return tuple(_condition(run, figures, one, tables[one.id]) for one in drawn)


def kind_of(measurement: MeasurementSpec) -> Kind:
    """Return what sort of condition a measurement is."""
    if measurement.stress is None:
        return "clean"
    return "attack" if measurement.stress.name in ATTACKS else "corruption"


def condition_words(measurement: MeasurementSpec) -> str:
    """Return what a reader calls the condition."""
    return "Clean" if measurement.stress is None else stress_words(measurement.stress)


def _condition(run: Run, figures: Figures, measurement: MeasurementSpec, table: pd.DataFrame) -> Condition:
    error, referral, silent = (figures.get(name, measurement.id) for name in RATES)
    return Condition(
        measurement=measurement,
        words=condition_words(measurement),
        kind=kind_of(measurement),
        exams=len(table),
        sampled=len(table) < run.manifest.exams,
        error=error,
        referral=referral,
        silent=silent,
        errors_referred=_errors_referred(run, table, measurement.id),
        silent_change=figures.get("silent_failure_rate_change", measurement.id),
    )


def _errors_referred(run: Run, table: pd.DataFrame, measurement: str) -> Figure:
    """Return the share of wrong exams that went to a human."""
    wrong = table[table["wrong"].fillna(False).astype(bool)]
    seed = seed_for(run.manifest.seed, measurement, "errors_referred_share")
    referred = wrong["referred"].to_numpy(dtype=bool)
    found = clustered_interval(
        mean, wrong["patient_id"].to_numpy(dtype=str), referred, resamples=run.summary.resamples, seed=seed
    )
    figure = figure_of("errors_referred_share", found, measurement)
    if not len(wrong):
        return replace(figure, reason="no exam is wrong")
    return exact_where_flat(figure)


def figure_of(name: str, found: Interval, measurement: str = CLEAN) -> Figure:
    """Return a bootstrap's interval as a figure."""
    value, low, high = (None if np.isnan(one) else float(one) for one in (found.value, found.low, found.high))
    reason = None
    if value is None:
        reason = "nothing to measure"
    elif low is None:
        reason = "no interval: one patient only" if found.clusters < 2 else "no interval: too few resamples define it"
    by = BOOTSTRAP if low is not None else None
    return Figure(name, value, low, high, found.n, found.clusters, reason, by, measurement)


def _above_random(wrong: Bool[np.ndarray, " n"], referred: Bool[np.ndarray, " n"]) -> float:
    """Return the share of errors referred minus the share of all exams referred: 0 for referring at random."""
    return float(referred[wrong].mean() - referred.mean()) if wrong.any() else float("nan")


def headline(run: Run, found: tuple[Condition, ...]) -> Headline:
    """Return the answer, made from the rows alone."""
    table = run.decisions()
    table = table[(table["measurement"] == CLEAN) & table["wrong"].notna()]
    interval = clustered_interval(
        _above_random,
        table["patient_id"].to_numpy(dtype=str),
        table["wrong"].to_numpy(dtype=bool),
        table["referred"].to_numpy(dtype=bool),
        resamples=run.summary.resamples,
        seed=seed_for(run.manifest.seed, CLEAN, "errors_referred_above_random"),
    )
    above = figure_of("errors_referred_above_random", interval)
    clean = found[0]
    errors = int(table["wrong"].sum())
    sentences = [
        _clean_sentence(run, clean),
        _caught_sentence(clean, above, errors),
        *(_stress_sentences(found) if run.manifest.outputs is None else _outputs_sentences(run.manifest.outputs)),
        *_small_print(found, errors),
    ]
    return Headline(_answer(above, clean), tuple(sentences), clean.errors_referred, above, found)


def _answer(above: Figure, clean: Condition) -> str:
    if clean.error.n == 0:
        return "It cannot be said: no exam has a known truth."
    if above.value is None:
        return f"It cannot be said: none of the {counted(clean.error.n, 'clean exam')} is wrong."
    if above.low is None or above.high is None:
        return "It cannot be said: too few exams for an interval."
    share = percent(clean.errors_referred.value)
    if above.low > 0:
        return f"More often than chance: it hands {share} of its errors to a human."
    if above.high < 0:
        return f"Less often than chance: it hands {share} of its errors to a human."
    return "Not shown: it refers its errors no more surely than a random choice of exams would."


def _clean_sentence(run: Run, clean: Condition) -> str:
    budget = percent(run.manifest.policy.referral_budget)
    return (
        f"On {counted(clean.exams, 'clean exam')}, at a referral budget of {budget}, the error rate is "
        f"{full_words(clean.error)}, and the silent failure rate (wrong, confident and not referred) is "
        f"{full_words(clean.silent)}."
    )


def _caught_sentence(clean: Condition, above: Figure, errors: int) -> str:
    if above.value is None:
        return "No clean error was seen, so nothing can be said about whether the model would know of one."
    caught = round((clean.errors_referred.value or 0.0) * errors)
    return (
        f"Of {counted(errors, 'wrong exam')}, {caught} {'was' if caught == 1 else 'were'} referred: "
        f"{full_words(clean.errors_referred)}. Referring as many exams at random would catch "
        f"{value_words(clean.referral)}; the difference is {points_words(above)}."
    )


def _stress_sentences(found: tuple[Condition, ...]) -> list[str]:
    """Name the condition with the highest silent failure rate, of the attacks and of the corruptions."""
    sentences = []
    for kind, noun in (("corruption", "corruption"), ("attack", "attack")):
        of_kind = [one for one in found if one.kind == kind and one.silent.value is not None]
        if not of_kind:
            sentences.append(f"No {noun} was measured.")
            continue
        worst = max(of_kind, key=lambda one: one.silent.value or 0.0)
        sample = " (a sample drawn by hash)" if worst.sampled else ""
        equals = sum(one.silent.value == worst.silent.value for one in of_kind) - 1
        tie = f", equal with {counted(equals, 'other')}" if equals else ""
        sentences.append(
            f"Worst {noun} of {len(of_kind)}{tie}: {worst.words}, with silent failures in {full_words(worst.silent)} "
            f"of {counted(worst.silent.n, 'exam')}{sample}; against the same exams clean that is "
            f"{points_words(worst.silent_change)}."
        )
    return sentences


def _outputs_sentences(card: PredictionsCard) -> list[str]:
    """Say what outputs alone leave open, and what was done to their rows where they could not be taken as they were."""
    told = [f"Corruptions, attacks and maps: not assessed ({NEEDS_MODEL})."]
    if card.normalised:
        told.append(
            f"{counted(card.normalised, 'row')} of {card.read:,} did not sum to 1 (by more than {card.tolerance:g}, at "
            f"most {card.largest_deviation:.3g} off) and {'was' if card.normalised == 1 else 'were'} normalised."
        )
    if card.clipped:
        told.append(f"{counted(card.clipped, 'expected grade')} of {card.read:,} lay outside 0 to 4; moved to its end.")
    if card.without_prediction:
        told.append(f"{counted(card.without_prediction, 'labelled eye')} had no prediction: counted as no answer.")
    if card.without_label:
        told.append(f"{counted(card.without_label, 'predicted eye')} had no label: neither right nor wrong.")
    return told


def _small_print(found: tuple[Condition, ...], errors: int) -> list[str]:
    notes = []
    if 0 < errors < FEW_ERRORS:
        words = "the intervals are wide, and their far ends are to be reckoned with"
        notes.append(
            f"There {'is' if errors == 1 else 'are'} only {counted(errors, 'error')} on the clean exams: {words}."
        )
    attacked = [one for one in found if one.kind == "attack" and one.sampled]
    if attacked:
        notes.append(
            f"Attacks ran on {counted(attacked[0].exams, 'exam')} of {found[0].exams:,}, drawn by a hash of the exam, "
            "whatever the model answered; each is compared with the same exams clean."
        )
    return notes
