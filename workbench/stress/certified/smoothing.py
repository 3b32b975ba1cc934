"""Randomised smoothing of the exam's referable call (Cohen, Rosenfeld, Kolter 2019), with abstention as an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from scipy.stats import beta, binomtest, norm
from torch import Tensor

from workbench.schema.errors import WorkbenchError

AT_ONCE: Final = 32
"""Noisy pictures in one pass of the model, at most."""
ROOM: Final = 40
"""How many times its own size a picture takes inside a model, at least 32 wide: a ResNet's first layers, fp32."""

Calls = Callable[[Tensor], Tensor]
"""``pictures -> called referable``, one truth value per picture; a stochastic model makes one draw per picture."""


@dataclass(frozen=True)
class Certificate:
    """What smoothing says about one exam.

    Attributes:
        called_referable: the smoothed call; None: it abstains.
        radius: L2 over the whole exam (both eyes together), of the pixel range [0, 1]: no change within it turns the
            smoothed call, but for a chance of ``alpha``; 0 where it abstains.
        p_lower: lower confidence bound of the share of noisy pictures that are called so.
        counts: of the ``samples``, how many agree with the call that the first ones chose.
        samples: noisy pictures behind the bound.
    """

    called_referable: bool | None
    radius: float
    p_lower: float
    counts: int
    samples: int


def lower_bound(successes: int, trials: int, alpha: float) -> float:
    """Return the one-sided Clopper-Pearson bound: the share is not below it, but for a chance of ``alpha``."""
    return 0.0 if successes == 0 else float(beta.ppf(alpha, successes, trials - successes + 1))


def certify(
    calls: Calls,
    x: Float[Tensor, "1 6 height width"],
    *,
    sigma: float,
    generator: torch.Generator,
    first: int = 50,
    samples: int = 500,
    alpha: float = 0.001,
    at_once: int = AT_ONCE,
) -> Certificate:
    """Return the smoothed call of one exam and the radius within which it is proved (the paper's CERTIFY).

    The noise enters at the pixels, so a trunk cannot be shared between samples: each costs a whole pass. Noisy pictures
    leave [0, 1], as the proof needs.

    Args:
        calls: the base classifier.
        x: one exam, in [0, 1].
        sigma: standard deviation of the noise, of the pixel range.
        generator: of the noise.
        first: samples that choose the call (n0).
        samples: further ones that bound its share (n).
        alpha: chance that the certificate is wrong.
        at_once: noisy pictures in one pass; their noise is the same for any number.

    Raises:
        WorkbenchError: a sigma that is not above 0, an alpha outside (0, 1), no samples.
    """
    _check(sigma, alpha, min(first, samples))
    chosen = 2 * _count(calls, x, sigma, generator, first, at_once) >= first
    referable = _count(calls, x, sigma, generator, samples, at_once)
    agree = referable if chosen else samples - referable
    bound = lower_bound(agree, samples, alpha)
    if bound <= 0.5:
        return Certificate(None, 0.0, bound, agree, samples)
    return Certificate(chosen, sigma * float(norm.ppf(bound)), bound, agree, samples)


def pictures_at_once(x: Float[Tensor, "1 6 height width"], memory_mib: int) -> int:
    """Return how many noisy pictures of an exam go through a model within a bound of memory; one at least."""
    return max(1, min(AT_ONCE, memory_mib * 2**20 // (ROOM * 4 * x.numel())))


def predict(
    calls: Calls,
    x: Float[Tensor, "1 6 height width"],
    *,
    sigma: float,
    generator: torch.Generator,
    samples: int = 100,
    alpha: float = 0.001,
) -> bool | None:
    """Return the smoothed call, or None where the votes do not tell it from a coin (the paper's PREDICT).

    Raises:
        WorkbenchError: see `certify`.
    """
    _check(sigma, alpha, samples)
    referable = _count(calls, x, sigma, generator, samples, AT_ONCE)
    most = max(referable, samples - referable)
    return None if binomtest(most, samples, 0.5).pvalue > alpha else 2 * referable > samples


def _count(calls: Calls, x: Tensor, sigma: float, generator: torch.Generator, samples: int, at_once: int) -> int:
    referable = 0
    with torch.no_grad():
        for start in range(0, samples, at_once):
            drawn = [torch.randn(x.shape[1:], generator=generator) for _ in range(min(at_once, samples - start))]
            referable += int(calls(x + sigma * torch.stack(drawn)).sum())
    return referable


def _check(sigma: float, alpha: float, samples: int) -> None:
    if not sigma > 0:
        raise WorkbenchError(f"sigma is {sigma:g}", "the noise needs a standard deviation above 0")
    if not 0 < alpha < 1:
        raise WorkbenchError(f"alpha is {alpha:g}", "it is the chance of a wrong certificate, between 0 and 1")
    if samples < 1:
        raise WorkbenchError(f"{samples} samples", "ask for one at least")
