"""What a run knows of photographs before they are graded: unlike the training ones, upside down, the other eye.

No torch here: the scores and verdicts were measured into the parts; this judges them by the run's policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from workbench.audit import layout
from workbench.audit.plan import units_of
from workbench.audit.results import Run
from workbench.schema.specs import UNLIKE_SCORES, PolicySpec
from workbench.uncertainty.decisions import EyeAnswers
from workbench.uncertainty.flags import flag_of
from workbench.uncertainty.out_of_distribution import is_unlike, unlike_cutoffs


@dataclass(frozen=True)
class Unlikeness:
    """From which score on an eye is unlike the training photographs.

    Attributes:
        cutoffs: of the policy's scores together.
        alone: of each score, were it the only one.
    """

    cutoffs: dict[str, float]
    alone: dict[str, float]

    def answers(self, part: pd.DataFrame) -> EyeAnswers:
        """Return each score of a part's rows, and ``unlike_training``; arrays "exam 2"."""
        scores = {name: part[name].to_numpy(dtype=float, na_value=np.nan).reshape(-1, 2) for name in UNLIKE_SCORES}
        return {**scores, "unlike_training": is_unlike(scores, self.cutoffs)}


def unlikeness_of(run: Run) -> Unlikeness | None:
    """Return a run's cut-offs, or None where the model had no reference."""
    if run.manifest.reference_sha256 is None:
        return None
    table = layout.read_table(layout.reference_path(run.folder), layout.HELD_OUT_SCHEMA)
    held_out = {name: table[name].to_numpy(dtype=float) for name in UNLIKE_SCORES}
    policy = run.manifest.policy
    return Unlikeness(
        unlike_cutoffs(held_out, policy.unlike_training_scores, policy.unlike_training_percentile),
        {name: unlike_cutoffs(held_out, [name], policy.unlike_training_percentile)[name] for name in UNLIKE_SCORES},
    )


def laterality_flags(run: Run) -> dict[tuple[str, str], str | None] | None:
    """Return what each photograph was flagged as by the side of its optic disc; None where that was not checked."""
    checked = [measurement for measurement in run.manifest.measurements if measurement.kind == "intake"]
    if not checked:
        return None
    parts = [run.part(checked[0].id, unit.chunk) for unit in units_of(run.manifest, run.exam_ids, checked[0])]
    rows = pd.concat(parts)
    flags = rows["flag"].astype(object).where(rows["flag"].notna(), None)
    return dict(zip(zip(rows["exam_id"], rows["eye"], strict=True), flags, strict=True))


def eye_flags(
    eyes: pd.DataFrame, unlike: Unlikeness | None, laterality: dict[tuple[str, str], str | None] | None
) -> list[str | None]:
    """Return the flag of each row of a table of eye answers."""
    keys = list(zip(eyes["exam_id"], eyes["eye"], strict=True))
    turned = [(laterality or {}).get(key) for key in keys]
    if unlike is None:
        return [flag_of(said, ()) for said in turned]
    exceeded = {name: (eyes[name] > cutoff).to_numpy(dtype=bool) for name, cutoff in unlike.cutoffs.items()}
    named = [tuple(name for name in exceeded if exceeded[name][row]) for row in range(len(eyes))]
    return [flag_of(said, names) for said, names in zip(turned, named, strict=True)]


def refuse_missing(policy: PolicySpec, *, reference: bool) -> str | None:
    """Return what of the policy needs a reference that the model does not have, or None."""
    if reference:
        return None
    if policy.referral_score in UNLIKE_SCORES:
        return f"policy.referral_score is {policy.referral_score}"
    return "policy.refer_unlike_training is true" if policy.refer_unlike_training else None
