"""How well two gradings agree."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int, Int64

from workbench.metrics import sufficient
from workbench.schema.errors import WorkbenchError

Grades = Int[np.ndarray, " n"]


def quadratic_weighted_kappa(y_true: Grades, y_pred: Grades, grades: int = 5) -> float:
    """Return Cohen's kappa with squared distances; NaN where both graders give one and the same grade to all.

    Raises:
        WorkbenchError: a grade outside 0 to ``grades`` - 1.

    Cohen 1968, Psychological Bulletin 70(4).
    """
    _check_range(y_true, y_pred, grades)
    return sufficient.once(sufficient.quadratic_weighted_kappa(y_true, y_pred, grades))


def confusion_matrix(y_true: Grades, y_pred: Grades, grades: int = 5) -> Int64[np.ndarray, "{grades} {grades}"]:
    """Return counts: row = true grade, column = answered grade.

    Raises:
        WorkbenchError: a grade outside 0 to ``grades`` - 1.
    """
    _check_range(y_true, y_pred, grades)
    return np.bincount(y_true * grades + y_pred, minlength=grades * grades).reshape(grades, grades).astype(np.int64)


def accuracy(y_true: Grades | Bool[np.ndarray, " n"], y_pred: Grades | Bool[np.ndarray, " n"]) -> float:
    """Return the share of equal answers; NaN for no answers."""
    return sufficient.once(sufficient.accuracy(y_true, y_pred))


def _check_range(y_true: Grades, y_pred: Grades, grades: int) -> None:
    for name, values in (("true", y_true), ("predicted", y_pred)):
        outside = values[(values < 0) | (values >= grades)]
        if outside.size:
            raise WorkbenchError(
                f"a {name} grade of {outside[0]} among grades 0 to {grades - 1}", "leave ungraded eyes out first"
            )
