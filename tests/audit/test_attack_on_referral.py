"""Attacks on who is referred: the cut-off comes from the clean parts, whoever measures and however often resumed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.audit.conftest import Small
from tests.small_audit import stored_bytes
from workbench.audit.runner import run_audit
from workbench.models.checkpoint import load_model
from workbench.uncertainty import differentiable, pooling, scores
from workbench.uncertainty.mc_dropout import StochasticPredictor

STRESSES = (
    "stresses=[{name: apgd, strengths: [4], aim: {goal: silent}, options: {steps: 3, draws: 4}},"
    "{name: apgd, strengths: [4], aim: {goal: flood}, options: {steps: 3, draws: 4}}]"
)


def test_the_same_bytes_alone_by_two_workers_and_resumed(small: Small, tmp_path: Path) -> None:
    words = STRESSES, "explanations.methods=[]", "explanations.exams=1"
    run = run_audit(small.config(*words), tmp_path / "one")
    checks = run.stress_checks()
    assert set(checks["measurement"]) == {"apgd@4.silent", "apgd@4.flood"}
    incomplete = checks[checks["success"].isna()]
    assert incomplete["notes"].str.contains("an incomplete exam is referred").all()
    before = stored_bytes(tmp_path / "one")
    shutil.rmtree(tmp_path / "one" / "parts" / "apgd@4.silent")
    run_audit(small.config(*words), tmp_path / "one")
    assert stored_bytes(tmp_path / "one") == before
    run_audit(small.config(*words, "workers=2"), tmp_path / "two")
    assert stored_bytes(tmp_path / "two") == before


def test_draws_with_a_gradient_are_the_draws_and_the_gradient_is_the_mean_of_each(small: Small) -> None:
    model, card = load_model(small.config().model)
    size = card.preprocess.size
    predictor = StochasticPredictor(model, precision="fp32", engine="eager")
    x, present = torch.rand(2, 6, size, size), torch.tensor([[True, True], [True, True]])
    plain = predictor.draws(x, present, draws=3, seeds=[1, 2])
    pixels = x.clone().requires_grad_()
    made = predictor.draws(pixels, present, draws=3, seeds=[1, 2], gradient=True)
    torch.testing.assert_close(made.detach(), plain, atol=1e-5, rtol=1e-4)
    (slope,) = torch.autograd.grad(made.mean(dim=0)[..., 2:].sum(), pixels, retain_graph=True)
    each = [torch.autograd.grad(draw[..., 2:].sum(), pixels, retain_graph=True)[0] for draw in made]
    torch.testing.assert_close(slope, torch.stack(each).mean(dim=0), atol=1e-6, rtol=1e-3)
    assert slope.abs().max() > 0


@pytest.mark.parametrize("name", list(scores.SCORES))
def test_scores_in_torch_are_those_in_numpy(name: str) -> None:
    draws = np.random.default_rng(0).dirichlet(np.ones(5), (7, 4, 2))
    for way in pooling.POOLINGS:
        theirs = differentiable.SCORES[name](torch.from_numpy(draws), 0.4, way)
        np.testing.assert_allclose(theirs.numpy(), scores.SCORES[name](draws, 0.4, way), atol=1e-6)
        np.testing.assert_allclose(
            differentiable.POOLINGS[way](torch.from_numpy(draws)).numpy(), pooling.POOLINGS[way](draws), atol=1e-9
        )
