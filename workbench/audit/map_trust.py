"""Every check of one method's maps on some exams: the numbers that a method is judged by, cohort-wise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.audit.map_maker import options_in
from workbench.audit.schemas import MAP_TRUST_SCHEMA
from workbench.explanation.registry import EXPLANATIONS
from workbench.explanation.targets import ReferableTarget, target_named
from workbench.explanation.trust.faithfulness import faithfulness, road_gain
from workbench.explanation.trust.likeness import border_share, rank_correlation
from workbench.explanation.trust.manipulation import move_map
from workbench.explanation.trust.randomisation import sanity_check
from workbench.explanation.trust.steadiness import infidelity, jittered, relative_change, rephotographed
from workbench.models.fast import fast_copy
from workbench.models.modes import measuring
from workbench.models.precision import Precision
from workbench.schema.maps import MapSpec
from workbench.schema.seeds import seed_for
from workbench.schema.specs import StressSpec
from workbench.stress.apply import apply_stress

CORRUPTION: Final = StressSpec(name="jpeg", strength=3)
JITTERS: Final = 3
STAYED: Final = 0.1
"""Where P(referable) moves further, the map has a reason to move, too, and its steadiness says nothing."""

Eye = Literal[0, 1]


@dataclass(frozen=True)
class MapExaminer:
    """One method under every check.

    Attributes:
        model: whose answers are explained.
        spec: which maps; those of draws are judged by the model's without draws.
        threshold: P(referable) from which an exam is called referable.
        seed: the run's, of the random weights.
        unlearned: a model of the same input trained on permuted labels, or None.
        precision: of the model's own maps, as they are shown. Those of other networks (random weights, permuted
            labels) are made in fp32: a copy in bf16, judged anew for each, would cost more than it saves.
    """

    model: nn.Module
    spec: MapSpec
    threshold: float
    seed: int
    unlearned: nn.Module | None = None
    precision: Precision = "fp32"

    def rows(
        self, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"], eye: Eye, seeds: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Return the columns of `MAP_TRUST_SCHEMA` for the explained eye of each exam.

        A map that is zero everywhere is withheld by itself and says nothing about its method: all null.
        """
        maps = self._maps(x, present, eye)
        heat = maps[:, 3 * eye : 3 * eye + 3].sum(dim=1)
        found = {
            "border_share": border_share(heat),
            **self._faithful(x, present, eye, maps, seeds),
            **self._steady(x, present, eye, maps, seeds),
            **self._attacked(x, present, eye, seeds),
            **self._learned(x, present, eye),
        }
        columns = {name: found[name] for name in MAP_TRUST_SCHEMA.names if name in found}
        says = heat.flatten(1).any(dim=1)
        return [
            {name: _number(values[place]) if says[place] else None for name, values in columns.items()}
            for place in range(len(x))
        ]

    def _heat(self, x: Tensor, present: Tensor, eye: Eye, model: nn.Module | None = None) -> Tensor:
        return self._maps(x, present, eye, model)[:, 3 * eye : 3 * eye + 3].sum(dim=1)

    def _maps(self, x: Tensor, present: Tensor, eye: Eye, model: nn.Module | None = None) -> Tensor:
        """Return the maps themselves, whatever the gate would say; zero where one is not finite."""
        net = self.model if model is None else model
        options = options_in(self.spec, self.precision if net is self.model else "fp32")
        maps = EXPLANATIONS[self.spec.name](net, x, present, target_named(self.spec.target, eye), **options)
        return torch.where(maps.isfinite().all(dim=(1, 2, 3), keepdim=True), maps, 0.0)

    def _answer(self, x: Tensor, present: Tensor, eye: Eye) -> Tensor:
        with measuring(self.model), torch.no_grad():
            answer: Tensor = ReferableTarget(eye)(self.model(x, present))
        return answer

    def _faithful(self, x: Tensor, present: Tensor, eye: Eye, maps: Tensor, seeds: Sequence[int]) -> dict[str, Tensor]:
        heat = maps[:, 3 * eye : 3 * eye + 3].sum(dim=1)
        copy = fast_copy(self.model, x, self.precision, reading=None)

        def answer(changed: Tensor, net: nn.Module = copy) -> Tensor:
            with measuring(net), torch.no_grad():
                told: Tensor = target_named(self.spec.target, eye)(net(changed, present))
            return told

        gains = faithfulness(answer, x, present, heat, eye, seeds)
        return {
            "answer_change": gains.change,
            "deletion_gain": gains.deletion_gain,
            "insertion_gain": gains.insertion_gain,
            "road_gain": road_gain(answer, x, present, heat, eye, seeds),
            # Of changes so small that bf16 rounds them off.
            "infidelity": infidelity(partial(answer, net=self.model), x, maps, seeds),
        }

    def _steady(self, x: Tensor, present: Tensor, eye: Eye, maps: Tensor, seeds: Sequence[int]) -> dict[str, Tensor]:
        heat = maps[:, 3 * eye : 3 * eye + 3].sum(dim=1)
        likeness, change = [], []
        for number in range(JITTERS):
            moved = jittered(x, [seed_for(seed, "jitter", str(number)) for seed in seeds])
            again = self._maps(moved, present, eye)
            likeness.append(rank_correlation(heat, again[:, 3 * eye : 3 * eye + 3].sum(dim=1)))
            change.append(relative_change(maps, again))
        second = rephotographed(x, seeds)
        laid = second.lay_back(self._heat(second.x, present, eye))
        grades = torch.full((len(x), 2), -1, dtype=torch.int64)
        damaged = apply_stress(self.model, x, present, grades, CORRUPTION, seeds, threshold=self.threshold).x
        return {
            "repeatability": torch.stack(likeness).mean(dim=0),
            "max_sensitivity": torch.stack(change).amax(dim=0),
            "rephotograph_likeness": self._if_it_stayed(x, second.x, present, eye, rank_correlation(heat, laid)),
            "corruption_likeness": self._if_it_stayed(
                x, damaged, present, eye, rank_correlation(heat, self._heat(damaged, present, eye))
            ),
        }

    def _if_it_stayed(self, x: Tensor, other: Tensor, present: Tensor, eye: Eye, likeness: Tensor) -> Tensor:
        moved = (self._answer(other, present, eye) - self._answer(x, present, eye)).abs()
        return torch.where(moved <= STAYED, likeness, torch.full_like(likeness, float("nan")))

    def _attacked(self, x: Tensor, present: Tensor, eye: Eye, seeds: Sequence[int]) -> dict[str, Tensor]:
        found = move_map(
            self.model, ReferableTarget(eye), lambda moved, seen: self._heat(moved, seen, eye), x, present, eye, seeds
        )
        return {"attack_likeness": found.likeness, "attack_moved": found.moved}

    def _learned(self, x: Tensor, present: Tensor, eye: Eye) -> dict[str, Tensor]:
        check = sanity_check(
            self.model,
            lambda model: self._heat(x, present, eye, model),
            seed=seed_for(self.seed, "random weights"),
            every_step=False,
        )
        found = {
            "randomised_likeness": check.cascading[-1],
            "randomised_structure": check.structural,
            "independent_likeness": check.independent.nanmean(dim=0),
        }
        if self.unlearned is not None:
            theirs = self._heat(x, present, eye, self.unlearned)
            found["unlearned_likeness"] = rank_correlation(self._heat(x, present, eye), theirs)
        return found


def _number(value: Tensor) -> float | None:
    return float(value) if torch.isfinite(value) else None
