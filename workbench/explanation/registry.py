"""Every explanation by its name, and what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from typing import Final

from torch import Tensor

from workbench.explanation.floors import edges, random_map
from workbench.explanation.grad_cam import grad_cam, grad_cams, layer_cam
from workbench.explanation.guided import guided_backprop, guided_grad_cam
from workbench.explanation.integrated_gradients import integrated_gradients, integrated_gradients_of
from workbench.explanation.occlusion import occlusion, occlusions, rise
from workbench.explanation.propagation import deep_lift, lrp
from workbench.explanation.smoothing import expected_gradients, smooth_grad

EXPLANATIONS: Final[Mapping[str, Callable[..., Tensor]]] = {
    "integrated_gradients": integrated_gradients,
    "expected_gradients": expected_gradients,
    "smooth_grad": smooth_grad,
    "deep_lift": deep_lift,
    "lrp": lrp,
    "occlusion": occlusion,
    "rise": rise,
    "grad_cam": grad_cam,
    "layer_cam": layer_cam,
    "guided_backprop": guided_backprop,
    "guided_grad_cam": guided_grad_cam,
    "random": random_map,
    "edges": edges,
}
"""``(model, x, present, target, **options) -> Float[Tensor, "exam 6 height width"]``."""

OF_SEVERAL: Final[Mapping[str, Callable[..., Tensor]]] = {
    "integrated_gradients": integrated_gradients_of,
    "occlusion": occlusions,
    "grad_cam": grad_cams,
    "layer_cam": partial(grad_cams, finer=True),
}
"""Methods that explain several targets, e.g. both eyes', for less than one by one: ``targets`` for ``target``."""

FLOORS: Final = ("random", "edges")
"""Maps that know nothing of the model: what any method must beat."""

COMPLETE: Final = ("integrated_gradients", "deep_lift")
"""Methods whose map must add up to the target's change from `blurred_baseline`: measured, and withheld where not."""

ONE_MAP_IF_EARLY: Final = ("grad_cam", "layer_cam")
"""Methods that have one map for both eyes where the network sees both at once."""

IN_ANY_PRECISION: Final = tuple(
    name for name, method in EXPLANATIONS.items() if "precision" in signature(method).parameters
)
"""Methods that can run in bf16: each compares what it reads with fp32 first, and stays there where that is not true."""

OF_ALL_DRAWS: Final = ("integrated_gradients", "expected_gradients", "smooth_grad", "occlusion", "rise")
"""Methods that ask for answers and their slopes at the pixels alone, so that the answer may be that of all draws."""

LIMITS: Final[Mapping[str, str]] = {
    "smooth_grad": "says where a change would matter, not what speaks for the answer",
    "rise": "coarse, and noisy with few masks",
    "grad_cam": "coarse: one cell of the last feature map is 32 pixels wide",
    "guided_backprop": "hardly changes when the weights are random (Adebayo 2018): it shows edges, not reasons",
    "guided_grad_cam": "its detail is guided backprop's: it hardly changes when the weights are random",
    "random": "knows nothing of the model: the floor that a method must beat",
    "edges": "knows nothing of the model: the floor that a method must beat",
}
"""What a reader should know of a method's maps before any check."""
