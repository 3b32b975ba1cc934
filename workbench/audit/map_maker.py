"""The maps of some exams, of the model without draws or over the very draws that its answers are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.audit.layout import CLEAN, pack_agreement, pack_map
from workbench.explanation.checks import ExplanationResult, explain_draws, explain_eyes
from workbench.explanation.draws import DrawnMaps
from workbench.explanation.registry import IN_ANY_PRECISION
from workbench.models.fast import fast_copy
from workbench.models.precision import Precision
from workbench.schema.maps import MapSpec
from workbench.schema.seeds import seed_for
from workbench.schema.specs import MapPolicySpec
from workbench.uncertainty.drawn import drawn_net
from workbench.uncertainty.makers import DrawMaker

Eye = Literal[0, 1]
EYE_NUMBERS: Final[tuple[Eye, Eye]] = (0, 1)
Row = dict[str, Any]


@dataclass(frozen=True)
class MapMaker:
    """Makes maps of one kind.

    Attributes:
        model: whose answers are explained.
        predictor: makes its draws.
        policy: what each map must pass.
        seed: the run's.
        spec: which maps.
        precision: of the methods that have one, unless ``spec`` names another; maps of draws are made in fp32.
    """

    model: nn.Module
    predictor: DrawMaker
    policy: MapPolicySpec
    seed: int
    spec: MapSpec
    precision: Precision = "fp32"

    def rows(
        self, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"], exam_ids: Sequence[str]
    ) -> dict[tuple[int, int], Row]:
        """Return the columns of `MAPS_SCHEMA` by place of the exam and eye, of the eyes that are there."""
        there = [(place, eye) for place in range(len(x)) for eye in EYE_NUMBERS if present[place, eye]]
        if self.spec.draws:
            pieces = [(x[i : i + 1], present[i : i + 1], exam_ids[i]) for i in range(len(x))]
            return {(place, eye): self._over_draws(*pieces[place], eye) for place, eye in there}
        told: dict[str, Any] = {"target": self.spec.target, "policy": self.policy}
        told |= options_in(self.spec, self.precision)
        results = explain_eyes(self.model, x, present, method=self.spec.name, **told)
        return {(place, eye): _row(results[eye], place) for place, eye in there}

    def _over_draws(self, x: Tensor, present: Tensor, exam_id: str, eye: Eye) -> Row:
        """Return the row of one exam, over the first draws that its clean answer is made of."""
        spec, seed = self.spec, seed_for(self.seed, exam_id, CLEAN)
        net = fast_copy(self.model, x, "fp32")
        drawn = drawn_net(self.predictor, x, present, seed=seed, draws=spec.draws, net=net)
        told: dict[str, Any] = {"eye": eye, "target": spec.target, "policy": self.policy, **spec.options}
        result, found = explain_draws(drawn, self.model, x, present, method=spec.name, **told)
        row = _row(result, 0)
        if found is not None and row["withheld"] is None:
            row |= _agreement(found, spec.draws)
        return row


def options_in(spec: MapSpec, precision: Precision) -> dict[str, Any]:
    """Return the method's options, at the run's precision where the method has one and names none."""
    return {**({"precision": precision} if spec.name in IN_ANY_PRECISION else {}), **spec.options}


def _row(result: ExplanationResult, place: int) -> Row:
    withheld = result.withheld[place]
    row: Row = {
        "withheld": withheld,
        "completeness_gap": number(result.completeness_gap, place),
        "fellow_share": number(result.fellow_share, place) if withheld is None else None,
        "outside_share": number(result.outside_share, place),
        "outside_change": number(result.outside_change, place),
        "draws_likeness": number(result.draws_likeness, place),
    }
    if withheld is None:
        row |= pack_map(result.own_eye[place].detach().cpu().numpy().astype(np.float32))
    return row


def _agreement(found: DrawnMaps, draws: int) -> Row:
    return {**pack_agreement(found.frequency[0].cpu().numpy(), draws), "steadiness": number(found.steadiness, 0)}


def number(values: Tensor | np.ndarray | None, place: int) -> float | None:
    """Return one value as a row keeps it: None where it is not finite."""
    if values is None or not np.isfinite(float(values[place])):
        return None
    return float(values[place])
