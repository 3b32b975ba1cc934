"""Dropout whose masks belong to an exam, a site and a draw, and to nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

DROPOUT_MODULES: Final = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
ELEMENTWISE: Final = frozenset({functional.dropout, torch.dropout})
CHANNELWISE: Final = frozenset(
    {functional.dropout1d, functional.dropout2d, functional.dropout3d, torch.feature_dropout}
)


def keep_mask(seed: int, site: int, first: int, count: int, size: int, p: float) -> Bool[np.ndarray, "{count} {size}"]:
    """Return which of ``size`` values each of the draws ``first`` to ``first + count`` - 1 keeps.

    Philox counts instead of remembering (Salmon et al. 2011), so draw 40 is the same drawn alone or after 39 others.

    Args:
        seed: the exam's, 64 bits.
        site: number of the dropout call within a forward pass.
        first: number of the first draw.
        count: how many draws.
        size: how many values one exam's mask has.
        p: probability of dropping a value.
    """
    steps = -(-size // 8)  # a step gives eight numbers of 32 bits
    key = np.array([seed % 2**64, site], dtype=np.uint64)
    words = np.random.Philox(key=key, counter=first * steps).random_raw(count * steps * 4)
    return words.view(np.uint32).reshape(count, steps * 8)[:, :size] >= round(p * 2**32)


def dropout_probability(args: Sequence[Any], kwargs: dict[str, Any]) -> float:
    """Return ``p`` of a call of any dropout function."""
    return float(args[1] if len(args) > 1 else kwargs.get("p", 0.5))


class DropoutOff(TorchFunctionMode):
    """While entered, dropout passes its input on, even where a model has it always on."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return what ``func`` returns, or a dropout's input."""
        if func in ELEMENTWISE or func in CHANNELWISE:
            return args[0] if args else (kwargs or {})["input"]
        return func(*args, **(kwargs or {}))


class SeededDropout(TorchFunctionMode):
    """While entered, dropout is on whatever the modules' mode, over a batch of draws × exams (× eyes).

    Neither a module nor its mode is touched, so there is nothing to restore. One entry serves one forward pass.

    Args:
        seeds: one per exam.
        first: number of the first draw in the batch.
        count: how many draws the batch holds, draw-major.

    Attributes:
        sites: how many dropout calls were drawn.
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
        """Return what ``func`` returns, a dropout's result being drawn from the exams' seeds."""
        kwargs = kwargs or {}
        if func in ELEMENTWISE or func in CHANNELWISE:
            x = args[0] if args else kwargs["input"]
            result = self._drop(x, dropout_probability(args, kwargs), channelwise=func in CHANNELWISE)
        else:
            result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            self.bytes += result.nbytes
        return result

    def _drop(self, x: Tensor, p: float, *, channelwise: bool) -> Tensor:
        if p == 0:
            return x
        rows, left_over = divmod(len(x), self.count * len(self.seeds))
        if left_over:
            raise ValueError(f"dropout over {len(x)} rows for {self.count} draws of {len(self.seeds)} exams")
        site, self.sites = self.sites, self.sites + 1
        if p == 1:
            return torch.zeros_like(x)
        shape = (*x.shape[:2], *[1] * (x.dim() - 2)) if channelwise else tuple(x.shape)
        size = rows * math.prod(shape[1:])
        kept = [keep_mask(seed, site, self.first, self.count, size, p) for seed in self.seeds]
        mask = torch.from_numpy(np.stack(kept, axis=1)).reshape(shape).to(x.device)
        return x * mask.to(x.dtype).div_(1 - p)
