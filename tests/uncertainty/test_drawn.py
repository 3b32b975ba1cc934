"""Draws as networks answer what the makers of draws answer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workbench.models.paired import PairedEyeNet
from workbench.schema.errors import WorkbenchError
from workbench.schema.model_card import Architecture
from workbench.uncertainty.drawn import SharedTrunk, drawn_net
from workbench.uncertainty.makers import Deterministic, DrawMaker, Ensemble
from workbench.uncertainty.mc_dropout import StochasticPredictor
from workbench.uncertainty.views import Views

BOTH = torch.ones(1, 2, dtype=torch.bool)


def model(seed: int) -> PairedEyeNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PairedEyeNet(Architecture(trunk="resnet10", width=0.0625, fusion="late", head_dropout=0.5)).eval()


@pytest.fixture
def exam() -> Tensor:
    return torch.rand((1, 6, 32, 32), generator=torch.Generator().manual_seed(3))


def makers() -> dict[str, DrawMaker]:
    dropout = [StochasticPredictor(model(seed), engine="eager") for seed in range(2)]
    return {
        "dropout": dropout[0],
        "ensemble": Ensemble([Deterministic(model(seed)) for seed in range(3)]),
        "ensemble of dropout": Ensemble(dropout),
    }


@pytest.mark.parametrize("kind", list(makers()))
def test_a_network_of_draws_answers_what_its_maker_does(kind: str, exam: Tensor) -> None:
    maker = makers()[kind]
    drawn = drawn_net(maker, exam, BOTH, seed=11, draws=5)
    with torch.no_grad():
        together = drawn(exam, BOTH).softmax(-1)
        alone = torch.stack([net(exam, BOTH) for net in drawn.nets]).softmax(-1)
    made = maker.draws(exam, BOTH, draws=5, seeds=[11])
    torch.testing.assert_close(together, made)
    torch.testing.assert_close(alone, made)
    assert isinstance(drawn, SharedTrunk) == (kind == "dropout")


def test_views_are_no_networks(exam: Tensor) -> None:
    with pytest.raises(WorkbenchError, match="maps over draws that are made by Views"):
        drawn_net(Views(model(0)), exam, BOTH, seed=1, draws=2)
