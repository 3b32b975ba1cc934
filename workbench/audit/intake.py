"""What a run knows of photographs before they are graded: unlike the training ones, upside down, the other eye.

No torch here: the scores and verdicts were measured into the parts; this judges them by the run's policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from workbench.audit import layout, schemas
from workbench.audit.results import Run
from workbench.schema.grades import EYES
from workbench.schema.specs import UNLIKE_SCORES, PolicySpec
from workbench.uncertainty.decisions import EyeAnswers
from workbench.uncertainty.flags import flag_of
from workbench.uncertainty.out_of_distribution import cutoff_of, is_unlike, unlike_cutoffs


@dataclass(frozen=True)
class RunIntake:
    """From where on a run's eyes are unlike the training ones, and which photographs look filed under the wrong eye.

    Attributes:
        cutoffs: of the policy's scores together; None where the model had no reference.
        alone: of each score, were it the only one; None as above.
        turned: the verdict on each exam and eye; None where the side of the optic disc was not checked.
    """

    cutoffs: dict[str, float] | None
    alone: dict[str, float] | None
    turned: dict[tuple[str, str], str | None] | None

    def answers(self, part: pd.DataFrame) -> EyeAnswers:
        """Return each score of a part's rows and ``unlike_training``, arrays "exam 2"; nothing without a reference."""
        if self.cutoffs is None:
            return {}
        scores = {name: part[name].to_numpy(dtype=float, na_value=np.nan).reshape(-1, 2) for name in UNLIKE_SCORES}
        return {**scores, "unlike_training": is_unlike(scores, self.cutoffs)}

    def turned_eyes(self, exam_ids: Sequence[str]) -> Bool[np.ndarray, "exam 2"] | None:
        """Return which photographs look filed under the wrong eye; None where that was not checked."""
        if self.turned is None:
            return None
        found = [[self.turned.get((exam_id, eye)) is not None for eye in EYES] for exam_id in exam_ids]
        return np.array(found, dtype=bool).reshape(-1, 2)

    def columns(self, eyes: pd.DataFrame) -> dict[str, Any]:
        """Return what a table of eye answers is given: ``flag``, and nulls for what was not measured."""
        missing = dict.fromkeys(UNLIKE_SCORES, np.nan) | {"unlike_training": pd.NA}
        keys = zip(eyes["exam_id"], eyes["eye"], strict=True)
        turned = [(self.turned or {}).get(key) for key in keys]
        exceeded = {name: (eyes[name] > cutoff).to_numpy() for name, cutoff in (self.cutoffs or {}).items()}
        unlike = [tuple(name for name in exceeded if exceeded[name][row]) for row in range(len(eyes))]
        flags = [flag_of(said, names) for said, names in zip(turned, unlike, strict=True)]
        return {"flag": flags, **({} if self.cutoffs is not None else missing)}


def intake_of(run: Run) -> RunIntake:
    """Return what a run's parts say of the photographs, by the run's policy."""
    cutoffs = alone = None
    if run.manifest.reference_sha256 is not None:
        table = layout.read_table(layout.reference_path(run.folder), schemas.HELD_OUT_SCHEMA)
        held_out = {name: table[name].to_numpy(dtype=float) for name in UNLIKE_SCORES}
        percentile = run.manifest.policy.unlike_training_percentile
        cutoffs = unlike_cutoffs(held_out, run.manifest.policy.unlike_training_scores, percentile)
        alone = {name: cutoff_of(held_out[name], percentile) for name in UNLIKE_SCORES}
    return RunIntake(cutoffs, alone, _turned(run))


def _turned(run: Run) -> dict[tuple[str, str], str | None] | None:
    checked = [measurement for measurement in run.manifest.measurements if measurement.kind == "intake"]
    if not checked:
        return None
    rows = run.rows_of(checked[0])
    flags = [None if pd.isna(flag) else str(flag) for flag in rows["flag"]]
    return dict(zip(zip(rows["exam_id"], rows["eye"], strict=True), flags, strict=True))


def needs_reference(policy: PolicySpec) -> str | None:
    """Return what of a policy cannot be had without the model's reference, or None."""
    if policy.referral_score in UNLIKE_SCORES:
        return f"policy.referral_score is {policy.referral_score}"
    return "policy.refer_unlike_training is true" if policy.refer_unlike_training else None
