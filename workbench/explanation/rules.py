"""Other rules for going back through a network, put in place of torch's own while a pass runs.

They stand where torch's functions are called, not on modules: a ReLU that serves twice, works in place or is no module
at all is met as often as it is called, nothing is traced or copied, and the model stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from workbench.schema.errors import WorkbenchError

Rule = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]

RELU: Final = frozenset({functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})
SMOOTH: Final = frozenset({functional.silu, functional.gelu, functional.mish, functional.hardswish})
GATES: Final = frozenset(
    {torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_, functional.sigmoid, functional.hardsigmoid}
)
BENT: Final = frozenset(
    {functional.leaky_relu, functional.elu, functional.selu, functional.celu, functional.relu6, functional.hardtanh}
    | {torch.tanh, Tensor.tanh, functional.tanh}
)
PRODUCTS: Final = frozenset({torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__})
MAX_POOLS: Final = frozenset({functional.max_pool2d, torch.max_pool2d})
CONVOLUTIONS: Final = frozenset({functional.conv2d})
LINEAR: Final = frozenset({functional.linear})
NO_RULE: Final = frozenset(
    {functional.layer_norm, functional.group_norm, functional.softmax, torch.softmax, Tensor.softmax}
    | {functional.scaled_dot_product_attention}
)
"""What neither DeepLift nor LRP has a rule for: attention, and norms that an exam makes of itself."""
NORMS: Final = frozenset({functional.batch_norm})


def refuse_without_rule(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the function on what does not depend on the exam; else refuse.

    Raises:
        WorkbenchError: the input depends on the exam.
    """
    given = args[0] if args else next(iter(kwargs.values()))
    if given.requires_grad:
        raise WorkbenchError(
            f"DeepLift and LRP have no rule for {getattr(func, '__name__', func)}", "use integrated_gradients"
        )
    return func(*args, **kwargs)


class Rules(TorchFunctionMode):
    """While entered, a function of the table runs as its rule says.

    Args:
        table: function of torch → rule, which is given the function, its arguments and its keywords.
    """

    def __init__(self, table: Mapping[Any, Rule]) -> None:
        super().__init__()
        self.table = table

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return what the rule returns, or the function itself."""
        rule = self.table.get(func)
        return func(*args, **(kwargs or {})) if rule is None else rule(func, args, kwargs or {})


def out_of_place(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor, bool]:
    """Return an activation's input, its output made without touching the input, and whether the call is in place."""
    given = args[0] if args else kwargs["input"]
    in_place = bool(kwargs.get("inplace")) or True in args[1:] or func.__name__.endswith("_")
    rest = {name: value for name, value in kwargs.items() if name != "input"}
    return given, func(given.clone() if in_place else given, *args[1:], **rest), in_place


def with_multiplier(
    given: Float[Tensor, "*shape"], output: Float[Tensor, "*shape"], multiplier: Float[Tensor, "*shape"], in_place: bool
) -> Float[Tensor, "*shape"]:
    """Return ``output`` as it is, of which the gradient by ``given`` is ``multiplier``."""
    made = output.detach() + multiplier.detach() * (given - given.detach())
    return given.copy_(made) if in_place else made


class _Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor) -> Tensor:
        ctx.save_for_backward(given > 0)
        return given.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (active,) = ctx.saved_tensors
        return slopes[0].clamp(min=0) * active


def guided_relu(given: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return ReLU, through which only what is positive goes back (Springenberg et al. 2015)."""
    made: Tensor = _Guided.apply(given)  # type: ignore[no-untyped-call]
    return made
