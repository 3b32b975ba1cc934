"""What a step of a hardened training costs, as a multiple of an ordinary step, and against the usual inner loop.

    python tests/benchmarks/defence.py --size 128 --steps 2

The usual inner loop is that of most published code: ``loss.backward()`` to the pixels, by which the parameters collect
gradients too, which nobody reads. Processor time of one thread, interleaved, the median of several rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from workbench.models.paired import PairedEyeNet
from workbench.models.precision import autocast, resolve_precision
from workbench.schema.model_card import Architecture
from workbench.stress.auto_attack.inner import ascent
from workbench.stress.corruptions.augmentation import random_corruption
from workbench.training.adversarial import Adversary, Task
from workbench.training.config import AdversarialSection, LossSection
from workbench.training.losses import grading_loss

BATCH, EPSILON, CPU = 16, 0.5, torch.device("cpu")
NAMES = ("noise", "defocus", "underexposure", "overexposure", "jpeg", "haze")


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    told = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = PairedEyeNet(Architecture(width=0.5, fusion="single", pooling="mean_max", local_average=4.0)).train()
    model = model.to(memory_format=torch.channels_last)
    task = task_of(model, told.size)

    def step(loss: Callable[[], Tensor]) -> None:
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss())

    spoil = random_corruption(NAMES)

    def spoiled() -> Tensor:
        return task.loss(task.answer(spoil(task.x, torch.Generator().manual_seed(0))))

    kinds: dict[str, Callable[[], Tensor]] = {"ordinary": lambda: task.loss(task.answer(task.x))}
    for method in ("pgd", "trades"):
        settings = AdversarialSection.model_validate({"method": method, "epsilon": EPSILON, "steps": told.steps})
        adversary = Adversary(settings, partial(ascent, steps=told.steps, step_share=0.75))
        kinds[method] = partial(adversary.loss, model, task, 0, 1.0)
    kinds |= {"pgd, usual inner loop": partial(usual, model, task, told.steps), "corruptions": spoiled}
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(told.rounds):
        for name, loss in kinds.items():
            start = time.process_time()
            step(loss)
            taken[name].append(time.process_time() - start)
    medians = {name: statistics.median(times[1:]) for name, times in taken.items()}
    print(f"{BATCH} exams of {told.size} px, {told.steps} inner steps, ResNet-10 of width 0.5, one thread")
    for name, seconds in medians.items():
        print(f"{name:24s} {1000 * seconds:7.0f} ms  {seconds / medians['ordinary']:5.2f} ordinary steps")


def task_of(model: PairedEyeNet, size: int) -> Task:
    """Return noise with grades: time does not depend on what is seen."""
    x = torch.rand(BATCH, 6, size, size).contiguous(memory_format=torch.channels_last)
    present, grade = torch.ones(BATCH, 2, dtype=torch.bool), torch.arange(2 * BATCH).reshape(BATCH, 2) % 5
    precision = resolve_precision("auto", CPU)

    def answer(x: Tensor) -> Tensor:
        with autocast(precision, CPU):
            return model(x, present)

    return Task(x, present, grade >= 0, answer, partial(loss_of, grade))


def loss_of(grade: Tensor, logits: Tensor) -> Tensor:
    """Return the training loss."""
    return grading_loss(logits, grade, torch.ones(5), LossSection())


def usual(model: PairedEyeNet, task: Task, steps: int) -> Tensor:
    """Return the loss of exams attacked with the usual inner loop."""
    size = EPSILON / 255
    model.eval()
    now = (task.x + size * (2 * torch.rand_like(task.x) - 1)).clamp(0, 1)
    for _ in range(steps):
        now = now.detach().requires_grad_()
        task.loss(task.answer(now)).backward()
        moved = now.detach() + 0.75 * size * now.grad.sign()
        now = torch.minimum(torch.maximum(moved, task.x - size), task.x + size).clamp(0, 1)
    model.train()
    model.zero_grad(set_to_none=True)
    return task.loss(task.answer(now))


if __name__ == "__main__":
    main()
