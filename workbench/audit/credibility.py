"""The checks of an attack's worth that need the model, as rows: what was found, not what to think of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from workbench.audit.deployed import deployed_system
from workbench.audit.layout import CREDIBILITY_SCHEMA, CredibilitySetting
from workbench.data.exams import ExamBatch
from workbench.schema.errors import WorkbenchError
from workbench.schema.specs import PolicySpec
from workbench.stress.credibility.examination import examine
from workbench.stress.credibility.subject import Subject
from workbench.stress.goals import Deployed

PER_EXAM = frozenset(CREDIBILITY_SCHEMA.names) - {"exam_id", "eye", "status", "reason"}


def credibility_rows(
    attacked: nn.Module,
    predictor: object,
    batch: ExamBatch,
    setting: CredibilitySetting,
    seeds: Sequence[int],
    *,
    policy: PolicySpec,
    draws: int,
    threshold: float,
    cutoff: float | None,
    surrogate: nn.Module | None,
) -> list[dict[str, Any]]:
    """Return one row of facts per exam of the batch, see `CREDIBILITY_SCHEMA`.

    A system whose draws have no gradient (an ensemble's, test-time views) leaves what is about draws empty, and says
    why in ``no_draws``.

    Raises:
        WorkbenchError: pixels outside [0, 1].
    """
    deployed, why = _deployed(predictor, policy, draws=draws, threshold=threshold, cutoff=cutoff)
    subject = Subject(
        model=attacked,
        x=batch.x,
        present=batch.present,
        y=batch.grade,
        seeds=tuple(seeds),
        threshold=threshold,
        epsilon=setting.epsilon,
        steps=setting.steps,
        tries=setting.tries,
        queries=setting.queries,
        deployed=deployed,
        surrogate=surrogate,
    )
    facts: Mapping[str, Sequence[object]] = examine(subject)
    unknown = set(facts) - PER_EXAM
    if unknown:
        raise ValueError(f"facts without a column: {sorted(unknown)}")
    return [
        {"no_draws": why, **{name: values[place] for name, values in facts.items()}} for place in range(len(batch.x))
    ]


def _deployed(
    predictor: object, policy: PolicySpec, *, draws: int, threshold: float, cutoff: float | None
) -> tuple[Deployed | None, str | None]:
    try:
        return deployed_system(predictor, policy, draws=draws, threshold=threshold, cutoff=cutoff), None
    except WorkbenchError as error:
        return None, error.what
