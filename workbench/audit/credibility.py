"""The checks of an attack's worth that need the model, as rows: what was found, not what to think of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from workbench.audit.run_manifest import CredibilitySetting
from workbench.audit.schemas import CREDIBILITY_SCHEMA
from workbench.data.exams import ExamBatch
from workbench.stress.credibility.examination import examine
from workbench.stress.credibility.subject import Subject
from workbench.stress.goals import Deployed

PER_EXAM = frozenset(CREDIBILITY_SCHEMA.names) - {"exam_id", "eye", "status", "reason"}


def credibility_rows(
    attacked: nn.Module,
    batch: ExamBatch,
    setting: CredibilitySetting,
    seeds: Sequence[int],
    *,
    threshold: float,
    deployed: Deployed | None,
    no_draws: str | None,
    surrogate: nn.Module | None,
) -> list[dict[str, Any]]:
    """Return one row of facts per exam of the batch, see `CREDIBILITY_SCHEMA`.

    A system whose draws have no gradient (an ensemble's, test-time views) is None; what is about draws is then left
    empty, with ``no_draws`` as the reason.

    Raises:
        WorkbenchError: pixels outside [0, 1].
    """
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
    rows = [{name: values[place] for name, values in facts.items()} for place in range(len(batch.x))]
    return [{"no_draws": no_draws, **row} for row in rows]
