"""Randomness inside a forward pass whose numbers belong to an exam, a site and a draw, and to nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, UInt64
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

DROPOUT_MODULES: Final = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
ALPHA: Final = frozenset(
    {functional.alpha_dropout, functional.feature_alpha_dropout, torch.alpha_dropout, torch.feature_alpha_dropout}
    | {torch.alpha_dropout_, torch.feature_alpha_dropout_}
)
CHANNELWISE: Final = frozenset(
    {functional.dropout1d, functional.dropout2d, functional.dropout3d, functional.feature_alpha_dropout}
    | {torch.feature_dropout, torch.feature_dropout_, torch.feature_alpha_dropout, torch.feature_alpha_dropout_}
)
DROPOUTS: Final = frozenset({functional.dropout, torch.dropout, torch.dropout_} | ALPHA | CHANNELWISE)
"""Every way in which torch spells dropout; a module's or a model's own call ends in one of them."""

IN_PLACE: Final = frozenset(
    {torch.dropout_, torch.feature_dropout_, torch.alpha_dropout_, torch.feature_alpha_dropout_}
)

NOISE: Final = frozenset(
    {torch.rand, torch.rand_like, torch.randn, torch.randn_like, torch.bernoulli}
    | {Tensor.bernoulli, Tensor.bernoulli_, Tensor.uniform_, Tensor.normal_}
)
"""Where stochastic depth and noise layers get their numbers, e.g. MONAI's drop_connect and timm's DropPath."""

NEGATIVE_SATURATION: Final = -1.7580993408473766
"""-λα of SELU: what alpha dropout puts in place of a dropped value (Klambauer et al. 2017)."""

_STEP: Final = 32
"""Bytes of one Philox step."""


def philox(seed: int, site: int, first: int, count: int, size: int) -> UInt64[np.ndarray, "{count} words"]:
    """Return at least ``size`` random bytes for each of the draws ``first`` to ``first + count`` - 1.

    Philox counts instead of remembering (Salmon et al. 2011), so draw 40 is the same drawn alone or after 39 others.

    Args:
        seed: the exam's, 64 bits.
        site: number of the random call within a forward pass.
        first: number of the first draw.
        count: how many draws.
        size: bytes per draw.
    """
    steps = -(-size // _STEP)
    key = np.array([seed % 2**64, site], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key, counter=first * steps))
    # Over the whole range these are the raw words, filled in one loop.
    return generator.integers(0, 2**64, (count, steps * 4), dtype=np.uint64)


def keep_mask(seed: int, site: int, first: int, count: int, size: int, p: float) -> Bool[np.ndarray, "{count} {size}"]:
    """Return which of ``size`` values each of the draws ``first`` to ``first + count`` - 1 keeps.

    A value costs 16 bits, so ``p`` is met to 1/131072; masks of whole feature maps would else cost more than the
    convolutions between them.

    Args:
        seed: the exam's, 64 bits.
        site: number of the dropout call within a forward pass.
        first: number of the first draw.
        count: how many draws.
        size: how many values one exam's mask has.
        p: probability of dropping a value, below 1.
    """
    words = philox(seed, site, first, count, 2 * size).view(np.uint16)
    return words[:, :size] >= min(round(p * 2**16), 2**16 - 1)


def dropout_probability(args: Sequence[Any], kwargs: dict[str, Any]) -> float:
    """Return ``p`` of a call of any dropout function."""
    return float(args[1] if len(args) > 1 else kwargs.get("p", 0.5))


class DropoutOff(TorchFunctionMode):
    """While entered, dropout passes its input on, even where a model has it always on."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return what ``func`` returns, or a dropout's input."""
        if func in DROPOUTS:
            return args[0] if args else (kwargs or {})["input"]
        return func(*args, **(kwargs or {}))


class SeededDropout(TorchFunctionMode):
    """While entered, dropout is on whatever the modules' mode, over a batch of draws × exams (× eyes).

    Random numbers that the model draws otherwise (stochastic depth, noise) are the exams' own too. No module is
    touched, so there is nothing to restore. One entry serves one forward pass.

    Args:
        seeds: one per exam.
        first: number of the first draw in the batch.
        count: how many draws the batch holds, draw-major.

    Attributes:
        sites: how many random calls were drawn.
        bytes: of all results so far: an upper bound of the memory that the pass needs.
    """

    def __init__(self, seeds: Sequence[int], first: int, count: int) -> None:
        super().__init__()
        self.seeds, self.first, self.count = seeds, first, count
        self.sites = 0
        self.bytes = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return what ``func`` returns, a random result being drawn from the exams' seeds."""
        kwargs = kwargs or {}
        if func in DROPOUTS:
            result = self._dropout(func, args, kwargs)
        elif func in NOISE:
            result = self._noise(func, args, kwargs)
        elif func is functional.scaled_dot_product_attention and attention_dropout(args, kwargs) > 0:
            result = self._attention(*args, **kwargs)
        else:
            result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            self.bytes += result.nbytes
        return result

    def _dropout(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Tensor:
        x: Tensor = args[0] if args else kwargs["input"]
        p = dropout_probability(args, kwargs)
        if p == 0:
            return x
        rows = self._rows_per_exam(x.shape)
        dropped = self._drop(func, x, p, rows, self._next_site())
        in_place = func in IN_PLACE or kwargs.get("inplace", len(args) > 3 and args[3])
        return x.copy_(dropped) if in_place else dropped

    def _drop(self, func: Callable[..., Any], x: Tensor, p: float, rows: int, site: int) -> Tensor:
        fill = NEGATIVE_SATURATION if func in ALPHA else 0.0
        if p == 1:
            return torch.full_like(x, fill)
        shape = (*x.shape[:2], *[1] * (x.dim() - 2)) if func in CHANNELWISE else tuple(x.shape)
        # In memory's own order, or the product of map and mask would jump through memory.
        last = x.dim() == 4 and shape[2:] != (1, 1) and x.is_contiguous(memory_format=torch.channels_last)
        stored = (shape[0], shape[2], shape[3], shape[1]) if last else shape
        size = rows * math.prod(shape[1:])
        kept = np.empty((self.count, len(self.seeds), size), dtype=bool)
        for exam, seed in enumerate(self.seeds):
            kept[:, exam] = keep_mask(seed, site, self.first, self.count, size, p)
        # Torch widens bytes three times as fast as booleans.
        mask = torch.from_numpy(kept.view(np.uint8).reshape(stored)).to(x.device).to(x.dtype)
        mask = mask.permute(0, 3, 1, 2) if last else mask
        if not fill:
            return x * mask.mul_(1 / (1 - p))
        # Mean and variance stay: a (x·m + fill·(1 - m)) + b (Klambauer et al. 2017).
        scale = ((1 - p) * (1 + p * fill**2)) ** -0.5
        return scale * (x * mask + fill * (1 - mask)) - scale * fill * p

    def _noise(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Tensor:
        """Return what ``func`` would, filled with each exam's own numbers."""
        like, parameters = _noise_target(func, args, kwargs)
        rows = self._rows_per_exam(like.shape)
        site, size = self._next_site(), rows * math.prod(like.shape[1:])
        words = [philox(seed, site, self.first, self.count, 4 * size).view(np.uint32)[:, :size] for seed in self.seeds]
        uniform = (torch.from_numpy(np.stack(words, axis=1).astype(np.float64)) + 0.5) / 2**32
        uniform = uniform.reshape(like.shape).to(like.device)
        made = NOISE_KINDS[func.__name__](uniform, *parameters).to(like.dtype)
        return like.copy_(made) if func.__name__.endswith("_") else made

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Tensor:
        """Return torch's scaled dot-product attention written out, so that its dropout is one that can be seeded."""
        logits = query @ key.transpose(-2, -1) * (scale or query.shape[-1] ** -0.5)
        if is_causal:
            attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
        if attn_mask is not None:
            hidden = attn_mask.dtype == torch.bool
            logits = logits.masked_fill(~attn_mask, -torch.inf) if hidden else logits + attn_mask
        return self._dropout(functional.dropout, (logits.softmax(-1), dropout_p), {}) @ value

    def _rows_per_exam(self, shape: Sequence[int]) -> int:
        rows, left_over = divmod(shape[0] if len(shape) else 1, self.count * len(self.seeds))
        if left_over or not rows:
            raise ValueError(
                f"randomness over {list(shape)[:1]} rows for {self.count} draws of {len(self.seeds)} exams"
            )
        return rows

    def _next_site(self) -> int:
        self.sites += 1
        return self.sites - 1


def _noise_target(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> tuple[Tensor, tuple[Any, ...]]:
    """Return a tensor of the shape and type of the result (the target itself, in place), and the distribution's own."""
    if func in (torch.rand, torch.randn):
        told = {key: value for key, value in kwargs.items() if key not in ("generator", "size")}
        return torch.empty(*(args or [kwargs["size"]]), **told), ()
    x = args[0] if args else kwargs["input"]
    names = {
        "bernoulli_": (("p", 0.5),),
        "uniform_": (("from", 0.0), ("to", 1.0)),
        "normal_": (("mean", 0), ("std", 1)),
    }
    wanted = names.get(func.__name__, ())
    given = [
        args[1 + i] if len(args) > 1 + i else kwargs.get(name, default) for i, (name, default) in enumerate(wanted)
    ]
    if func.__name__ == "bernoulli":  # its input holds the probabilities
        given = [x.double() if len(args) < 2 and "p" not in kwargs else kwargs.get("p", args[-1])]
    return x, tuple(given)


def _gaussian(uniform: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    return mean + std * torch.special.ndtri(uniform)


def _below(uniform: Tensor, p: Any) -> Tensor:
    return (uniform < p).double()


NOISE_KINDS: Final[dict[str, Callable[..., Tensor]]] = {
    "rand": lambda uniform: uniform,
    "rand_like": lambda uniform: uniform,
    "uniform_": lambda uniform, low, high: low + (high - low) * uniform,
    "randn": _gaussian,
    "randn_like": _gaussian,
    "normal_": _gaussian,
    "bernoulli": _below,
    "bernoulli_": _below,
}
"""From uniform numbers in (0, 1) to what each function of `NOISE` returns."""


def attention_dropout(args: Sequence[Any], kwargs: dict[str, Any]) -> float:
    """Return the dropout probability of a call of torch's scaled dot-product attention."""
    return float(args[4] if len(args) > 4 else kwargs.get("dropout_p", 0.0))


@contextmanager
def training_flags(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Set the training flag of exactly these modules, not of their children; afterwards each is as it was."""
    before = [(module, module.training) for module in modules]
    try:
        for module in modules:
            module.training = True
        yield
    finally:
        for module, training in before:
            module.training = training
