"""Smoothing against the paper's formula written slowly, a model whose radius is known, and an attack within it."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import binom, norm
from torch import Tensor

from workbench.schema.errors import WorkbenchError
from workbench.stress.certified.linear_head import head_margin
from workbench.stress.certified.smoothing import certify, lower_bound, predict

SIZE = 6 * 8 * 8
DIRECTION = torch.full((6, 8, 8), 1 / math.sqrt(SIZE))
"""Of unit length."""


def calls(x: Tensor) -> Tensor:
    """A linear model: the exact radius of its smoothed call is its distance from the boundary."""
    return (x * DIRECTION).flatten(1).sum(1) > 10.0


def exam(distance: float) -> Tensor:
    return ((10.0 + distance) * DIRECTION)[None]


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize(
    ("successes", "trials", "alpha"), [(0, 10, 0.05), (7, 10, 0.05), (99, 100, 0.001), (9, 9, 0.1)]
)
def test_the_lower_bound_is_where_the_binomial_tail_is_alpha(successes: int, trials: int, alpha: float) -> None:
    bound = lower_bound(successes, trials, alpha)
    if successes == 0:
        assert bound == 0
    else:
        assert binom.sf(successes - 1, trials, bound) == pytest.approx(alpha, rel=1e-6)


@pytest.mark.parametrize("distance", [0.3, 0.6, -0.6])
def test_a_linear_models_radius_is_never_overstated_and_nearly_reached(distance: float) -> None:
    found = certify(calls, exam(distance), sigma=0.5, generator=noise(), samples=4000)
    assert found.called_referable is (distance > 0)
    assert 0.85 * abs(distance) < found.radius <= abs(distance)
    assert found.radius == pytest.approx(0.5 * norm.ppf(lower_bound(found.counts, 4000, 0.001)))


def test_no_more_is_proved_than_the_samples_can_show() -> None:
    found = certify(calls, exam(100.0), sigma=0.5, generator=noise(), samples=100)
    assert found.counts == 100
    assert found.radius == pytest.approx(0.5 * norm.ppf(0.001 ** (1 / 100)))


def test_on_the_boundary_it_abstains() -> None:
    found = certify(calls, exam(0.0), sigma=0.5, generator=noise(), samples=300)
    assert found.called_referable is None
    assert found.radius == 0
    assert predict(calls, exam(0.0), sigma=0.5, generator=noise()) is None
    assert predict(calls, exam(1.0), sigma=0.5, generator=noise()) is True
    assert predict(calls, exam(-1.0), sigma=0.5, generator=noise()) is False


def test_the_strongest_attack_within_the_radius_does_not_turn_the_call() -> None:
    """For a linear model the steepest step is the best attack in L2; just beyond the distance it succeeds."""
    x = exam(0.5)
    radius = certify(calls, x, sigma=0.5, generator=noise(), samples=2000).radius
    assert predict(calls, x - radius * DIRECTION, sigma=0.5, generator=noise(), samples=4000) is not False
    assert predict(calls, x - 0.6 * DIRECTION, sigma=0.5, generator=noise(), samples=4000) is False


def test_the_same_seed_gives_the_same_certificate() -> None:
    one, other = (certify(calls, exam(0.2), sigma=0.5, generator=noise(), samples=100) for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sigma": 0.0}, "sigma is 0"),
        ({"sigma": 1.0, "alpha": 1.0}, "alpha is 1"),
        ({"sigma": 1.0, "samples": 0}, "0 s"),
    ],
)
def test_a_mistake_is_one_line(options: dict[str, float], says: str) -> None:
    with pytest.raises(WorkbenchError, match=says):
        certify(calls, exam(0.0), generator=noise(), **options)


def test_the_heads_margin_is_exact() -> None:
    torch.manual_seed(0)
    weight, bias, features = torch.randn(5, 7), torch.randn(5), torch.randn(20, 7)
    margin = head_margin(features, weight, bias)
    logits = features @ weight.T + bias
    for row in range(20):
        top = int(logits[row].argmax())
        slow = min(
            (float((logits[row, top] - logits[row, k]) / (weight[top] - weight[k]).norm()), k)
            for k in range(5)
            if k != top
        )
        assert float(margin[row]) == pytest.approx(slow[0], rel=1e-4)
        way = (weight[slow[1]] - weight[top]) / (weight[slow[1]] - weight[top]).norm()
        nearer, beyond = features[row] + 0.999 * slow[0] * way, features[row] + 1.001 * slow[0] * way
        assert int((nearer @ weight.T + bias).argmax()) == top
        assert int((beyond @ weight.T + bias).argmax()) == slow[1]
