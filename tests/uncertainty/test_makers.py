"""Every maker keeps one contract; ensembles and views do what their papers say."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from workbench.schema.errors import WorkbenchError
from workbench.schema.seeds import seed_for
from workbench.schema.specs import ViewSpec
from workbench.uncertainty.makers import Deterministic, Ensemble, MixtureNet
from workbench.uncertainty.mc_dropout import StochasticPredictor
from workbench.uncertainty.views import Views, view

SEEDS = [11, 12, 13]


class Net(nn.Module):
    def __init__(self, seed=0, dropout=0.0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.head = nn.Conv2d(6, 8, 3), nn.Linear(8, 10)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, present):
        return (6 * self.head(self.dropout(self.conv(x).relu().amax((2, 3))))).unflatten(1, (2, 5))


MAKERS = {
    "mc-dropout": lambda: StochasticPredictor(Net(dropout=0.4)),
    "deterministic": lambda: Deterministic(Net()),
    "ensemble": lambda: Ensemble([Deterministic(Net(seed)) for seed in range(3)]),
    "ensemble of mc-dropout": lambda: Ensemble([StochasticPredictor(Net(seed, 0.4)) for seed in range(2)]),
    "views": lambda: Views(Net()),
    "views per eye": lambda: Views(Net(), ViewSpec(geometry="per_eye")),
}


@pytest.fixture
def exams():
    x = torch.rand((3, 6, 16, 16), generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([[True, True], [False, True], [True, True]])


@pytest.mark.parametrize("name", MAKERS)
def test_the_contract_of_every_maker(name, exams):
    maker, (x, present) = MAKERS[name](), exams
    draws = maker.draws(x, present, draws=6, seeds=SEEDS)
    assert draws.shape == (6, 3, 2, 5)
    assert draws.dtype == torch.float32
    assert torch.equal(draws.isnan().any(-1), ~present.expand(6, 3, 2))
    torch.testing.assert_close(draws[:, present].sum(-1), torch.ones(6, 5))
    alone = maker.draws(x[2:], present[2:], draws=4, seeds=SEEDS[2:])
    torch.testing.assert_close(alone[:, 0], draws[:4, 2], rtol=1e-4, atol=1e-6)
    assert torch.equal(maker.draws(x, present, draws=6, seeds=SEEDS).nan_to_num(), draws.nan_to_num())
    assert maker.logits(x, present).shape == (3, 2, 5)
    assert maker.how
    with pytest.raises(WorkbenchError, match="0 draws"):
        maker.draws(x, present, draws=0, seeds=SEEDS)
    with pytest.raises(WorkbenchError, match="2 seeds for 3 exams"):
        maker.draws(x, present, draws=1, seeds=SEEDS[:2])


def test_an_ensemble_takes_its_members_in_turn(exams):
    members = [StochasticPredictor(Net(seed, 0.4)) for seed in range(2)]
    draws = Ensemble(members).draws(*exams, draws=5, seeds=SEEDS)
    for number, member in enumerate(members):
        own = member.draws(*exams, draws=3 - number, seeds=[seed_for(seed, "member", number) for seed in SEEDS])
        torch.testing.assert_close(draws[number::2], own, equal_nan=True)


def test_an_ensembles_answer_is_the_mean_of_its_members(exams):
    nets = [Net(seed).eval() for seed in range(3)]
    ensemble = Ensemble([Deterministic(net) for net in nets])
    with torch.no_grad():
        mean = torch.stack([net(*exams).softmax(-1) for net in nets]).mean(0)
        mixed = MixtureNet(nets)(*exams).softmax(-1)
    torch.testing.assert_close(ensemble.logits(*exams).softmax(-1), mean)
    torch.testing.assert_close(mixed, mean)
    known = exams[1]
    torch.testing.assert_close(ensemble.draws(*exams, draws=3, seeds=SEEDS).mean(0)[known], mean[known])


def test_an_ensemble_of_one_is_refused():
    with pytest.raises(WorkbenchError, match="ensemble of 1 members"):
        Ensemble([Deterministic(Net())])


STILL = {"rotation_degrees": 0, "shift": 0, "zoom": 0, "brightness": 0}


def test_a_view_that_does_nothing_is_the_exam(exams):
    x = exams[0]
    torch.testing.assert_close(view(x, SEEDS, 0, ViewSpec(**STILL)), x, atol=1e-5, rtol=0)


def arrow(size=65):
    """Return an exam whose eyes hold one spot each, right of the centre and above it."""
    x = torch.zeros(1, 6, size, size)
    x[..., 16:19, 42:45] = 1
    return x


def spot(eye):
    """Return where the light is, as a complex number from the centre, right and up."""
    rows, columns = torch.meshgrid(torch.arange(65.0), torch.arange(65.0), indexing="ij")
    mass = eye.sum(0)
    return complex(float((mass * (columns - 32)).sum() / mass.sum()), float((mass * (32 - rows)).sum() / mass.sum()))


@pytest.mark.parametrize("geometry", ["per_exam", "per_eye"])
def test_views_turn_and_zoom_within_bounds_and_never_mirror(geometry):
    spec = ViewSpec(rotation_degrees=20, zoom=0.1, shift=0, brightness=0, geometry=geometry)
    seen = [view(arrow(), [7], draw, spec)[0] for draw in range(40)]
    turns = np.array([[spot(eye) / spot(arrow()[0, :3]) for eye in one.split(3)] for one in seen])
    angles = np.degrees(np.angle(turns))
    assert np.abs(angles).max() < 21  # a mirrored spot would stand at more than 50 degrees from where it was
    assert np.abs(angles).max() > 10
    assert np.abs(turns).max() < 1.1 * 1.03
    assert np.abs(turns).min() > 1 / 1.1 / 1.03
    alike = np.allclose(turns[:, 0], turns[:, 1], atol=1e-3)
    assert alike == (geometry == "per_exam")


def test_shift_and_brightness_stay_within_bounds():
    spec = ViewSpec(**{**STILL, "shift": 0.05})
    moved = [spot(view(arrow(), [7], draw, spec)[0, :3]) - spot(arrow()[0, :3]) for draw in range(20)]
    reach = np.abs([[one.real, one.imag] for one in moved]).max()
    assert 1 < reach <= 0.05 * 65 + 0.2
    grey = torch.full((1, 6, 33, 33), 0.5)
    grey[..., :4] = 0
    lit = [view(grey, [7], draw, ViewSpec(**{**STILL, "brightness": 0.1})) for draw in range(20)]
    changes = [float((one - grey)[..., 16, 16].mean()) for one in lit]
    assert 0.05 < max(map(abs, changes)) <= 0.1 + 1e-6
    assert all(float(one[..., 16, :3].max()) == 0 for one in lit)  # outside the photograph it stays black


def test_views_of_another_seed_or_draw_are_others(exams):
    x, spec = exams[0], ViewSpec()
    assert not torch.equal(view(x, SEEDS, 0, spec), view(x, SEEDS, 1, spec))
    assert torch.equal(view(x, [12, 11, 13], 0, spec)[2], view(x, SEEDS, 0, spec)[2])
    assert not torch.equal(view(x, [12, 11, 13], 0, spec)[0], view(x, SEEDS, 0, spec)[0])
    assert math.isfinite(float(view(x, SEEDS, 0, spec).sum()))
