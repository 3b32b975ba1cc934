"""What else an eye's answer was read from: the fellow eye, the slot that it is filed in, what is no eye at all.

Each change leaves the eye itself as it is, so whatever its P(referable) does is due to the rest:

- *blank*: the fellow is said to be absent;
- *healthy*: it is an eye without retinopathy of another patient, several in turn;
- *mean*: it is the mean photograph of that side;
- *exchanged*: right and left are filed the wrong way round, the network being given the same pixels in the other slot;
- *outside*: all that lies outside the two discs is one colour, its own median.

The deployed answer is asked, the mean over draws, with the same dropout masks before and after: a model that answers
each eye from itself alone shows exactly 0. Masks belong to a slot, so for *exchanged* it is the answer without dropout
whose change is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.audit.schemas import INFLUENCES
from workbench.data.exams import Exams
from workbench.explanation.trust.influence import exchanged, eye_only, mean_eye, with_fellow, without_fellow
from workbench.schema.grades import EYES, REFERABLE_GRADE
from workbench.schema.seeds import seed_for

DONORS: Final = 8
"""Healthy fellows, each of another patient; the same ones for every exam of a run."""

OF_MEAN: Final = 64
"""Photographs of one side that the mean one is made of."""

Answering = Callable[[Tensor, Tensor], Float[Tensor, "draw exam 2 grade"]]
Eye = Literal[0, 1]


def influence_rows(
    drawn: Answering, once: Answering, exams: Exams, indices: Sequence[int], *, seed: int, mirrored: bool
) -> dict[tuple[int, int], dict[str, Any]]:
    """Return the columns of `INFLUENCE_SCHEMA` for each eye of the exams.

    Args:
        drawn: ``(x, present) -> draws``, with the seeds of these very exams bound.
        once: the same without dropout, as one draw.
        exams: the run's; fellows are taken from them.
        indices: which are measured.
        seed: the run's; it chooses the fellows.
        mirrored: the model mirrors the left eye.
    """
    batch = exams.batch(indices)
    x, present = batch.x, batch.present
    p = _referable(drawn(x, present))
    turned = _referable(once(*exchanged(x, present, mirrored=mirrored))).flip(-1) - _referable(once(x, present))
    bare = _referable(drawn(eye_only(x), present))
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    eyes: tuple[Eye, Eye] = (0, 1)
    for eye in eyes:
        both = present.all(dim=1)
        blank = _referable(drawn(x, without_fellow(present, eye)))[..., eye]
        mean = _referable(drawn(with_fellow(x, _mean_fellow(exams, eye, seed, x), eye), present))[..., eye]
        donors = _healthy_fellows(exams, indices, eye, seed)
        healthy = _beside_donors(drawn, exams, donors, x, present, eye)
        for place, index in enumerate(indices):
            own = p[:, place, eye]
            answers = {"exchanged": (own + turned[:, place, eye]).clamp(0, 1), "outside": bare[:, place, eye]}
            if both[place]:
                answers |= {"blank": blank[:, place], "mean": mean[:, place]}
            if both[place] and len(healthy):
                answers["healthy"] = healthy[:, :, place]
            rows[index, eye] = _row(own, answers, len(donors))
    return rows


def _row(own: Float[Tensor, " draw"], answers: dict[str, Tensor], donors: int) -> dict[str, Any]:
    row: dict[str, Any] = {"p": float(own.mean()), "donors": donors if "healthy" in answers else None}
    row |= {f"p_{name}": float(answers[name].mean()) for name in INFLUENCES if name in answers}
    if "healthy" in answers:
        rises = (own - answers["healthy"]).flatten().numpy()
        row["rise_low"], row["rise_high"] = (float(value) for value in np.quantile(rises, [0.025, 0.975]))
    return row


def _referable(draws: Float[Tensor, "draw exam 2 grade"]) -> Float[Tensor, "draw exam 2"]:
    return draws[..., REFERABLE_GRADE:].sum(dim=-1).double().cpu()


def _beside_donors(
    drawn: Answering, exams: Exams, donors: Sequence[Sequence[int]], x: Tensor, present: Tensor, eye: Eye
) -> Float[Tensor, "donor draw exam"]:
    """Return P(referable) of the eye beside each donor's eye; ``donors[k]`` holds one exam per exam."""
    found = []
    for chosen in donors:
        fellow = exams.batch(chosen).x[:, 3 - 3 * eye : 6 - 3 * eye]
        found.append(_referable(drawn(with_fellow(x, fellow.to(x), eye), present))[..., eye])
    return torch.stack(found) if found else torch.zeros((0, 0, len(x)))


def _shown(exams: Exams, eye: int, seed: int, *, healthy: bool) -> list[int]:
    """Return the exams with a photograph of that eye (healthy: of grade 0), in an order drawn by hash."""
    table = exams.eyes.iloc[eye::2].reset_index(drop=True)
    kept = table["status"] == "ok"
    if healthy:
        kept &= (table["icdr_grade"] == 0).fillna(False).astype(bool)
    indices = [int(index) for index in np.flatnonzero(kept.to_numpy(dtype=bool))]
    return sorted(indices, key=lambda index: seed_for(seed, exams.exam_ids[index], "fellow", EYES[eye]))


def _healthy_fellows(exams: Exams, indices: Sequence[int], eye: Eye, seed: int) -> list[list[int]]:
    """Return for each of the donors one exam per measured exam, never of the same patient."""
    pool, seen = [], set()
    for index in _shown(exams, 1 - eye, seed, healthy=True):
        patient = exams.eyes["patient_id"].iloc[2 * index]
        if patient not in seen:
            seen.add(patient)
            pool.append((index, patient))
        if len(pool) > DONORS:
            break
    own = [exams.eyes["patient_id"].iloc[2 * index] for index in indices]
    others = [[index for index, patient in pool if patient != mine] for mine in own]
    count = min((len(found) for found in others), default=0)
    return [[found[k] for found in others] for k in range(min(count, DONORS))]


def _mean_fellow(exams: Exams, eye: Eye, seed: int, x: Tensor) -> Float[Tensor, "exam 3 height width"]:
    chosen = _shown(exams, 1 - eye, seed, healthy=False)[:OF_MEAN]
    if not chosen:
        return x[:, 3 - 3 * eye : 6 - 3 * eye]
    photographs = exams.batch(chosen).x[:, 3 - 3 * eye : 6 - 3 * eye]
    return mean_eye(list(photographs)).to(x).expand(len(x), -1, -1, -1)
