"""One number for how well an uncertainty score ranks: areas under risk-coverage curves, as sums over rows.

Cases are kept from the surest on. The *selective* risk is the share of wrong ones among the kept, the *generalised*
risk their share of all. Cases of equal score are taken in random order: the expectation is exact, no order matters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from workbench.metrics.sufficient import Sufficient, Totals, Values, once, share, tally

Wrong = Bool[np.ndarray, " n"] | Int[np.ndarray, " n"] | Float[np.ndarray, " n"]
Scores = Float[np.ndarray, " n"]


def aurc(wrong: Wrong, score: Scores) -> float:
    """Return the mean selective risk over all coverages; smaller is better.

    Args:
        wrong: 1 for a case that was called wrongly.
        score: uncertainty; larger is referred sooner.

    Geifman, El-Yaniv 2017, NeurIPS.
    """
    return once(aurc_sums(wrong, score))


def excess_aurc(wrong: Wrong, score: Scores) -> float:
    """Return `aurc` minus that of a score that refers every wrong case first; 0 is perfect.

    Geifman, Uziel, El-Yaniv 2019, ICLR.
    """
    return once(excess_aurc_sums(wrong, score))


def augrc(wrong: Wrong, score: Scores) -> float:
    """Return the mean generalised risk over all coverages: the chance that a case is wrong and kept; smaller is better.

    Traub et al. 2024, NeurIPS.
    """
    return once(augrc_sums(wrong, score))


def aurc_sums(wrong: Wrong, score: Scores) -> Sufficient:
    """Return `aurc` as sums over rows."""
    return Sufficient(_sums(wrong, score), lambda totals: _aurc(*_cases_and_errors(totals)))


def excess_aurc_sums(wrong: Wrong, score: Scores) -> Sufficient:
    """Return `excess_aurc` as sums over rows."""

    def finish(totals: Totals) -> Values:
        cases, errors = _cases_and_errors(totals)
        return _aurc(cases, errors) - _best_aurc(cases.sum(axis=0), errors.sum(axis=0))

    return Sufficient(_sums(wrong, score), finish)


def augrc_sums(wrong: Wrong, score: Scores) -> Sufficient:
    """Return `augrc` as sums over rows."""

    def finish(totals: Totals) -> Values:
        cases, errors = _cases_and_errors(totals)
        before = np.cumsum(errors, axis=0) - errors
        return share(((before + errors / 2) * cases).sum(axis=0), cases.sum(axis=0) ** 2)

    return Sufficient(_sums(wrong, score), finish)


def _sums(wrong: Wrong, score: Scores) -> sparse.csr_array:
    levels, level = np.unique(score, return_inverse=True)
    return tally(2 * level + (wrong > 0), 2 * len(levels))


def _cases_and_errors(
    totals: Totals,
) -> tuple[Float[np.ndarray, "level resample"], Float[np.ndarray, "level resample"]]:
    """Return how many cases, and how many wrong ones, stand on each level of the score, from the surest up."""
    errors = totals[1::2].astype(np.float64)
    return totals[::2] + errors, errors


def _aurc(cases: Float[np.ndarray, "level resample"], errors: Float[np.ndarray, "level resample"]) -> Values:
    """Sum the expected risk at each count k: (errors before + errors of the level × place in it) / k."""
    through, found = np.cumsum(cases, axis=0), np.cumsum(errors, axis=0)
    before, had = through - cases, found - errors
    harmonic = _harmonic(through)
    rate = np.divide(errors, cases, out=np.zeros_like(errors), where=cases > 0)
    steps = harmonic[through.astype(np.int64)] - harmonic[before.astype(np.int64)]
    return share(((had - before * rate) * steps + errors).sum(axis=0), cases.sum(axis=0))


def _best_aurc(cases: Values, errors: Values) -> Values:
    harmonic = _harmonic(cases)
    right = cases - errors
    steps = harmonic[cases.astype(np.int64)] - harmonic[right.astype(np.int64)]
    return share(errors - right * steps, cases)


def _harmonic(counts: Float[np.ndarray, "*any"]) -> Float[np.ndarray, " count"]:
    """Return the harmonic numbers up to the largest count."""
    return np.append(0.0, np.cumsum(1 / np.arange(1, int(counts.max(initial=0)) + 1)))


IN_ONE_PASS: Final[dict[Callable[..., float], Callable[..., Sufficient]]] = {
    aurc: aurc_sums,
    excess_aurc: excess_aurc_sums,
    augrc: augrc_sums,
}
"""Those that take every resample in one pass, see `workbench.metrics.sufficient`."""
