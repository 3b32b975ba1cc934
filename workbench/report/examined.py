"""The checks of an attack that were made on a sample of exams, judged by the policy (`audit.credibility` made them)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, SupportsInt

import numpy as np
import pandas as pd
from jaxtyping import Bool

from workbench.audit.results import Run
from workbench.metrics.proportions import binomial_interval
from workbench.report.figures import Figures
from workbench.report.map_checks import maps_that_are_shown
from workbench.report.words import counted
from workbench.schema.credibility import Outcome
from workbench.schema.model_card import ModelCard
from workbench.schema.specs import CredibilityPolicySpec
from workbench.schema.words import percent

Found = tuple[Outcome, str]
Judge = Callable[[pd.DataFrame, CredibilityPolicySpec], Found]


def examined(run: Run, figures: Figures) -> dict[int, Found]:
    """Return check → outcome and words: that of the maps, and those that the run's examination allows."""
    facts, of_maps = run.examined(), {25: maps_that_are_shown(run, figures)}
    if not len(facts):
        return of_maps
    policy = run.manifest.policy.credibility
    found = of_maps | {number: judge(facts, policy) for number, judge in JUDGES.items()}
    return found | {number: judge(run, facts) for number, judge in JUDGES_WITH_THE_PLAN.items()}


def _yes(facts: pd.DataFrame, column: str) -> Bool[np.ndarray, " exam"]:
    """Return where a column says yes; null is no."""
    return facts[column].astype("boolean").fillna(False).to_numpy(dtype=bool)


def _exams(count: SupportsInt) -> str:
    return counted(int(count), "exam")


def _few(count: int, policy: CredibilityPolicySpec) -> Outcome:
    return "passed" if count == 0 else "warning" if count <= policy.few else "failed"


def _modes(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:  # noqa: ARG001
    training, changed = int(facts["norms_training"].max()), bool(_yes(facts, "buffers_changed").any())
    spread = facts["draws_spread"].dropna()
    if training or changed:
        told = counted(training, "batch norm") + " trained" if training else "a buffer changed"
        return "failed", f"{told} while the model was measured"
    if len(spread) and (spread == 0).any():
        return "failed", f"draws of {_exams((spread == 0).sum())} have no spread"
    words = "no batch norm trained, no buffer changed"
    if len(spread):
        words += f"; P(referable) varies over draws by {spread.median():.3f} (median standard deviation)"
    return "passed", words


def _logits(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:  # noqa: ARG001
    count = int(_yes(facts, "probabilities").sum())
    if count:
        return "failed", f"the rows of {_exams(count)} lie in [0, 1] and sum to 1"
    return "passed", "the attacked model answers logits"


def _randomness(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:  # noqa: ARG001
    differ, averages = _yes(facts, "passes_differ"), _yes(facts, "averages").all()
    if not differ.any():
        return "passed", "five passes of the attacked model agree on every exam"
    words = f"five passes differ on {_exams(differ.sum())}"
    return ("passed", f"{words}; the attack averages over draws") if averages else ("failed", words)


def _gradients(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:
    faulty = _yes(facts, "gradient_fault")
    words = f"zero or not finite in {int(faulty.sum())} of {_exams(len(faulty))}"
    if faulty.mean() > policy.max_gradient_faults:
        return "failed", words
    return ("warning" if faulty.any() else "passed"), words


def _differences(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:
    cosine = facts["difference_cosine"].dropna()
    if not len(cosine):
        return "failed", "the answer moves along no patch of any exam"
    off = (cosine < policy.min_difference_cosine) | ~_yes(facts, "difference_sign")[cosine.index]
    words = f"least cosine {cosine.min():.3f}, median {cosine.median():.3f}; {_exams(off.sum())} of {len(cosine)} off"
    return _few(int(off.sum()), policy), words


def _descends(facts: pd.DataFrame) -> bool:
    return bool(facts["pgd"].notna().any())


NO_DESCENT: Final[Found] = ("failed", "no descent was possible: the model has no gradient")


def _iterations(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:
    if not _descends(facts):
        return NO_DESCENT
    single, many = _yes(facts, "fgsm"), _yes(facts, "pgd")
    lost, rises = int((single & ~many).sum()), float(facts["pgd_rises"].mean())
    words = (
        f"on the sample FGSM breaks {int(single.sum())} and PGD {int(many.sum())} of {_exams(len(many))}, "
        f"{lost} of them by FGSM alone; the margin rises in {percent(rises)} of the steps"
    )
    outcome = _few(lost, policy)
    return ("warning" if outcome == "passed" and rises < policy.min_steps_that_rise else outcome), words


def _effort(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:
    if not _descends(facts):
        return NO_DESCENT
    won = int((_yes(facts, "pgd_more") & ~_yes(facts, "pgd")).sum())
    words = f"twice the steps and a second start break {won} more of {_exams(len(facts))}"
    return ("passed" if won / len(facts) <= policy.max_rise else _few(won, policy)), words


def _grows(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:
    if not _descends(facts):
        return NO_DESCENT
    broken = np.array([list(row) for row in facts["ladder"]], dtype=bool)
    epsilons = list(facts["ladder_epsilon"].iloc[0])
    drops, left = int((broken[:, :-1] & ~broken[:, 1:]).any(axis=1).sum()), int((~broken[:, -1]).sum())
    shares = ", ".join(f"{percent(share)} at {e:g}" for e, share in zip(epsilons, broken.mean(axis=0), strict=True))
    words = f"broken: {shares} (ε in 1/255)"
    if left / len(facts) > CHANCE:
        return "failed", f"{words}; above chance at the full range"
    if drops > policy.few:
        return "failed", f"{words}; {_exams(drops)} broken at a smaller ε and not at a larger one"
    return ("warning" if drops or left else "passed"), words


CHANCE: Final = 0.5
"""Of a call with two answers."""


def _unbounded(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:  # noqa: ARG001
    if not _descends(facts):
        return NO_DESCENT
    left = int((~_yes(facts, "unbounded")).sum())
    if left:
        return "failed", f"{_exams(left)} of {len(facts)} hold over the whole pixel range"
    return "passed", f"all of {_exams(len(facts))} are broken"


def _against(*columns: str) -> Judge:
    """Return the judge of what needs no gradient, at the largest ε at which the descent had not broken an exam."""
    names = {"square": "Square", "label_only": "RayS", "noise": "random noise", "transfer": "a transferred attack"}

    def judge(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:
        held = _yes(facts, "holds")
        told = " or ".join(names[column] for column in columns)
        if not held.any():
            return "not applicable", "the descent broke every exam at the smallest ε that was tried"
        if facts.loc[held, list(columns)].isna().all(axis=None):
            return "not applicable", "no surrogate with a gradient: credibility.surrogate names one"
        won = np.logical_or.reduce([_yes(facts, column) for column in columns]) & held
        words = f"{told} breaks {int(won.sum())} of the {_exams(held.sum())} that the descent leaves, each just below"
        return _few(int(won.sum()), policy), f"{words} what it needs"

    return judge


def _one_mask(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:
    if facts["no_draws"].notna().all():
        return "not applicable", str(facts["no_draws"].iloc[0])
    fixed, plain = float(_yes(facts, "fixed_mask").mean()), float(_yes(facts, "pgd").mean())
    words = f"{percent(fixed)} broken with one mask, {percent(plain)} without dropout"
    return ("failed" if fixed < policy.min_on_one_mask * plain else "passed"), words


def _averaging(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:
    drawn = facts[facts["averaged"].notna()]
    if not len(drawn):
        return "not applicable", str(facts["no_draws"].iloc[0])
    broken = np.array([list(row) for row in drawn["averaged"]], dtype=bool).sum(axis=0)
    words = (
        f"broken with 1, 5, 20, 50 draws behind each gradient: {', '.join(map(str, broken))} of {_exams(len(drawn))}"
    )
    won = int(broken[-1] - broken[-2])
    return ("passed" if won / len(drawn) <= policy.max_rise else _few(won, policy)), words


def _fresh(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:
    chosen = facts[_yes(facts, "selected")]
    if not len(chosen):
        told = facts["no_draws"].dropna()
        return "not applicable", str(told.iloc[0]) if len(told) else "no exam was broken over draws"
    pairs = zip(chosen["fresh_wrong"].astype(int), chosen["fresh_draws"].astype(int), strict=True)
    refuted = sum(binomial_interval(hits, n, policy.confirmed)[1] < CHANCE for hits, n in pairs)
    share = (chosen["fresh_wrong"] / chosen["fresh_draws"]).mean()
    draws = int(chosen["fresh_draws"].iloc[0])
    words = (
        f"of {_exams(len(chosen))} broken for the draws that the attack saw, {draws} fresh ones refute {refuted}; "
        f"{percent(float(share))} of fresh draws are wrong there"
    )
    return _few(int(refuted), policy), words


def _clean_flips(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:  # noqa: ARG001
    if facts["no_draws"].notna().all():
        return "not applicable", str(facts["no_draws"].iloc[0])
    share = facts["clean_flip_share"].dropna()
    if not len(share):
        return "failed", "the model makes draws, and how often they differ on the clean exam was not measured"
    return "passed", f"{percent(float(share.mean()), 1)} of single draws call the clean exam otherwise than most do"


def _best(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:  # noqa: ARG001
    if not _descends(facts):
        return NO_DESCENT
    lost = int((~_yes(facts, "best_kept")).sum())
    if lost:
        return "failed", f"a better iterate of {_exams(lost)} was not returned"
    return "passed", f"what is returned is the best iterate, in {_exams(len(facts))}"


def _pixels(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:  # noqa: ARG001
    if not _descends(facts):
        return NO_DESCENT
    left, saved = int((~_yes(facts, "within_budget")).sum()), facts["survives_8bit"].dropna()
    lost = int((~saved.astype(bool)).sum())
    words = f"on the sample {left} of {len(facts)} outside budget or box, {lost} of {len(saved)} lost as 8-bit"
    return ("failed" if left or lost else "passed"), words


def _worst(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:  # noqa: ARG001
    if not _descends(facts):
        return NO_DESCENT
    each = [_yes(facts, name) for name in ("fgsm", "pgd", "pgd_more")]
    together, least = 1 - np.logical_or.reduce(each).mean(), min(1 - one.mean() for one in each)
    words = f"right under the worst of three attacks: {percent(together)}"
    return "passed", f"{words}; the least of their means: {percent(least)}"


def _self_test(facts: pd.DataFrame, policy: CredibilityPolicySpec) -> Found:  # noqa: ARG001
    wrong = sorted({text for text in facts["self_test"].dropna() if text})
    if wrong:
        return "failed", "; ".join(wrong)
    return "passed", "an undefended model was broken, a masked gradient and an answer by lot were flagged"


JUDGES: Final[dict[int, Judge]] = {
    1: _modes,
    2: _logits,
    3: _randomness,
    5: _gradients,
    6: _differences,
    7: _iterations,
    8: _effort,
    9: _grows,
    10: _unbounded,
    11: _against("square", "label_only"),
    12: _against("noise"),
    13: _against("transfer"),
    14: _one_mask,
    15: _averaging,
    16: _fresh,
    17: _clean_flips,
    18: _best,
    19: _pixels,
    20: _worst,
    23: _self_test,
}
"""Those that the facts alone decide."""


def _classes(run: Run, facts: pd.DataFrame) -> Found:
    classes = int(facts["classes"].iloc[0])
    stresses = [one.stress for one in run.manifest.measurements if one.stress is not None]
    beyond = [one.aim.target_grade for one in stresses if (one.aim.target_grade or 0) >= classes]
    if classes < 2 or beyond:
        return "failed", f"{classes} classes" + (f", and a target of grade {beyond[0]}" if beyond else "")
    return "passed", f"{classes} classes; the losses are margins, which need two"


def _rule(run: Run, facts: pd.DataFrame) -> Found:
    if facts["no_draws"].notna().all():
        return "failed", f"no attack minds the referral: {facts['no_draws'].iloc[0]}"
    asked = facts[facts["silent"].notna()]
    if not len(asked):
        return "not applicable", "every exam of the sample is referred whatever its score"
    minding, crossing = _yes(asked, "silent"), _yes(asked, "silent_by_crossing")
    gained = int((minding & ~crossing).sum())
    words = f"silent failures of {_exams(len(asked))}: {int(crossing.sum())} by crossing the boundary, "
    words += f"{int(minding.sum())} by minding the rule, {gained} of them by that alone"
    stresses = [one.stress for one in run.manifest.measurements if one.stress is not None]
    if gained and all(one.aim.goal != "silent" for one in stresses):
        return "warning", f"{words}; the plan holds no attack with the goal silent, so its rates are understated"
    return "passed", words


def _preparation(run: Run, facts: pd.DataFrame) -> Found:
    cut, model = _yes(facts, "gradient_cut"), run.manifest.model
    if cut.any():
        used = facts.loc[cut, ["square", "label_only"]].notna().any(axis=1)
        if not used.all():
            return "failed", f"the gradient of {_exams(cut.sum())} is cut, and no attack without one was used"
        return "warning", f"the gradient of {_exams(cut.sum())} is cut; Square and RayS, which need none, were used"
    words = "the gradient reaches the pixels that the model is given"
    if isinstance(model, ModelCard) and (model.preprocess.local_average or model.preprocess.clahe):
        words += "; ε is measured after local contrast was evened out, not on the camera's pixels"
    return "passed", words


def _plan(run: Run, facts: pd.DataFrame) -> Found:
    if facts["targeted"].isna().all() or facts["untargeted"].isna().all():
        return "failed", "no targeted attack was run on the sample"
    shares = [percent(float(_yes(facts, name).mean())) for name in ("untargeted", "targeted")]
    words = f"untargeted {shares[0]}, to the most severe grade {shares[1]}; run.json holds settings and the seed"
    return "passed", f"{words} {run.manifest.seed}"


JUDGES_WITH_THE_PLAN: Final[dict[int, Callable[[Run, pd.DataFrame], Found]]] = {
    4: _classes,
    21: _rule,
    22: _preparation,
    24: _plan,
}
"""Those that need the run's plan beside the facts."""
