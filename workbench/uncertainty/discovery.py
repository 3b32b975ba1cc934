"""What is random in a model of anybody's: found by running it once and watching, or named as left off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from workbench.uncertainty.seeded_dropout import (
    DROPOUTS,
    NOISE,
    attention_dropout,
    dropout_probability,
    training_flags,
)


@dataclass(frozen=True)
class Randomness:
    """Where a model draws random numbers.

    Attributes:
        modules: those whose own code draws, in a draw.
        flagged: those of them that draw only in training mode; draws set this flag, and no other.
        left_off: those that draw in training mode, but not in a draw (stochastic depth, where it is not wanted).
    """

    modules: tuple[nn.Module, ...] = ()
    flagged: tuple[nn.Module, ...] = ()
    left_off: tuple[nn.Module, ...] = ()


def may_draw_in_training(model: nn.Module) -> bool:
    """Return whether code of others' in the model asks for its training flag, behind which it may draw."""
    return any("training" in _names(module) for module in model.modules())


def find_randomness(model: nn.Module, x: Tensor, present: Tensor, *, stochastic_depth: bool) -> Randomness:
    """Return where ``model``, in evaluation mode, draws random numbers on these exams.

    Code behind ``if self.training`` is found by setting that flag of the modules whose code reads it; buffers are put
    back afterwards, torch's own modules and whatever keeps running statistics are never set.

    Args:
        model: in evaluation mode.
        x: a few exams.
        present: their eyes.
        stochastic_depth: also switch on what draws other numbers than dropout's (drop path, drop connect, noise).
    """
    always = _watch(model, x, present, ())
    asking = [module for module in model.modules() if "training" in _names(module)]
    sometimes = _watch_all(model, x, present, asking)
    more = [module for module in asking if sometimes.total(module) > always.total(module)]
    wanted = [module for module in more if stochastic_depth or not _only_noise(sometimes, always, module)]
    drawing = dict.fromkeys([*always.modules(), *wanted])
    return Randomness(tuple(drawing), tuple(wanted), tuple(module for module in more if module not in wanted))


def kept_off(model: nn.Module, found: Randomness | None) -> list[str]:
    """Return the kinds of random layers that draws leave in evaluation mode, with how many there are.

    Args:
        model: any.
        found: what running it has shown; before that, what its modules' rates say.
    """
    counts: Counter[str] = Counter()
    for module in model.modules():
        rates = [getattr(module, name, 0) for name in ("drop_connect_rate", "drop_prob", "dropout")]
        by_rate = any(isinstance(rate, float) and rate > 0 for rate in rates)
        told = by_rate if found is None or _is_torchs_own(module) else module in found.left_off
        if told or isinstance(module, nn.RReLU):
            counts[type(module).__name__] += 1
    return [f"{count} {kind}" for kind, count in counts.items()]


@dataclass
class _Sites:
    """How often each module drew, dropout and other numbers apart."""

    dropouts: Counter[nn.Module] = field(default_factory=Counter)
    noises: Counter[nn.Module] = field(default_factory=Counter)

    def total(self, module: nn.Module) -> int:
        return self.dropouts[module] + self.noises[module]

    def modules(self) -> list[nn.Module]:
        return [module for module in dict.fromkeys([*self.dropouts, *self.noises]) if self.total(module)]


def _only_noise(now: _Sites, before: _Sites, module: nn.Module) -> bool:
    return now.dropouts[module] == before.dropouts[module]


class _Watcher(TorchFunctionMode):
    """Notes in whose code random numbers are drawn; dropout passes its input on."""

    def __init__(self, stack: list[nn.Module]) -> None:
        super().__init__()
        self.stack = stack
        self.found = _Sites()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return what ``func`` returns, or a dropout's input."""
        kwargs = kwargs or {}
        if func in DROPOUTS:
            self.found.dropouts[self.stack[-1]] += dropout_probability(args, kwargs) > 0
            return args[0] if args else kwargs["input"]
        if func is functional.scaled_dot_product_attention:
            self.found.dropouts[self.stack[-1]] += attention_dropout(args, kwargs) > 0
        self.found.noises[self.stack[-1]] += func in NOISE
        return func(*args, **kwargs)


def _watch(model: nn.Module, x: Tensor, present: Tensor, flagged: Sequence[nn.Module]) -> _Sites:
    stack: list[nn.Module] = []
    watcher = _Watcher(stack)
    with ExitStack() as undo:
        undo.enter_context(torch.random.fork_rng())
        undo.enter_context(_buffers_kept(flagged))
        undo.enter_context(training_flags(flagged))
        for module in model.modules():
            undo.callback(module.register_forward_pre_hook(lambda module, _: stack.append(module)).remove)
            undo.callback(module.register_forward_hook(lambda *_: stack.pop() and None).remove)
        with watcher:
            model(x, present)
    return watcher.found


def _watch_all(model: nn.Module, x: Tensor, present: Tensor, asking: Sequence[nn.Module]) -> _Sites:
    """Return what is drawn with all these flags set; one by one where the model does not run with all of them."""
    try:
        return _watch(model, x, present, asking)
    except Exception:  # training mode may answer otherwise (e.g. with several heads) and so break the code above it
        found = _Sites()
    for module in asking:
        try:
            alone = _watch(model, x, present, [module])
        except Exception:  # as above: this one stays in evaluation mode
            continue
        found.dropouts[module], found.noises[module] = alone.dropouts[module], alone.noises[module]
    return found


@contextmanager
def _buffers_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    before = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers(recurse=False)]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def _is_torchs_own(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.")


def _names(module: nn.Module) -> frozenset[str]:
    """Return the names that the code of a module's class speaks, torch's own classes and normalisations left out."""
    if _is_torchs_own(module) or hasattr(module, "running_mean"):
        return frozenset()
    classes = type(module).__mro__[: type(module).__mro__.index(nn.Module)]
    functions = [value for cls in classes if cls.__module__[:9] != "torch.nn." for value in vars(cls).values()]
    codes = [function.__code__ for function in functions if hasattr(function, "__code__")]
    return frozenset(name for code in codes for name in _spoken(code))


def _spoken(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _spoken(constant)
