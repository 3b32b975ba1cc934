"""Adversarial training: the ball, the box, the eyes, the formula; what it costs to ask for nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch.nn import functional

from workbench.models.paired import PairedEyeNet
from workbench.schema.model_card import Architecture
from workbench.stress.auto_attack.inner import ascent
from workbench.training.adversarial import Adversary, Task, divergence, epsilon_at, reach
from workbench.training.config import AdversarialSection, LossSection
from workbench.training.losses import grading_loss

EPSILON = 8.0
GRADE = torch.tensor([[0, 3], [2, -1], [4, 1], [1, 2]])
PRESENT = torch.tensor([[True, True], [True, True], [True, False], [False, True]])


def net(fusion: str = "late", dropout: float = 0.0) -> PairedEyeNet:
    torch.manual_seed(0)
    model = PairedEyeNet(Architecture(width=0.125, fusion=fusion, head_dropout=dropout))
    for _ in range(3):  # running statistics that are not those of the beginning
        model.train()(torch.rand(8, 6, 32, 32), torch.ones(8, 2, dtype=torch.bool))
    return model.to(memory_format=torch.channels_last)


def task_of(model: PairedEyeNet) -> Task:
    x = torch.rand(4, 6, 32, 32, generator=torch.Generator().manual_seed(1)).round(decimals=1)  # some on the box
    grade = GRADE.masked_fill(~PRESENT, -1)
    weights = torch.ones(5)
    return Task(
        x=x.contiguous(memory_format=torch.channels_last),
        present=PRESENT,
        graded=grade >= 0,
        answer=lambda x: model(x, PRESENT),
        loss=lambda logits: grading_loss(logits, grade, weights, LossSection()),
    )


def adversary(method: str, **fields: object) -> Adversary:
    settings = AdversarialSection.model_validate({"method": method, "epsilon": EPSILON, "steps": 4, **fields})
    return Adversary(settings, partial(ascent, steps=settings.steps, step_share=settings.step_share))


@pytest.mark.parametrize("method", ["pgd", "trades"])
@pytest.mark.parametrize("fusion", ["early", "late", "single"])
def test_the_attack_stays_in_ball_and_box_on_present_eyes_and_the_inner_loss_rises(method: str, fusion: str) -> None:
    model = net(fusion)
    task, before = task_of(model), {name: value.clone() for name, value in model.state_dict().items()}
    attacked = adversary(method).attack(model, task, 5, EPSILON)
    change = (attacked - task.x).abs().reshape(4, 2, -1).amax(dim=2)
    assert change.max() <= EPSILON / 255 + 1e-6
    assert (change[PRESENT] > 0.9 * EPSILON / 255).all()
    assert not change[~PRESENT].any(), "a missing eye is never attacked"
    assert 0 <= attacked.min() <= attacked.max() <= 1
    assert attacked.is_contiguous(memory_format=torch.channels_last)
    assert not attacked.requires_grad
    assert model.training, "it has again the mode that it had"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "nothing was learned"
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    model.eval()
    clean = task.answer(task.x).detach()
    inner: dict[str, Callable] = {"pgd": task.loss, "trades": lambda logits: divergence(clean, logits, task.graded)}
    assert inner[method](task.answer(attacked)) > inner[method](clean) + 0.01


def test_the_same_seed_gives_the_same_attack_and_an_exam_its_own_random_numbers() -> None:
    model, attacker = net(), adversary("pgd")
    one, same, other = (attacker.attack(model, task_of(model), seed, EPSILON) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("eyes", "columns"), [("OD", [0]), ("OS", [1]), ("both", [0, 1])])
def test_only_the_named_eyes_are_in_reach(eyes: str, columns: list[int]) -> None:
    expected = torch.zeros(4, 2)
    expected[:, columns] = PRESENT[:, columns].float()
    assert torch.equal(reach(PRESENT, eyes, []), expected)


def test_one_eye_at_random_is_one_of_those_that_are_there() -> None:
    present = PRESENT.repeat(50, 1)
    generators = [torch.Generator().manual_seed(row) for row in range(200)]
    found = reach(present, "random_one", generators)
    assert torch.equal(found.sum(dim=1), torch.ones(200))
    assert not found[~present].any()
    both = found[present.all(dim=1)]
    assert 30 < both[:, 0].sum() < 70


def test_the_divergence_is_the_formula_written_slowly_and_eyes_without_a_grade_do_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, attacked = torch.randn(2, 4, 2, 5, generator=generator)
    graded = GRADE.masked_fill(~PRESENT, -1) >= 0
    total, count = 0.0, 0
    for exam in range(4):
        for eye in range(2):
            if not graded[exam, eye]:
                continue
            p, q = (logits[exam, eye].double().exp() for logits in (clean, attacked))
            p, q = (p / p.sum()).tolist(), (q / q.sum()).tolist()
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
            count += 1
    assert count == 5
    assert divergence(clean, attacked, graded).item() == pytest.approx(total / count, rel=1e-5)
    assert divergence(clean, attacked, torch.zeros_like(graded)).item() == 0
    assert divergence(clean, clean, graded).item() == pytest.approx(0, abs=1e-6)


def test_trades_is_the_loss_plus_beta_times_the_divergence_of_two_passes_in_training_mode() -> None:
    model, attacker = net(dropout=0.5), adversary("trades", beta=3.0)
    task = task_of(model)
    attacked = attacker.attack(model, task, 7, EPSILON)
    logits = []
    for x in (task.x, attacked):
        torch.manual_seed(7)  # the same dropout: without an attack the two passes answer alike
        logits.append(model(x, PRESENT))
    known = [(exam, eye) for exam in range(4) for eye in range(2) if task.graded[exam, eye]]
    far = sum(
        functional.kl_div(logits[1][one].log_softmax(0), logits[0][one].softmax(0), reduction="sum") for one in known
    )
    expected = task.loss(logits[0]) + 3.0 * far / len(known)
    model = net(dropout=0.5)
    found = attacker.loss(model, task_of(model), 7, 0.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.autograd.backward(found)
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.ndim > 1)


def test_pgd_learns_from_the_attacked_exams_alone() -> None:
    model, attacker = net(), adversary("pgd")
    task = task_of(model)
    attacked = attacker.attack(model, task, 7, EPSILON)
    expected = task.loss(task.answer(attacked)).item()
    model = net()
    task = task_of(model)
    assert attacker.loss(model, task, 7, 0.0).item() == pytest.approx(expected, rel=1e-6)


def test_epsilon_rises_over_the_warm_up() -> None:
    rising = AdversarialSection(method="pgd", epsilon=2.0, warm_up_epochs=2)
    assert [epsilon_at(rising, done) for done in (0.0, 0.5, 1.0, 2.0, 3.0)] == [0, 0.5, 1, 2, 2]
    assert epsilon_at(AdversarialSection(method="pgd", epsilon=2.0), 0.0) == 2
