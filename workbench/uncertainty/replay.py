"""The same two halves where no tracer can follow: modules done before the first dropout answer from memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from workbench.uncertainty.seeded_dropout import DROPOUTS, NOISE, attention_dropout, dropout_probability
from workbench.uncertainty.split import SplitError, repeat

Call = tuple[nn.Module, int]
"""A module and how often it had been called before."""


OUTLINE: Final = frozenset(
    {getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device", "is_cuda", "layout")}
    | {Tensor.size, Tensor.dim, Tensor.numel}
)
"""What asks for a tensor's shape or type, not for its values."""


class _EnoughError(Exception):
    """Ends a pass whose last wanted answer is there."""


@dataclass
class _Learnt:
    """One pass, watched: what began and ended when, and what was read."""

    clock: int = 0
    first_random: int | None = None
    spans: dict[Call, tuple[int, int]] = field(default_factory=dict)
    inside: dict[Call, tuple[Call, ...]] = field(default_factory=dict)
    reads: list[tuple[tuple[Call, ...], set[int]]] = field(default_factory=list)
    answers: dict[Call, Any] = field(default_factory=dict)


class Replay:
    """Runs a model's Python for every draw, but computes the modules before the first random call once.

    A watched pass tells which module calls end before the first random number is drawn; in the draws these calls
    return what they returned in the first pass. Only answers that other code reads are kept; the rest become empty
    shapes. It needs nothing of the model but that it calls its modules in the same order each time.

    Args:
        model: in evaluation mode, ready to draw.
        x: a few exams to watch.
        present: their eyes.

    Attributes:
        site: the last module that runs once.

    Raises:
        SplitError: no module ends before the first random call.
    """

    def __init__(self, model: nn.Module, x: Tensor, present: Tensor) -> None:
        self.model = model
        learnt = _learn(model, x, present)
        if learnt.first_random is None:
            raise SplitError("no random number is drawn in a pass")
        done = {call: None for call, (_, end) in learnt.spans.items() if end < learnt.first_random}
        self._calls = [call for call in done if done.keys().isdisjoint(learnt.inside[call])]
        if not self._calls:
            raise SplitError("no module ends before the first dropout")
        seen = set[int]().union(*(ids for inside, ids in learnt.reads if done.keys().isdisjoint(inside)))
        self._read = {
            call
            for call in self._calls
            if any(id(leaf) in seen for leaf in pytree.tree_leaves(learnt.answers[call])) or call == self._calls[-1]
        }
        self._reads_x = id(x) in seen
        names = {module: name for name, module in model.named_modules()}
        self.site = names[self._calls[-1][0]]

    def trunk(
        self, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]
    ) -> tuple[Tensor, Tensor, dict[Call, Any]]:
        """Return the exams and what their first modules answer, computed once."""
        kept: dict[Call, Any] = {}
        wanted = set(self._calls)

        def keep(call: Call, answer: Any) -> None:
            if call in wanted:
                # A copy: what follows may work in place on what was returned.
                kept[call] = pytree.tree_map_only(Tensor, torch.clone if call in self._read else _outline, answer)
                if len(kept) == len(wanted):
                    raise _EnoughError

        with suppress(_EnoughError), _answers_heard(self.model, keep):
            self.model(x, present)
        if len(kept) < len(wanted):
            raise RuntimeError("the model calls its modules in another order for these exams")
        return x, present, kept

    def tail(self, frontier: tuple[Tensor, Tensor, dict[Call, Any]], count: int) -> Float[Tensor, "batch 2 grade"]:
        """Return the logits of ``count`` draws × exams, draw-major."""
        x, present, kept = frontier
        times: Counter[nn.Module] = Counter()

        def answer_of(module: nn.Module, compute: Callable[..., Any]) -> Callable[..., Any]:
            def answer(*args: Any, **kwargs: Any) -> Any:
                call = (module, times[module])
                times[module] += 1
                if call not in kept:
                    return compute(*args, **kwargs)
                copies = repeat if call in self._read else _empty_copies
                return pytree.tree_map_only(Tensor, lambda tensor: copies(tensor, count), kept[call])

            return answer

        with ExitStack() as undo:
            for module in dict.fromkeys(module for module, _ in kept):
                undo.callback(_forget_forward, module, vars(module).get("forward"))
                module.forward = answer_of(module, module.forward)
            many = repeat(x, count) if self._reads_x else _empty_copies(_outline(x), count)
            logits: Tensor = self.model(many, repeat(present, count))
        return logits


def _forget_forward(module: nn.Module, before: Any) -> None:
    del module.forward
    if before is not None:
        module.forward = before


def _outline(tensor: Tensor) -> Tensor:
    """Return the tensor's shape and type, without memory behind it."""
    return tensor.new_zeros(()).expand(tensor.shape)


def _empty_copies(outline: Tensor, count: int) -> Tensor:
    return outline.new_zeros(()).expand(count * outline.shape[0], *outline.shape[1:]) if outline.dim() else outline


@contextmanager
def _answers_heard(model: nn.Module, hear: Callable[[Call, Any], None]) -> Iterator[None]:
    times: Counter[nn.Module] = Counter()

    def heard(module: nn.Module, _: Any, answer: Any) -> None:
        times[module] += 1
        hear((module, times[module] - 1), answer)

    with ExitStack() as undo:
        for module in model.modules():
            undo.callback(module.register_forward_hook(heard).remove)
        yield


class _Reader(TorchFunctionMode):
    """Notes which tensors are read, by whose code, and when the first random number is drawn."""

    def __init__(self, learnt: _Learnt, stack: list[Call]) -> None:
        super().__init__()
        self.learnt, self.stack = learnt, stack

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return what ``func`` returns."""
        kwargs = kwargs or {}
        self.learnt.clock += 1
        if self.learnt.first_random is None and _draws(func, args, kwargs):
            self.learnt.first_random = self.learnt.clock
        if func not in OUTLINE:
            ids = {id(leaf) for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
            self.learnt.reads.append((tuple(self.stack), ids))
        return func(*args, **kwargs)


def _draws(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> bool:
    if func in DROPOUTS:
        return dropout_probability(args, kwargs) > 0
    if func is torch.nn.functional.scaled_dot_product_attention:
        return attention_dropout(args, kwargs) > 0
    return func in NOISE


def _learn(model: nn.Module, x: Tensor, present: Tensor) -> _Learnt:
    learnt = _Learnt()
    stack: list[Call] = []
    begun: dict[Call, int] = {}
    times: Counter[nn.Module] = Counter()

    def enter(module: nn.Module, _: Any) -> None:
        call = (module, times[module])
        times[module] += 1
        learnt.inside[call] = tuple(stack)
        stack.append(call)
        learnt.clock += 1
        begun[call] = learnt.clock

    def leave(_: nn.Module, __: Any, answer: Any) -> None:
        call = stack.pop()
        learnt.clock += 1
        learnt.spans[call] = (begun[call], learnt.clock)
        learnt.answers[call] = answer  # held, so that no other tensor gets its id

    with ExitStack() as undo:
        undo.enter_context(torch.random.fork_rng())
        for module in model.modules():
            undo.callback(module.register_forward_pre_hook(enter).remove)
            undo.callback(module.register_forward_hook(leave).remove)
        with _Reader(learnt, stack):
            model(x, present)
    return learnt
