"""The multi-reader multi-case analysis of a run's reads: with the model against without it, over all readers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, get_args

import numpy as np
import pandas as pd

from workbench.metrics.multi_reader import FigureName, Figures, Readings, covariance, pseudovalues
from workbench.metrics.multi_reader_analysis import (
    Analysis,
    Contrast,
    dorfman_berbaum_metz,
    obuchowski_rockette,
    of_each_reader,
)
from workbench.review.readers import ReadTables
from workbench.schema.errors import WorkbenchError
from workbench.schema.reader_study import Cell

METHODS: Final = ("Obuchowski-Rockette", "Dorfman-Berbaum-Metz")
"""Both with the jackknife over patients, and Hillis' degrees of freedom."""

FIGURE_TITLES: Final[dict[str, str]] = {
    "roc_auc": "area under the ROC curve of the worse eye's grade",
    "sensitivity": "sensitivity for referable exams",
    "specificity": "specificity for referable exams",
}


def crossed(pairs: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the pairs of the exams that every reader read both ways, ordered by exam and reader, and the readers."""
    readers = tuple(pairs["reader"].drop_duplicates())
    count = pairs.groupby("exam_id")["reader"].transform("nunique")
    kept = pairs[count == len(readers)]
    place = kept["reader"].map({reader: number for number, reader in enumerate(readers)})
    return kept.assign(_place=place).sort_values(["exam_id", "_place"]).drop(columns="_place"), readers


def readings(pairs: pd.DataFrame, readers: int, figure: FigureName) -> Readings:
    """Return crossed pairs as a study: condition 0 is with the model, 1 without it.

    Raises:
        WorkbenchError: the figure has no value in them.
    """
    kind = "grade" if figure == "roc_auc" else "called"
    scores = [pairs[f"{which}_{kind}"].astype("Float64").to_numpy(float) for which in ("second", "first")]
    cases = pairs.iloc[::readers]
    return Readings(
        np.stack([score.reshape(-1, readers).T for score in scores]),
        cases["truth"].to_numpy(dtype=bool),
        cases["patient_id"].to_numpy(str),
        figure,
    )


def comparison_tables(tables: ReadTables) -> tuple[list[dict[str, Cell]], dict[str, str]]:
    """Return the rows of every analysis of every figure, and why a figure could not be analysed."""
    if not len(tables.pairs):
        return [], {"multi-reader": "no exam was read both without and with the model"}
    pairs, readers = crossed(tables.pairs)
    if not len(pairs):
        return [], {"multi-reader": f"no exam was read both ways by all {len(readers)} readers"}
    rows: list[dict[str, Cell]] = []
    missing = {}
    for figure in get_args(FigureName):
        own = pairs.dropna(subset=["first_grade", "second_grade"]) if figure == "roc_auc" else pairs
        own, _ = crossed(own) if len(own) < len(pairs) else (own, readers)
        try:
            rows += list(_rows(readings(own, len(readers), figure), figure, readers))
        except WorkbenchError as error:
            missing[f"multi-reader {figure}"] = error.what
    return rows, missing


def _rows(study: Readings, figure: FigureName, readers: tuple[str, ...]) -> Iterator[dict[str, Cell]]:
    figures, spread = study.figures(), covariance(study)
    size: dict[str, Cell] = {
        "figure": FIGURE_TITLES[figure],
        "readers": len(readers),
        "exams": len(study.truth),
        "referable": int(study.truth.sum()),
    }
    analyses = (obuchowski_rockette(figures, spread), dorfman_berbaum_metz(pseudovalues(study)))
    for method, found in zip(METHODS, analyses, strict=True):
        for analysis in found:
            yield size | {"method": method} | _of_analysis(analysis)
    for one in of_each_reader(figures, spread):
        yield size | {"method": METHODS[0]} | _of_reader(one, figures, readers)


def _of_reader(difference: Contrast, figures: Figures, readers: tuple[str, ...]) -> dict[str, Cell]:
    number = difference.reader or 0
    values = {
        "without": float(figures[1, number]),
        "with": float(figures[0, number]),
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "statistic": difference.statistic,
        "p": difference.p,
    }
    reason = "" if difference.error > 0 else "this reader's figure cannot vary"
    return {"scope": f"{readers[number]} alone, random cases"} | cells(values) | {"reason": reason}


def _of_analysis(analysis: Analysis) -> dict[str, Cell]:
    difference = analysis.contrasts[0]
    with_model, without = analysis.means
    values = {
        "without": without.value,
        "without_low": max(0.0, without.low),
        "without_high": min(1.0, without.high),
        "with": with_model.value,
        "with_low": max(0.0, with_model.low),
        "with_high": min(1.0, with_model.high),
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "statistic": analysis.statistic,
        "df": analysis.df,
        "error_df": analysis.error_df,
        "p": analysis.p,
    }
    return {"scope": analysis.scope} | cells(values) | {"reason": analysis.reason}


def cells(values: dict[str, float]) -> dict[str, Cell]:
    """Return numbers as plain cells: null for what is not finite."""
    return {name: float(value) if np.isfinite(value) else None for name, value in values.items()}
