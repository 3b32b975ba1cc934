"""How unlike the training photographs an eye is: one number per eye, larger = more unlike. Numpy, no torch.

`Reference` holds what is known of some training eyes; `Detector` is fitted on one half of it, and the other half, of
other patients, says which scores training eyes have that the detector was not fitted on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.special import logsumexp
from sklearn.covariance import ledoit_wolf
from threadpoolctl import threadpool_limits

from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import UNGRADED
from workbench.schema.specs import UNLIKE_SCORES

NEIGHBOURS: Final = 50
"""Which nearest training eye counts, as Sun et al. took for CIFAR; on real photographs better than the 1st to 10th."""

Scores = dict[str, Float[np.ndarray, " eye"]]


@dataclass(frozen=True)
class Seen:
    """What is known of some eyes: the model's features and energy, and what the photographs look like.

    Attributes:
        features: the input of the model's last linear layer, without dropout.
        energy: see `energy_of`.
        appearance: see `workbench.uncertainty.appearance`.
    """

    features: Float[np.ndarray, "eye feature"]
    energy: Float[np.ndarray, " eye"]
    appearance: Float[np.ndarray, "eye number"]

    def where(self, chosen: Bool[np.ndarray, " eye"]) -> Seen:
        """Return what is known of the chosen eyes."""
        return Seen(self.features[chosen], self.energy[chosen], self.appearance[chosen])


@dataclass(frozen=True)
class Reference:
    """What is known of some training eyes.

    Attributes:
        seen: one row per eye.
        grade: the true grades, -1 for none.
        held_out: the eyes that are kept for percentiles; no patient of theirs is among the others.
        layer: where the features were taken.
        shared: whether the features are of an exam; its eyes then stand one after the other with the same features, and
            with the grade of the worse one.
        model_hash: of the model that made them.
        manifest_hash: of the manifest that the eyes are from.
    """

    seen: Seen
    grade: Int64[np.ndarray, " eye"]
    held_out: Bool[np.ndarray, " eye"]
    layer: str
    shared: bool
    model_hash: str
    manifest_hash: str


def energy_of(logits: Float[np.ndarray, "*rows grade"]) -> Float[np.ndarray, "*rows"]:
    """Return −log Σ exp(logit): high where no grade is spoken for.

    Liu et al. 2020, NeurIPS (at temperature 1; its score is minus this).
    """
    return -logsumexp(logits.astype(np.float64), axis=-1)


class Detector:
    """Scores of unlikeness, fitted on the reference eyes that are not held out.

    - *appearance*: squared Mahalanobis distance of what the photograph looks like; it does not pass through the model.
    - *mahalanobis*: the same of the features, to the nearest mean of a grade, one covariance for all grades (Lee et
      al. 2018, NeurIPS). Both covariances are shrunk as Ledoit and Wolf 2004.
    - *nearest_neighbours*: distance to the `NEIGHBOURS`-th nearest eye on the unit sphere (Sun et al. 2022, ICML).
    - *energy*: see `energy_of`; it needs no fit.

    Linear algebra runs on one thread, so that the same eyes give the same bytes on any number of cores.

    Raises:
        WorkbenchError: fewer than two eyes to fit on.
    """

    def __init__(self, reference: Reference) -> None:
        fitted = reference.seen.where(~reference.held_out)
        if len(fitted.features) < 2:
            few = f"the reference has {len(fitted.features)} eye(s) to fit on"
            raise WorkbenchError(few, "make it of more photographs")
        self._centre, self._spread = fitted.appearance.mean(axis=0), fitted.appearance.std(axis=0) + 1e-9
        self._looks = _whitening(self._standard(fitted.appearance))
        once = np.ones(len(fitted.features), dtype=bool)
        if reference.shared:
            once[1:] = (fitted.features[1:] != fitted.features[:-1]).any(axis=1)
        features = fitted.features[once].astype(np.float64)
        self.means, residuals = _around_class_means(features, reference.grade[~reference.held_out][once])
        self._whitening = _whitening(residuals)
        self._white_means = self.means @ self._whitening
        self._directions = _unit(features)

    def scores(self, seen: Seen) -> Scores:
        """Return each score per eye; NaN for an eye whose features or appearance are not finite.

        Raises:
            WorkbenchError: features of another length than the reference's.
        """
        if seen.features.shape[1] != self.means.shape[1]:
            raise WorkbenchError(
                f"features of length {seen.features.shape[1]}, the reference has {self.means.shape[1]}",
                "make it again with 'workbench model reference'",
            )
        known = np.isfinite(seen.features).all(axis=1) & np.isfinite(seen.appearance).all(axis=1)
        some = seen.where(known)
        with threadpool_limits(1, user_api="blas"):
            found = {
                "appearance": ((self._standard(some.appearance) @ self._looks) ** 2).sum(axis=1),
                "mahalanobis": self._mahalanobis(some.features.astype(np.float64)),
                "nearest_neighbours": self._nearest_neighbours(some.features.astype(np.float64)),
                "energy": some.energy.astype(np.float64),
            }
        scores = {name: np.full(len(known), np.nan) for name in UNLIKE_SCORES}
        for name, values in found.items():
            scores[name][known] = values
        return scores

    def _standard(self, appearance: Float[np.ndarray, "eye number"]) -> Float[np.ndarray, "eye number"]:
        return (appearance - self._centre) / self._spread

    def _mahalanobis(self, features: Float[np.ndarray, "eye feature"]) -> Float[np.ndarray, " eye"]:
        white = features @ self._whitening
        return ((white[:, None] - self._white_means[None]) ** 2).sum(axis=-1).min(axis=1)

    def _nearest_neighbours(self, features: Float[np.ndarray, "eye feature"]) -> Float[np.ndarray, " eye"]:
        squared = np.maximum(2 - 2 * _unit(features) @ self._directions.T, 0)
        kth = min(NEIGHBOURS, len(self._directions)) - 1
        return np.sqrt(np.partition(squared, kth, axis=1)[:, kth])


def held_out_scores(reference: Reference, detector: Detector) -> Scores:
    """Return the scores of the reference eyes that the detector was not fitted on."""
    return detector.scores(reference.seen.where(reference.held_out))


def cutoff_of(held_out: Float[np.ndarray, " eye"], percentile: float) -> float:
    """Return the score above which an eye is flagged: at most 1 − ``percentile``/100 of eyes like these exceed it.

    The ⌈(n + 1) · percentile / 100⌉-th smallest of n, as in conformal prediction; infinite where n is too small for
    the percentile (99 eyes for the 99th), and then no eye is flagged.

    >>> cutoff_of(np.arange(1.0, 100.0), 99.0), cutoff_of(np.arange(1.0, 99.0), 99.0)
    (99.0, inf)
    """
    known = np.sort(held_out[~np.isnan(held_out)])
    rank = math.ceil(round((len(known) + 1) * percentile / 100, 9))
    return float(known[rank - 1]) if rank <= len(known) else float("inf")


def unlike_cutoffs(
    held_out: Mapping[str, Float[np.ndarray, " eye"]], names: Sequence[str], percentile: float
) -> dict[str, float]:
    """Return the cut-off of each named score; of several, each takes its share of the flags allowed (Bonferroni)."""
    each = 100 - (100 - percentile) / max(len(names), 1)
    return {name: cutoff_of(held_out[name], each) for name in names}


def is_unlike(
    scores: Mapping[str, Float[np.ndarray, "*eyes"]], cutoffs: Mapping[str, float]
) -> Bool[np.ndarray, "*eyes"]:
    """Return which eyes exceed the cut-off of any named score; an eye without a score does not."""
    return np.logical_or.reduce([scores[name] > cutoff for name, cutoff in cutoffs.items()])


def percentile_of(
    scores: Float[np.ndarray, "*eyes"], held_out: Float[np.ndarray, " kept"]
) -> Float[np.ndarray, "*eyes"]:
    """Return which percentage of the held-out eyes has a lower score, 0 to 100; NaN stays NaN."""
    known = np.sort(held_out[~np.isnan(held_out)])
    share = np.searchsorted(known, scores, side="left") / max(len(known), 1)
    return np.where(np.isnan(scores), np.nan, 100 * share)


def halve_by_patient(patient: Sequence[str]) -> Bool[np.ndarray, " eye"]:
    """Return which eyes are held out: those of every second patient, in the order of their first eye."""
    number = {name: place for place, name in enumerate(dict.fromkeys(patient))}
    return np.array([number[name] % 2 == 1 for name in patient], dtype=bool)


def _around_class_means(
    features: Float[np.ndarray, "eye feature"], grade: Int64[np.ndarray, " eye"]
) -> tuple[Float[np.ndarray, "class feature"], Float[np.ndarray, "graded feature"]]:
    """Return the mean of each grade, and what is left of the graded eyes; where there are no grades, of all eyes."""
    graded = grade != UNGRADED
    if graded.sum() < 2:
        grade, graded = np.zeros_like(grade), np.ones_like(graded)
    classes = np.unique(grade[graded])
    means = np.stack([features[grade == one].mean(axis=0) for one in classes])
    return means, features[graded] - means[np.searchsorted(classes, grade[graded])]


def _whitening(centred: Float[np.ndarray, "eye feature"]) -> Float[np.ndarray, "feature feature"]:
    """Return W with W Wᵀ the inverse of the shrunk covariance, so that |xW|² is the squared distance."""
    with threadpool_limits(1, user_api="blas"):
        covariance, _ = ledoit_wolf(centred, assume_centered=True)
        # Features that never vary have no variance; a little of the mean variance keeps their distances finite.
        covariance[np.diag_indices_from(covariance)] += 1e-6 * np.trace(covariance) / len(covariance) + 1e-12
        return np.linalg.cholesky(np.linalg.inv(covariance))


def _unit(features: Float[np.ndarray, "eye feature"]) -> Float[np.ndarray, "eye feature"]:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
