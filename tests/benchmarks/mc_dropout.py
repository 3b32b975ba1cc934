"""MC-dropout by the split against the naive loop of T whole passes and TorchUncertainty's wrapper, in one run.

    OMP_NUM_THREADS=1 python tests/benchmarks/mc_dropout.py --draws 50 --batch 8

The naive loop stands in torch's default memory layout, as most code leaves it; a second row gives it channels_last too.
The naive loop and the wrapper are timed over a few passes and scaled to T (each pass costs the same); the table says
over how many. Processor seconds are fair on a machine that does other work too; with one thread they are those of a
quiet machine. TorchUncertainty (`pip install --no-deps torch_uncertainty`, its folder on PYTHONPATH) would pull
torchvision and lightning, so its wrapper is loaded from its one file, unchanged: mc_dropout(model, T), which stacks
the copies in the batch; without it its columns stay empty.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from workbench.models.modes import evaluation
from workbench.models.paired import PairedEyeNet
from workbench.models.precision import has_bf16
from workbench.schema.model_card import Architecture
from workbench.uncertainty.engine import has_openvino
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


def everywhere() -> nn.Module:
    """Return a net with dropout after every convolution, p = 0.2 (Leibig et al. 2017)."""
    model = head()
    for module in list(model.trunk.modules()):
        for name, part in list(module.named_children()):
            if isinstance(part, nn.Conv2d):
                setattr(module, name, nn.Sequential(part, nn.Dropout(0.2)))
    return model


PLACES: dict[str, Callable[[], nn.Module]] = {
    "head": head,
    "last feature map": feature_map,
    "inside the last block": inside_last_block,
    "everywhere": everywhere,
}


def naive(model: nn.Module, x: Tensor, present: Tensor, draws: int) -> Tensor:
    """Return draws as most code makes them: dropout modules on, one whole pass after another."""
    with evaluation(model), torch.inference_mode():
        for module in model.modules():
            if isinstance(module, nn.Dropout | nn.Dropout2d):
                module.train()
        return torch.stack([model(x, present).softmax(-1) for _ in range(draws)])


def torch_uncertainty() -> ModuleType | None:
    """Return TorchUncertainty's module of wrappers alone, without its package's other imports."""
    package = importlib.util.find_spec("torch_uncertainty")
    if package is None or not package.submodule_search_locations:
        return None
    file = next(Path(package.submodule_search_locations[0]).rglob("mc_dropout.py"))
    spec = importlib.util.spec_from_file_location("torch_uncertainty_mc_dropout", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class OfOneInput(nn.Module):
    """The model as the wrapper wants it: of one tensor, every eye present."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x, torch.ones(len(x), 2, dtype=torch.bool))


def wrapped(module: ModuleType, model: nn.Module, x: Tensor, draws: int) -> Callable[[], Tensor]:
    """Return the work of TorchUncertainty's wrapper for ``draws`` estimators."""
    wrapper = module.mc_dropout(OfOneInput(model), draws).eval()

    def work() -> Tensor:
        with torch.inference_mode():
            wrapper.eval()  # ours leaves every dropout in evaluation mode
            return wrapper(x).softmax(-1)

    return work


def seconds(work: Callable[[], Tensor]) -> np.ndarray:
    """Return wall and processor seconds; the second is fair on a machine that does other work too."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return np.array([time.perf_counter() - wall, time.process_time() - processor])


def measure(place: str, x: Tensor, present: Tensor, options: argparse.Namespace) -> None:
    """Print one row per way to make draws."""
    torch.manual_seed(0)
    model = PLACES[place]().eval().to(memory_format=torch.channels_last)
    passes = min(options.naive_passes, options.draws)
    scale = options.draws / passes
    torch.manual_seed(0)
    plain, plain_x = PLACES[place]().eval(), x.contiguous()
    ways: dict[str, tuple[Callable[[], Tensor], float, str]] = {
        "naive loop": (lambda: naive(plain, plain_x, present, passes), scale, f"{passes} passes timed"),
        "… channels_last": (lambda: naive(model, x, present, passes), scale, f"{passes} passes timed"),
    }
    theirs = torch_uncertainty()
    if theirs is not None:
        ways["TorchUncertainty"] = (wrapped(theirs, model, x, passes), scale, f"{passes} copies in the batch timed")
    engines = [("ours", "eager", "fp32")]
    engines += [("ours, OpenVINO", "openvino", "fp32")] if has_openvino() else []
    if has_bf16(torch.device("cpu")):
        engines += [("ours, bf16", "eager", "bf16")]
        engines += [("ours, OpenVINO bf16", "openvino", "bf16")] if has_openvino() else []
    for name, engine, precision in engines:
        predictor = StochasticPredictor(model, engine=engine, precision=precision)
        first = seconds(lambda predictor=predictor: predictor.draws(x[:1], present[:1], draws=1, seeds=[0]))
        told = f"{predictor.how} (first use {first[0]:.1f} s)"
        if engine == "openvino" and predictor.engine == "eager":
            continue  # nothing worth compiling stands before the first dropout
        work = lambda predictor=predictor: predictor.draws(  # noqa: E731
            x, present, draws=options.draws, seeds=range(options.batch)
        )
        ways[name] = (work, 1.0, told)
    naive(model, x[:1], present[:1], 1)
    best = {name: np.full(2, np.inf) for name in ways}
    for _ in range(options.repeats):
        for name, (work, factor, _told) in ways.items():
            best[name] = np.minimum(best[name], factor * seconds(work))
    slow = best["naive loop"]
    for name, (_, _, told) in ways.items():
        wall, processor = best[name]
        faster = f"{wall:>9.2f}{slow[0] / wall:>8.1f}x{processor:>9.2f}{slow[1] / processor:>8.1f}x"
        print(f"{place:<23}{name:<20}{faster}  {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--naive-passes", type=int, default=5, help="passes timed of the naive loop, then scaled")
    parser.add_argument("--repeats", type=int, default=3, help="the best of these counts, for all")
    parser.add_argument("--places", nargs="+", choices=list(PLACES), default=list(PLACES))
    options = parser.parse_args()
    x = torch.rand(options.batch, 6, options.size, options.size).to(memory_format=torch.channels_last)
    present = torch.ones(options.batch, 2, dtype=torch.bool)
    print(
        f"ResNet-18 (MONAI, six channels), {options.batch} exams at {options.size} px, T = {options.draws}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"bf16 {'available' if has_bf16(torch.device('cpu')) else 'not on this processor'}"
    )
    print(f"{'dropout stands':<23}{'way':<20}{'wall s':>9}{'ratio':>9}{'cpu s':>9}{'ratio':>9}  how")
    for place in options.places:
        measure(place, x, present, options)


if __name__ == "__main__":
    main()
