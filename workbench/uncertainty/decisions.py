"""From draws to decisions: who is called referable, who goes to a human, who is failed in silence.

Per eye: pooled probabilities → grade = the most probable, P(referable) = Σ p(grade ≥ 2). Per exam: the worst present
eye's P(referable), called referable from the threshold on; the larger of its eyes' scores, referred above the cut-off,
which `clean_cutoff` fixes on the clean exams. *Wrong*: called differently from the truth. *Silent failure*: wrong and
not referred.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from workbench.schema.grades import EYES, REFERABLE_GRADE, UNGRADED
from workbench.schema.specs import PolicySpec
from workbench.uncertainty.pooling import POOLINGS
from workbench.uncertainty.scores import SCORES, p_referable

Draws = Float[np.ndarray, "draw exam 2 grade"]
Eyes = Bool[np.ndarray, "exam 2"]
Grades = Int[np.ndarray, "exam 2"]
EyeAnswers = dict[str, np.ndarray]
"""Column name → array "exam 2"; NaN (grade: -1) for an eye without an answer.

Where the model has a reference, the scores of unlikeness stand here too, and ``unlike_training``: flagged or not.
"""


def eye_answers(draws: Draws, present: Eyes, policy: PolicySpec, threshold: float = 0.5) -> EyeAnswers:
    """Return what is answered per eye: ``grade_predicted``, ``p_referable``, every score, and ``p0`` to ``p4``.

    An eye that is absent, or whose draws hold a NaN, has no answer: NaN, and -1 for its grade.

    Args:
        draws: probabilities.
        present: which eyes there are.
        policy: its pooling is used; its threshold, where it has one, goes before ``threshold``.
        threshold: the model's own threshold of P(referable), for the score `margin`.
    """
    answered = present & np.isfinite(draws).all(axis=(0, 3))
    known = np.where(answered[None, :, :, None], draws, np.nan)
    pooled = POOLINGS[policy.pooling](known)
    grade = np.where(answered, np.nan_to_num(pooled, nan=-1.0).argmax(axis=-1), UNGRADED).astype(np.int64)
    answers: EyeAnswers = {"grade_predicted": grade, "p_referable": p_referable(pooled)}
    for name, score in SCORES.items():
        answers[name] = score(known, referable_threshold(policy, threshold), policy.pooling)
    return answers | {f"p{number}": pooled[..., number] for number in range(pooled.shape[-1])}


def referable_threshold(policy: PolicySpec, models_own: float) -> float:
    """Return P(referable) from which an exam is called referable: the policy's, or else the model's own."""
    return models_own if policy.referable_threshold is None else policy.referable_threshold


def eye_table(answers: EyeAnswers) -> pd.DataFrame:
    """Return the answers as a table, two rows per exam, OD first; ``exam`` counts from 0, a missing grade is null."""
    exams = len(answers["p_referable"])
    table = pd.DataFrame({"exam": np.repeat(np.arange(exams), 2), "eye": list(EYES) * exams})
    for name, values in answers.items():
        table[name] = values.ravel()
    table["grade_predicted"] = table["grade_predicted"].astype("Int64").replace(UNGRADED, pd.NA)
    return table


def worst(values: Float[np.ndarray, "exam 2"]) -> Float[np.ndarray, " exam"]:
    """Return the larger of the two eyes' values, of the one that is known, or NaN."""
    return np.fmax(values[:, 0], values[:, 1])


def true_referable(grade: Grades, photographed: Eyes | None = None) -> Float[np.ndarray, " exam"]:
    """Return whether the worse eye is referable: 1, 0, or NaN for unknown.

    One referable eye settles it; but a healthy eye beside one without a grade leaves the exam unknown.

    Args:
        grade: the true grades, -1 for none.
        photographed: the eyes that the exam is about, where an eye that was never photographed shall not count as one
            without a grade; both by default.
    """
    about = np.ones_like(grade, dtype=bool) if photographed is None else photographed
    referable = (about & (grade >= REFERABLE_GRADE)).any(axis=1)
    settled = referable | ((~about | (grade != UNGRADED)).all(axis=1) & about.any(axis=1))
    return np.where(settled, referable.astype(float), np.nan)


def score_cutoff(
    scores: Float[np.ndarray, " exam"], budget: float, referred_anyway: Bool[np.ndarray, " exam"] | None = None
) -> float:
    """Return the cut-off for which the share of referred exams (score > cut-off) equals ``budget``, as ties allow.

    Exams of equal score go or stay together; of two cut-offs equally near the budget, the one that refers fewer is
    taken. A NaN score never ranks, though its exam counts among all. Exams referred anyway (incomplete ones) use the
    budget up first; where they alone exceed it, nobody is referred by score.

    >>> scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    >>> score_cutoff(scores, 0.4)
    0.3

    Args:
        scores: one per exam of the clean set.
        budget: share of all exams to refer.
        referred_anyway: exams that go to a human whatever their score.
    """
    anyway = np.zeros(len(scores), dtype=bool) if referred_anyway is None else referred_anyway
    ranked = scores[~anyway & ~np.isnan(scores)]
    if not ranked.size:
        return float("inf")
    levels, counts = np.unique(ranked, return_counts=True)
    cutoffs = np.append(levels[::-1], np.nextafter(levels[0], -np.inf))
    referred = anyway.sum() + np.append(0, np.cumsum(counts[::-1]))
    # Rounded, so that 0.2 × 5 exams is one exam and not a hair more.
    off_budget = np.abs(referred - round(budget * len(scores), 9))
    return float(cutoffs[int(off_budget.argmin())])


def is_incomplete(present: Eyes, answers: EyeAnswers) -> Bool[np.ndarray, " exam"]:
    """Return which exams lack an eye, or an answer for one."""
    lacking = ~present | np.isnan(answers["p_referable"])
    return lacking[:, 0] | lacking[:, 1]


def is_flagged(answers: EyeAnswers) -> Bool[np.ndarray, " exam"]:
    """Return which exams have an eye that is unlike the training photographs; none where that was not measured."""
    unlike = answers.get("unlike_training", np.zeros((len(answers["p_referable"]), 2), dtype=bool))
    return unlike[:, 0] | unlike[:, 1]


def referred_anyway(answers: EyeAnswers, present: Eyes, policy: PolicySpec) -> Bool[np.ndarray, " exam"]:
    """Return which exams go to a human whatever their score: incomplete or unlike the training ones, if it is policy.

    They are referred before any exam is by its score, and so use the budget up first.
    """
    incomplete = is_incomplete(present, answers) & policy.refer_incomplete
    return incomplete | (is_flagged(answers) & policy.refer_unlike_training)


def clean_cutoff(answers: EyeAnswers, present: Eyes, policy: PolicySpec) -> float:
    """Return the policy's cut-off, fixed on the answers to the clean exams; see `referred_anyway` for the budget."""
    anyway = referred_anyway(answers, present, policy)
    return score_cutoff(worst(answers[policy.referral_score]), policy.referral_budget, anyway)


def exam_decisions(
    answers: EyeAnswers,
    present: Eyes,
    grade: Grades,
    policy: PolicySpec,
    *,
    threshold: float,
    cutoff: float,
    photographed: Eyes | None = None,
) -> pd.DataFrame:
    """Return one row per exam: what is called, who is referred, who is failed.

    Columns: ``p_referable`` and ``score`` (NaN without an answer), ``called_referable``, ``referable`` (the truth),
    ``wrong``, ``silent_failure`` (nullable booleans, null = unknown), ``incomplete``, ``unlike_training``, ``referred``
    (booleans).

    Args:
        answers: of `eye_answers`.
        present: which eyes the model was given.
        grade: the true grades, -1 for none.
        policy: the referral score, and whether incomplete exams are referred.
        threshold: the model's own; the policy's, where it has one, goes before it.
        cutoff: of `clean_cutoff`, on the clean exams of the same run.
        photographed: see `true_referable`.
    """
    p, score = worst(answers["p_referable"]), worst(answers[policy.referral_score])
    called = np.where(np.isnan(p), np.nan, p >= referable_threshold(policy, threshold))
    truth = true_referable(grade, photographed)
    wrong = np.where(np.isnan(called) | np.isnan(truth), np.nan, called != truth)
    incomplete = is_incomplete(present, answers)
    referred = (score > cutoff) | referred_anyway(answers, present, policy)
    silent = np.where(np.isnan(wrong), np.nan, (wrong == 1) & ~referred)
    known = {"called_referable": called, "referable": truth, "wrong": wrong, "silent_failure": silent}
    nullable = {name: pd.array(values, dtype="Float64").astype("boolean") for name, values in known.items()}
    told = {"incomplete": incomplete, "unlike_training": is_flagged(answers), "referred": referred}
    return pd.DataFrame({"p_referable": p, "score": score, **nullable, **told})
