"""CleverHans' faults, shown to be its own and met by ours; one table, one property per wrapped attack."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2
from cleverhans.torch.attacks.hop_skip_jump_attack import hop_skip_jump_attack
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from cleverhans.torch.attacks.sparse_l1_descent import sparse_l1_descent
from cleverhans.torch.attacks.spsa import spsa
from torch import Tensor, nn

from workbench.schema.errors import WorkbenchError
from workbench.schema.specs import StressSpec
from workbench.schema.threat import Aim
from workbench.stress.apply import StressResult, apply_stress
from workbench.stress.cleverhans.attacks import FROM_CLEVERHANS
from workbench.stress.registry import bind


def spec_of(name: str, strength: float, norm: str, **options: float) -> StressSpec:
    aim = Aim.model_validate({"norm": norm})
    return StressSpec(name=f"cleverhans_{name}", strength=strength, aim=aim, options=options)


CASES = [
    spec_of("cw", 30.0, "l2", searches=2, steps=20, learning_rate=0.1),
    spec_of("spsa", 100.0, "linf", steps=10, samples=16),
    spec_of("hop_skip_jump", 30.0, "l2", steps=2, queries=400),
    spec_of("sparse_l1", 200.0, "l1", steps=10),
]
SEEDS = [3, 4, 5]


class Redness(nn.Module):
    """Grades an eye by how red it is: one number decides, so every attack has a way."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.weight = nn.Parameter(torch.tensor([1.0, -0.5, 0.2]))

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        red = (self.norm(x.reshape(-1, 3, *x.shape[2:])).mean(dim=(2, 3)) * self.weight).sum(1).reshape(-1, 2, 1)
        return (red - 0.42) * torch.tensor([-30.0, -10.0, 0.0, 10.0, 20.0])


@pytest.fixture
def model() -> Redness:
    return Redness().train()


@pytest.fixture
def exams() -> tuple[Tensor, Tensor, Tensor]:
    """Healthy, healthy with one eye, referable."""
    x = torch.from_numpy(np.random.default_rng(1).uniform(0.35, 0.65, (3, 6, 8, 8)).astype(np.float32))
    x[2, ::3] += 0.2
    return x, torch.tensor([[True, True], [True, False], [True, True]]), torch.tensor([[0, 1], [1, -1], [2, 3]])


def stressed(model: nn.Module, exams: tuple[Tensor, Tensor, Tensor], spec: StressSpec) -> StressResult:
    return apply_stress(model, *exams, spec, SEEDS, threshold=0.5)


def test_the_table_covers_every_attack() -> None:
    assert {case.name for case in CASES} == set(FROM_CLEVERHANS)


@pytest.mark.parametrize("spec", CASES, ids=lambda spec: spec.name)
def test_it_crosses_within_its_budget_and_leaves_everything_as_it_was(spec, model, exams) -> None:
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.get_rng_state()
    with torch.inference_mode():
        result = stressed(model, tuple(part.clone() for part in exams), spec)
    assert not result.already.any(), "the clean exams are called rightly"
    assert result.success.all()
    assert result.within_budget.all()
    assert result.in_box.all()
    assert torch.equal(result.x[1, 3:], exams[0][1, 3:]), "an absent eye is untouched"
    assert not result.x.requires_grad
    assert model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers go on as if nothing had been"


@pytest.mark.parametrize("spec", CASES, ids=lambda spec: spec.name)
def test_the_same_exam_gives_the_same_bytes_alone_or_in_a_batch(spec, model, exams) -> None:
    together = stressed(model, exams, spec).x
    torch.manual_seed(99)
    for place, seed in list(enumerate(SEEDS))[1:]:
        one = [part[place : place + 1] for part in exams]
        assert torch.equal(apply_stress(model, *one, spec, [seed], threshold=0.5).x, together[place : place + 1])


@pytest.mark.parametrize("spec", CASES, ids=lambda spec: spec.name)
def test_only_the_named_eye_is_changed(spec, model, exams) -> None:
    result = stressed(model, exams, spec.model_copy(update={"eyes": "OD"}))
    assert torch.equal(result.x[:, 3:], exams[0][:, 3:])
    assert not torch.equal(result.x[:, :3], exams[0][:, :3])


@pytest.mark.parametrize("spec", CASES, ids=lambda spec: spec.name)
def test_what_is_too_far_for_the_budget_is_not_a_success(spec, model, exams) -> None:
    result = stressed(model, exams, spec.model_copy(update={"strength": spec.strength / 500}))
    assert result.within_budget.all()
    assert not result.success.any()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (spec_of("cw", 1.0, "linf"), "works in l2, not linf"),
        (spec_of("cw", 1.0, "l2", steps=0), "steps is 0"),
        (spec_of("spsa", 300.0, "linf"), "epsilon is 300"),
        (spec_of("spsa", 1.0, "linf", samples=0), "samples is 0"),
        (spec_of("sparse_l1", 1.0, "l1", sparsity=100.0), "sparsity is 100"),
        (spec_of("hop_skip_jump", 1.0, "l2", query=3), "did you mean 'queries'"),
        (spec_of("hop_skip_jump", 1.0, "linf"), "works in l2, not linf .*or choose rays"),
        (StressSpec(name="cleverhans_spsa", strength=1, aim=Aim.model_validate({"knowledge": "labels"})), "needs scor"),
    ],
)
def test_a_mistake_is_one_line(spec, says, model, exams) -> None:
    with pytest.raises(WorkbenchError, match=says) as caught:
        stressed(model, exams, spec)
    assert "\n" not in str(caught.value)


def test_a_bare_model_is_refused(exams) -> None:
    with pytest.raises(WorkbenchError, match="bare model"):
        bind(CASES[0])(lambda x: x, exams[0], exams[2], [torch.Generator()] * 3)


def two(x: Tensor) -> Tensor:
    """Two classes decided by the mean of the first channel."""
    red = 20 * (x[:, 0].mean(dim=(1, 2)) - 0.5)
    return torch.stack([-red, red], dim=1)


def test_cleverhans_cw_without_a_label_returns_the_clean_picture_of_a_wrong_exam() -> None:
    x = torch.full((1, 6, 8, 8), 0.4)
    back = carlini_wagner_l2(two, x, 2, initial_const=1e-2, binary_search_steps=1, max_iterations=20)
    assert torch.allclose(back, x, atol=1e-5)


def test_cleverhans_pgd_fails_under_no_grad_and_leaves_gradients_on_the_parameters() -> None:
    layer = nn.Linear(4, 2)
    x, y = torch.full((1, 4), 0.5), torch.zeros(1, dtype=torch.long)
    with torch.no_grad(), pytest.raises(RuntimeError):
        projected_gradient_descent(layer, x, 0.1, 0.05, 2, np.inf, y=y)
    projected_gradient_descent(layer, x, 0.1, 0.05, 2, np.inf, y=y)
    assert layer.weight.grad is not None


def test_cleverhans_asserts_without_a_message_after_the_work() -> None:
    x, y = torch.full((1, 6, 8, 8), 1.5), torch.zeros(1, dtype=torch.long)
    with pytest.raises(AssertionError) as caught:
        projected_gradient_descent(two, x, 0.1, 0.05, 2, np.inf, clip_min=0.0, clip_max=1.0, y=y)
    assert str(caught.value) == ""


def test_cleverhans_sparse_l1_throws_its_random_start_away_when_it_clips() -> None:
    x, y = torch.full((1, 6, 8, 8), 0.4), torch.zeros(1, dtype=torch.long)
    with pytest.warns(UserWarning, match="copy construct"):
        kept = [
            sparse_l1_descent(two, x, eps=5.0, nb_iter=0, y=y, clip_min=0.0, clip_max=1.0, rand_init=start)
            for start in (True, False)
        ]
    assert torch.equal(*kept)


def test_cleverhans_spsa_draws_from_the_callers_random_numbers() -> None:
    x, y = torch.full((1, 6, 8, 8), 0.4), torch.zeros(1, dtype=torch.long)
    before = torch.get_rng_state()
    spsa(two, x, 0.1, 1, y=y, spsa_samples=4, sanity_checks=False)
    assert not torch.equal(torch.get_rng_state(), before)


def test_cleverhans_spsa_estimates_its_gradient_at_twice_the_picture() -> None:
    seen: list[float] = []

    def model(x: Tensor) -> Tensor:
        seen.append(float(x.mean()))
        return two(x)

    x, y = torch.full((1, 6, 8, 8), 0.4), torch.zeros(1, dtype=torch.long)
    spsa(model, x, 0.01, 2, y=y, spsa_samples=4, sanity_checks=False)
    assert seen[::2] == pytest.approx([0.8, 0.8], abs=0.01), "neither the picture nor the iterate"
    assert seen[1::2] == pytest.approx([0.4, 0.4], abs=0.02)


def test_cleverhans_hop_skip_jump_fails_in_linf() -> None:
    x = torch.full((1, 6, 8, 8), 0.4)
    with pytest.raises(TypeError):
        hop_skip_jump_attack(two, x, np.inf, constraint=np.inf, num_iterations=1, verbose=False)


def test_hop_skip_jumps_own_precision_lies_below_float32_at_128_pixels() -> None:
    pixels = 6 * 128 * 128
    assert 1 / pixels**1.5 < np.spacing(np.float32(1.0)) / 2
