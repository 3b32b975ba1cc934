"""Certificates as rows: the smoothed deployed call of an exam with its radius, and the margin of a linear head.

What is smoothed is the deployed call: draws, pooled by the run's policy, called from its threshold. The noise lies on
the pixels, so each noisy picture costs a pass of the trunk; its draws share that pass. Noise and masks are fresh for
every picture, so the votes are independent, as the bound needs.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.schema.errors import WorkbenchError
from workbench.schema.seeds import seed_for
from workbench.schema.specs import PolicySpec, SmoothingSpec
from workbench.stress.certified.linear_head import eye_margins
from workbench.stress.certified.smoothing import certify, pictures_at_once
from workbench.uncertainty.decisions import eye_answers, referable_threshold, worst
from workbench.uncertainty.makers import DrawMaker


def certified_row(
    predictor: DrawMaker,
    x: Float[Tensor, "1 6 height width"],
    present: Bool[Tensor, "1 2"],
    spec: SmoothingSpec,
    policy: PolicySpec,
    *,
    draws: int,
    threshold: float,
    seed: int,
    memory_mib: int,
) -> dict[str, Any]:
    """Return an exam's row of `CERTIFIED_SCHEMA`.

    Args:
        predictor: the run's maker of draws.
        x: the exam, in [0, 1].
        present: its eyes; noise on an absent one says nothing, since no model sees it.
        spec: noise, samples, confidence.
        policy: pooling and, where it has one, the threshold.
        draws: behind the call of one noisy picture.
        threshold: the model's own.
        seed: of noise and masks.
        memory_mib: bound on what goes through the model at once.

    Raises:
        WorkbenchError: an answer to a noisy picture that is not finite.
    """
    numbers, own = count(), referable_threshold(policy, threshold)

    def calls(pictures: Tensor) -> Tensor:
        seeds = [seed_for(seed, "picture", next(numbers)) for _ in pictures]
        eyes = present.expand(len(pictures), 2)
        drawn = predictor.draws(pictures, eyes, draws=draws, seeds=seeds).cpu().numpy()
        p = worst(eye_answers(drawn, eyes.cpu().numpy(), policy, threshold)["p_referable"])
        if np.isnan(p).any():
            raise WorkbenchError("the model's answer to a noisy picture is not finite", "certify at a smaller sigma")
        return torch.from_numpy(p >= own)

    found = certify(
        calls,
        x.cpu(),
        sigma=spec.sigma,
        generator=torch.Generator().manual_seed(seed),
        first=spec.first,
        samples=spec.samples,
        alpha=spec.alpha,
        at_once=pictures_at_once(x, memory_mib),
    )
    return {
        "called_referable": found.called_referable,
        "abstained": found.called_referable is None,
        "radius": found.radius,
        "p_lower": found.p_lower,
        "counts": found.counts,
        "samples": found.samples,
        "seed": seed,
    }


def head_margin_rows(
    model: nn.Module, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]
) -> list[list[dict[str, Any]]]:
    """Return the row of `HEAD_MARGIN_SCHEMA` per exam and eye; skipped, with the reason, without a linear head."""
    try:
        margins, shares = eye_margins(model, x, present)
    except WorkbenchError as error:
        return [[{"status": "skipped", "reason": f"not applicable: {error.what}"}] * 2 for _ in range(len(x))]
    return [
        [{"margin": float(margins[exam, eye]), "margin_share": float(shares[exam, eye])} for eye in range(2)]
        for exam in range(len(x))
    ]
