"""Randomness in models written by others: found or reported, seeded per exam, equal in distribution to a naive loop."""

import pytest
import torch
from monai.networks.nets import DenseNet121, EfficientNetBN, SENet, ViT
from scipy import stats
from torch import nn
from torch.nn import functional

from workbench.models.foreign import PairedFromSingle
from workbench.schema.errors import WorkbenchError
from workbench.uncertainty.mc_dropout import StochasticPredictor

SEEDS = [11, 2**63 - 1, 13]


class DropPath(nn.Module):
    """As timm writes it (drop.py), with the noise drawn as a test asks for."""

    def __init__(self, probability, noise="bernoulli_"):
        super().__init__()
        self.drop_prob, self.noise = probability, noise

    def forward(self, x):
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        if self.noise == "bernoulli_":
            return x * x.new_empty(shape).bernoulli_(keep).div_(keep)
        return x.div(keep) * (keep + torch.rand(shape, dtype=x.dtype, device=x.device)).floor_()


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def answer(self, features):
        return (4 * self.head(features.amax((2, 3)))).view(-1, 2, 5)


class Guarded(Base):
    def forward(self, x, present):
        features = self.body(self.stem(x))
        if self.training:
            features = functional.dropout2d(features, 0.4)
        return self.answer(features)


class Inplace(Base):
    def forward(self, x, present):
        features = self.body(self.stem(x))
        functional.dropout(features, 0.4, self.training, inplace=True)
        return self.answer(features)


class Deep(Base):
    def __init__(self, noise="bernoulli_"):
        super().__init__()
        self.path = DropPath(0.5, noise)

    def forward(self, x, present):
        features = self.stem(x)
        return self.answer(features + self.path(self.body(features)))


class Noisy(Base):
    def forward(self, x, present):
        features = self.body(self.stem(x))
        if self.training:
            features = features + 0.3 * torch.randn_like(features)
        return self.answer(features)


class Attention(Base):
    def forward(self, x, present):
        tokens = self.body(self.stem(x)).flatten(2).transpose(1, 2)
        seen = functional.scaled_dot_product_attention(tokens, tokens, tokens, dropout_p=0.4 if self.training else 0.0)
        return (4 * self.head(seen.amax(1))).view(-1, 2, 5)


class TwoHeads(Base):
    """Answers with an auxiliary head in training, which no draw must see."""

    def forward(self, x, present):
        features = self.stem(x)
        if self.training:
            return self.answer(functional.dropout(self.body(features), 0.4)), self.answer(features)
        return self.answer(functional.dropout(self.body(features), 0.4, training=self.training))


class OwnNormalisation(nn.Module):
    """Follows the batch in training; reads its flag, and so must not be set."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.mean.add_(x.mean())
        return x - self.mean


class Normalised(Guarded):
    def __init__(self):
        super().__init__()
        self.stem.append(OwnNormalisation())


def monai(net, **keywords):
    def make():
        torch.manual_seed(0)
        return PairedFromSingle(net(spatial_dims=2, in_channels=3, **keywords))

    return make


DEEP = {"stochastic_depth": True}
VIT = {"img_size": (32, 32), "patch_size": (16, 16), "hidden_size": 16, "mlp_dim": 16, "num_layers": 1, "num_heads": 2}
MODELS = {
    "guarded": (Guarded, {}, "split at dropout2d"),
    "in place": (Inplace, {}, "replay after body"),
    "bernoulli": (Deep, DEEP, "split at path"),
    "rand": (lambda: Deep("rand"), DEEP, "split at path"),
    "noise": (Noisy, DEEP, "split at randn_like"),
    "attention": (Attention, {}, "replay after body"),
    "own normalisation": (Normalised, {}, "split at dropout2d"),
    "two heads": (TwoHeads, {}, "split at dropout"),
    "densenet": (
        monai(DenseNet121, out_channels=5, dropout_prob=0.3, block_config=(1, 1), init_features=8, growth_rate=4),
        {},
        "split at module.features.denseblock1.denselayer1.layers.dropout",
    ),
    "efficientnet": (monai(EfficientNetBN, model_name="efficientnet-b0", num_classes=5, pretrained=False), DEEP, ""),
    "senet": (
        monai(
            SENet,
            block="se_resnet_bottleneck",
            layers=(1, 1, 1, 1),
            groups=1,
            reduction=16,
            dropout_prob=0.2,
            num_classes=5,
        ),
        {},
        "split at module.dropout",
    ),
    "vit": (
        monai(ViT, classification=True, num_classes=5, dropout_rate=0.2, post_activation=None, **VIT),
        {},
        "replay after module.patch_embedding.patch_embeddings",
    ),
}


@pytest.fixture
def exams():
    x = torch.rand((3, 6, 32, 32), generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([[True, True], [False, True], [True, True]])


@pytest.mark.parametrize("name", MODELS)
def test_found_seeded_per_exam_and_everything_put_back(name, exams):
    make, options, how = MODELS[name]
    model = make().eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    predictor = StochasticPredictor(model, **options)
    x, present = exams
    together = predictor.draws(x, present, draws=4, seeds=SEEDS)
    assert predictor.how.startswith(how)
    known = together[:, present]
    if name != "efficientnet":  # MONAI's starts with logits of 1e-13
        assert (known.std(0).amax(-1) > 1e-6).all()
    alone = predictor.draws(x[2:], present[2:], draws=3, seeds=SEEDS[2:])
    torch.testing.assert_close(alone[:, 0], together[:3, 2], rtol=1e-4, atol=1e-6)
    assert not any(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random_state)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all("forward" not in vars(module) for module in model.modules())


def naive_loop(model, x, present, draws):
    """Return draws as most code makes them: training mode, but for the normalisations."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | OwnNormalisation):
            module.eval()
    torch.manual_seed(6)
    with torch.no_grad():
        return torch.stack([model(x, present)[0].softmax(-1) for _ in range(draws)])


@pytest.mark.parametrize("name", ["guarded", "in place", "bernoulli", "rand", "noise", "attention", "densenet", "vit"])
def test_the_same_distribution_as_a_naive_loop(name, exams):
    make, options, _ = MODELS[name]
    x, present = functional.interpolate(exams[0][:1], size=(32, 32)), exams[1][:1]
    if name not in ("densenet", "vit"):
        x = x[..., :8, :8].contiguous()
    draws = StochasticPredictor(make().eval(), **options).draws(x, present, draws=1000, seeds=[5])[:, 0]
    naive = naive_loop(make(), x, present, 1000)
    # Drop path has few outcomes: rounding in another batch must not tell equal ones apart.
    draws, naive = draws.double().round(decimals=5), naive.double().round(decimals=5)
    p_values = [
        stats.ks_2samp(draws[:, eye, grade], naive[:, eye, grade]).pvalue for eye in range(2) for grade in range(5)
    ]
    assert min(p_values) > 0.001  # ten tests per model, fixed seeds
    shifted = stats.ks_2samp(draws[:, 0, 0], naive[:, 0, 0] + 0.3 * naive[:, 0, 0].std()).pvalue
    assert shifted < 0.001 or len(naive[:, 0, 0].unique()) < 20  # drop path has few outcomes


def test_stochastic_depth_that_stays_off_is_said(exams):
    with pytest.raises(WorkbenchError, match="found 1 DropPath, which draws leave off"):
        StochasticPredictor(Deep()).draws(*exams, draws=2, seeds=SEEDS)
    both = Deep()
    both.head = nn.Sequential(nn.Dropout(0.3), both.head)
    predictor = StochasticPredictor(both)
    predictor.draws(*exams, draws=2, seeds=SEEDS)
    assert predictor.how == "split at head.0; kept off: 1 DropPath"


def test_what_torch_hides_is_reported(exams):
    model = Base()
    model.attend = nn.MultiheadAttention(8, 2, dropout=0.2, batch_first=True)
    model.drop = nn.Dropout(0.3)
    model.forward = lambda x, present: model.answer(model.drop(model.body(model.stem(x))))
    predictor = StochasticPredictor(model.eval())
    predictor.draws(*exams, draws=1, seeds=SEEDS)
    assert predictor.how.endswith("kept off: 1 MultiheadAttention")


def test_the_replayed_part_runs_once(exams):
    model = Inplace()
    calls = []
    model.stem.register_forward_hook(lambda *_: calls.append(1))
    predictor = StochasticPredictor(model, memory_mib=0)
    predictor.draws(*exams, draws=1, seeds=SEEDS)
    computed = []
    model.stem[0].register_forward_hook(lambda *_: computed.append(1))
    predictor.draws(*exams, draws=20, seeds=SEEDS)
    assert len(computed) == 1
    assert len(calls) > 20  # the hook is called, the convolution behind it is not
