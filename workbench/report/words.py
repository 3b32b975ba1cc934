"""Figures in words: a value never stands without its interval, or without the reason why it has none."""

from __future__ import annotations

from typing import Final

from workbench.report.figures import SHARES, Figure
from workbench.schema.words import percent

SMALL_GROUP: Final = 30
"""Exams below which a group is said to be small."""

FIGURE_NAMES: Final = {
    "error_rate": "Error rate",
    "referral_rate": "Referral rate",
    "silent_failure_rate": "Silent failure rate",
    "errors_referred_share": "Errors that were referred",
    "auc_referable_exam": "AUC of referable disease, per exam",
    "auc_referable_eye": "AUC of referable disease, per eye",
    "quadratic_weighted_kappa": "Quadratic weighted kappa, per eye",
    "accuracy": "Grade exactly right, per eye",
    "sensitivity": "Sensitivity for referable disease, per exam",
    "specificity": "Specificity for referable disease, per exam",
    "expected_calibration_error": "Expected calibration error of P(referable), per eye",
    "brier": "Brier score of P(referable), per eye",
    "ungradable_rate": "Ungradable photographs",
    "missing_rate": "Missing eyes",
}


def value_words(figure: Figure) -> str:
    """Return the value alone: a share in percent, anything else with three decimals."""
    if figure.value is None:
        return "not assessed"
    return percent(figure.value, 1) if figure.name in SHARES else f"{figure.value:.3f}"


def interval_words(figure: Figure) -> str:
    """Return the interval in the unit of the value, or why there is none."""
    if figure.low is None or figure.high is None:
        return figure.reason or "no interval"
    if figure.name in SHARES:
        return f"{100 * figure.low:.1f}–{100 * figure.high:.1f}"
    return f"{figure.low:.3f}–{figure.high:.3f}"


def full_words(figure: Figure) -> str:
    """Return value and interval as one phrase.

    >>> full_words(Figure("accuracy", 0.5, 0.4, 0.6, 10, 5, None, "bootstrap of patients"))
    '50.0 % (40.0–60.0)'
    """
    if figure.value is None:
        return f"not assessed ({figure.reason})"
    return f"{value_words(figure)} ({interval_words(figure)})"


def points_words(figure: Figure) -> str:
    """Return a difference of shares in percentage points, with its sign and interval."""
    if figure.value is None:
        return f"not assessed ({figure.reason})"
    if figure.low is None or figure.high is None:
        return f"{signed(100 * figure.value, 1)} points ({figure.reason or 'no interval'})"
    bounds = f"{signed(100 * figure.low, 1)} to {signed(100 * figure.high, 1)}"
    return f"{signed(100 * figure.value, 1)} points ({bounds})"


def signed(value: float, digits: int) -> str:
    """Return a number with its sign, a true minus.

    >>> signed(-0.25, 1), signed(0.0, 1)
    ('−0.2', '0.0')
    """
    words = f"{value:+.{digits}f}"
    return words[1:] if not float(words) else words.replace("-", "−")


def counted(n: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun, e.g. ``1 exam`` or ``3 exams``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(words: list[str]) -> str:
    """Return e.g. ``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def difference_words(difference: Figure) -> str:
    """Return a difference between two runs: points for shares, plain numbers otherwise."""
    if difference.value is None or difference.name.removesuffix("_difference") in SHARES:
        return points_words(difference)
    if difference.low is None or difference.high is None:
        return f"{signed(difference.value, 3)} ({difference.reason or 'no interval'})"
    return f"{signed(difference.value, 3)} ({signed(difference.low, 3)} to {signed(difference.high, 3)})"
