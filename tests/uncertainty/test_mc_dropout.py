"""Draws: seeded per exam, the split equal to whole passes, the model left as it was."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

from workbench.models.paired import PairedEyeNet
from workbench.models.precision import has_bf16
from workbench.schema.errors import WorkbenchError
from workbench.schema.model_card import Architecture
from workbench.uncertainty import mc_dropout
from workbench.uncertainty.mc_dropout import StochasticPredictor
from workbench.uncertainty.replay import Replay
from workbench.uncertainty.seeded_dropout import SeededDropout, keep_mask
from workbench.uncertainty.split import Split, WholePasses

SEEDS = [11, 2**63 - 1, 13]


class Tiny(nn.Module):
    """A paired-eye net of one convolution, with whatever parts a test wants."""

    def __init__(self, *, before=(), after=(), on_pooled=None):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(*before, nn.Conv2d(6, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), *after)
        self.pooled = nn.Sequential(*([nn.Dropout(0.5)] if on_pooled is None else on_pooled))
        self.head = nn.Linear(16, 10)
        self.calls = 0
        self.trunk[len(before)].register_forward_hook(self.count)

    def count(self, *_):
        self.calls += 1

    def forward(self, x, present):
        features = self.pooled(self.trunk(x).amax((2, 3)))
        return (4 * self.head(features)).view(x.shape[0], 2, 5)


class Functional(Tiny):
    def forward(self, x, present):
        features = functional.dropout(self.trunk(x).amax((2, 3)), p=0.4, training=self.training)
        return self.head(features).view(-1, 2, 5)


class Residual(Tiny):
    """Adds in place to a value that the deterministic part handed over."""

    def forward(self, x, present):
        features = self.trunk(x).amax((2, 3))
        added = features.add_(functional.dropout(features, 0.4, self.training))
        return self.head(added).view(-1, 2, 5)


class HiddenResidual(Tiny):
    """Reads the value that it changed under its old name, so that the trace does not show the change."""

    def forward(self, x, present):
        features = self.trunk(x).amax((2, 3))
        features.add_(functional.dropout(features, 0.4, self.training))
        return self.head(features).view(-1, 2, 5)


class AlwaysOn(Tiny):
    def forward(self, x, present):
        return self.head(functional.dropout(self.trunk(x).amax((2, 3)), 0.4)).view(-1, 2, 5)


class Untraceable(Tiny):
    def forward(self, x, present):
        return super().forward(x, present) if bool(x.sum() > -1) else x


class EyeMajor(nn.Module):
    """Puts all right eyes before all left ones, which a draw-major batch does not survive."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Dropout2d(0.5))
        self.head = nn.Linear(16, 5)

    def forward(self, x, present):
        eyes = torch.cat([x[:, :3], x[:, 3:]])
        right, left = self.head(self.conv(eyes).amax((2, 3))).chunk(2)
        return torch.stack([right, left], dim=1)


class BatchOfStatistics(Tiny):
    """Normalises by the batch in evaluation mode too: an exam's answer depends on its neighbours."""

    def __init__(self):
        super().__init__()
        self.trunk[1] = nn.BatchNorm2d(16, track_running_stats=False)


class Random(Tiny):
    def forward(self, x, present):
        return super().forward(x + torch.rand_like(x), present)


class Unused(Tiny):
    def forward(self, x, present):
        return self.head(self.trunk(x).amax((2, 3))).view(-1, 2, 5)


def paired(**fields):
    torch.manual_seed(0)
    return PairedEyeNet(Architecture(**{"width": 0.25, "head_dropout": 0.5, **fields})).eval()


MODELS = {
    "head": (Tiny, "split at pooled.0"),
    "feature map": (lambda: Tiny(after=[nn.Dropout2d(0.3)]), "split at trunk.3"),
    "elements of a map": (lambda: Tiny(after=[nn.Dropout(0.3)]), "split at trunk.3"),
    "one dimension": (
        lambda: Tiny(after=[nn.Flatten(2), nn.Dropout1d(0.3), nn.Unflatten(2, (8, 8))]),
        "split at trunk.4",
    ),
    "in place": (lambda: Tiny(on_pooled=[nn.Dropout(0.3), nn.ReLU(inplace=True)]), "split at pooled.0"),
    "in place on what crosses": (Residual, "split at dropout"),
    "in place, unseen": (HiddenResidual, "replay after trunk (the trace shows no dropout before the output)"),
    "first of all": (lambda: Tiny(before=[nn.Dropout(0.1)]), "split at trunk.0"),
    "function": (Functional, "split at dropout"),
    "always on": (AlwaysOn, "split at dropout"),
    "untraceable": (Untraceable, "replay after trunk (not traceable"),
    "eye-major": (EyeMajor, "whole passes, one exam at a time"),
    "batch statistics": (BatchOfStatistics, "whole passes, one exam at a time (an exam's draws depend on its batch)"),
    "alpha": (lambda: Tiny(on_pooled=[nn.AlphaDropout(0.3)]), "split at pooled.0"),
    "alpha, whole channels": (lambda: Tiny(after=[nn.FeatureAlphaDropout(0.3)]), "split at trunk.3"),
    "paired early": (lambda: paired(fusion="early"), "split at head_dropout"),
    "paired late": (lambda: paired(fusion="late", feature_dropout=0.3), "split at feature_dropout"),
    "paired single": (lambda: paired(fusion="single", pooling="mean_max"), "split at head_dropout"),
}
OF_A_BATCH = [name for name in MODELS if name != "batch statistics"]


@pytest.fixture
def exams():
    x = torch.rand((3, 6, 8, 8), generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([[True, True], [False, True], [True, True]])


def exams_for(name, exams):
    x, present = exams
    small = "net" not in name and "paired" not in name
    return (x if small else functional.interpolate(x, size=(32, 32))), present


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", MODELS)
def test_says_how_and_draws_differ(name, exams):
    make, how = MODELS[name]
    predictor = StochasticPredictor(make())
    x, present = exams_for(name, exams)
    draws = predictor.draws(x, present, draws=6, seeds=SEEDS)
    assert predictor.how.startswith(how)
    assert draws.shape == (6, 3, 2, 5)
    assert draws.dtype == torch.float32
    assert draws[:, 1, 0].isnan().all()
    assert draws.isnan().sum() == 6 * 5
    known = draws[:, present]
    close(known.sum(-1), torch.ones(6, 5))
    assert (known.std(0).amax(-1) > 1e-5).all()


@pytest.mark.parametrize("name", MODELS)
def test_alone_equals_in_a_batch_and_any_chunks(name, exams):
    make, _ = MODELS[name]
    x, present = exams_for(name, exams)
    predictor = StochasticPredictor(make())
    together = predictor.draws(x, present, draws=5, seeds=SEEDS)
    order = torch.tensor([2, 0, 1])
    close(predictor.draws(x[order], present[order], draws=5, seeds=[SEEDS[i] for i in order]), together[:, order])
    close(predictor.draws(x, present, draws=3, seeds=SEEDS), together[:3])
    small = StochasticPredictor(predictor.model, memory_mib=0)
    for exam in range(3):
        alone = small.draws(x[exam : exam + 1], present[exam : exam + 1], draws=5, seeds=SEEDS[exam : exam + 1])
        close(alone, together[:, exam : exam + 1])


@pytest.mark.parametrize("name", OF_A_BATCH)
def test_a_draw_equals_a_whole_pass_with_the_same_masks(name, exams):
    make, _ = MODELS[name]
    model = make().eval()
    x, present = exams_for(name, exams)
    draws = StochasticPredictor(model).draws(x, present, draws=3, seeds=SEEDS)
    for draw in range(3):
        for exam in range(3):
            with torch.no_grad(), SeededDropout(SEEDS[exam : exam + 1], draw, 1):
                logits = model(x[exam : exam + 1], present[exam : exam + 1])[0]
            close(draws[draw, exam][present[exam]], logits.softmax(-1)[present[exam]])


def test_a_trunk_with_dropout_of_its_own_is_split_inside(exams):
    x, present = exams_for("net", exams)
    predictor = StochasticPredictor(paired(trunk="densenet121", trunk_dropout=0.3))
    together = predictor.draws(x, present, draws=2, seeds=SEEDS)
    assert predictor.how == "split at trunk.denseblock4.denselayer1.layers.dropout"
    close(predictor.draws(x[2:], present[2:], draws=2, seeds=SEEDS[2:]), together[:, 2:])


def test_the_trunk_runs_once_for_all_draws(exams):
    predictor = StochasticPredictor(Tiny(), memory_mib=0)
    predictor.draws(*exams, draws=2, seeds=SEEDS)
    predictor.model.calls = 0
    predictor.draws(*exams, draws=30, seeds=SEEDS)
    assert predictor.model.calls == 1


@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout2d])
def test_the_same_distribution_as_a_naive_loop(kind, exams):
    model = Tiny(after=[kind(0.4)]).eval()
    x, present = exams[0][:1], exams[1][:1]
    draws = StochasticPredictor(model).draws(x, present, draws=2000, seeds=[5])[:, 0]
    torch.manual_seed(6)
    model.trunk[3].train()
    model.pooled[0].train()
    with torch.no_grad():
        naive = torch.stack([model(x, present)[0].softmax(-1) for _ in range(2000)])
    p_values = [
        stats.ks_2samp(draws[:, eye, grade], naive[:, eye, grade]).pvalue for eye in range(2) for grade in range(5)
    ]
    assert min(p_values) > 0.001  # ten tests, fixed seeds
    shifted = stats.ks_2samp(draws[:, 0, 0], naive[:, 0, 0] + 0.2 * naive[:, 0, 0].std()).pvalue
    assert shifted < 0.001  # and the test would have seen a shift of a fifth of a standard deviation


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_masks_drop_the_share_that_they_should(p):
    mask = keep_mask(seed=3, site=0, first=0, count=50, size=999, p=p)
    assert mask.mean() == pytest.approx(1 - p, abs=0.01)


def test_masks_are_one_stream_per_exam_and_site():
    whole = keep_mask(7, 1, 0, 20, 13, 0.5)
    parts = [keep_mask(7, 1, first, count, 13, 0.5) for first, count in ((0, 1), (1, 12), (13, 7))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(np.unique(np.concatenate([whole, keep_mask(8, 1, 0, 20, 13, 0.5)]), axis=0)) > 35
    assert (keep_mask(7, 2, 0, 20, 13, 0.5) != whole).any()


def test_the_masks_of_a_batch_are_bytewise_those_of_each_exam():
    ones = torch.ones(4 * 3 * 2, 6, 5, 5)
    with SeededDropout(SEEDS, 0, 4):
        together = [functional.dropout(ones, 0.3).view(4, 3, 2, 6, 5, 5), functional.dropout2d(ones, 0.3)]
    assert set(together[0].unique().tolist()) == {0, torch.tensor(1 / 0.7).item()}
    channels = together[1].view(4, 3, 2, 6, 25)
    assert (channels == channels[..., :1]).all()
    for exam in range(3):
        with SeededDropout(SEEDS[exam : exam + 1], 2, 2):
            alone = functional.dropout(ones[:4], 0.3).view(2, 2, 6, 5, 5)
        assert alone.numpy().tobytes() == together[0][2:, exam].numpy().tobytes()


def test_global_randomness_is_neither_used_nor_disturbed(exams):
    predictor = StochasticPredictor(Tiny())
    before = torch.get_rng_state()
    first = predictor.draws(*exams, draws=3, seeds=SEEDS)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(predictor.draws(*exams, draws=3, seeds=SEEDS).nan_to_num(), first.nan_to_num())


def state_of(model):
    return [module.training for module in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}


@pytest.mark.parametrize("name", ["head", "untraceable", "eye-major", "paired late"])
def test_modes_and_buffers_are_as_before(name, exams):
    model = MODELS[name][0]().train()
    next(model.children()).eval()  # a mixture of modes
    modes, values = state_of(model)
    predictor = StochasticPredictor(model)
    predictor.draws(*exams_for(name, exams), draws=3, seeds=SEEDS)
    predictor.logits(*exams_for(name, exams))
    assert state_of(model)[0] == modes
    for key, value in model.state_dict().items():
        assert torch.equal(value, values[key]), key
    assert not any(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("where", ["trunk", "tail"])
def test_modes_are_restored_after_an_exception(where, exams, monkeypatch):
    model = Tiny().train()
    predictor = StochasticPredictor(model)
    predictor.draws(*exams, draws=2, seeds=SEEDS)
    monkeypatch.setattr(predictor._ways[8, 8].halves, where, lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predictor.draws(*exams, draws=2, seeds=SEEDS)
    assert all(module.training for module in model.modules())


def test_logits_are_those_of_evaluation_mode(exams):
    model = Tiny().eval()
    expected = model(*exams).detach()
    assert torch.equal(StochasticPredictor(model.train()).logits(*exams), expected)
    always = AlwaysOn()
    assert torch.equal(StochasticPredictor(always).logits(*exams), StochasticPredictor(always).logits(*exams))


def test_weights_trained_on_are_the_weights_used(exams):
    model = Tiny()
    predictor = StochasticPredictor(model)
    before = predictor.draws(*exams, draws=2, seeds=SEEDS)
    with torch.no_grad():
        model.head.weight.mul_(2)
    assert not torch.allclose(predictor.draws(*exams, draws=2, seeds=SEEDS).nan_to_num(), before.nan_to_num())


def test_a_wrong_split_is_found_out(exams, monkeypatch):
    predictor = StochasticPredictor(Tiny())
    reference = predictor.draws(*exams, draws=3, seeds=SEEDS)
    for halves, told in ((Split, "replay after trunk"), (Replay, "whole passes")):
        broken = StochasticPredictor(Tiny())
        true_tail = halves.tail
        # Not a shift of every grade alike: softmax would not see it.
        bent = torch.tensor([0.1, 0, 0, 0, 0])
        monkeypatch.setattr(halves, "tail", lambda *given, tail=true_tail, bent=bent: tail(*given) + bent)
        close(broken.draws(*exams, draws=3, seeds=SEEDS), reference)
        assert broken.how == f"{told} (the split answers differently from the whole pass)"


def test_whole_passes_equal_the_split(exams, monkeypatch):
    split = StochasticPredictor(Tiny(after=[nn.Dropout2d(0.3)])).draws(*exams, draws=4, seeds=SEEDS)
    predictor = StochasticPredictor(Tiny(after=[nn.Dropout2d(0.3)]))
    whole = mc_dropout._Way(WholePasses(predictor.model.eval()))
    with torch.no_grad():
        close(whole.draws(*exams, 4, SEEDS, memory=10**6)[:, exams[1]], split[:, exams[1]])


@pytest.mark.parametrize(
    "model",
    [lambda: Tiny(on_pooled=[]), lambda: Tiny(on_pooled=[nn.Dropout(0.0)]), lambda: paired(head_dropout=0.0)],
)
def test_a_net_without_dropout_is_refused(model):
    with pytest.raises(WorkbenchError, match="no active dropout"):
        StochasticPredictor(model())


def test_a_dropout_that_takes_no_part_is_refused(exams):
    with pytest.raises(WorkbenchError, match="no active dropout in Unused"):
        StochasticPredictor(Unused()).draws(*exams, draws=2, seeds=SEEDS)


def test_random_layers_that_stay_off_are_named(exams):
    with pytest.raises(WorkbenchError, match=r"found 1 RReLU.*views, an ensemble or checkpoints"):
        StochasticPredictor(Tiny(on_pooled=[nn.RReLU()]))
    predictor = StochasticPredictor(paired(trunk="efficientnet-b0", trunk_dropout=0.2))
    assert predictor.how == "split at head_dropout; kept off: 15 MBConvBlock"
    predictor.draws(*exams_for("net", exams), draws=1, seeds=SEEDS)
    assert predictor.how == "split at head_dropout; kept off: 9 MBConvBlock"  # six have no skip to drop the rest of


def test_other_randomness_is_refused(exams):
    with pytest.raises(WorkbenchError, match="random even with dropout off"):
        StochasticPredictor(Random()).draws(*exams, draws=2, seeds=SEEDS)


def test_bad_requests_are_refused(exams):
    predictor = StochasticPredictor(Tiny())
    with pytest.raises(WorkbenchError, match="0 draws"):
        predictor.draws(*exams, draws=0, seeds=SEEDS)
    with pytest.raises(WorkbenchError, match="1 seeds for 3 exams"):
        predictor.draws(*exams, draws=1, seeds=[1])
    with pytest.raises(WorkbenchError, match="no exam"):
        predictor.draws(exams[0][:0], exams[1][:0], draws=1, seeds=[])


def test_bf16_is_near_fp32_or_refused(exams):
    if not has_bf16(torch.device("cpu")):
        with pytest.raises(WorkbenchError, match="bf16"):
            StochasticPredictor(Tiny(), precision="bf16")
        return
    fast = StochasticPredictor(Tiny(), precision="bf16").draws(*exams, draws=4, seeds=SEEDS)
    exact = StochasticPredictor(Tiny()).draws(*exams, draws=4, seeds=SEEDS)
    assert (fast - exact).abs().nan_to_num(0).max() < 0.03
