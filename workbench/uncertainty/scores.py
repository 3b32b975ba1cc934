"""How uncertain an answer is: one number per eye, larger = less certain, NaN for an absent eye.

How unlike the training photographs an eye is, is not said by its draws: see `out_of_distribution`.

Entropies are in nats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Float

from workbench.schema.grades import REFERABLE_GRADE
from workbench.uncertainty.pooling import POOLINGS

Draws = Float[np.ndarray, "draw exam 2 grade"]
EyeScores = Float[np.ndarray, "exam 2"]


def entropy(p: Float[np.ndarray, "*rows grade"]) -> Float[np.ndarray, "*rows"]:
    """Return the entropy of each row of probabilities, in nats, with 0 log 0 = 0.

    >>> entropy(np.array([[1.0, 0.0], [0.5, 0.5]])).round(4).tolist()
    [0.0, 0.6931]
    """
    wide = p.astype(np.float64)
    logs = np.log(wide, out=np.zeros_like(wide), where=~(wide <= 0))
    return -(wide * logs).sum(axis=-1) + 0.0  # + 0.0 turns -0.0 into 0.0


def p_referable(p: Float[np.ndarray, "*rows grade"]) -> Float[np.ndarray, "*rows"]:
    """Return P(referable): the probability of moderate retinopathy and worse."""
    return p[..., REFERABLE_GRADE:].sum(axis=-1, dtype=np.float64)


def predictive_entropy(draws: Draws) -> EyeScores:
    """Return the entropy of the mean over the draws: all the uncertainty there is."""
    return entropy(draws.mean(axis=0, dtype=np.float64))


def expected_entropy(draws: Draws) -> EyeScores:
    """Return the mean over the draws of each one's entropy: the uncertainty that lies in the data."""
    return entropy(draws).mean(axis=0)


def mutual_information(draws: Draws) -> EyeScores:
    """Return predictive minus expected entropy, at least 0: how much the draws contradict each other.

    Houlsby et al. 2011 (BALD); Gal, Islam, Ghahramani 2017.
    """
    return np.maximum(predictive_entropy(draws) - expected_entropy(draws), 0.0)


def p_referable_sd(draws: Draws) -> EyeScores:
    """Return the standard deviation of P(referable) over the draws, divided by their number (one draw: 0).

    Leibig et al. 2017, Scientific Reports 7:17816.
    """
    return p_referable(draws).std(axis=0)


def margin(draws: Draws, threshold: float = 0.5, pooling: str = "mean") -> EyeScores:
    """Return minus the distance of the pooled P(referable) to the threshold: 0 is least certain."""
    return -np.abs(p_referable(POOLINGS[pooling](draws)) - threshold)


def eye_disagreement(draws: Draws, pooling: str = "mean") -> EyeScores:
    """Return |P(referable) of OD − that of OS|, the same for both eyes; NaN where an eye is absent."""
    p = p_referable(POOLINGS[pooling](draws))
    return np.abs(p - p[:, ::-1])


SCORES: Final[dict[str, Callable[[Draws, float, str], EyeScores]]] = {
    "predictive_entropy": lambda draws, *_: predictive_entropy(draws),
    "expected_entropy": lambda draws, *_: expected_entropy(draws),
    "mutual_information": lambda draws, *_: mutual_information(draws),
    "p_referable_sd": lambda draws, *_: p_referable_sd(draws),
    "margin": margin,
    "eye_disagreement": lambda draws, _, pooling: eye_disagreement(draws, pooling),
}
"""The names that a policy may refer by; each takes (draws, referable threshold, name of the pooling)."""
