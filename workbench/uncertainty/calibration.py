"""Set probabilities right on a table of answers and true grades: fit on one table, apply to another. No torch here.

`fit_temperature` and `fit_vector` change the five grade probabilities, `fit_isotonic` and `fit_logistic` P(referable)
alone. All work on stored probabilities: the logarithm of a pooled probability stands where a logit would. What is
fitted is frozen and JSON-serialisable (``model_dump_json``, ``model_validate_json``). Data too few give the identity,
with the reason. Decisions are made on the probabilities as they were, since the model's threshold was chosen there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.optimize import isotonic_regression, minimize, minimize_scalar
from scipy.special import expit, log_softmax, logsumexp

from workbench.metrics.calibration import LEAST
from workbench.metrics.recalibration import calibration_line, log_odds
from workbench.schema.config import Config
from workbench.schema.grades import REFERABLE_GRADE, UNGRADED
from workbench.uncertainty.scores import p_referable

Table = Float[np.ndarray, "n grade"]
Grades = Int[np.ndarray, " n"]
Patients = Shaped[np.ndarray, " n"]
Referable = Float[np.ndarray, " n"]
Outcomes = Bool[np.ndarray, " n"]

FEWEST: Final = 10
"""Patients of each kind (referable and not; each grade) without whom nothing is fitted: ten per coefficient, about."""
FEWEST_FOR_A_CURVE: Final = 50
"""The same for isotonic regression, which fits as many numbers as it likes (Niculescu-Mizil, Caruana 2005)."""
STEEPEST: Final = 20.0
"""A temperature lies between 1/20 and 20."""


class GradeScaling(Config):
    """Grade probabilities: softmax of (slope of the grade × log p + offset of the grade)."""

    kind: Literal["temperature", "vector"]
    slopes: tuple[float, ...]
    offsets: tuple[float, ...]
    eyes: int
    patients: int
    reason: str | None = None
    """Why nothing was fitted: it then changes nothing."""

    def apply(self, p: Float[np.ndarray, "*rows grade"]) -> Float[np.ndarray, "*rows grade"]:
        """Return the calibrated grade probabilities; NaN stays NaN."""
        if self.reason is not None:
            return p
        logs = _logs(p) * np.array(self.slopes) + np.array(self.offsets)
        return np.exp(logs - logsumexp(logs, axis=-1, keepdims=True))

    def p_referable(self, p: Float[np.ndarray, "*rows grade"]) -> Float[np.ndarray, "*rows"]:
        """Return the calibrated P(referable) of grade probabilities."""
        return p_referable(self.apply(p))


class ReferableCurve(Config):
    """P(referable) of P(referable): a non-decreasing curve, given by a logistic line or by points."""

    kind: Literal["isotonic", "logistic"]
    slope: float = 1.0
    intercept: float = 0.0
    points: tuple[tuple[float, float], ...] = ()
    eyes: int
    patients: int
    reason: str | None = None
    """Why nothing was fitted: it then changes nothing."""

    def apply(self, p: Float[np.ndarray, "*rows"]) -> Float[np.ndarray, "*rows"]:
        """Return the calibrated P(referable) of P(referable); NaN stays NaN."""
        if self.reason is not None:
            return p
        if self.kind == "logistic":
            return expit(self.intercept + self.slope * log_odds(p))
        x, y = np.array(self.points).T
        return np.interp(p, x, y)


def fit_temperature(p: Table, grade: Grades, patients: Patients) -> GradeScaling:
    """Return the one slope (1/temperature) of the log-probabilities under which the true grades are likeliest.

    Guo et al. 2017, ICML. The likelihood is concave in the slope, so the search cannot miss. Rows without a grade or
    with a NaN are left out, here and in every other fit.

    Args:
        p: grade probabilities of each eye.
        grade: its true grade, -1 for none.
        patients: whose eye it is.
    """
    p, grade, patients = _known(p, grade, patients)
    grades = p.shape[1]
    fitted = {"eyes": len(p), "patients": len(np.unique(patients))}
    reason = _too_few_referable(grade >= REFERABLE_GRADE, patients, FEWEST)
    if reason is not None:
        return GradeScaling(
            kind="temperature", slopes=(1.0,) * grades, offsets=(0.0,) * grades, **fitted, reason=reason
        )
    logs, every = _logs(p), np.arange(len(p))

    def loss(log_slope: float) -> float:
        return -float(log_softmax(np.exp(log_slope) * logs, axis=1)[every, grade].mean())

    bounds = (-np.log(STEEPEST), np.log(STEEPEST))
    slope = float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-8}).x))
    return GradeScaling(kind="temperature", slopes=(slope,) * grades, offsets=(0.0,) * grades, **fitted)


def fit_vector(p: Table, grade: Grades, patients: Patients) -> GradeScaling:
    """Return a slope and an offset for each grade's log-probability under which the true grades are likeliest.

    Guo et al. 2017, ICML, with a normal prior of standard deviation 1 around slope 1 and offset 0 (compare Kull et al.
    2019, NeurIPS): it counts for nothing among hundreds of eyes and holds the offset of a grade that is next to absent.
    """
    p, grade, patients = _known(p, grade, patients)
    grades = p.shape[1]
    fitted = {"eyes": len(p), "patients": len(np.unique(patients))}
    counts = [len(np.unique(patients[grade == number])) for number in range(grades)]
    fewest = int(np.argmin(counts))
    if counts[fewest] < FEWEST:
        reason = f"grade {fewest} has {_patients(counts[fewest])} to calibrate on, at least {FEWEST} are needed"
        return GradeScaling(kind="vector", slopes=(1.0,) * grades, offsets=(0.0,) * grades, **fitted, reason=reason)
    logs, truth = _logs(p), np.eye(grades)[grade]

    def loss(theta: Float[np.ndarray, " twice"]) -> tuple[float, Float[np.ndarray, " twice"]]:
        scaled = log_softmax(logs * theta[:grades] + theta[grades:], axis=1)
        off = np.exp(scaled) - truth
        pull = np.concatenate([theta[:grades] - 1, theta[grades:]])
        gradient = np.concatenate([(off * logs).sum(axis=0), off.sum(axis=0)]) + pull
        return float(-(scaled * truth).sum() + (pull**2).sum() / 2), gradient

    start = np.concatenate([np.ones(grades), np.zeros(grades)])
    bounds = [(0.0, STEEPEST)] * grades + [(None, None)] * grades
    theta = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000}).x.tolist()
    return GradeScaling(kind="vector", slopes=tuple(theta[:grades]), offsets=tuple(theta[grades:]), **fitted)


def fit_logistic(p: Float[np.ndarray, " n"], referable: Bool[np.ndarray, " n"], patients: Patients) -> ReferableCurve:
    """Return the logistic line on log P/(1 - P) under which the outcomes are likeliest: it keeps the order of the eyes.

    Cox 1958; Platt 1999, on log-odds instead of a margin.

    Args:
        p: P(referable) of each eye.
        referable: whether it is.
        patients: whose eye it is.
    """
    known = ~np.isnan(p)
    p, referable, patients = p[known], referable[known], patients[known]
    fitted = {"eyes": len(p), "patients": len(np.unique(patients))}
    reason = _too_few_referable(referable, patients, FEWEST)
    if reason is not None:
        return ReferableCurve(kind="logistic", **fitted, reason=reason)
    line = calibration_line(referable, p)
    if np.isnan(line.slope):
        return ReferableCurve(kind="logistic", **fitted, reason="the probabilities part the classes: no finite line")
    if line.slope <= 0:
        return ReferableCurve(kind="logistic", **fitted, reason="the probabilities rank the eyes the wrong way round")
    return ReferableCurve(kind="logistic", slope=line.slope, intercept=line.intercept, **fitted)


def fit_isotonic(p: Float[np.ndarray, " n"], referable: Bool[np.ndarray, " n"], patients: Patients) -> ReferableCurve:
    """Return the non-decreasing curve nearest to the outcomes, straight between its points.

    Zadrozny, Elkan 2002, KDD. It is kept off 0 and 1 by 1/(eyes + 2): none among so many is no proof of never.
    """
    known = ~np.isnan(p)
    p, referable, patients = p[known], referable[known], patients[known]
    fitted = {"eyes": len(p), "patients": len(np.unique(patients))}
    reason = _too_few_referable(referable, patients, FEWEST_FOR_A_CURVE)
    if reason is not None:
        return ReferableCurve(kind="isotonic", **fitted, reason=reason)
    x, group, count = np.unique(p, return_inverse=True, return_counts=True)
    rate = np.bincount(group, weights=referable) / count
    edge = 1 / (len(p) + 2)
    y = np.clip(isotonic_regression(rate, weights=count).x, edge, 1 - edge)
    # Only the ends of each step are needed: between them the curve is flat.
    ends = np.append(True, np.diff(y) > 0) | np.append(np.diff(y) > 0, True)
    points = tuple(zip(x[ends].tolist(), y[ends].tolist(), strict=True))
    return ReferableCurve(kind="isotonic", points=points, **fitted)


OF_GRADES: Final[dict[str, Callable[[Table, Grades, Patients], GradeScaling]]] = {
    "temperature": fit_temperature,
    "vector": fit_vector,
}
OF_REFERABLE: Final[dict[str, Callable[[Referable, Outcomes, Patients], ReferableCurve]]] = {
    "isotonic": fit_isotonic,
    "logistic": fit_logistic,
}
"""The names that a policy may hold beside ``none``: `OF_GRADES` need grade probabilities, these P(referable) alone."""

CALIBRATIONS: Final = ("none", *OF_GRADES, *OF_REFERABLE)


def _logs(p: Float[np.ndarray, "*rows grade"]) -> Float[np.ndarray, "*rows grade"]:
    return np.log(np.maximum(p.astype(np.float64), LEAST))


def _known(
    p: Table, grade: Grades, patients: Patients
) -> tuple[Float[np.ndarray, "kept grade"], Int[np.ndarray, " kept"], Shaped[np.ndarray, " kept"]]:
    known = (grade != UNGRADED) & ~np.isnan(p).any(axis=1)
    return p[known], grade[known], patients[known]


def _too_few_referable(referable: Outcomes, patients: Patients, fewest: int) -> str | None:
    for words, chosen in (("a referable eye", referable), ("an eye that is not referable", ~referable)):
        found = len(np.unique(patients[chosen]))
        if found < fewest:
            return f"{_patients(found)} with {words} to calibrate on, at least {fewest} are needed"
    return None


def _patients(count: int) -> str:
    return f"{count} patient" + ("" if count == 1 else "s")
