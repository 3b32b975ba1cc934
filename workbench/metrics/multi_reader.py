"""Readers' figures and how they vary together: the first half of a multi-reader multi-case analysis.

Every reader reads every case under every condition (here: alone, and with the model's answer). How the figures would
vary over other cases is found by leaving out one patient at a time, by DeLong's formula, or by drawing patients again;
`workbench.metrics.multi_reader_analysis` then asks whether the conditions differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import sparse

from workbench.metrics import sufficient
from workbench.metrics.reader_resampling import RESAMPLES, Stack
from workbench.metrics.resampling import TILE, totals
from workbench.metrics.sufficient import Sufficient
from workbench.schema.errors import WorkbenchError

Figures = Float[np.ndarray, "condition reader"]
Covariance = Float[np.ndarray, "condition reader condition reader"]
FigureName = Literal["roc_auc", "sensitivity", "specificity"]
Method = Literal["jackknife", "delong", "bootstrap"]

FIGURES: Final[dict[str, Callable[..., Sufficient]]] = {
    "roc_auc": sufficient.roc_auc,
    "sensitivity": sufficient.sensitivity,
    "specificity": sufficient.specificity,
}
"""What may be compared: the empirical area under the ROC curve (Wilcoxon), or the rates of calls."""


@dataclass(frozen=True)
class Readings:
    """A fully crossed study: every reader's score of every case under every condition.

    Args:
        scores: larger speaks for disease; calls, 0 or 1, for a sensitivity or specificity.
        truth: whether a case is diseased.
        patient: whose case it is; cases of one patient are left out or drawn together.
        figure: what is compared.

    Raises:
        WorkbenchError: a NaN score, calls that are not 0 or 1, or no case of a kind that the figure needs.
    """

    scores: Float[np.ndarray, "condition reader case"]
    truth: Bool[np.ndarray, " case"]
    patient: Shaped[np.ndarray, " case"]
    figure: FigureName = "roc_auc"

    def __post_init__(self) -> None:
        if np.isnan(self.scores).any():
            raise WorkbenchError("a score is missing", "keep the cases that every reader read under every condition")
        if self.figure != "roc_auc" and not np.isin(self.scores, (0.0, 1.0)).all():
            raise WorkbenchError(f"the {self.figure} is of calls, 0 or 1", "apply the threshold first")
        one_class = bool(self.truth.all() or not self.truth.any())
        if not self.counted.any() or (self.figure == "roc_auc" and one_class):
            found = f"{int(self.truth.sum())} diseased of {len(self.truth)} cases"
            raise WorkbenchError(f"no {self.figure} from {found}", "more cases must be read")

    @property
    def counted(self) -> Bool[np.ndarray, " case"]:
        """The cases that the figure is made of: all, the diseased, or the healthy."""
        if self.figure == "roc_auc":
            return np.ones(len(self.truth), dtype=bool)
        return self.truth if self.figure == "sensitivity" else ~self.truth

    @property
    def members(self) -> sparse.csr_array:
        """Which counted case (row) is which patient's (column)."""
        rows = np.flatnonzero(self.counted)
        names, code = np.unique(self.patient[rows], return_inverse=True)
        return sparse.csr_array((np.ones(len(rows)), (rows, code)), shape=(len(self.truth), len(names)))

    @property
    def metrics(self) -> Stack:
        """The figure of each condition and reader, readers fastest."""
        flat = self.scores.reshape(-1, self.scores.shape[2])
        answers = flat if self.figure == "roc_auc" else flat.astype(bool)
        return Stack(tuple(FIGURES[self.figure](self.truth, answer) for answer in answers))

    def figures(self) -> Figures:
        """Return the figure of every reader under every condition."""
        values = [sufficient.once(metric) for metric in self.metrics.metrics]
        return np.array(values).reshape(self.scores.shape[:2])


def jackknife(readings: Readings) -> Float[np.ndarray, "patient condition reader"]:
    """Return every figure with one patient left out, over the patients of whom the figure is made.

    Raises:
        WorkbenchError: without a certain patient there is no figure.
    """
    members = readings.members
    left_out = [np.concatenate(list(_left_out(metric, members))) for metric in readings.metrics.metrics]
    values = np.stack(left_out, axis=1).reshape(-1, *readings.scores.shape[:2])
    if np.isnan(values).any():
        raise WorkbenchError(f"the {readings.figure} rests on a single patient", "more patients must be read")
    return values


def _left_out(metric: Sufficient, members: sparse.csr_array) -> Iterator[Float[np.ndarray, " patient"]]:
    per_patient = sparse.csc_array(metric.sums @ members)
    whole = np.asarray(per_patient.sum(axis=1), dtype=np.float64)[:, None]
    width = max(1, TILE // whole.size)
    for first in range(0, per_patient.shape[1], width):
        yield metric.finish(whole - per_patient[:, first : first + width].toarray())


def jackknife_covariance(readings: Readings) -> Covariance:
    """Return the covariance of the figures by leaving out one patient at a time.

    Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans.
    """
    values = jackknife(readings)
    return _covariance_of(values) * (len(values) - 1) ** 2 / len(values)


def bootstrap_covariance(readings: Readings, *, seed: int, resamples: int = RESAMPLES) -> Covariance:
    """Return the covariance of the figures over resamples of patients with replacement."""
    stack, members = readings.metrics, readings.members
    counted = readings.counted
    code = members[counted].indices.astype(np.int64)
    sums = sparse.csr_array(stack.sums[:, counted])
    drawn = totals(sums, code, members.shape[1], resamples, np.random.default_rng(seed))
    values = np.concatenate([stack.finish(tile) for tile in drawn], axis=1).T
    defined = values[~np.isnan(values).any(axis=1)]
    if 2 * len(defined) < len(values):
        found = f"only {len(defined)} of {len(values)} resamples have a {readings.figure}"
        raise WorkbenchError(found, "more patients of both kinds must be read")
    return _covariance_of(defined.reshape(-1, *readings.scores.shape[:2]))


def _covariance_of(values: Float[np.ndarray, "resample condition reader"]) -> Covariance:
    _, conditions, readers = values.shape
    flat = values.reshape(len(values), -1)
    centred = flat - flat.mean(axis=0)
    return (centred.T @ centred / (len(values) - 1)).reshape(conditions, readers, conditions, readers)


def delong_covariance(readings: Readings) -> Covariance:
    """Return the covariance of empirical areas under the ROC curve by their structural components.

    Raises:
        WorkbenchError: another figure, fewer than two cases of a kind, or a patient with several cases.

    DeLong, DeLong, Clarke-Pearson 1988, Biometrics 44(3).
    """
    if readings.figure != "roc_auc":
        raise WorkbenchError(f"DeLong's covariance is of the ROC area, not the {readings.figure}", "use the jackknife")
    if len(np.unique(readings.patient)) < len(readings.patient):
        raise WorkbenchError("DeLong's covariance needs one case per patient", "use the jackknife")
    if min(int(readings.truth.sum()), int((~readings.truth).sum())) < 2:
        raise WorkbenchError("DeLong's covariance needs two diseased and two healthy cases", "more must be read")
    conditions, readers, _ = readings.scores.shape
    of_diseased, of_healthy = _placements(readings)
    covariance = np.atleast_2d(np.cov(of_diseased)) / of_diseased.shape[1]
    covariance = covariance + np.atleast_2d(np.cov(of_healthy)) / of_healthy.shape[1]
    return covariance.reshape(conditions, readers, conditions, readers)


def _placements(
    readings: Readings,
) -> tuple[Float[np.ndarray, "figure diseased"], Float[np.ndarray, "figure healthy"]]:
    """Return the share of the other kind that each case is ranked right against, ties counting one half."""
    flat = readings.scores.reshape(-1, readings.scores.shape[2])
    of_diseased, of_healthy = [], []
    for diseased, healthy in zip(flat[:, readings.truth], flat[:, ~readings.truth], strict=True):
        of_diseased.append(_below(np.sort(healthy), diseased) / len(healthy))
        of_healthy.append(1 - _below(np.sort(diseased), healthy) / len(diseased))
    return np.stack(of_diseased), np.stack(of_healthy)


def _below(ordered: Float[np.ndarray, " m"], values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    low, high = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return (low + high) / 2


def covariance(readings: Readings, method: Method = "jackknife", *, seed: int = 0) -> Covariance:
    """Return the covariance of the figures by the method of that name."""
    if method == "delong":
        return delong_covariance(readings)
    return jackknife_covariance(readings) if method == "jackknife" else bootstrap_covariance(readings, seed=seed)


def pseudovalues(readings: Readings) -> Float[np.ndarray, "condition reader patient"]:
    """Return each patient's stand-in for every figure: what the figure loses without that patient, times all patients.

    Dorfman, Berbaum, Metz 1992, Investigative Radiology 27(9).
    """
    left_out = jackknife(readings)
    n = len(left_out)
    return np.moveaxis(n * readings.figures() - (n - 1) * left_out, 0, -1)
