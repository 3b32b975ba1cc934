"""Which arithmetic runs, said once: bf16 where the processor has it, else fp32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from workbench.schema.errors import WorkbenchError

Precision = Literal["auto", "fp32", "bf16"]


def has_bf16(device: torch.device) -> bool:
    """Return whether ``device`` multiplies bf16 in hardware (CPU: AVX512-BF16 or AMX; CUDA: compute capability 8)."""
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def resolve_precision(precision: Precision, device: torch.device | None = None) -> Literal["fp32", "bf16"]:
    """Return what will run on ``device`` (None: the CPU); 'auto' takes bf16 where the hardware has it.

    Raises:
        WorkbenchError: bf16 is asked of a processor that would only emulate it, slower than fp32.
    """
    available = has_bf16(device or torch.device("cpu"))
    if precision == "bf16" and not available:
        raise WorkbenchError("precision bf16, but this processor has no bf16 arithmetic", "use precision=auto or fp32")
    return "bf16" if available and precision != "fp32" else "fp32"


def autocast(precision: Literal["fp32", "bf16"], device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a forward pass runs at ``precision``; parameters and inputs stay fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
