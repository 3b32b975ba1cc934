"""MC-dropout by the split against the naive loop of T whole passes, side by side in one run.

    python tests/benchmarks/mc_dropout.py --draws 50 --batch 8

The naive loop is timed over a few passes and scaled to T (each pass costs the same); the table says over how many.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from workbench.models.modes import evaluation
from workbench.models.paired import PairedEyeNet
from workbench.schema.model_card import Architecture
from workbench.uncertainty.mc_dropout import StochasticPredictor


def head() -> nn.Module:
    return PairedEyeNet(Architecture(trunk="resnet18", head_dropout=0.3))


def feature_map() -> nn.Module:
    return PairedEyeNet(Architecture(trunk="resnet18", head_dropout=0.3, feature_dropout=0.2))


def inside_last_block() -> nn.Module:
    model = feature_map()
    block = model.trunk.layer4[-1]
    block.act1 = nn.Sequential(block.act1, nn.Dropout2d(0.2))
    return model


PLACES: dict[str, Callable[[], nn.Module]] = {
    "head": head,
    "last feature map": feature_map,
    "inside the last block": inside_last_block,
}


def naive(model: nn.Module, x: Tensor, present: Tensor, draws: int) -> Tensor:
    """Return draws as most code makes them: dropout modules on, one whole pass after another."""
    with evaluation(model), torch.inference_mode():
        for module in model.modules():
            if isinstance(module, nn.Dropout | nn.Dropout2d):
                module.train()
        return torch.stack([model(x, present).softmax(-1) for _ in range(draws)])


def seconds(work: Callable[[], Tensor]) -> np.ndarray:
    """Return wall and processor seconds; the second is fair on a machine that does other work too."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return np.array([time.perf_counter() - wall, time.process_time() - processor])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--naive-passes", type=int, default=5, help="passes timed of the naive loop, then scaled")
    parser.add_argument("--repeats", type=int, default=3, help="the best of these counts, for both")
    options = parser.parse_args()
    passes = min(options.naive_passes, options.draws)
    x = torch.rand(options.batch, 6, options.size, options.size).to(memory_format=torch.channels_last)
    present = torch.ones(options.batch, 2, dtype=torch.bool)
    print(
        f"ResNet-18 (MONAI, six channels), {options.batch} exams at {options.size} px, T = {options.draws}, fp32, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}; naive: {passes} passes timed, scaled to T"
    )
    print(
        f"{'dropout stands':<23}{'naive s':>9}{'split s':>9}{'ratio':>8}"
        f"{'naive cpu':>11}{'split cpu':>11}{'ratio':>8}{'first use s':>13}  how"
    )
    for place, make in PLACES.items():
        torch.manual_seed(0)
        model = make().eval().to(memory_format=torch.channels_last)
        predictor = StochasticPredictor(model)

        def split(predictor: StochasticPredictor = predictor) -> Tensor:
            return predictor.draws(x, present, draws=options.draws, seeds=range(options.batch))

        first = seconds(split)  # with the check of the split
        naive(model, x, present, 1)
        pairs = [
            (seconds(lambda model=model: naive(model, x, present, passes)), seconds(split))
            for _ in range(options.repeats)
        ]
        slow = np.min([pair[0] for pair in pairs], axis=0) * options.draws / passes
        fast = np.min([pair[1] for pair in pairs], axis=0)
        print(
            f"{place:<23}{slow[0]:>9.2f}{fast[0]:>9.2f}{slow[0] / fast[0]:>7.1f}x"
            f"{slow[1]:>11.2f}{fast[1]:>11.2f}{slow[1] / fast[1]:>7.1f}x{first[0]:>13.2f}  {predictor.how}",
            flush=True,
        )


if __name__ == "__main__":
    main()
