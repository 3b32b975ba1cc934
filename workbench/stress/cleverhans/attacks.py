"""Carlini-Wagner, SPSA, HopSkipJump and sparse L1 descent through CleverHans, on any goal of `stress.goals`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import torch
from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2
from cleverhans.torch.attacks.hop_skip_jump_attack import hop_skip_jump_attack
from cleverhans.torch.attacks.sparse_l1_descent import sparse_l1_descent
from cleverhans.torch.attacks.spsa import spsa as cleverhans_spsa
from jaxtyping import Float, Int64
from torch import Tensor

from workbench.schema.errors import WorkbenchError
from workbench.schema.threat import Knowledge, Norm
from workbench.stress.cleverhans.watch import OutOfQueriesError, Watch, at_least, exam_by_exam
from workbench.stress.norms import project
from workbench.stress.target import Target

Model = Callable[[Tensor], Tensor]
LEAVE: Final = torch.zeros(1, dtype=torch.long)
"""The class to leave, always given: without one CleverHans works on its own guess, and its CW returns the clean one."""


def carlini_wagner(
    model: Model,
    x: Float[Tensor, "exam 6 height width"],
    y: Int64[Tensor, "exam 2"],  # noqa: ARG001 - the target holds the grades
    generators: Sequence[torch.Generator],
    *,
    epsilon: float,
    eyes: str = "both",  # noqa: ARG001 - the target knows
    threshold: float = 0.5,  # noqa: ARG001
    searches: int = 4,
    steps: int = 40,
    learning_rate: float = 0.01,
) -> Float[Tensor, "exam 6 height width"]:
    """Return the nearest picture in L2 that reaches the goal (Carlini, Wagner 2017), cut back to ``epsilon``.

    The search for the weight of the goal against the distance is ours: CleverHans' own changes nothing, because its
    bounds are views of the constant that it moves, and it adds every exam's constant to every other's loss.

    Raises:
        WorkbenchError: searches or steps below 1, a learning rate that is not above 0.
    """
    at_least("cleverhans_cw", searches=(searches, 1), steps=(steps, 1), learning_rate=(learning_rate, 1e-6))
    if epsilon == 0:
        return x.clone()

    def attack(target: Target) -> Tensor:
        overall = Watch(target, minimal=True)
        if overall.reached:
            return overall.best
        weight, low, high = 1.0, 0.0, float("inf")
        best, least = overall.best, float("inf")
        for _ in range(searches):
            watch = Watch(target, minimal=True)
            carlini_wagner_l2(
                watch, target.clean, 2, y=LEAVE, lr=learning_rate, initial_const=weight,
                binary_search_steps=1, max_iterations=steps,
            )  # fmt: skip
            size = float((watch.best - target.clean).norm())
            if watch.reached and size < least:
                best, least = watch.best, size
            low, high = (low, weight) if watch.reached else (weight, high)
            weight = (low + high) / 2 if np.isfinite(high) else weight * 10
        return best

    return exam_by_exam(model, generators, attack)


def spsa(
    model: Model,
    x: Float[Tensor, "exam 6 height width"],
    y: Int64[Tensor, "exam 2"],  # noqa: ARG001
    generators: Sequence[torch.Generator],
    *,
    epsilon: float,
    eyes: str = "both",  # noqa: ARG001
    threshold: float = 0.5,  # noqa: ARG001
    steps: int = 10,
    samples: int = 32,
) -> Float[Tensor, "exam 6 height width"]:
    """Return the best iterate of a descent by estimated gradients, from scores alone (Uesato et al. 2018), in L∞.

    The loop is ours, each step a quarter of ε: CleverHans estimates every gradient at 2x, never at its iterate, so it
    is given a change of nothing to start from, and one step.

    Raises:
        WorkbenchError: steps or samples below 1.
    """
    at_least("cleverhans_spsa", steps=(steps, 1), samples=(samples, 1))
    if epsilon == 0:
        return x.clone()

    def attack(target: Target) -> Tensor:
        watch, size = Watch(target), target.case.threat.size
        here, step = target.clean, size / 4
        nothing = torch.zeros_like(here)
        with torch.no_grad():
            for _ in range(steps):

                def from_here(change: Tensor, picture: Tensor = here) -> Tensor:
                    return watch(picture + change)

                moved = cleverhans_spsa(
                    from_here, nothing, step, 1, y=LEAVE, learning_rate=2 * step, delta=min(0.01, size),
                    spsa_samples=samples, sanity_checks=False,
                )  # fmt: skip
                here = (target.clean + project(here + moved - target.clean, target.size, "linf")).clamp(0.0, 1.0)
        return watch.best

    return exam_by_exam(model, generators, attack)


def hop_skip_jump(
    model: Model,
    x: Float[Tensor, "exam 6 height width"],
    y: Int64[Tensor, "exam 2"],  # noqa: ARG001
    generators: Sequence[torch.Generator],
    *,
    epsilon: float,
    eyes: str = "both",  # noqa: ARG001
    threshold: float = 0.5,  # noqa: ARG001
    steps: int = 10,
    queries: int = 4000,
) -> Float[Tensor, "exam 6 height width"]:
    """Return the nearest picture in L2 found from calls alone (Chen et al. 2020), cut back to ``epsilon``.

    It starts from a picture that we found to reach the goal; where none of `_starts` does, the exam stays as it is.
    ``queries`` bounds the pictures looked at, because two of CleverHans' loops may never end.

    Raises:
        WorkbenchError: steps or queries below 1.
    """
    at_least("cleverhans_hop_skip_jump", steps=(steps, 1), queries=(queries, 1))
    if epsilon == 0:
        return x.clone()

    def attack(target: Target) -> Tensor:
        watch = Watch(target, minimal=True, labels=True, queries=queries)
        if watch.reached:
            return watch.best
        with torch.no_grad():
            try:
                starts = _starts(target.clean)
                good = watch(starts)[:, 1] > 0
                if good.any():
                    start = starts[int(good.int().argmax())]
                    pixels = start.numel()
                    hop_skip_jump_attack(
                        watch, target.clean, 2, image_target=start[None, None], num_iterations=steps,
                        initial_num_evals=20, gamma=max(1.0, FINEST * pixels**1.5), constraint=2, verbose=False,
                    )  # fmt: skip
            except OutOfQueriesError:
                pass  # what was found until then stands
        return watch.best

    return exam_by_exam(model, generators, attack)


FINEST: Final = 1e-5
"""Of HopSkipJump's search for the boundary, as a share: its own bound lies below float32's at 128 pixels: no end."""


def _starts(clean: Float[Tensor, "1 6 height width"]) -> Float[Tensor, "start 6 height width"]:
    """Return pictures to begin from: plain ones, the photograph turned to its negative, noise."""
    plain = torch.tensor([0.0, 0.5, 1.0])[:, None, None, None].expand(-1, *clean.shape[1:])
    reds = torch.zeros(2, *clean.shape[1:])
    reds[0, ::3], reds[1, 1::3] = 1.0, 1.0
    return torch.cat([1 - clean, plain, reds, (clean * 2).clamp(max=1), clean / 4, torch.rand(16, *clean.shape[1:])])


def sparse_l1(
    model: Model,
    x: Float[Tensor, "exam 6 height width"],
    y: Int64[Tensor, "exam 2"],  # noqa: ARG001
    generators: Sequence[torch.Generator],
    *,
    epsilon: float,
    eyes: str = "both",  # noqa: ARG001
    threshold: float = 0.5,  # noqa: ARG001
    steps: int = 20,
    step_share: float = 0.25,
    sparsity: float = 99.0,
) -> Float[Tensor, "exam 6 height width"]:
    """Return the best iterate of a descent that moves the (100 − ``sparsity``) % steepest pixels (Tramèr, Boneh 2019).

    In L1, per eye. It begins at the exam: CleverHans draws a random start and throws it away when it clips.

    Raises:
        WorkbenchError: steps below 1, a sparsity outside 1 to 99.99 %.
    """
    at_least("cleverhans_sparse_l1", steps=(steps, 1), step_share=(step_share, 1e-3))
    if not 1 <= sparsity <= 99.99:
        raise WorkbenchError(f"cleverhans_sparse_l1: sparsity is {sparsity:g}", "give a percentage from 1 to 99.99")
    if epsilon == 0:
        return x.clone()

    def attack(target: Target) -> Tensor:
        watch = Watch(target)
        both = float(target.size.sum())
        sparse_l1_descent(
            watch, target.clean, eps=both, eps_iter=both * min(step_share, 1.0), nb_iter=steps, y=LEAVE, clip_min=0.0,
            clip_max=1.0, grad_sparsity=float(sparsity), sanity_checks=False,
        )  # fmt: skip
        with torch.no_grad():
            watch(watch.best)
        return watch.best

    return exam_by_exam(model, generators, attack)


FROM_CLEVERHANS: Final[Mapping[str, Callable[..., Tensor]]] = {
    "cleverhans_cw": carlini_wagner,
    "cleverhans_spsa": spsa,
    "cleverhans_hop_skip_jump": hop_skip_jump,
    "cleverhans_sparse_l1": sparse_l1,
}

NORM_OF: Final[Mapping[str, Norm]] = {
    "cleverhans_cw": "l2",
    "cleverhans_spsa": "linf",
    "cleverhans_hop_skip_jump": "l2",
    "cleverhans_sparse_l1": "l1",
}
"""The one norm that each works in; `aim.norm` must say so."""

INSTEAD: Final[Mapping[tuple[str, Norm], str]] = {
    ("cleverhans_hop_skip_jump", "linf"): ", or choose rays: it needs calls alone and works in linf",
}
"""What serves where CleverHans fails: its HopSkipJump raises TypeError in linf."""

LEAST_KNOWLEDGE: Final[Mapping[str, Knowledge]] = {
    "cleverhans_cw": "gradients",
    "cleverhans_spsa": "scores",
    "cleverhans_hop_skip_jump": "labels",
    "cleverhans_sparse_l1": "gradients",
}
"""What each must see of the model."""
