"""Sets of grades that hold the true one as often as promised, whatever the model. No torch here.

Split conformal prediction: a score says how little a grade fits an answer; on a table with true grades the score below
which enough of them lie is found; a set is every grade below it. The promise holds for new patients like those of the
table (exchangeable with them), over the drawing of both; not under a stress, another camera, another country.

**Two eyes are not two patients.** Calibrating on all eyes as if each came alone counts a patient twice and promises too
much. What is promised here, ``guarantee``:

- ``eye``: a random eye of a new patient is covered with probability of at least the coverage. Each patient counts
  once, shared among its eyes, and one more patient stands for the new one (hierarchical conformal prediction: Lee,
  Barber, Willett 2023, after Dunn, Wasserman, Ramdas 2022, J. Am. Stat. Assoc. 118). Exact for any number of patients.
- ``sampled_eye``: the same promise from one eye per patient, drawn by a hash (Dunn et al. 2022, 'subsampling once').
- ``patient``: *all* eyes of a new patient are covered at once: each patient counts by its worst eye. Larger sets.

MAPIE and TorchCP give the same LAC (and TorchCP the same APS) thresholds and sets on one eye per patient. They are not
used, because neither has contiguous sets, clusters of eyes, or a class-conditional rule that says 'too few'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int64, Shaped
from pydantic import Field

from workbench.schema.config import Config
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import UNGRADED
from workbench.schema.seeds import seed_for

Table = Float[np.ndarray, "*rows grade"]
Guarantee = Literal["eye", "sampled_eye", "patient"]
ROUNDING: Final = 1e-9
"""So that 0.9 × 10 patients are nine patients and not a hair more."""


def ordinal(p: Table) -> Float[np.ndarray, "*rows grade"]:
    """Return for each grade the probability that is gathered before it joins, growing from the most probable grade.

    The set grows by the more probable of its two neighbours (the graver of equal ones), so it never has a gap; the most
    probable grade scores 0 and is always in. Ordinal adaptive prediction sets: Lu et al. 2022, MICCAI.

    >>> ordinal(np.array([0.5, 0.125, 0.25, 0.125])).tolist()
    [0.0, 0.5, 0.625, 0.875]
    """
    flat = p.reshape(-1, p.shape[-1]).astype(np.float64)
    unknown = np.isnan(flat).any(axis=1, keepdims=True)
    flat = np.where(unknown, 0.0, flat)
    rows, grades = np.arange(len(flat)), flat.shape[1]
    walled = np.pad(flat, ((0, 0), (1, 1)), constant_values=-1.0)  # a wall at either end is never more probable
    low = high = flat.argmax(axis=1)
    scores = np.zeros_like(flat)
    gathered = flat[rows, low]
    for _ in range(grades - 1):
        up = ~(walled[rows, low] > walled[rows, high + 2])
        joining = np.where(up, high + 1, low - 1)
        scores[rows, joining] = gathered
        gathered = gathered + flat[rows, joining]
        low, high = np.where(up, low, joining), np.where(up, joining, high)
    return np.where(unknown, np.nan, scores).reshape(p.shape)


def lac(p: Table) -> Float[np.ndarray, "*rows grade"]:
    """Return 1 - p of each grade: the smallest sets on average, gaps allowed (Sadinle, Lei, Wasserman 2019)."""
    return 1 - p.astype(np.float64)


def aps(p: Table) -> Float[np.ndarray, "*rows grade"]:
    """Return the probability gathered from the most probable grade down to each, itself counted; gaps allowed.

    Adaptive prediction sets, without randomisation: Romano, Sesia, Candès 2020, NeurIPS.
    """
    wide = p.astype(np.float64)
    order = np.argsort(-wide, axis=-1, kind="stable")
    gathered = np.cumsum(np.take_along_axis(wide, order, axis=-1), axis=-1)
    return np.take_along_axis(gathered, np.argsort(order, axis=-1, kind="stable"), axis=-1)


SCORES: Final[dict[str, Callable[[Table], Float[np.ndarray, "*rows grade"]]]] = {
    "ordinal": ordinal,
    "lac": lac,
    "aps": aps,
}

KINDS: Final = {
    "ordinal": ("ordinal", False),
    "class_conditional": ("ordinal", True),
    "lac": ("lac", False),
    "aps": ("aps", False),
}
"""What sets are made of: a score, and whether each true grade has a threshold of its own."""


class Bounds(NamedTuple):
    """The lowest and the highest grade of each set; -1 where there is no answer."""

    low: Int64[np.ndarray, "*rows"]
    high: Int64[np.ndarray, "*rows"]


class GradeSets(Config):
    """A threshold for each grade; a set holds the grades whose score does not exceed theirs."""

    kind: Literal["ordinal", "class_conditional", "lac", "aps"]
    coverage: float = Field(gt=0, lt=1)
    guarantee: Guarantee
    thresholds: tuple[float | None, ...]
    """Per grade; None: too few patients for any promise, so the grade is in every set."""
    patients: tuple[int, ...]
    """Behind each threshold."""

    @property
    def reasons(self) -> dict[int, str]:
        """Why a grade is in every set, for each that is."""
        least = fewest_patients(self.coverage)
        return {
            grade: f"{count} patients to fix its threshold on, at least {least} are needed: it is in every set"
            for grade, (threshold, count) in enumerate(zip(self.thresholds, self.patients, strict=True))
            if threshold is None
        }

    def members(self, p: Table) -> Bool[np.ndarray, "*rows grade"]:
        """Return which grades are in each set; none where there is no answer.

        Ordinal sets are filled between their ends, which thresholds that differ by grade may leave open; an empty one
        (lac, aps) is given its most probable grade. Either only adds grades.
        """
        score, _ = KINDS[self.kind]
        limits = np.array([np.inf if limit is None else limit for limit in self.thresholds])
        inside = SCORES[score](p) <= limits
        answered = ~np.isnan(p).any(axis=-1, keepdims=True)
        empty = ~inside.any(axis=-1, keepdims=True)
        inside |= empty & (np.arange(p.shape[-1]) == np.nan_to_num(p, nan=-1.0).argmax(axis=-1)[..., None])
        if score == "ordinal":
            inside = filled(inside)
        return inside & answered

    def apply(self, p: Table) -> Bounds:
        """Return the lowest and the highest grade of each set."""
        return bounds(self.members(p))


def filled(members: Bool[np.ndarray, "*rows grade"]) -> Bool[np.ndarray, "*rows grade"]:
    """Return the sets with every grade between their lowest and highest."""
    below = np.logical_or.accumulate(members, axis=-1)
    above = np.logical_or.accumulate(members[..., ::-1], axis=-1)[..., ::-1]
    return below & above


def bounds(members: Bool[np.ndarray, "*rows grade"]) -> Bounds:
    """Return the lowest and the highest grade of each set; -1 for an empty one."""
    none = ~members.any(axis=-1)
    low, high = members.argmax(axis=-1), members.shape[-1] - 1 - members[..., ::-1].argmax(axis=-1)
    return Bounds(*(np.where(none, UNGRADED, ends).astype(np.int64) for ends in (low, high)))


def fewest_patients(coverage: float) -> int:
    """Return how many patients a promise of that coverage needs: with fewer even the worst of them promises less.

    >>> fewest_patients(0.9), fewest_patients(0.95)
    (9, 19)
    """
    return int(np.ceil(coverage / (1 - coverage) - ROUNDING))


def fit_grade_sets(
    p: Float[np.ndarray, "n grade"],
    grade: Int[np.ndarray, " n"],
    patients: Shaped[np.ndarray, " n"],
    *,
    coverage: float = 0.9,
    kind: str = "ordinal",
    guarantee: Guarantee = "eye",
    seed: int = 0,
) -> GradeSets:
    """Return the sets that hold the true grade of new patients with probability ``coverage``.

    ``class_conditional`` (Mondrian: Vovk 2012, ACML) promises it for each true grade by itself, from the patients with
    an eye of that grade; a grade with fewer than `fewest_patients` is in every set. Rows without a grade or with a NaN
    are left out.

    Args:
        p: grade probabilities of each eye.
        grade: its true grade, -1 for none.
        patients: whose eye it is.
        coverage: in (0, 1).
        kind: a key of `KINDS`.
        guarantee: for whom, see the module.
        seed: of the hash that draws one eye per patient (``sampled_eye``).

    Raises:
        WorkbenchError: no such kind, or a true grade that the table has no probability of.
    """
    if kind not in KINDS:
        raise WorkbenchError(f"no conformal sets of kind {kind!r}", f"choose one of {', '.join(KINDS)}")
    grades = p.shape[1]
    known = (grade != UNGRADED) & ~np.isnan(p).any(axis=1)
    p, grade, patients = p[known], grade[known], patients[known]
    if len(grade) and not 0 <= grade.min() <= grade.max() < grades:
        raise WorkbenchError(f"a true grade of {grade.max()} among {grades} columns", "give a column for each grade")
    score, by_grade = KINDS[kind]
    own = SCORES[score](p)[np.arange(len(p)), grade]
    parts = [grade == number for number in range(grades)] if by_grade else [np.ones(len(p), dtype=bool)]
    found = [patient_quantile(own[part], patients[part], coverage, guarantee, seed) for part in parts]
    limits, counts = zip(*(found if by_grade else found * grades), strict=True)
    return GradeSets(kind=kind, coverage=coverage, guarantee=guarantee, thresholds=limits, patients=counts)


def patient_quantile(
    scores: Float[np.ndarray, " n"],
    patients: Shaped[np.ndarray, " n"],
    coverage: float,
    guarantee: Guarantee = "eye",
    seed: int = 0,
) -> tuple[float | None, int]:
    """Return the least score with enough patients at or below it, one more counted above all, and how many they are.

    Enough are ``coverage`` × (patients + 1); with one eye per patient it is the ⌈(n + 1) coverage⌉-th smallest. None
    where even all are not enough.
    """
    names, code, count = np.unique(patients, return_inverse=True, return_counts=True)
    if guarantee == "patient":
        worst = np.full(len(names), -np.inf)
        np.maximum.at(worst, code, scores)
        scores, weight = worst, np.ones(len(names))
    elif guarantee == "sampled_eye":
        first = np.cumsum(count) - count
        picked = [seed_for(seed, str(name), "eye") % int(eyes) for name, eyes in zip(names, count, strict=True)]
        scores = scores[np.argsort(code, kind="stable")[first + np.array(picked, dtype=np.int64)]]
        weight = np.ones(len(names))
    else:
        weight = 1 / count[code]
    order = np.argsort(scores, kind="stable")
    enough = coverage * (len(names) + 1) - ROUNDING
    place = int(np.searchsorted(np.cumsum(weight[order]), enough))
    return (float(scores[order[place]]) if place < len(order) else None), len(names)
