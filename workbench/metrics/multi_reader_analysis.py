"""Do readers do better under one condition than under another? Obuchowski-Rockette and Dorfman-Berbaum-Metz.

Both ask one question of the same two-way table of figures (condition by reader); they differ in where the variation
from case to case comes from: covariances of the figures, or an analysis of variance of pseudovalues. With jackknife
covariances they give the same answer (Hillis et al. 2005). Degrees of freedom are Hillis' (2007).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from workbench.metrics.multi_reader import Covariance, Figures

Scope = Literal["random readers, random cases", "fixed readers, random cases", "random readers, fixed cases"]

SCOPES: Final[dict[Scope, str]] = {
    "random readers, random cases": "speaks for other readers like these and other patients like these",
    "fixed readers, random cases": "speaks for these readers alone, and other patients",
    "random readers, fixed cases": "speaks for other readers, and these patients alone",
}
"""What may be concluded from each analysis."""


@dataclass(frozen=True)
class Estimate:
    """One value with its standard error, degrees of freedom (infinite: normal) and interval."""

    value: float
    error: float
    df: float
    low: float
    high: float


@dataclass(frozen=True)
class Contrast(Estimate):
    """The figure of condition ``first`` minus that of ``second``, averaged over readers, or of one ``reader``."""

    first: int
    second: int
    statistic: float
    p: float
    reader: int | None = None


@dataclass(frozen=True)
class Analysis:
    """One analysis: the test that all conditions are alike, each pair's difference, each condition's mean.

    ``statistic`` is F with ``df`` and ``error_df``, or chi-square where ``error_df`` is infinite. ``reason`` says why
    there is no test; all is NaN then.
    """

    scope: Scope
    statistic: float
    df: float
    error_df: float
    p: float
    contrasts: tuple[Contrast, ...]
    means: tuple[Estimate, ...]
    reason: str = ""


@dataclass(frozen=True)
class Components:
    """Mean squares of the figures, and the variance and three covariances of their errors.

    ``cov1``: same reader, two conditions; ``cov2``: two readers, same condition; ``cov3``: two readers, two conditions.
    ``of_condition`` holds mean square of readers, error variance and ``cov2`` of each condition alone, ``of_reader``
    error variance and ``cov1`` of each reader alone.
    """

    conditions: int
    readers: int
    ms_condition: float
    ms_reader: float
    ms_interaction: float
    error: float
    cov1: float
    cov2: float
    cov3: float
    of_condition: tuple[tuple[float, float, float], ...]
    of_reader: tuple[tuple[float, float], ...]

    @property
    def var_reader(self) -> float:
        """The variance of readers; an analysis-of-variance estimate, which may be negative."""
        return (self.ms_reader - self.ms_interaction) / self.conditions - self.cov1 + self.cov3

    @property
    def var_interaction(self) -> float:
        """The variance of what a condition does to one reader more than to another; may be negative."""
        return self.ms_interaction - self.error + self.cov1 + self.cov2 - self.cov3


def components(figures: Figures, covariance: Covariance) -> Components:
    """Return what the analyses are made of.

    Args:
        figures: of each reader under each condition.
        covariance: of all these figures, from case set to case set.

    Obuchowski, Rockette 1995, Communications in Statistics - Simulation and Computation 24(2).
    """
    conditions, readers = figures.shape
    squares = _mean_squares(figures)
    same_condition = np.eye(conditions, dtype=bool)[:, None, :, None]
    same_reader = np.eye(readers, dtype=bool)[None, :, None, :]

    def average(condition: bool, reader: bool) -> float:
        chosen = covariance[np.broadcast_to((same_condition == condition) & (same_reader == reader), covariance.shape)]
        return float(chosen.mean()) if chosen.size else 0.0

    within = [covariance[one, :, one, :] for one in range(conditions)]
    across = [covariance[:, one, :, one] for one in range(readers)]
    return Components(
        conditions,
        readers,
        *squares,
        error=average(True, True),
        cov1=average(False, True),
        cov2=average(True, False),
        cov3=average(False, False),
        of_condition=tuple(
            (_variance(figures[one]), float(np.diag(matrix).mean()), _off_diagonal(matrix))
            for one, matrix in enumerate(within)
        ),
        of_reader=tuple((float(np.diag(matrix).mean()), _off_diagonal(matrix)) for matrix in across),
    )


def _mean_squares(figures: Figures) -> tuple[float, float, float]:
    """Return the mean squares of conditions, readers and both together; NaN where there is one of a kind."""
    conditions, readers = figures.shape
    of_condition, of_reader = figures.mean(axis=1), figures.mean(axis=0)
    rest = figures - of_condition[:, None] - of_reader + figures.mean()
    freedom = (conditions - 1) * (readers - 1)
    interaction = float((rest**2).sum() / freedom) if freedom else float("nan")
    return readers * _variance(of_condition), conditions * _variance(of_reader), interaction


def _variance(values: Float[np.ndarray, " n"]) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else float("nan")


def _off_diagonal(matrix: Float[np.ndarray, "n n"]) -> float:
    outside = matrix[~np.eye(len(matrix), dtype=bool)]
    return float(outside.mean()) if outside.size else 0.0


def obuchowski_rockette(figures: Figures, covariance: Covariance, level: float = 0.95) -> tuple[Analysis, ...]:
    """Return the three analyses: readers and cases random, readers fixed, cases fixed.

    Hillis, Obuchowski, Schartz, Berbaum 2005, Statistics in Medicine 24(10); degrees of freedom: Hillis 2007,
    Statistics in Medicine 26(3); fixed readers and fixed cases: as in OR-DBM MRMC 2.51.
    """
    parts = components(figures, covariance)
    t, r = parts.conditions, parts.readers
    freedom, of_readers = float((t - 1) * (r - 1)), float(r - 1)
    both = parts.ms_interaction + r * max(parts.cov2 - parts.cov3, 0.0)
    cases = parts.error - parts.cov1 + (r - 1) * max(parts.cov2 - parts.cov3, 0.0)
    random, fixed, readers_only = SCOPES
    of = parts.of_condition
    return (
        _analysis(
            random,
            figures,
            parts,
            both,
            _hillis(both, parts.ms_interaction, freedom),
            [(ms + r * max(cov2, 0.0), _hillis(ms + r * max(cov2, 0.0), ms, of_readers)) for ms, _, cov2 in of],
            level,
        ),
        _analysis(
            fixed,
            figures,
            parts,
            cases,
            math.inf,
            [(error + (r - 1) * max(cov2, 0.0), math.inf) for _, error, cov2 in of],
            level,
        ),
        _analysis(
            readers_only, figures, parts, parts.ms_interaction, freedom, [(ms, of_readers) for ms, _, _ in of], level
        ),
    )


def _hillis(denominator: float, mean_square: float, freedom: float) -> float:
    """Return the degrees of freedom of a sum of which one part is an estimated mean square (Hillis 2007)."""
    if math.isnan(mean_square) or not freedom:
        return float("nan")
    return denominator**2 * freedom / mean_square**2 if mean_square > 0 else math.inf


def _analysis(
    scope: Scope,
    figures: Figures,
    parts: Components,
    denominator: float,
    error_df: float,
    single: list[tuple[float, float]],
    level: float,
) -> Analysis:
    """Return one analysis: ``denominator`` in units of the conditions' mean square, ``single`` of each mean alone."""
    r = parts.readers
    means = tuple(
        estimate(float(mean), math.sqrt(max(square, 0.0) / r), df, level)
        for mean, (square, df) in zip(figures.mean(axis=1), single, strict=True)
    )
    error = math.sqrt(2 / r * max(denominator, 0.0)) if not math.isnan(denominator) else float("nan")
    pairs = [(one, two) for one in range(parts.conditions) for two in range(one + 1, parts.conditions)]
    contrasts = tuple(
        contrast(one, two, float(figures[one].mean() - figures[two].mean()), error, error_df, level)
        for one, two in pairs
    )
    reason = _why_not(parts, scope, denominator)
    if reason:
        nan = float("nan")
        return Analysis(scope, nan, float(parts.conditions - 1), nan, nan, contrasts, means, reason)
    value, df = parts.ms_condition / denominator, float(parts.conditions - 1)
    p = float(stats.chi2.sf(value * df, df) if math.isinf(error_df) else stats.f.sf(value, df, error_df))
    return Analysis(scope, value * df if math.isinf(error_df) else value, df, error_df, p, contrasts, means)


def _why_not(parts: Components, scope: Scope, denominator: float) -> str:
    if parts.conditions < 2:
        return "one condition only: nothing to compare"
    if parts.readers < 2 and scope.startswith("random readers"):
        return "one reader only: says nothing about other readers"
    return "" if denominator > 0 else "no variation at all: every reader's figure is the same or cannot vary"


def estimate(value: float, error: float, df: float, level: float) -> Estimate:
    """Return a value with its t interval (normal for infinite degrees of freedom)."""
    half = _quantile(df, level) * error
    return Estimate(value, error, df, value - half, value + half)


def contrast(
    first: int, second: int, value: float, error: float, df: float, level: float, reader: int | None = None
) -> Contrast:
    """Return a difference with its t interval and test; no test where nothing varies."""
    half = _quantile(df, level) * error
    statistic = value / error if error > 0 else float("nan")
    p = float(2 * stats.t.sf(abs(statistic), df)) if error > 0 else float("nan")
    return Contrast(value, error, df, value - half, value + half, first, second, statistic, p, reader)


def _quantile(df: float, level: float) -> float:
    return float("nan") if math.isnan(df) or df <= 0 else float(stats.t.ppf((1 + level) / 2, df))


def of_each_reader(figures: Figures, covariance: Covariance, level: float = 0.95) -> tuple[Contrast, ...]:
    """Return each reader's own differences between conditions, over other cases; readers in their order."""
    conditions, readers = figures.shape
    of_reader = components(figures, covariance).of_reader
    return tuple(
        contrast(
            one,
            two,
            float(figures[one, reader] - figures[two, reader]),
            math.sqrt(max(2 * (of_reader[reader][0] - of_reader[reader][1]), 0.0)),
            math.inf,
            level,
            reader,
        )
        for reader in range(readers)
        for one in range(conditions)
        for two in range(one + 1, conditions)
    )


@dataclass(frozen=True)
class MeanSquares:
    """The analysis of variance of pseudovalues: condition, reader, case and what they do together."""

    condition: float
    reader: float
    case: float
    condition_reader: float
    condition_case: float
    reader_case: float
    all_three: float


def mean_squares(values: Float[np.ndarray, "condition reader case"]) -> MeanSquares:
    """Return the mean squares of a three-way table with one value per cell; NaN where there is one of a kind."""
    t, r, c = values.shape
    mean = values.mean()
    one = [values.mean(axis=axes) - mean for axes in ((1, 2), (0, 2), (0, 1))]
    two = [
        values.mean(axis=2) - mean - one[0][:, None] - one[1][None, :],
        values.mean(axis=1) - mean - one[0][:, None] - one[2][None, :],
        values.mean(axis=0) - mean - one[1][:, None] - one[2][None, :],
    ]
    rest = values - mean - one[0][:, None, None] - one[1][None, :, None] - one[2][None, None, :]
    rest = rest - two[0][:, :, None] - two[1][:, None, :] - two[2][None, :, :]

    def square(part: Float[np.ndarray, "*any"], repeated: int, freedom: int) -> float:
        return repeated * float((part**2).sum()) / freedom if freedom else float("nan")

    return MeanSquares(
        square(one[0], r * c, t - 1),
        square(one[1], t * c, r - 1),
        square(one[2], t * r, c - 1),
        square(two[0], c, (t - 1) * (r - 1)),
        square(two[1], r, (t - 1) * (c - 1)),
        square(two[2], t, (r - 1) * (c - 1)),
        square(rest, 1, (t - 1) * (r - 1) * (c - 1)),
    )


def dorfman_berbaum_metz(
    values: Float[np.ndarray, "condition reader case"], level: float = 0.95
) -> tuple[Analysis, ...]:
    """Return the three analyses from pseudovalues: readers and cases random, readers fixed, cases fixed.

    Dorfman, Berbaum, Metz 1992; with the changes of Hillis, Berbaum, Metz 2008, Academic Radiology 15(5).
    """
    t, r, c = values.shape
    figures = values.mean(axis=2)
    squares = mean_squares(values)
    parts = components(figures, np.zeros((t, r, t, r)))
    freedom, of_readers = float((t - 1) * (r - 1)), float(r - 1)
    both = squares.condition_reader + _above_zero(squares.condition_case - squares.all_three)
    alone = [mean_squares(values[one : one + 1]) for one in range(t)]
    single = [ms.reader + _above_zero(ms.case - ms.reader_case) for ms in alone]
    random, fixed, readers_only = SCOPES
    return (
        _analysis(
            random,
            figures,
            parts,
            both / c,
            _hillis(both, squares.condition_reader, freedom),
            [(one / c, _hillis(one, ms.reader, of_readers)) for one, ms in zip(single, alone, strict=True)],
            level,
        ),
        _analysis(
            fixed,
            figures,
            parts,
            squares.condition_case / c,
            float((t - 1) * (c - 1)),
            [(ms.case / c, float(c - 1)) for ms in alone],
            level,
        ),
        _analysis(
            readers_only,
            figures,
            parts,
            squares.condition_reader / c,
            freedom,
            [(ms.reader / c, of_readers) for ms in alone],
            level,
        ),
    )


def _above_zero(value: float) -> float:
    return max(value, 0.0) if not math.isnan(value) else value
