"""From stored reads to tables: who said what of which eye and exam, with and without the model, beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from workbench.audit.layout import CLEAN
from workbench.audit.results import Run
from workbench.review.reads import SavedRead
from workbench.schema.grades import EYES, REFERABLE_GRADE

WITHOUT, WITH = "without the model", "with the model"
"""The two conditions under which an exam is read."""

Place = tuple[str, str]
"""A protocol and one of its stages."""

CONDITION: Final[dict[Place, str]] = {
    ("blinded", "first"): WITHOUT,
    ("review_only", "review_only"): WITHOUT,
    ("blinded", "second"): WITH,
    ("assisted", "single"): WITH,
}
"""What is read under which condition; what lies between first and second read, and an adjudication, is neither."""

DESIGNS: Final[dict[str, tuple[Place, Place]]] = {
    "the same reader before and after the model's answer was shown": (("blinded", "first"), ("blinded", "second")),
    "the same reader once without a model and once with it, in either order": (
        ("review_only", "review_only"),
        ("assisted", "single"),
    ),
}
"""How one reader reads one exam both ways, the stronger design first; a study is of one design."""

_READ: Final = ["reader", "patient_id", "exam_id", "protocol", "stage"]
_KINDS: Final = {
    **dict.fromkeys((*_READ, "eye"), "object"),
    **dict.fromkeys(("grade", "confidence"), "Int64"),
    "seconds": "Float64",
    **dict.fromkeys(("gradable", "shown_call"), "boolean"),
}


@dataclass(frozen=True)
class ReadTables:
    """The reads of a run.

    Args:
        eyes: one row per read of an eye, see `eye_table`.
        exams: one row per read of an exam, see `exam_table`.
        pairs: one row per reader and exam read both ways, see `pair_table`.
        design: which of `DESIGNS` the pairs are of; empty for none.
        left_out: why other exams that were read both ways are in no pair, and how many.
    """

    eyes: pd.DataFrame
    exams: pd.DataFrame
    pairs: pd.DataFrame
    design: str
    left_out: dict[str, int]

    @property
    def readers(self) -> tuple[str, ...]:
        """Whoever read anything, in the order of their first read."""
        return tuple(self.eyes["reader"].drop_duplicates())


def read_tables(
    run: Run,
    reads: Sequence[SavedRead],
    *,
    names: Mapping[str, str] | None = None,
    ungradable_is_referable: bool = False,
) -> ReadTables:
    """Return the tables of what was read in a run.

    Args:
        run: whose labels are the truth, and whose answers to the clean exams are the model's.
        reads: those that nothing supersedes (`ReviewStore.current`), oldest first; of other runs none is used.
        names: reader → the name to use here; without it ``Reader 1``, ``Reader 2`` in the order of their first reads.
        ungradable_is_referable: an eye that a reader calls ungradable counts as called referable; otherwise an exam
            whose other eye is not referable has no call.
    """
    eyes = eye_table(run, [read for read in reads if read.run_id == run.manifest.run_id], names)
    exams = exam_table(run, eyes, ungradable_is_referable=ungradable_is_referable)
    for design, (one, other) in DESIGNS.items():
        pairs = pair_table(exams, one, other)
        if len(pairs):
            return ReadTables(eyes, exams, *_known(pairs, design))
    return ReadTables(eyes, exams, pair_table(exams, ("", ""), ("", "")), "", {})


def eye_table(run: Run, reads: Sequence[SavedRead], names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return one row per read of an eye.

    Columns: ``reader, patient_id, exam_id, protocol, stage, eye, gradable, grade, confidence, seconds, shown_call,
    truth, model``; grades are ICDR, null for none; ``truth`` is the run's label, ``model`` its grade of the clean eye.
    """
    known = names or {}
    order = dict.fromkeys(read.reader for read in reads)
    named = {reader: known.get(reader, f"Reader {number}") for number, reader in enumerate(order, start=1)}
    table = pd.DataFrame([_row(read, named[read.reader]) for read in reads], columns=list(_KINDS)).astype(_KINDS)
    answers = run.eye_answers()
    answers = answers.loc[answers["measurement"] == CLEAN, ["exam_id", "eye", "grade_predicted"]]
    labels = run.eyes()[["exam_id", "eye", "icdr_grade"]]
    table = table.merge(labels, on=["exam_id", "eye"], how="left").merge(answers, on=["exam_id", "eye"], how="left")
    table = table.rename(columns={"icdr_grade": "truth", "grade_predicted": "model"})
    return table.astype({"truth": "Int64", "model": "Int64"})


def _row(read: SavedRead, reader: str) -> dict[str, Any]:
    same = {name: getattr(read, name) for name in ("patient_id", "exam_id", "protocol", "stage", "eye", "gradable")}
    shown = {**read.shown, **read.model_answer}.get("exam_called_referable")
    rest = {"confidence": read.confidence, "seconds": read.seconds_active, "shown_call": shown}
    return {**same, **rest, "reader": reader, "grade": read.icdr_grade}


def exam_table(run: Run, eyes: pd.DataFrame, *, ungradable_is_referable: bool = False) -> pd.DataFrame:
    """Return one row per read of an exam.

    Columns: ``reader, patient_id, exam_id, protocol, stage, called, grade, seconds, shown_call, truth, model,
    p_referable``. An exam is *called* referable when one of its eyes is graded 2 or worse, and not referable when every
    eye that was photographed is graded below; otherwise (an eye ungradable or not read) the call is null. ``grade`` is
    the worse eye's.
    """
    photographed = run.eyes().query("status != 'missing'").groupby("exam_id")["eye"].count()
    refused = eyes["grade"].isna() & ungradable_is_referable
    judged = eyes.assign(
        referable=(eyes["grade"] >= REFERABLE_GRADE).fillna(False).astype(bool) | refused,
        settled=eyes["grade"].notna() | refused,
    )
    table = judged.groupby(_READ, sort=False, as_index=False).agg(
        referable=("referable", "any"),
        settled=("settled", "sum"),
        grade=("grade", "max"),
        seconds=("seconds", "max"),
        shown_call=("shown_call", "first"),
    )
    whole = table["settled"] >= table["exam_id"].map(photographed).fillna(len(EYES))
    table["called"] = table["referable"].astype("boolean").where(table["referable"] | whole)
    decided = run.decisions().query("measurement == @CLEAN", local_dict={"CLEAN": CLEAN})
    decided = decided.rename(columns={"referable": "truth", "called_referable": "model"})
    decided = decided[["exam_id", "truth", "model", "p_referable"]].astype({"truth": "boolean", "model": "boolean"})
    return table.drop(columns=["referable", "settled"]).merge(decided, on="exam_id", how="left")


def pair_table(exams: pd.DataFrame, one: Place, other: Place) -> pd.DataFrame:
    """Return one row per reader and exam read at both places.

    Columns: those of an exam, ``called, grade, seconds`` as ``first_…`` and ``second_…``; ``second_seconds`` counts all
    saves after the first one of the same protocol.
    """
    own = ["called", "grade", "seconds"]
    first = _at(exams, one).rename(columns={name: f"first_{name}" for name in own}).drop(columns="shown_call")
    second = _at(exams, other).rename(columns={name: f"second_{name}" for name in own})
    second = second[["reader", "exam_id", "second_called", "second_grade", "second_seconds", "shown_call"]]
    pairs = first.merge(second, on=["reader", "exam_id"]).drop(columns=["protocol", "stage"])
    later = exams[(exams["protocol"] == other[0]) & (exams["stage"] != one[1])]
    spent = later.groupby(["reader", "exam_id"], as_index=False)["seconds"].sum(min_count=1)
    pairs = pairs.merge(spent, on=["reader", "exam_id"], how="left")
    pairs["second_seconds"] = pairs.pop("seconds").where(pairs["second_seconds"].notna())
    return pairs


def _at(exams: pd.DataFrame, place: Place) -> pd.DataFrame:
    return exams[(exams["protocol"] == place[0]) & (exams["stage"] == place[1])]


def _known(pairs: pd.DataFrame, design: str) -> tuple[pd.DataFrame, str, dict[str, int]]:
    """Return the pairs with truth and all calls known, and why the others are not used, each counted once."""
    another = pairs["shown_call"].notna() & (pairs["shown_call"] != pairs["model"]).fillna(False)
    unknown = {
        "the run has no label": pairs["truth"].isna(),
        "the model gave no answer": pairs["model"].isna(),
        "another call of the model was shown than stands in the run": another,
        "an eye was called ungradable or not read": pairs["first_called"].isna() | pairs["second_called"].isna(),
    }
    kept, left_out = np.ones(len(pairs), dtype=bool), {}
    for why, where in unknown.items():
        lost = kept & where.to_numpy(dtype=bool)
        if lost.any():
            left_out[why] = int(lost.sum())
        kept &= ~lost
    return pairs[kept].reset_index(drop=True), design, left_out
