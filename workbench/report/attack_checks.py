"""What may be believed of a robustness figure: the checks that the run's rows allow, and those that were not run.

After Carlini et al. 2019, *On Evaluating Adversarial Robustness*, and Pintor et al. 2022, *Indicators of Attack
Failure*.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from workbench.report.figures import Figures
from workbench.report.headline import Condition
from workbench.report.words import full_words
from workbench.schema.words import percent

Outcome = Literal["passed", "failed", "not run"]
SINGLE_STEP: Final = "fgsm"
ITERATIVE: Final = "pgd"

NOT_RUN: Final = (
    ("Finite differences against the gradient", "needs a gradient check of the audited model"),
    ("Twice the iterations and more restarts", "the plan holds one setting per attack"),
    ("An unbounded attack reaches 100 %", "the plan holds no unbounded attack"),
    ("Black-box attacks do not beat the white-box one", "the plan holds no black-box attack"),
    ("Random noise of the same size does not beat the gradient", "the plan holds no random noise at the same ε"),
    ("A surrogate's attack does not beat the white-box one", "the plan holds no transfer attack"),
    ("Attack through the dropout draws (EOT) has converged", "the attack sees the model without its dropout"),
    ("The deployed rule (referral) is attacked, not only the call", "the attack aims at P(referable)"),
)


@dataclass(frozen=True)
class Check:
    """One check of an attack's worth."""

    name: str
    outcome: Outcome
    words: str


@dataclass(frozen=True)
class Credibility:
    """The grade of the robustness figures, and the checks behind it."""

    words: str
    checks: tuple[Check, ...]


def credibility(figures: Figures, found: tuple[Condition, ...]) -> Credibility | None:
    """Return what the attacks' figures are worth; None without an attack."""
    attacks = [one for one in found if one.kind == "attack"]
    if not attacks:
        return None
    done = (_budget(figures, attacks), _iterative(attacks), _grows(attacks), _eight_bit(figures, attacks))
    checks = (*done, *(Check(name, "not run", why) for name, why in NOT_RUN))
    ran = sum(one.outcome != "not run" for one in checks)
    if any(one.outcome == "failed" for one in checks):
        words = "C: a check failed. Upper bound on robustness only, likely overestimated."
    else:
        words = (
            f"Not graded: {ran} of the checks were run and none failed, but the others were not run. "
            "Until they are, read robustness here as an upper bound."
        )
    return Credibility(words, checks)


def _budget(figures: Figures, attacks: list[Condition]) -> Check:
    name = "Every attacked exam keeps to its budget"
    shares = [figures.get("within_budget_share", one.measurement.id) for one in attacks]
    known = [share.value for share in shares if share.value is not None]
    if not known:
        return Check(name, "not run", "no attacked exam was checked")
    words = f"{percent(min(known), 1)} at the least, measured on the pixels by the framework"
    return Check(name, "passed" if min(known) == 1.0 else "failed", words)


def _eight_bit(figures: Figures, attacks: list[Condition]) -> Check:
    """Success is to survive 8-bit storage; at half a grey level it cannot, which says nothing against ε ≥ 1/255."""
    name = "Success survives saving as an 8-bit picture"
    strengths = {one.measurement.id: one.measurement.stress.strength for one in attacks if one.measurement.stress}
    shares = [figures.get("survives_8bit_share", one) for one, strength in strengths.items() if strength >= 1]
    known = [share for share in shares if share.value is not None]
    if not known:
        return Check(name, "not run", "no exam was flipped at ε ≥ 1/255")
    least = min(known, key=lambda share: share.value or 0.0)
    words = f"{full_words(least)} of flipped exams at the least, at ε ≥ 1/255"
    return Check(name, "passed" if least.value == 1.0 else "failed", words)


def _by_name(attacks: list[Condition]) -> dict[str, dict[float, float]]:
    """Return attack and eyes → ε → error rate."""
    found: dict[str, dict[float, float]] = {}
    for one in attacks:
        stress = one.measurement.stress
        if stress is not None and one.error.value is not None:
            found.setdefault(f"{stress.name}.{stress.eyes}", {})[stress.strength] = one.error.value
    return found


def _iterative(attacks: list[Condition]) -> Check:
    name = "The iterative attack is at least as strong as the single step"
    errors = _by_name(attacks)
    pairs = []
    for key, single in errors.items():
        attack, _, eyes = key.partition(".")
        iterative = errors.get(f"{ITERATIVE}.{eyes}", {})
        if attack == SINGLE_STEP:
            pairs += [(value, iterative[epsilon], epsilon) for epsilon, value in single.items() if epsilon in iterative]
    if not pairs:
        return Check(name, "not run", "the plan does not hold FGSM and PGD at the same ε")
    weaker = [epsilon for single_step, many, epsilon in pairs if many < single_step]
    if weaker:
        told = ", ".join(f"{epsilon:g}/255" for epsilon in weaker)
        return Check(name, "failed", f"PGD leaves fewer errors than FGSM at ε = {told}")
    return Check(name, "passed", f"at {len(pairs)} of {len(pairs)} budgets")


def _grows(attacks: list[Condition]) -> Check:
    name = "Success grows with ε"
    ladders = [sorted(found.items()) for found in _by_name(attacks).values() if len(found) > 1]
    if not ladders:
        return Check(name, "not run", "one strength only")
    drops = [(low, high) for ladder in ladders for low, high in pairwise(ladder) if high[1] < low[1]]
    if drops:
        (low, before), (high, after) = drops[0]
        words = f"error falls from {percent(before, 1)} to {percent(after, 1)} between ε = {low:g}/255 and {high:g}/255"
        return Check(name, "failed", words)
    return Check(name, "passed", "no drop between neighbouring strengths; the full range was not tried")
