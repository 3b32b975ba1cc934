"""The 25 checks of a robustness figure, what raises each and what that means, and the grade that they give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Outcome = Literal["passed", "warning", "failed", "not run", "not applicable"]
Grade = Literal["A", "B", "C"]


class CheckWords(NamedTuple):
    """What is checked, what raises it, and what it means when it is raised."""

    name: str
    raised_if: str
    means: str


CHECKS: Final[Mapping[int, CheckWords]] = {
    number: CheckWords(*words)
    for number, words in enumerate(
        (
            ("Modes", "a BatchNorm trains, a buffer changes, or draws have no spread", "another model was measured"),
            ("Logits, not probabilities", "rows sum to 1 and lie in [0, 1]", "the loss saturates; attacks stall"),
            ("Randomness", "five passes differ and the attack does not average", "the attack follows noise"),
            ("Class count", "more targets than classes, or a loss that needs more", "the attack's loss is undefined"),
            ("Gradients", "zero, NaN or inf in any exam; in more than 5 %: failed", "the gradient is masked"),
            ("Finite differences", "cosine to the gradient below 0.9, or a sign flips", "not the true slope"),
            ("Iterative against single-step", "PGD succeeds less often than FGSM", "the iterations do not work"),
            ("Twice the effort", "success rises by more than 1 point", "the attack had not converged"),
            ("Success grows with ε", "any drop, or accuracy above chance at full range", "the search fails"),
            ("Unbounded attack", "less than 100 % success", "the gradient is masked"),
            ("Black box, per exam", "it wins on an exam that the white box did not", "the gradient is masked"),
            ("Random noise in the ball", "noise beats the gradient", "the gradient is of no use"),
            ("Transfer from a surrogate", "transfer beats the white box", "the gradient is masked"),
            ("Fixed dropout mask", "the attack on one fixed mask fails", "the path through the dropout is broken"),
            ("Averaging over draws", "success rises by more than 1 point at the last doubling", "too few draws"),
            ("Fresh seeds", "selection and confirmation disagree", "success was luck of the draws"),
            ("Clean flip rate", "it is not reported", "randomness may pass for an attack"),
            ("Best iterate", "the last is returned although another was better", "success is understated"),
            ("Budget, box, 8-bit", "an eye leaves its budget or range, or success is lost as 8-bit", "not this threat"),
            ("Worst case per exam", "a minimum of means stands for a mean of minima", "robustness is overstated"),
            ("Deployed rule", "the attack ignores the referral", "silent failures are understated"),
            (
                "Non-differentiable preprocessing",
                "the gradient is cut; neither BPDA nor black box is used",
                "masked gradient",
            ),
            ("Self-test", "a broken net is not at 0 %, or a masked one not flagged", "the bench itself is broken"),
            ("Targets, settings, seeds", "any is missing in the run's manifest", "the figure cannot be made again"),
            ("Explanation", "a map beyond its thresholds is shown", "the map is no evidence"),
        ),
        start=1,
    )
}
"""After Carlini et al. 2019, Croce and Hein 2020, Pintor et al. 2022."""

DECISIVE: Final = (*range(5, 17), 19)
"""Any of these failed is a C; without one of them having been run there is no grade."""

UPPER_BOUND: Final = "upper bound only, likely overestimated"


def grade_of(outcomes: Mapping[int, Outcome]) -> Grade | None:
    """Return A (every check passed), B (warnings, or a failure that is not decisive), C, or None: not graded.

    A check that was not run leaves the figure without a grade, unless a decisive one failed already: that is a C.

    >>> grade_of({number: "passed" for number in CHECKS}), grade_of({5: "failed"}), grade_of({})
    ('A', 'C', None)
    """
    if any(outcomes.get(number) == "failed" for number in DECISIVE):
        return "C"
    if any(outcomes.get(number, "not run") == "not run" for number in CHECKS):
        return None
    return "B" if any(one in ("warning", "failed") for one in outcomes.values()) else "A"
