"""One audit's draws and stresses against a naive audit of the same exams, side by side in one run.

    python tests/benchmarks/audit.py --exams 32 --draws 30

Naive is what most code does: CleverHans on a model whose parameters collect gradients, one call per exam, then T whole
passes with the dropout modules switched on, a loop. Ours is what `workbench.audit.units` does, framework checks
included. Both are timed on one core (processor time, so that a busy machine does not blur it).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from torch import Tensor, nn

from workbench.models.paired import PairedEyeNet
from workbench.models.referable import referable_log_odds
from workbench.schema.model_card import Architecture
from workbench.schema.specs import StressSpec
from workbench.stress.apply import apply_stress
from workbench.stress.corruptions.catalogue import CORRUPTIONS
from workbench.uncertainty.mc_dropout import StochasticPredictor

BATCH = 16
LADDERS = {
    "clean": [None],
    "fgsm, 3 strengths": [StressSpec(name="fgsm", strength=strength) for strength in (0.5, 1, 2)],
    "pgd, 3 strengths": [StressSpec(name="pgd", strength=strength) for strength in (0.5, 1, 2)],
    "5 corruptions, 3 severities": [
        StressSpec(name=name, strength=severity) for name in list(CORRUPTIONS)[:5] for severity in (1, 3, 5)
    ],
}


def exams(count: int, size: int) -> Tensor:
    """Return drawn discs with spots: real enough for time."""
    generator = np.random.default_rng(0)
    x = np.zeros((count, 2, size, size, 3), np.uint8)
    for image in x.reshape(-1, size, size, 3):
        cv2.circle(image, (size // 2, size // 2), size // 2 - 2, (150, 80, 40), -1)
        for a, b in generator.integers(size // 4, 3 * size // 4, (8, 2)).tolist():
            cv2.circle(image, (a, b), 2, (60, 10, 10), -1)
    planes = x.transpose(0, 1, 4, 2, 3).reshape(count, 6, size, size)
    return torch.from_numpy(planes.copy()).float() / 255


def naive(model: nn.Module, x: Tensor, spec: StressSpec | None, draws: int) -> None:
    """Stress exam by exam, then make T whole passes."""
    present = torch.ones(len(x), 2, dtype=torch.bool)
    model.eval()
    if spec is not None and spec.name in CORRUPTIONS:
        generators = [torch.Generator().manual_seed(seed) for seed in range(len(x))]
        x = CORRUPTIONS[spec.name](model, x, torch.zeros(len(x), 2), generators, severity=spec.strength)
    elif spec is not None:
        x = torch.cat([attacked(model, x[i : i + 1], spec) for i in range(len(x))])
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    with torch.no_grad():
        torch.stack([model(x, present).softmax(dim=-1) for _ in range(draws)])
    model.eval()


def attacked(model: nn.Module, x: Tensor, spec: StressSpec) -> Tensor:
    """Return one exam after CleverHans."""

    def two_classes(pixels: Tensor) -> Tensor:
        odds = referable_log_odds(model(pixels, torch.ones(len(pixels), 2, dtype=torch.bool))).amax(dim=1)
        return torch.stack([-odds, odds], dim=1)

    size, y = spec.strength / 255, torch.zeros(1, dtype=torch.long)
    if spec.name == "fgsm":
        return fast_gradient_method(two_classes, x, size, np.inf, clip_min=0, clip_max=1, y=y).detach()
    return projected_gradient_descent(
        two_classes, x, size, size / 4, 10, np.inf, clip_min=0, clip_max=1, y=y, rand_init=False, sanity_checks=False
    ).detach()


def ours(predictor: StochasticPredictor, x: Tensor, spec: StressSpec | None, draws: int) -> None:
    """Stress and draw as an audit's unit does."""
    present, seeds = torch.ones(len(x), 2, dtype=torch.bool), list(range(len(x)))
    if spec is not None:
        y = torch.zeros(len(x), 2, dtype=torch.long)
        x = apply_stress(predictor.model, x, present, y, spec, seeds, threshold=0.5).x
    predictor.draws(x, present, draws=draws, seeds=seeds)


def seconds(work: Callable[[Tensor, StressSpec | None], None], x: Tensor, specs: list[StressSpec | None]) -> float:
    started = time.process_time()
    for spec in specs:
        for first in range(0, len(x), BATCH):
            work(x[first : first + BATCH], spec)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, default=32)
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--width", type=float, default=0.5, help="of the demo's ResNet-10")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    architecture = Architecture(trunk="resnet10", width=arguments.width, pooling="mean_max")
    model = PairedEyeNet(architecture).to(memory_format=torch.channels_last).eval()
    predictor, x = StochasticPredictor(model), exams(arguments.exams, arguments.size)
    ours(predictor, x[:BATCH], None, 2)
    naive(model, x[:BATCH], None, 2)
    print(f"{arguments.exams} exams of {arguments.size} px, T = {arguments.draws}, {predictor.how}, one core")
    print(f"{'':30}{'naive':>12}{'workbench':>12}  exams/s;  ratio")
    totals = [0.0, 0.0]
    for name, specs in LADDERS.items():
        spent = [
            seconds(lambda exam, spec: naive(model, exam, spec, arguments.draws), x, specs),
            seconds(lambda exam, spec: ours(predictor, exam, spec, arguments.draws), x, specs),
        ]
        totals = [total + one for total, one in zip(totals, spent, strict=True)]
        rates = [len(x) * len(specs) / one for one in spent]
        print(f"{name:30}{rates[0]:12.1f}{rates[1]:12.1f}  {spent[0] / spent[1]:14.1f} ×")
    print(f"{'all':30}{totals[0]:11.1f}s{totals[1]:11.1f}s  {totals[0] / totals[1]:14.1f} ×")


if __name__ == "__main__":
    main()
