"""How likely an exam is wrong without a human being asked: read off the run's own clean exams, never off itself."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int
from sklearn.isotonic import IsotonicRegression

FOLDS: Final = 5
BINS: Final = 1000
EXAMS_PER_BIN: Final = 20
ENOUGH: Final = 100
"""Exams with a reference grade outside a fold below which nothing is said."""

RISK_WORDS: Final = (
    "Share of exams with the same call and a like uncertainty score that the model got wrong, on the other patients of "
    "this run; an exam that was referred cannot fail silently. This exam's own reference grade has no part in it."
)

_BINNED: Final = """
    WITH known AS (
        SELECT hash(patient_id) % $folds AS fold, called_referable AS called, score, wrong::INTEGER AS wrong
        FROM answered WHERE score IS NOT NULL AND called_referable IS NOT NULL AND wrong IS NOT NULL),
    sized AS (
        SELECT called, least($bins, greatest(1, count(*) // $per_bin)) AS bins FROM known GROUP BY called),
    placed AS (
        SELECT known.*, ntile(bins) OVER (PARTITION BY known.called ORDER BY score) AS bin
        FROM known JOIN sized USING (called))
    SELECT called, bin, fold, avg(score) AS score, count(*) AS n, sum(wrong) AS wrong
    FROM placed GROUP BY ALL ORDER BY called, bin, fold
"""


def write_risk(connection: Any) -> None:
    """Make the table ``risk`` (fold, called, low, risk) of the table ``answered`` of a DuckDB connection.

    P(wrong | uncertainty score, call) by isotonic regression: it never falls as the score rises. An exam of patient
    fold k is given the curve of the other folds; curves stand on groups of `EXAMS_PER_BIN` exams or more, so that no
    single exam's grade can be read back. ``low`` is the score from which a step holds.

    The idea of a risk from a confidence score: Chow (1970); cross-fitting over patients keeps it honest.
    """
    connection.execute("CREATE OR REPLACE TEMP TABLE risk (fold INTEGER, called BOOLEAN, low DOUBLE, risk DOUBLE)")
    numbers = {"folds": FOLDS, "bins": BINS, "per_bin": EXAMS_PER_BIN}
    found = connection.execute(_BINNED, numbers).fetchnumpy()
    rows: list[tuple[int, bool, float, float]] = []
    for called in (False, True):
        mine = np.asarray(found["called"], dtype=bool) == called
        fold, score = np.asarray(found["fold"])[mine], np.asarray(found["score"], dtype=float)[mine]
        n, wrong = np.asarray(found["n"], dtype=float)[mine], np.asarray(found["wrong"], dtype=float)[mine]
        for left_out in range(FOLDS):
            kept = fold != left_out
            low, risk = risk_curve(score[kept], n[kept], wrong[kept])
            rows.extend((left_out, called, float(one), float(two)) for one, two in zip(low, risk, strict=True))
    if rows:
        connection.executemany("INSERT INTO risk VALUES (?, ?, ?, ?)", rows)


def risk_curve(
    score: Float[np.ndarray, " group"], n: Float[np.ndarray, " group"], wrong: Float[np.ndarray, " group"]
) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, " step"]]:
    """Return the steps of P(wrong | score): the score from which each holds, and its height; none where too few.

    Args:
        score: mean uncertainty of a group of exams.
        n: exams in it.
        wrong: how many of them were wrong.
    """
    if n.sum() < ENOUGH:
        return np.zeros(0), np.zeros(0)
    order = np.argsort(score, kind="stable")
    score, n, wrong = score[order], n[order], wrong[order]
    height = IsotonicRegression(y_min=0, y_max=1).fit_transform(score, wrong / n, sample_weight=n)
    steps: Int[np.ndarray, " step"] = np.flatnonzero(np.r_[True, np.diff(height) > 0])
    low = score[steps].copy()
    low[0] = -np.inf
    return low, height[steps]
