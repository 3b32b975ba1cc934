"""Every check that needs the model, on some exams: one row of facts per exam. `report` judges them."""

from __future__ import annotations

import torch

from workbench.stress.credibility.descents import Facts, of_descents, without_gradient
from workbench.stress.credibility.draws import of_draws
from workbench.stress.credibility.modes import answering, watched
from workbench.stress.credibility.self_test import self_test
from workbench.stress.credibility.slopes import slopes
from workbench.stress.credibility.subject import Subject


def examine(subject: Subject) -> Facts:
    """Return the facts of `audit.schemas.CREDIBILITY_SCHEMA`, column by column; what does not apply is left out."""
    with watched(subject.model) as seen:
        answers, found = answering(subject), slopes(subject)
        facts: Facts = {
            "probabilities": list(answers.probabilities.tolist()),
            "passes_differ": list(answers.differs.tolist()),
            "gradient_fault": list(found.faulty.tolist()),
            "gradient_cut": list(found.cut.tolist()),
            "difference_cosine": [None if value != value else value for value in found.cosine.tolist()],
            "difference_sign": list(found.same_sign.tolist()),
        }
        crossed = subject.x
        if bool(found.cut.all()):  # nothing to descend along: what follows is for the black box
            facts |= without_gradient(subject, torch.full((len(subject),), subject.epsilon, dtype=torch.float64), None)
        else:
            once = subject.under("pgd", steps=subject.steps)
            facts |= of_descents(subject, once, answers.classes)
            crossed = once.x
        if subject.deployed is not None:
            facts |= of_draws(subject, subject.deployed, crossed)
    count = len(subject)
    facts["norms_training"] = [len(seen.trained)] * count
    facts["buffers_changed"] = [seen.buffers_changed] * count
    facts["averages"] = [answers.averages] * count
    facts["classes"] = [answers.classes] * count
    facts["self_test"] = [self_test()] * count
    return facts
