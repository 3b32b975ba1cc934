"""Which cases to hand to a reader: learnt from cases that both the model and the reader have scored.

The reader helps in one region of scores and harms in another. For every region of the score the advantage of handing it
over is what the reader finds that the model misses, minus what the reader misses that the model finds, and the same for
false alarms, the two weighed by λ. Cases where the advantage is positive go to the reader; where there is none, the
model decides, and the reader's time is spared.

Dvijotham et al. 2023, Nature Medicine 29: complementarity-driven deferral to clinicians (CoDoC), from the paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from scipy.ndimage import gaussian_filter1d

from workbench.schema.config import Config
from workbench.schema.errors import WorkbenchError

FORMAT_VERSION: Final = 1


class HandoverSearch(Config):
    """What is tried, and what a rule must keep to."""

    objective: Literal["specificity", "sensitivity"] = Field(
        "specificity", description="what is made as large as can be"
    )
    keep_sensitivity: float = Field(1.0, ge=0, description="at least this share of the reader's own sensitivity")
    keep_specificity: float = Field(1.0, ge=0, description="at least this share of the reader's own specificity")
    most_handed_over: float = Field(0.5, ge=0, le=1, description="of all cases")
    most_regions: int = Field(1, ge=1, description="parts of the score's range that go to the reader")
    bins: tuple[int, ...] = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 30, 40, 50, 100)
    pseudocounts: tuple[float, ...] = (0.0, 0.1, 1.0, 3.0)
    smoothing: tuple[float, ...] = Field((0.0, 1.0, 3.0), description="standard deviation of the blur, in bins")
    trade_offs: tuple[float, ...] = Field(
        tuple(round(0.05 * step, 2) for step in range(21)), description="λ: 1 counts disease alone, 0 health alone"
    )


class HandoverRule(Config):
    """Which scores go to the reader, and from where on the model calls disease itself."""

    format_version: int = FORMAT_VERSION
    regions: tuple[tuple[float, float], ...] = Field(
        (), description="scores that go to the reader, from the first bound to below the second, 1 included"
    )
    unsure_above: float | None = Field(None, description="where the rule goes by uncertainty: its cut-off")
    operating_point: float = Field(description="the model calls disease from this score on, outside the regions")
    machine_alone: float = Field(description="the model's threshold where it works alone, as specific as the reader")
    bins: int | None = None
    pseudocounts: float | None = None
    smoothing: float | None = None
    trade_off: float | None = None
    cases: int = 0
    patients: int | None = None
    table_sha256: str = ""
    search: HandoverSearch = HandoverSearch.model_validate({})

    def handed_over(
        self, score: Float[np.ndarray, " n"], uncertainty: Float[np.ndarray, " n"] | None = None
    ) -> Bool[np.ndarray, " n"]:
        """Return which cases go to the reader.

        Raises:
            WorkbenchError: the rule goes by an uncertainty that is not given.
        """
        if self.unsure_above is not None:
            if uncertainty is None:
                raise WorkbenchError(
                    "the rule goes by the column 'uncertainty', which is missing", "add it to the table"
                )
            return uncertainty > self.unsure_above
        inside = np.zeros(len(score), dtype=bool)
        for low, high in self.regions:
            inside |= (score >= low) & ((score < high) | (high >= 1))
        return inside

    def machine_calls(self, score: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Return what the model calls diseased within the team."""
        return score >= self.operating_point


@dataclass(frozen=True)
class ReadCases:
    """Cases with their truth, the model's score in [0, 1], the reader's call and, if there is one, an uncertainty."""

    y_true: Bool[np.ndarray, " n"]
    score: Float[np.ndarray, " n"]
    reader: Bool[np.ndarray, " n"]
    uncertainty: Float[np.ndarray, " n"] | None = None

    def at(self, rows: Bool[np.ndarray, " n"]) -> ReadCases:
        """Return some of the cases."""
        unsure = None if self.uncertainty is None else self.uncertainty[rows]
        return ReadCases(self.y_true[rows], self.score[rows], self.reader[rows], unsure)


class Rates(NamedTuple):
    """Sensitivity and specificity, and the share of cases that go to the reader."""

    sensitivity: Float[np.ndarray, "*any"]
    specificity: Float[np.ndarray, "*any"]
    handed_over: Float[np.ndarray, "*any"]


def reader_rates(cases: ReadCases) -> tuple[float, float]:
    """Return the reader's own sensitivity and specificity."""
    return float(cases.reader[cases.y_true].mean()), float((~cases.reader[~cases.y_true]).mean())


def counts_by_bin(cases: ReadCases, bins: int) -> Float[np.ndarray, "{bins} reader=2 truth=2"]:
    """Return how many cases fall into each bin of the score, by the reader's call and the truth."""
    bin_of = np.minimum((cases.score * bins).astype(np.int64), bins - 1)
    cell = 4 * bin_of + 2 * cases.reader + cases.y_true
    return np.bincount(cell, minlength=4 * bins).reshape(bins, 2, 2).astype(float)


def density(
    counts: Float[np.ndarray, "bin reader truth"], pseudocounts: float, smoothing: float
) -> Float[np.ndarray, "bin reader truth"]:
    """Return P(score, reader's call | truth), smoothed over neighbouring bins."""
    smooth = counts + pseudocounts
    if smoothing:
        smooth = gaussian_filter1d(smooth, smoothing, axis=0)
    return smooth / smooth.sum(axis=(0, 1), keepdims=True)


def gains(
    p: Float[np.ndarray, "bin reader truth"],
) -> tuple[Float[np.ndarray, "tau bin"], Float[np.ndarray, "tau bin"]]:
    """Return what handing over a bin adds to the specificity and to the sensitivity, per operating point.

    ``tau`` is the first bin that the model calls diseased, from 0 (all) to the number of bins (none).
    """
    bins = len(p)
    called = np.arange(bins) >= np.arange(bins + 1)[:, None]
    specificity = np.where(called, p[:, 0, 0], -p[:, 1, 0])
    sensitivity = np.where(called, -p[:, 0, 1], p[:, 1, 1])
    return specificity, sensitivity


def team_rates(counts: Float[np.ndarray, "bin reader truth"], deferred: Bool[np.ndarray, "trade tau bin"]) -> Rates:
    """Return the team's rates on counted cases, per trade-off and operating point."""
    p = counts / counts.sum(axis=(0, 1), keepdims=True)
    to_specificity, to_sensitivity = gains(p)
    alone = p.sum(axis=1)
    below = np.vstack([np.zeros(2), np.cumsum(alone, axis=0)])
    per_bin = counts.sum(axis=(1, 2))
    return Rates(
        1 - below[:, 1] + np.einsum("ltb,tb->lt", deferred, to_sensitivity),
        below[:, 0] + np.einsum("ltb,tb->lt", deferred, to_specificity),
        deferred @ (per_bin / per_bin.sum()),
    )


class _Candidate(NamedTuple):
    """A rule with what it is chosen by: the larger the better."""

    merit: tuple[float, ...]
    rule: HandoverRule


def fit_rule(
    tuning: ReadCases, selection: ReadCases, search: HandoverSearch, rule_of: Mapping[str, Any]
) -> HandoverRule:
    """Return the rule by the model's score that does best on ``selection`` among those learnt on ``tuning``.

    A rule must do as well as the reader (times `keep_sensitivity` and `keep_specificity`) on both. Among rules equally
    good, the one that hands over least is taken, then the one of fewest bins.

    Args:
        tuning: cases to learn the advantage of each region from.
        selection: other patients' cases, to choose bins, smoothing, λ and the operating point by.
        search: what is tried.
        rule_of: further fields of the rule.

    Raises:
        WorkbenchError: one class only, or no rule keeps to the bounds.
    """
    _check(tuning, selection)
    best = max(_candidates(tuning, selection, search, rule_of), key=lambda one: one.merit, default=None)
    if best is None:
        raise WorkbenchError(
            f"no rule reaches {search.keep_sensitivity:g} of the reader's sensitivity and {search.keep_specificity:g} "
            f"of the specificity while handing over at most {search.most_handed_over:.0%}",
            "allow more cases to be handed over, or ask for less",
        )
    return best.rule


def _candidates(
    tuning: ReadCases, selection: ReadCases, search: HandoverSearch, rule_of: Mapping[str, Any]
) -> Iterator[_Candidate]:
    """Yield the best rule of each number of bins, pseudocount and smoothing."""
    trade = np.array(search.trade_offs)[:, None, None]
    for bins in search.bins:
        learnt, held_out = counts_by_bin(tuning, bins), counts_by_bin(selection, bins)
        for pseudocounts in search.pseudocounts:
            for smoothing in search.smoothing:
                to_specificity, to_sensitivity = gains(density(learnt, pseudocounts, smoothing))
                advantage = (1 - trade) * to_specificity + trade * to_sensitivity
                # Rounding is no advantage.
                deferred = advantage > 1e-12
                found = _best(team_rates(held_out, deferred), _allowed(tuning, selection, deferred, search), search)
                if found is None:
                    continue
                (place, tau), merit = found
                rule = HandoverRule(
                    regions=regions_of(deferred[place, tau]),
                    operating_point=tau / bins if tau < bins else 1.0 + 1e-9,
                    machine_alone=machine_alone(tuning),
                    bins=bins,
                    pseudocounts=pseudocounts,
                    smoothing=smoothing,
                    trade_off=search.trade_offs[place],
                    search=search,
                    **rule_of,
                )
                yield _Candidate((*merit, -bins), rule)


def _allowed(
    tuning: ReadCases, selection: ReadCases, deferred: Bool[np.ndarray, "trade tau bin"], search: HandoverSearch
) -> Bool[np.ndarray, "trade tau"]:
    """Return which rules keep to the bounds, on the cases they were learnt from and on the others."""
    bins = deferred.shape[2]
    starts = np.diff(deferred.astype(np.int8), axis=2, prepend=0) > 0
    allowed = starts.sum(axis=2) <= search.most_regions
    for cases in (tuning, selection):
        sensitivity, specificity = reader_rates(cases)
        rates = team_rates(counts_by_bin(cases, bins), deferred)
        allowed &= rates.sensitivity >= search.keep_sensitivity * sensitivity - 1e-12
        allowed &= rates.specificity >= search.keep_specificity * specificity - 1e-12
        allowed &= rates.handed_over <= search.most_handed_over + 1e-12
    return allowed


def _best(
    rates: Rates, allowed: Bool[np.ndarray, "trade tau"], search: HandoverSearch
) -> tuple[tuple[int, int], tuple[float, ...]] | None:
    """Return the best allowed rule's place, and its merit: the objective, then the other rate, then few handed over."""
    wanted, other = rates.sensitivity, rates.specificity
    if search.objective == "specificity":
        wanted, other = other, wanted
    places = np.argwhere(allowed)
    if not len(places):
        return None
    merits = np.round(np.stack([one[allowed] for one in (wanted, other, -rates.handed_over)]), 12)
    first = int(np.lexsort(merits[::-1])[-1])
    return (int(places[first][0]), int(places[first][1])), tuple(map(float, merits[:, first]))


def regions_of(deferred: Bool[np.ndarray, " bin"]) -> tuple[tuple[float, float], ...]:
    """Return the score ranges of the bins that are handed over.

    >>> regions_of(np.array([False, True, True, False, True]))
    ((0.2, 0.6), (0.8, 1.0))
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], deferred.astype(np.int8), [0]])))
    return tuple((int(low) / len(deferred), int(high) / len(deferred)) for low, high in edges.reshape(-1, 2))


def machine_alone(cases: ReadCases) -> float:
    """Return the score from which the model, alone, is as specific as the reader or a little more."""
    healthy = np.sort(cases.score[~cases.y_true])
    false_alarms = int(cases.reader[~cases.y_true].sum())
    if false_alarms >= len(healthy):
        return 0.0
    return float(np.nextafter(healthy[len(healthy) - 1 - false_alarms], np.inf))


def _check(*parts: ReadCases) -> None:
    for cases in parts:
        sick = int(cases.y_true.sum())
        if not 0 < sick < len(cases.y_true):
            raise WorkbenchError(
                f"a half of the table has {sick} diseased of {len(cases.y_true)} cases",
                "both halves need diseased and healthy ones: give more cases",
            )


def fit_cutoff(
    tuning: ReadCases, selection: ReadCases, search: HandoverSearch, rule_of: Mapping[str, Any]
) -> HandoverRule:
    """Return the rule by uncertainty: cases above a cut-off go to the reader, the model calls the rest.

    The cut-offs are the quantiles of the tuning cases' uncertainty in hundredths, the operating points those of their
    scores; bounds and choice are those of `fit_rule`.

    Raises:
        WorkbenchError: no uncertainty, one class only, or no rule keeps to the bounds.
    """
    if tuning.uncertainty is None or selection.uncertainty is None:
        raise WorkbenchError("the table has no column 'uncertainty'", "add it, or fit by the model's score")
    _check(tuning, selection)
    hundredths = np.linspace(0, 1, 101)
    cutoffs = np.unique(np.quantile(tuning.uncertainty, hundredths))
    cutoffs = np.append(np.nextafter(cutoffs[0], -np.inf), cutoffs)
    points = np.unique(np.append(np.quantile(tuning.score, hundredths), 1.0 + 1e-9))
    allowed = np.ones((len(cutoffs), len(points)), dtype=bool)
    for cases in (tuning, selection):
        rates = _cutoff_rates(cases, cutoffs, points)
        sensitivity, specificity = reader_rates(cases)
        allowed &= rates.sensitivity >= search.keep_sensitivity * sensitivity - 1e-12
        allowed &= rates.specificity >= search.keep_specificity * specificity - 1e-12
        allowed &= rates.handed_over <= search.most_handed_over + 1e-12
    found = _best(rates, allowed, search)
    if found is None:
        raise WorkbenchError("no cut-off of the uncertainty keeps to the bounds", "allow more cases to be handed over")
    (place, point), _ = found
    return HandoverRule(
        unsure_above=float(cutoffs[place]),
        operating_point=float(points[point]),
        machine_alone=machine_alone(tuning),
        search=search,
        **rule_of,
    )


def _cutoff_rates(
    cases: ReadCases, cutoffs: Float[np.ndarray, " cutoff"], points: Float[np.ndarray, " point"]
) -> Rates:
    assert cases.uncertainty is not None  # checked by the caller
    handed = cases.uncertainty > cutoffs[:, None]
    called = cases.score >= points[:, None]
    found = []
    for group, right in ((cases.y_true, cases.reader), (~cases.y_true, ~cases.reader)):
        machine = called[:, group] if group is cases.y_true else ~called[:, group]
        by_reader = (handed[:, group] & right[group]).sum(axis=1)[:, None]
        by_machine = (~handed[:, group]).astype(float) @ machine.T
        found.append((by_reader + by_machine) / group.sum())
    share = np.broadcast_to(handed.mean(axis=1)[:, None], found[0].shape)
    return Rates(found[0], found[1], share)


def halves(patients: Int64[np.ndarray, " n"], seed: int) -> Bool[np.ndarray, " n"]:
    """Return which cases are for tuning: about half of the patients, drawn."""
    names = np.unique(patients)
    drawn = np.random.default_rng(seed).permutation(names)[: (len(names) + 1) // 2]
    return np.isin(patients, drawn)
