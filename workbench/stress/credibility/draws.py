"""Checks 14 to 17 and 21: the attack on the stochastic system, its draws and its referral rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from workbench.models.modes import measuring
from workbench.models.referable import referable_log_odds
from workbench.schema.seeds import seed_for
from workbench.schema.threat import Aim
from workbench.stress.apply import StressResult
from workbench.stress.auto_attack.descent import pgd
from workbench.stress.credibility.descents import Facts
from workbench.stress.credibility.subject import PerExam, Subject, reached
from workbench.stress.goals import Deployed, not_applicable
from workbench.stress.target import Target

AVERAGED: Final = (1, 5, 20, 50)
"""Draws behind each gradient."""
SELECTED: Final = 20
FRESH: Final = 40
"""Draws, from seeds that no attack saw, on which a broken exam is judged again."""


def of_draws(subject: Subject, deployed: Deployed, crossed: Tensor) -> Facts:
    """Return what is found of the draws.

    Args:
        subject: the exams.
        deployed: the system with its referral rule.
        crossed: the exams as the attack across the boundary left them.
    """
    subject = replace(subject, deployed=deployed)
    # Pushed on past the goal: what is only just over it on the draws that the attack saw fails on fresh ones.
    averaged = {count: subject.under("pgd", steps=subject.steps, draws=count) for count in AVERAGED}
    clean = _fresh(subject, deployed, subject.x, "clean draws")
    facts: Facts = {
        "averaged": [list(row) for row in zip(*(one.success.tolist() for one in averaged.values()), strict=True)],
        "fixed_mask": list(_on_one_mask(subject, deployed).tolist()),
        "draws_spread": list(torch.sigmoid(clean).std(dim=0).tolist()),
        "clean_flip_share": list(_flips(subject, clean).tolist()),
    }
    facts |= _confirmed(subject, deployed, averaged[SELECTED])
    return facts | _referral(subject, deployed, crossed)


def _on_one_mask(subject: Subject, deployed: Deployed) -> PerExam:
    """Return what the attack breaks when one mask of the dropout is drawn and stays."""
    seeds = [seed_for(seed, "fixed mask") for seed in subject.seeds]

    def drawn(x: Tensor, present: Tensor, given: Sequence[int], _: int) -> Tensor:
        return deployed.draws(x, present, given, 1)

    fixed = replace(deployed, draws=drawn, count=1)
    with measuring(subject.model):
        target = replace(subject.target(deployed=fixed, draws=1), seeds=tuple(seeds))
        return reached(target, _descended(target, subject))


def _descended(target: Target, subject: Subject) -> Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in subject.seeds]
    return pgd(target, generators, steps=subject.steps, stop=True)


def _fresh(subject: Subject, deployed: Deployed, x: Tensor, what: str) -> Tensor:
    """Return P(referable) of the worse eye of each fresh draw in log-odds, draw × exam."""
    seeds = [seed_for(seed, what) for seed in subject.seeds]
    with torch.no_grad():
        drawn = deployed.draws(x, subject.present, seeds, FRESH)
    logits = drawn.clamp(min=torch.finfo(drawn.dtype).tiny).log()
    odds = referable_log_odds(logits.flatten(0, 1)).reshape(drawn.shape[:-1])
    return torch.where(subject.present[None], odds, -torch.inf).amax(dim=2)


def _flips(subject: Subject, clean: Tensor) -> Tensor:
    """Return in which share of single draws the call is another than that of most."""
    share = (clean >= _boundary(subject)).float().mean(dim=0)
    return torch.minimum(share, 1 - share)


def _boundary(subject: Subject) -> float:
    return float(torch.logit(torch.tensor(subject.threshold, dtype=torch.float64)))


def _confirmed(subject: Subject, deployed: Deployed, attacked: StressResult) -> Facts:
    """Return which exams the draws that the attack saw called broken, and how many fresh ones do."""
    with measuring(subject.model):
        target = subject.target(deployed=deployed, draws=SELECTED)
        selected = reached(target, attacked.x)
    wrong = _fresh(subject, deployed, attacked.x, "confirmation") >= _boundary(subject)
    wrong = torch.where(target.case.label[None] == 1, ~wrong, wrong)
    return {
        "selected": list(selected.tolist()),
        "fresh_wrong": [int(count) for count in wrong.sum(dim=0).tolist()],
        "fresh_draws": [FRESH] * len(subject),
    }


def _referral(subject: Subject, deployed: Deployed, crossed: Tensor) -> Facts:
    """Return who fails silently when the attack only crosses the boundary, and when it minds the referral rule."""
    if deployed.cutoff is None:
        return {"silent_by_crossing": [None] * len(subject), "silent": [None] * len(subject)}
    aim = Aim(goal="silent")
    with measuring(subject.model):
        target = subject.target(aim, deployed, draws=deployed.count)
        may = [not why for why in not_applicable(target.case)]
        crossing = reached(target, crossed)
    minding = subject.under("pgd", aim=aim, steps=subject.steps).success
    pairs = {"silent_by_crossing": crossing.tolist(), "silent": minding.tolist()}
    return {name: [one if ok else None for one, ok in zip(values, may, strict=True)] for name, values in pairs.items()}
