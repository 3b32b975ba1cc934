import pytest
import torch
from torch import nn

from workbench.models.foreign import PairedFromSingle
from workbench.schema.errors import WorkbenchError


class Net(nn.Module):
    def __init__(self, channels=3, outputs=5, *, several=False):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(channels, 4, 3), nn.Linear(4, outputs)
        self.several = several

    def forward(self, x):
        answer = self.head(self.conv(x).mean((2, 3)))
        return (answer, None) if self.several else answer


X = torch.rand((2, 6, 16, 16), generator=torch.Generator().manual_seed(0))
BOTH = torch.ones(2, 2, dtype=torch.bool)


@pytest.mark.parametrize("several", [False, True])
def test_an_eye_is_answered_as_by_the_network_itself(several):
    net = Net(several=several)
    wrapped = PairedFromSingle(net, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3))
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.2, 0.3]).view(3, 1, 1)
    for eye in range(2):
        own = net((X[:, 3 * eye : 3 * eye + 3] - mean) / std)
        torch.testing.assert_close(wrapped(X, BOTH)[:, eye], own[0] if several else own)


def test_a_pair_is_answered_od_first():
    net = Net(channels=6, outputs=10)
    torch.testing.assert_close(PairedFromSingle(net)(X, BOTH), net(X).view(2, 2, 5))


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_binary_answer_is_p_referable(outputs):
    net = Net(outputs=outputs)
    p = PairedFromSingle(net)(X, BOTH).softmax(-1)
    own = net(X[:, :3])
    expected = own.sigmoid()[:, 0] if outputs == 1 else own.softmax(-1)[:, 1]
    torch.testing.assert_close(p[:, 0, 2:].sum(-1), expected)
    assert (p[..., [1, 3, 4]] == 0).all()
    torch.testing.assert_close(p.sum(-1), torch.ones(2, 2))


def test_an_absent_eye_is_never_looked_at():
    wrapped = PairedFromSingle(Net())
    present = torch.tensor([[True, False], [True, True]])
    other = X.clone()
    other[0, 3:] = 0.9
    assert torch.equal(wrapped(X, present), wrapped(other, present))


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (Net(channels=1), "a network of 1 channels"),
        (Net(outputs=7), "7 outputs per eye"),
        (nn.Linear(3, 5), "no two-dimensional convolution"),
        (nn.Conv2d(3, 5, 3), "no linear layer"),
    ],
)
def test_what_does_not_fit_is_refused(net, said):
    with pytest.raises(WorkbenchError, match=said):
        PairedFromSingle(net)
