"""What the readers did to the machine and the machine to the readers: every figure, with its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Bool

from workbench.audit.results import Run
from workbench.metrics import sufficient
from workbench.metrics.bootstrap import Interval
from workbench.metrics.proportions import binomial_interval
from workbench.metrics.reader_agreement import MISSING, cohen_kappa, fleiss_kappa, krippendorff_alpha
from workbench.metrics.reader_resampling import (
    BOTH,
    PATIENTS,
    RESAMPLES,
    median,
    patient_intervals,
    reader_and_patient_intervals,
)
from workbench.metrics.reliance import RELIANCE, SHARES, Reveal, confidence_auc, rows_behind, switch_table
from workbench.metrics.sufficient import Sufficient
from workbench.review.people import People
from workbench.review.reader_comparison import comparison_tables
from workbench.review.reader_words import FIGURE_WORDS, sentences
from workbench.review.readers import CONDITION, WITH, WITHOUT, ReadTables, read_tables
from workbench.review.reads import SavedRead
from workbench.review.store import ReviewStore
from workbench.schema.grades import REFERABLE_GRADE
from workbench.schema.reader_study import POOLED, Cell, ReaderFigure, ReaderStudy
from workbench.schema.seeds import seed_for

GRADES: Final = 5

Metrics = dict[str, Sufficient]
Rows = Bool[np.ndarray, " n"]


def reader_study(
    run: Run,
    reads: Sequence[SavedRead],
    *,
    names: Mapping[str, str] | None = None,
    ungradable_is_referable: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> ReaderStudy:
    """Return everything that the stored reads of a run say about its readers, ready to be shown.

    Args:
        run: whose labels are the truth, and whose clean answers are the model's.
        reads: those that nothing supersedes, oldest first (`ReviewStore.current`).
        names: reader → the name to use; without it ``Reader 1``, ``Reader 2``.
        ungradable_is_referable: see `read_tables`.
        resamples: behind each interval.
        seed: of the resamples.
    """
    tables = read_tables(run, reads, names=names, ungradable_is_referable=ungradable_is_referable)
    return study_of(run.manifest.run_id, tables, resamples=resamples, seed=seed)


def study_of(run_id: str, tables: ReadTables, *, resamples: int = RESAMPLES, seed: int = 0) -> ReaderStudy:
    """Return what tables of reads say, see `reader_study`."""
    draw = _Drawing(seed, resamples)
    figures = [*_reveal_figures(tables, draw), *_confidence_figures(tables, draw), *_time_figures(tables, draw)]
    figures += _agreement_figures(tables, draw)
    compared, not_compared = comparison_tables(tables)
    shown = {
        "switches": _switches(tables),
        "confidence": _confidence(tables),
        "stages": _stages(tables),
        "pairs of readers": _pairs_of_readers(tables, draw),
        "multi-reader": compared,
    }
    study = ReaderStudy(
        run_id=run_id,
        design=tables.design,
        readers=tables.readers,
        counts=_counts(tables),
        figures=tuple(figures),
        tables={name: tuple(rows) for name, rows in shown.items()},
        not_assessed=_not_assessed(tables) | not_compared,
    )
    return study.model_copy(update={"sentences": sentences(study)})


def stored_study(place: Path | str, run: Run, **options: Any) -> tuple[ReaderStudy, ReadTables]:
    """Return the study of a run's reads in a database, and its tables; readers stand under their pseudonyms.

    Args:
        place: an SQLite file or a database's URL.
        run: whose reads.
        options: of `reader_study`, but ``names``.

    Raises:
        WorkbenchError: the database cannot be opened.
    """
    store = ReviewStore(place)
    try:
        reads = store.current(run.manifest.run_id)
        names = {user.subject: user.pseudonym for user in People(store.database).users()}
    finally:
        store.close()
    tables = read_tables(run, reads, names=names, ungradable_is_referable=options.pop("ungradable_is_referable", False))
    return study_of(run.manifest.run_id, tables, **options), tables


class _Drawing:
    """The resamples: of patients for one reader, of readers and patients for all together."""

    def __init__(self, seed: int, resamples: int) -> None:
        self.seed, self.resamples = seed, resamples

    def figures(
        self,
        rows: pd.DataFrame,
        metrics: Callable[[pd.DataFrame], Metrics],
        behind: Callable[[str, pd.DataFrame], Rows] | None = None,
    ) -> Iterator[ReaderFigure]:
        """Yield each metric of all readers together, then of each reader.

        Args:
            rows: with the columns ``reader`` and ``patient_id``.
            metrics: of such rows.
            behind: the rows of which a metric is made, where these are not all.
        """
        for who in (POOLED, *rows["reader"].drop_duplicates()):
            own = rows if who == POOLED else rows[rows["reader"] == who]
            made, seed = metrics(own), seed_for(self.seed, who)
            patient, reader = own["patient_id"].to_numpy(str), own["reader"].to_numpy(str)
            if who == POOLED:
                found = reader_and_patient_intervals(made, reader, patient, seed=seed, resamples=self.resamples)
            else:
                found = patient_intervals(made, patient, seed=seed, resamples=self.resamples)
            for name, interval in found.items():
                used = behind(name, own) if behind else np.ones(len(own), dtype=bool)
                counted = interval._replace(n=int(used.sum()), clusters=len(np.unique(patient[used])))
                yield figure_of(name, who, counted, BOTH if who == POOLED else PATIENTS)

    def of_eyes(self, rows: pd.DataFrame, metrics: Metrics) -> dict[str, Interval]:
        """Return metrics of a table with one row per eye."""
        patient = rows["patient_id"].to_numpy(str)
        return patient_intervals(metrics, patient, seed=seed_for(self.seed, "eyes"), resamples=self.resamples)


def figure_of(name: str, reader: str, interval: Interval, how: str) -> ReaderFigure:
    """Return an interval as a figure; a value or an interval that is not there has its reason.

    A share of none or of all gets the exact binomial interval on patients, since every resample is alike.
    """
    value, low, high = (None if np.isnan(one) else float(one) for one in interval[:3])
    reason = ""
    if value is not None and low is not None and low == high:
        low, high, how, reason = _flat(name, value, interval.clusters)
    elif value is None:
        reason = "one class only, or nothing varies" if interval.n else "there is no such read"
    elif low is None:
        reason = "no interval: too few readers or patients, or most resamples have no value"
    return ReaderFigure(
        name=name,
        words=FIGURE_WORDS.get(name, name.replace("_", " ")),
        reader=reader,
        value=value,
        low=low,
        high=high,
        n=interval.n,
        patients=interval.clusters,
        how=how if low is not None else "",
        reason=reason,
    )


def _flat(name: str, value: float, patients: int) -> tuple[float | None, float | None, str, str]:
    if name in SHARES and value in (0.0, 1.0):
        return *binomial_interval(patients if value else 0, patients), "exact binomial on patients, 95 %", ""
    return None, None, "", "no interval: every resample gives this value"


def reveal_of(pairs: pd.DataFrame) -> Reveal:
    """Return the calls of a table of pairs."""
    columns = ("truth", "model", "first_called", "second_called")
    return Reveal(*(pairs[name].to_numpy(dtype=bool) for name in columns))


def _reveal_figures(tables: ReadTables, draw: _Drawing) -> Iterator[ReaderFigure]:
    if not len(tables.pairs):
        return
    yield from draw.figures(
        tables.pairs,
        lambda rows: {name: metric(reveal_of(rows)) for name, metric in RELIANCE.items()},
        lambda name, rows: rows_behind(name, reveal_of(rows)),
    )


def _under(eyes: pd.DataFrame, condition: str) -> pd.DataFrame:
    """Return the reads of eyes under one condition, one per reader and eye: the blinded one where there are two."""
    places = [place for place, named in CONDITION.items() if named == condition]
    found = [eyes[(eyes["protocol"] == protocol) & (eyes["stage"] == stage)] for protocol, stage in places]
    return pd.concat(found).drop_duplicates(["reader", "exam_id", "eye"], keep="first")


def _confidence_figures(tables: ReadTables, draw: _Drawing) -> Iterator[ReaderFigure]:
    for condition, name in ((WITHOUT, "without"), (WITH, "with")):
        rows = _under(tables.eyes, condition).dropna(subset=["confidence", "grade", "truth"])
        if len(rows):
            yield from draw.figures(rows, lambda own, name=name: _of_confidence(own, name))  # type: ignore[misc]


def _of_confidence(rows: pd.DataFrame, name: str) -> Metrics:
    right, confidence = _call_right(rows), rows["confidence"].to_numpy(float)
    return {
        f"confidence_{name}": sufficient.mean(confidence),
        f"confidence_auc_{name}": confidence_auc(right, confidence),
    }


def _call_right(rows: pd.DataFrame) -> Rows:
    called, truth = (rows[name].to_numpy(dtype=np.int64) >= REFERABLE_GRADE for name in ("grade", "truth"))
    return called == truth


def _time_figures(tables: ReadTables, draw: _Drawing) -> Iterator[ReaderFigure]:
    rows = tables.pairs.dropna(subset=["first_seconds", "second_seconds"])
    if len(rows):
        yield from draw.figures(rows, _of_time)


def _of_time(rows: pd.DataFrame) -> Metrics:
    first, second = rows["first_seconds"].to_numpy(float), rows["second_seconds"].to_numpy(float)
    return {"seconds_first": median(first), "seconds_after": median(second), "seconds_change": median(second - first)}


def _ratings(eyes: pd.DataFrame) -> pd.DataFrame:
    """Return a table with one row per eye and one column per reader: the grade, `MISSING` for none."""
    graded = eyes.dropna(subset=["grade"])
    wide = graded.pivot(index=["patient_id", "exam_id", "eye"], columns="reader", values="grade")
    order = [reader for reader in eyes["reader"].drop_duplicates() if reader in wide.columns]
    return wide.reindex(columns=order).fillna(MISSING).astype(np.int64)


def _agreement_figures(tables: ReadTables, draw: _Drawing) -> Iterator[ReaderFigure]:
    for condition, name in ((WITHOUT, "without"), (WITH, "with")):
        wide = _ratings(_under(tables.eyes, condition))
        if wide.shape[1] < 2:
            continue
        wide = wide[(wide.to_numpy() != MISSING).sum(axis=1) > 1]
        if not len(wide):
            continue
        ratings = wide.to_numpy(np.int64)
        calls = np.where(ratings == MISSING, MISSING, ratings >= REFERABLE_GRADE).astype(np.int64)
        metrics = {
            f"krippendorff_alpha_{name}": krippendorff_alpha(ratings, GRADES, "ordinal"),
            f"fleiss_kappa_{name}": fleiss_kappa(ratings, GRADES),
            f"fleiss_kappa_referable_{name}": fleiss_kappa(calls, 2),
        }
        for key, interval in draw.of_eyes(wide.reset_index(), metrics).items():
            yield figure_of(key, POOLED, interval._replace(n=int((ratings != MISSING).sum())), PATIENTS)


def _pairs_of_readers(tables: ReadTables, draw: _Drawing) -> list[dict[str, Cell]]:
    """Return kappa of each two readers, of each with the label, with the model, and with themselves."""
    rows: list[dict[str, Cell]] = []
    for condition in (WITHOUT, WITH):
        eyes = _under(tables.eyes, condition)
        wide = _ratings(eyes)
        for one, other in combinations(wide.columns, 2):
            rows += _kappas(condition, one, other, wide[[one, other]].reset_index(), draw)
        for reader in wide.columns:
            for other, column in (("label", "truth"), ("model", "model")):
                own = eyes[eyes["reader"] == reader].dropna(subset=["grade", column])
                rows += _kappas(condition, reader, other, _two(own, own["grade"], own[column], reader, other), draw)
    for reader, again in _read_twice(tables.eyes):
        rows += _kappas("without the model, twice", reader, f"{reader} again", again, draw)
    return rows


def _two(rows: pd.DataFrame, first: pd.Series, second: pd.Series, one: str, other: str) -> pd.DataFrame:
    return rows[["patient_id"]].assign(**{one: first.to_numpy(np.int64), other: second.to_numpy(np.int64)})


def _read_twice(eyes: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each reader's eyes that were read without the model under two protocols: the intra-grader pairs."""
    blinded, alone = (
        eyes[(eyes["protocol"] == protocol) & (eyes["stage"] == stage)].dropna(subset=["grade"])
        for (protocol, stage), condition in CONDITION.items()
        if condition == WITHOUT
    )
    both = blinded.merge(alone, on=["reader", "patient_id", "exam_id", "eye"], suffixes=("", "_again"))
    for reader, own in both.groupby("reader", sort=False):
        yield str(reader), _two(own, own["grade"], own["grade_again"], str(reader), f"{reader} again")


def _kappas(condition: str, one: str, other: str, rows: pd.DataFrame, draw: _Drawing) -> list[dict[str, Cell]]:
    rows = rows[(rows[[one, other]] != MISSING).all(axis=1)]
    if not len(rows):
        return []
    first, second = (rows[name].to_numpy(np.int64) for name in (one, other))
    called = (first >= REFERABLE_GRADE).astype(np.int64), (second >= REFERABLE_GRADE).astype(np.int64)
    metrics = {
        "same grade": sufficient.mean(first == second),
        "kappa": cohen_kappa(first, second, GRADES),
        "linear weighted kappa": cohen_kappa(first, second, GRADES, "linear"),
        "quadratic weighted kappa": cohen_kappa(first, second, GRADES, "quadratic"),
        "kappa of referable": cohen_kappa(*called, 2),
    }
    return [
        {"condition": condition, "first": one, "second": other, "eyes": len(rows), "figure": name, **_cells(interval)}
        for name, interval in draw.of_eyes(rows, metrics).items()
    ]


def _cells(interval: Interval) -> dict[str, Cell]:
    named = zip(("value", "low", "high"), interval[:3], strict=True)
    return {name: None if np.isnan(value) else float(value) for name, value in named}


def _switches(tables: ReadTables) -> list[dict[str, Cell]]:
    rows: list[dict[str, Cell]] = []
    for who in (POOLED, *tables.readers) if len(tables.pairs) else ():
        own = tables.pairs if who == POOLED else tables.pairs[tables.pairs["reader"] == who]
        rows += [{"reader": who, **row} for row in switch_table(reveal_of(own))]
    return rows


def _confidence(tables: ReadTables) -> list[dict[str, Cell]]:
    """Return, per condition and confidence, how often the call of an eye is right, and how often its grade."""
    rows: list[dict[str, Cell]] = []
    for condition in (WITHOUT, WITH):
        known = _under(tables.eyes, condition).dropna(subset=["confidence", "grade", "truth"])
        known = known.assign(right=_call_right(known), exact=(known["grade"] == known["truth"]).astype(bool))
        for who in (POOLED, *tables.readers):
            own = known if who == POOLED else known[known["reader"] == who]
            for confidence, group in own.groupby("confidence"):
                row: dict[str, Cell] = {"reader": who, "condition": condition, "confidence": int(confidence)}
                right, exact = float(group["right"].mean()), float(group["exact"].mean())
                rows.append(row | {"eyes": len(group), "call_right": right, "grade_right": exact})
    return rows


def _stages(tables: ReadTables) -> list[dict[str, Cell]]:
    """Return each reader's error at each place where exams were read, as far as truth and call are known."""
    known = tables.exams.dropna(subset=["called", "truth"])
    known = known.assign(wrong=(known["called"] != known["truth"]).astype(float))
    rows: list[dict[str, Cell]] = []
    for (reader, protocol, stage), group in known.groupby(["reader", "protocol", "stage"], sort=False):
        place: dict[str, Cell] = {"reader": str(reader), "protocol": str(protocol), "stage": str(stage)}
        rows.append(place | {"exams": len(group), "error": float(group["wrong"].mean())})
    return rows


def _counts(tables: ReadTables) -> dict[str, int]:
    counts = {
        "reads of eyes": len(tables.eyes),
        "exams read": int(tables.eyes["exam_id"].nunique()),
        "readers": len(tables.readers),
        "exams read both ways": len(tables.pairs),
        "eyes called ungradable": int((~tables.eyes["gradable"]).sum()),
    }
    return counts | {f"left out: {why}": count for why, count in tables.left_out.items()}


def _not_assessed(tables: ReadTables) -> dict[str, str]:
    missing = {}
    if not len(tables.pairs):
        reason = "; ".join(f"{why}: {count}" for why, count in tables.left_out.items())
        missing["reveal"] = "no exam was read both without and with the model by one reader"
        if reason:
            missing["reveal"] = f"no exam that was read both ways can be judged ({reason})"
    blind = _under(tables.eyes, WITHOUT).dropna(subset=["grade"])
    if len(tables.readers) < 2:
        missing["agreement"] = f"{len(tables.readers) or 'no'} reader: agreement needs two"
    elif blind.groupby(["exam_id", "eye"])["reader"].nunique().max() in (0, 1) or not len(blind):
        missing["agreement"] = "no eye was graded without the model by two readers"
    if not tables.eyes["confidence"].notna().any():
        missing["confidence"] = "no read states a confidence"
    if not len(tables.pairs.dropna(subset=["first_seconds", "second_seconds"])):
        missing["time"] = "no pair of reads holds the time that it took"
    return missing
