"""Deletion, insertion, imputation, likeness and sensitivity are Quantus' numbers; infidelity is Captum's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captums
from torch import Tensor

from tests.explanation.trust.quantus_reference import STEP, answer, explained, inputs, share
from workbench.explanation.trust import faithfulness as faith
from workbench.explanation.trust import likeness
from workbench.explanation.trust.faithfulness import faithfulness, linear_imputation
from workbench.explanation.trust.likeness import rank_correlation
from workbench.explanation.trust.steadiness import RADIUS, infidelity, relative_change

REFERENCE = json.loads(Path(__file__).with_name("quantus_reference.json").read_text("utf-8"))


def test_deletion_and_insertion_are_pixel_flipping(monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs()
    x, empty, heat = (torch.from_numpy(given[name]) for name in ("x", "empty", "heat"))
    both, nothing = (torch.cat([eye, torch.zeros_like(eye)], dim=1) for eye in (x, empty))
    monkeypatch.setattr(faith, "emptied", lambda *_: nothing)
    seen: list[Tensor] = []

    def watched(changed: Tensor) -> Tensor:
        seen.append(torch.from_numpy(answer(changed[:, :3].numpy(), given["weight"])))
        return seen[-1]

    upward = torch.where(watched(both) < watched(nothing), -1.0, 1.0)  # Quantus always takes the largest first
    seen.clear()
    shares = [count * STEP / 1024 for count in range(1, 16)]
    faithfulness(
        watched, both, torch.ones(2, 2, dtype=torch.bool), heat * upward[:, None, None], 0, (1, 2), shares=shares
    )
    deleted, inserted = torch.stack(seen[2 : 2 + 2 * len(shares)]).chunk(2)
    for curve, name in ((deleted, "pixel_flipping"), (inserted, "pixel_flipping_of_what_is_missing")):
        assert np.allclose(curve.numpy(), np.array(REFERENCE[name])[:, : len(shares)].T, atol=1e-6)


def test_imputation_is_roads_without_its_noise() -> None:
    given = inputs()
    filled = linear_imputation(given["x"][0], given["taken"])[:, given["taken"]]
    assert np.allclose(filled.mean(axis=1), REFERENCE["noisy_linear_imputation_mean"], atol=1e-8)
    assert np.allclose(filled[:, :8], REFERENCE["noisy_linear_imputation_first"], atol=1e-8)


def test_rank_correlation_is_spearmans() -> None:
    heat, other = (torch.from_numpy(inputs()[name]) for name in ("heat", "other"))
    assert rank_correlation(heat, other).numpy() == pytest.approx(REFERENCE["correlation_spearman"], abs=1e-9)


def test_structural_similarity_is_quantus_under_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantus takes a flat window of 7 and variances over n - 1; the latter is a smaller stabiliser."""
    monkeypatch.setattr(likeness, "_window", lambda: torch.full((1, 1, 7, 7), 1 / 49))
    light, contrast = likeness.STABILISERS
    monkeypatch.setattr(likeness, "STABILISERS", (light, contrast * 48 / 49))
    one, other = (torch.from_numpy(share(inputs()[name])) for name in ("heat", "other"))
    assert likeness.structural_similarity(one, other).numpy() == pytest.approx(REFERENCE["ssim"], abs=1e-6)


def test_the_largest_relative_change_is_max_sensitivity() -> None:
    given = inputs()
    x, weight = given["x"], given["weight"]
    maps, *moved = (
        torch.from_numpy(np.concatenate([explained(at, weight), np.zeros_like(x)], axis=1))
        for at in (x, *(x + move for move in given["moves"]))
    )
    largest = torch.stack([relative_change(maps, one) for one in moved]).amax(dim=0)
    assert largest.numpy() == pytest.approx(REFERENCE["max_sensitivity"], rel=1e-6)


def test_infidelity_is_captums_after_the_best_scale() -> None:
    """Captum's value (Yeh et al. 2019, normalised) over the mean squared response is ours, under the same noise."""
    generator = torch.Generator().manual_seed(1)
    x, maps = torch.rand((2, 6, 8, 8), generator=generator), torch.randn((2, 6, 8, 8), generator=generator)
    weight = torch.randn((6, 8, 8), generator=generator) / 20

    def bent(pixels: Tensor) -> Tensor:
        return torch.tanh((pixels * weight).flatten(1).sum(dim=1)).double()

    moves, seeds = 6, (11, 12)
    noises = []
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for _ in range(moves):
        noises.append(RADIUS * torch.stack([torch.randn(x.shape[1:], generator=one) for one in generators]))
    noise = torch.stack(noises)
    ordered = noise.transpose(0, 1).flatten(0, 1)  # Captum repeats each exam in place
    theirs = captums(
        bent, lambda pixels: (ordered, pixels - ordered), x, maps, n_perturb_samples=moves, normalize=True,
        max_examples_per_batch=2 * moves,
    )  # fmt: skip
    response = torch.stack([bent(x) - bent(x - one) for one in noise]).square().mean(dim=0)
    ours = infidelity(bent, x, maps, seeds, moves=moves)
    assert ours.double().numpy() == pytest.approx((theirs / response).double().numpy(), rel=1e-3)
