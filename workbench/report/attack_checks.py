"""What may be believed of a robustness figure: the checks that the run's rows allow, and those that were not run.

After Carlini et al. 2019, *On Evaluating Adversarial Robustness*, and Pintor et al. 2022, *Indicators of Attack
Failure*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from workbench.audit.results import Run
from workbench.report.examined import Found, examined
from workbench.report.figures import Figures
from workbench.report.headline import Condition
from workbench.report.words import full_words, listed
from workbench.report.worst_case import WorstCase, worst_cases
from workbench.schema.credibility import CHECKS, UPPER_BOUND, Grade, Outcome, grade_of
from workbench.schema.threat import UNIVERSAL
from workbench.schema.words import percent

SINGLE_STEP: Final = "fgsm"
ITERATIVE: Final = "pgd"
NOISE: Final = "universal_noise"

NOT_EXAMINED: Final = "the attacks were not examined: audit with credibility.exams above 0"


@dataclass(frozen=True)
class Check:
    """One check of an attack's worth: its number, what raises it, what that means, what was found."""

    number: int
    name: str
    raised_if: str
    means: str
    outcome: Outcome
    words: str


@dataclass(frozen=True)
class Credibility:
    """The grade of the robustness figures (None: not graded), and the checks behind it."""

    grade: Grade | None
    words: str
    short: str
    """What stands beside each figure."""
    checks: tuple[Check, ...]


def credibility(
    figures: Figures,
    found: tuple[Condition, ...],
    worst: tuple[WorstCase, ...] = (),
    sampled: Mapping[int, Found] = MappingProxyType({}),
) -> Credibility | None:
    """Return what the attacks' figures are worth; None without an attack.

    Args:
        figures: of the run.
        found: its conditions.
        worst: the worst case of each exam, at each budget that several attacks share.
        sampled: what the examination of the attack showed (`report.examined`).
    """
    attacks = [one for one in found if one.kind == "attack"]
    if not attacks:
        return None
    judged: dict[int, Found] = dict.fromkeys(CHECKS, ("not run", NOT_EXAMINED))
    judged |= {7: _iterative(attacks), 9: _grows(attacks), 12: _noise(attacks), 19: _pixels(figures, attacks)}
    if worst:
        judged[20] = ("passed", f"each exam's worst case is reported at {listed([one.budget for one in worst])}")
    judged = {number: _together(told, sampled.get(number)) for number, told in judged.items()}
    grade = grade_of({number: outcome for number, (outcome, _) in judged.items()})
    checks = tuple(Check(number, *CHECKS[number], *judged[number]) for number in CHECKS)
    ran = sum(one.outcome != "not run" for one in checks)
    if grade is not None:
        told = f": {UPPER_BOUND}" if grade == "C" else ""
        return Credibility(grade, f"{grade}{told}.", f"{grade}{told}", checks)
    words = (
        f"Not graded: {ran} of the {len(CHECKS)} checks were run and none failed, but the others were not run. "
        "Until they are, read robustness here as an upper bound."
    )
    return Credibility(None, words, f"not graded, {ran} of {len(CHECKS)} checks run", checks)


def credibility_of(run: Run, figures: Figures, found: tuple[Condition, ...]) -> Credibility | None:
    """Return what a run's attacked figures are worth, its conditions given; None without an attack."""
    return credibility(figures, found, worst_cases(run, found), examined(run, figures))


def _together(by_rows: Found, by_sample: Found | None) -> Found:
    """Return the graver of what the run's rows and the examined sample say, in the words of both."""
    if by_sample is None or by_sample[0] == "not run":
        return by_rows
    if by_rows[0] == "not run":
        return by_sample
    graver = min(by_rows[0], by_sample[0], key=GRAVITY.index)
    return graver, f"{by_rows[1]}; {by_sample[1]}"


GRAVITY: Final[tuple[Outcome, ...]] = ("failed", "warning", "passed", "not applicable", "not run")


def _pixels(figures: Figures, attacks: list[Condition]) -> Found:
    """Return what was found of the pixels: budget and box first, then 8-bit storage."""
    budget, stored = _budget(figures, attacks), _eight_bit(figures, attacks)
    words = f"within budget: {budget[1]}; as 8-bit: {stored[1]}"
    outcomes = (budget[0], stored[0])
    if "failed" in outcomes:
        return "failed", words
    return ("not run" if "not run" in outcomes else "passed"), words


def _budget(figures: Figures, attacks: list[Condition]) -> Found:
    shares = [figures.get("within_budget_share", one.measurement.id) for one in attacks]
    known = [share.value for share in shares if share.value is not None]
    if not known:
        return "not run", "no attacked exam was checked"
    words = f"{percent(min(known), 1)} at the least, measured on the pixels by the framework"
    return "passed" if min(known) == 1.0 else "failed", words


def _eight_bit(figures: Figures, attacks: list[Condition]) -> Found:
    """Success is to survive 8-bit storage; at half a grey level it cannot, which says nothing against ε ≥ 1/255."""
    strengths = {one.measurement.id: one.measurement.stress.strength for one in attacks if one.measurement.stress}
    shares = [figures.get("survives_8bit_share", one) for one, strength in strengths.items() if strength >= 1]
    known = [share for share in shares if share.value is not None]
    if not known:
        return "not run", "no exam was flipped at ε ≥ 1/255"
    least = min(known, key=lambda share: share.value or 0.0)
    words = f"{full_words(least)} of flipped exams at the least, at ε ≥ 1/255"
    return "passed" if least.value == 1.0 else "failed", words


def _by_name(attacks: list[Condition]) -> dict[str, dict[float, float]]:
    """Return attack, eyes and aim → ε → error rate, of attacks that want an error."""
    found: dict[str, dict[float, float]] = {}
    for one in attacks:
        stress = one.measurement.stress
        if stress is not None and one.error.value is not None and stress.aim.goal not in ("flood", "explanation"):
            found.setdefault(f"{stress.name}.{stress.eyes}{stress.aim.suffix}", {})[stress.strength] = one.error.value
    return found


def _iterative(attacks: list[Condition]) -> Found:
    errors = _by_name(attacks)
    pairs = []
    for key, single in errors.items():
        attack, _, eyes = key.partition(".")
        iterative = errors.get(f"{ITERATIVE}.{eyes}", {})
        if attack == SINGLE_STEP:
            pairs += [(value, iterative[epsilon], epsilon) for epsilon, value in single.items() if epsilon in iterative]
    if not pairs:
        return "not run", "the plan does not hold FGSM and PGD at the same ε"
    weaker = [epsilon for single_step, many, epsilon in pairs if many < single_step]
    if weaker:
        told = ", ".join(f"{epsilon:g}/255" for epsilon in weaker)
        return "failed", f"PGD leaves fewer errors than FGSM at ε = {told}"
    return "passed", f"at {len(pairs)} of {len(pairs)} budgets"


def _noise(attacks: list[Condition]) -> Found:
    """Compare signs by lot with every attack that follows the gradient exam by exam, at the same ε and eyes."""
    errors = _by_name(attacks)
    pairs = [
        (strength, value, found[strength])
        for eyes, noise in ((key.partition(".")[2], of) for key, of in errors.items() if key.startswith(f"{NOISE}."))
        for key, found in errors.items()
        if key.partition(".")[2] == eyes and key.partition(".")[0] not in UNIVERSAL
        for strength, value in noise.items()
        if strength in found
    ]
    if not pairs:
        return "not run", "the plan holds no signs by lot (universal_noise) at the ε and eyes of an attack"
    beaten = sorted({strength for strength, noise, attack in pairs if noise > attack})
    if beaten:
        told = ", ".join(f"{strength:g}/255" for strength in beaten)
        return "failed", f"signs by lot leave more errors than an attack at ε = {told}"
    return "passed", f"signs by lot leave no more errors than the attack, at {len(pairs)} of {len(pairs)} budgets"


def _grows(attacks: list[Condition]) -> Found:
    """Look for drops; one pattern for all exams is not searched per exam, and signs by lot fall by chance."""
    by_name = {key: found for key, found in _by_name(attacks).items() if key.partition(".")[0] not in UNIVERSAL}
    ladders = [sorted(found.items()) for found in by_name.values() if len(found) > 1]
    if not ladders:
        return "not run", "one strength only"
    drops = [(low, high) for ladder in ladders for low, high in pairwise(ladder) if high[1] < low[1]]
    if drops:
        (low, before), (high, after) = drops[0]
        words = f"error falls from {percent(before, 1)} to {percent(after, 1)} between ε = {low:g}/255 and {high:g}/255"
        return "failed", words
    return "not run", "no drop between neighbouring strengths, but the full range was not tried"
