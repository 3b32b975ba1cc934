"""What seeing a model's answer does to a reader: switches for the better and the worse, over- and under-reliance.

One row is one reader's call of one case before (``first``) and after (``second``) the model's answer was shown, beside
the model's call and the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float

from workbench.metrics import sufficient
from workbench.metrics.reader_resampling import combined
from workbench.metrics.sufficient import Sufficient

Calls = Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Reveal:
    """Truth, the model's call and a reader's two calls, one row per reader and case."""

    truth: Bool[np.ndarray, " n"]
    model: Bool[np.ndarray, " n"]
    first: Bool[np.ndarray, " n"]
    second: Bool[np.ndarray, " n"]

    @property
    def model_right(self) -> Calls:
        """Where the model's call is the truth."""
        return self.model == self.truth

    @property
    def first_right(self) -> Calls:
        """Where the reader was right before the reveal."""
        return self.first == self.truth

    @property
    def second_right(self) -> Calls:
        """Where the reader was right after it."""
        return self.second == self.truth


def share_among(of: Calls, among: Calls) -> Sufficient:
    """Return the share of the rows ``among`` that are also ``of``."""
    return sufficient.sensitivity(among, of)


def over_reliance(reads: Reveal) -> Sufficient:
    """Return the share that switched to wrong, among right first reads to which the model then gave a wrong answer.

    It is 1 - *relative self-reliance* (Schemmer et al. 2023, Appropriate reliance on AI advice, IUI '23).
    """
    return share_among(~reads.second_right, may_over_rely(reads))


def under_reliance(reads: Reveal) -> Sufficient:
    """Return the share that stayed wrong, among wrong first reads to which the model then gave a right answer.

    It is 1 - *relative AI reliance* (Schemmer et al. 2023).
    """
    return share_among(~reads.second_right, may_under_rely(reads))


def may_over_rely(reads: Reveal) -> Calls:
    """Return where a right reader met a wrong answer."""
    return reads.first_right & ~reads.model_right


def may_under_rely(reads: Reveal) -> Calls:
    """Return where a wrong reader met a right answer."""
    return ~reads.first_right & reads.model_right


def harmful_switches(reads: Reveal) -> Sufficient:
    """Return the share of all reads that went from right to wrong."""
    return sufficient.mean(reads.first_right & ~reads.second_right)


def beneficial_switches(reads: Reveal) -> Sufficient:
    """Return the share of all reads that went from wrong to right."""
    return sufficient.mean(~reads.first_right & reads.second_right)


def followed(reads: Reveal) -> Sufficient:
    """Return the share of reads that took the model's call, among those that differed from it at first."""
    return share_among(reads.second == reads.model, reads.first != reads.model)


def _error(reads: Reveal, called: Calls) -> Sufficient:
    return sufficient.mean(called != reads.truth)


def _sensitivity(reads: Reveal, called: Calls) -> Sufficient:
    return sufficient.sensitivity(reads.truth, called)


def _specificity(reads: Reveal, called: Calls) -> Sufficient:
    return sufficient.specificity(reads.truth, called)


def _before_and_after(
    name: str, metric: Callable[[Reveal, Calls], Sufficient]
) -> dict[str, Callable[[Reveal], Sufficient]]:
    return {
        f"{name}_before": lambda reads: metric(reads, reads.first),
        f"{name}_after": lambda reads: metric(reads, reads.second),
        f"{name}_change": lambda reads: sufficient.change(metric(reads, reads.second), metric(reads, reads.first)),
        f"{name}_of_model": lambda reads: metric(reads, reads.model),
    }


def team_against_model(reads: Reveal) -> Sufficient:
    """Return the error of reader with model minus that of the model alone; below 0, the team is better."""
    return sufficient.change(_error(reads, reads.second), _error(reads, reads.model))


def team_against_best(reads: Reveal) -> Sufficient:
    """Return the error of reader with model minus the smaller of the reader's alone and the model's alone.

    The smaller is found anew in each resample, so that the interval knows that the better of two is partly luck.
    """
    parts = [_error(reads, called) for called in (reads.second, reads.first, reads.model)]
    return combined(parts, lambda team, reader, model: team - np.minimum(reader, model))


RELIANCE: Final[dict[str, Callable[[Reveal], Sufficient]]] = {
    "over_reliance": over_reliance,
    "under_reliance": under_reliance,
    "harmful_switches": harmful_switches,
    "beneficial_switches": beneficial_switches,
    "followed": followed,
    **_before_and_after("error", _error),
    **_before_and_after("sensitivity", _sensitivity),
    **_before_and_after("specificity", _specificity),
    "team_against_model": team_against_model,
    "team_against_best": team_against_best,
}
"""Every figure of a reveal by its name; a change is after minus before on the same reads."""

_ALL: Final[Callable[[Reveal], Calls]] = lambda reads: np.ones(len(reads.truth), dtype=bool)  # noqa: E731

AMONG: Final[dict[str, Callable[[Reveal], Calls]]] = {
    "over_reliance": may_over_rely,
    "under_reliance": may_under_rely,
    "followed": lambda reads: reads.first != reads.model,
    "sensitivity": lambda reads: reads.truth,
    "specificity": lambda reads: ~reads.truth,
}
"""The reads that a figure is a share of, where these are not all; by its name or the beginning of it."""

SHARES: Final = tuple(name for name in RELIANCE if not name.endswith("_change") and not name.startswith("team_"))
"""The figures that count reads; the others are differences."""


def rows_behind(name: str, reads: Reveal) -> Calls:
    """Return the reads of which a figure is made."""
    return AMONG.get(name, AMONG.get(name.partition("_")[0], _ALL))(reads)


def switch_table(reads: Reveal) -> list[dict[str, bool | int]]:
    """Return how many reads there are of each kind: model right, first read right, second read right."""
    kinds = [(model, first, second) for model in (True, False) for first in (True, False) for second in (True, False)]
    found: list[dict[str, bool | int]] = []
    for model, first, second in kinds:
        same = (reads.model_right == model) & (reads.first_right == first) & (reads.second_right == second)
        found.append({"model_right": model, "first_right": first, "second_right": second, "reads": int(same.sum())})
    return found


def confidence_auc(right: Calls, confidence: Float[np.ndarray, " n"]) -> Sufficient:
    """Return the chance that a right read was given more confidence than a wrong one, ties counting one half.

    Does the reader know when the reader is wrong? 0.5: not at all. (Galvin et al. 2003, Psychonomic Bulletin & Review
    10(4): the type-2 ROC curve.)
    """
    return sufficient.roc_auc(right, confidence)
