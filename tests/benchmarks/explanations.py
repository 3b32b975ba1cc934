"""Explanations against Captum's and pytorch-grad-cam's: time, likeness to the fp32 map, completeness, memory.

Run: python tests/benchmarks/explanations.py [--only grad_cam ...] [--eyes one] [--memory]
     python tests/benchmarks/explanations.py --model runs/M/model --manifest manifest.csv

Every way takes its turn in each round of one process; a ratio is taken within a round, so that what else the machine
does weighs on both. The table gives the median of the rounds and their range.

Without --model the network is an untrained ResNet-18 that explains its log-odds: a trained one costs the same, but its
completeness gaps differ, and so does the number of points that integrated gradients need. An audit explains both eyes;
peers make a call for each. Copies of the model are kept from call to call, as a worker of an audit keeps them, but in
the row 'first call'.

pytorch-grad-cam imports torchvision and uses nothing of it for Grad-CAM; where torchvision is missing an empty module
stands in. It need not be in the environment: `pip install --no-deps --target FOLDER grad-cam ttach`, --peers FOLDER.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import util
from pathlib import Path
from typing import Any

import torch
from captum.attr import IntegratedGradients, LayerGradCam, Occlusion
from torch import Tensor, nn

from workbench.explanation.grad_cam import grad_cams, on_both_eyes
from workbench.explanation.integrated_gradients import LEAST_CHANGE, blurred_baseline, integrated_gradients_of
from workbench.explanation.occlusion import occlusions
from workbench.explanation.targets import ReferableTarget
from workbench.models.fast import keeping_copies
from workbench.models.paired import PairedEyeNet
from workbench.models.precision import has_bf16
from workbench.schema.model_card import Architecture

Way = Callable[[], Tensor]
"""Makes ``Float["target exam 6 height width"]``."""


@dataclass
class Case:
    """What is explained.

    Attributes:
        targets: one per eye.
        precision: of the rows of ours that are not fp32.
    """

    model: Any
    x: Tensor
    present: Tensor
    targets: Sequence[ReferableTarget]
    precision: Any


@dataclass
class Comparison:
    """Ways to one thing.

    Attributes:
        reference: the map that each is compared with; None: Captum's first.
        gaps: the largest completeness gap of some maps; None: the method promises none.
    """

    title: str
    model: nn.Module
    ways: dict[str, Way]
    reference: Way | None = None
    gaps: Callable[[Tensor], float] | None = None
    rounds: int = 1


def network(fusion: str = "early") -> PairedEyeNet:
    """Return an untrained ResNet-18 on both eyes whose answers vary."""
    torch.manual_seed(0)
    model = PairedEyeNet(Architecture(fusion=fusion, trunk="resnet18")).eval()
    nn.init.normal_(model.head.weight, 0, 0.15)
    return model


def photographs(exams: int, size: int) -> Tensor:
    """Return textured discs on black."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((exams, 6, size // 8, size // 8), generator=generator) * 0.6 + 0.2
    x = nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    offset = torch.linspace(-1, 1, size)
    return x * ((offset[:, None] ** 2 + offset[None] ** 2) < 0.9)


def cases(options: argparse.Namespace, exams: int) -> dict[str, Case]:
    """Return what is explained, by its name: the model of --model, or an untrained one per fusion."""
    eyes: tuple[Any, ...] = (0, 1) if options.eyes == "both" else (0,)
    if options.model is None:
        x, present = photographs(exams, options.size), torch.ones(exams, 2, dtype=torch.bool)
        targets = [ReferableTarget(eye, "log_odds") for eye in eyes]
        nets = {fusion: network(fusion) for fusion in ("early", "late", "single")}
        return {fusion: Case(net, x, present, targets, options.precision) for fusion, net in nets.items()}
    from workbench.data.exams import open_exams
    from workbench.models.checkpoint import load_model
    from workbench.schema.manifest import read_manifest

    model, card = load_model(options.model)
    cache = options.manifest.parent / "cache"
    batch = open_exams(
        read_manifest(options.manifest), card.preprocess, cache=cache, split="test", limit=options.skip + exams
    ).batch(range(options.skip, options.skip + exams))
    targets = [ReferableTarget(eye) for eye in eyes]
    return {str(model.architecture.fusion): Case(model.eval(), batch.x, batch.present, targets, options.precision)}


def per_target(case: Case, one: Callable[[Any], Tensor]) -> Tensor:
    """Return a peer's maps: a call for each eye."""
    return torch.stack([one(target).detach() for target in case.targets])


def integrated_gradients_ways(options: argparse.Namespace) -> Iterator[Comparison]:
    name, case = next(iter(cases(options, options.exams).items()))
    model, x, present = case.model, case.x, case.present
    baseline = blurred_baseline(x, present)
    with torch.no_grad():
        answers, plain = model(x, present), model(baseline, present)
    change = torch.stack([target(answers) - target(plain) for target in case.targets])

    def gaps(maps: Tensor) -> float:
        missed = (maps.flatten(2).sum(2) - change).abs() / change.abs().clamp(min=LEAST_CHANGE)
        return float(missed.max())

    def captums(batch: int | None, steps: int = 50) -> Tensor:
        return per_target(
            case,
            lambda target: IntegratedGradients(lambda pixels, eyes: target(model(pixels, eyes))).attribute(
                x.clone().requires_grad_(),
                baseline,
                n_steps=steps,
                additional_forward_args=(present,),
                internal_batch_size=batch,
            ),
        )

    def ours(precision: Any, **keywords: Any) -> Tensor:
        return integrated_gradients_of(model, x, present, case.targets, precision=precision, **keywords)

    ways: dict[str, Way] = {"Captum, 50 steps, default call": partial(captums, None)}
    ways |= {f"Captum, 50 steps, internal_batch_size={batch}": partial(captums, batch) for batch in (4, 8)}
    if not options.way and not options.memory:
        largest = gaps(ours(options.precision))
        steps = next(
            (steps for steps in (3, 5, 7, 9, 12, 16, 20, 27, 35, 50) if gaps(captums(4, steps)) <= largest), 50
        )
        ways[f"Captum, {steps} steps (our gap), internal_batch_size=4"] = partial(captums, 4, steps)
    theirs = 0.01 if options.way or options.memory else gaps(captums(4))
    for precision in dict.fromkeys(("fp32", options.precision)):
        ways[f"ours, {precision}, tolerance 0.05"] = partial(ours, precision)
        ways[f"ours, {precision}, tolerance {theirs:.3f} (Captum's gap)"] = partial(ours, precision, tolerance=theirs)
    yield Comparison(
        f"Integrated gradients, {name}, {len(x)} exams (cosine to fp32 with {options.points} points)",
        model,
        ways,
        partial(ours, "fp32", steps=options.points),
        gaps,
    )


def occlusion_ways(options: argparse.Namespace) -> Iterator[Comparison]:
    for name, case in cases(options, 1).items():
        x, present, window = case.x, case.present, case.x.shape[-1] // 8
        baseline = blurred_baseline(x, present)

        def captums(batch: int, case: Case = case, baseline: Tensor = baseline, window: int = window) -> Tensor:
            def one(target: Any) -> Tensor:
                with torch.no_grad():
                    return Occlusion(lambda pixels, eyes: target(case.model(pixels, eyes))).attribute(
                        case.x,
                        (3, window, window),
                        (3, window, window),
                        baseline,
                        additional_forward_args=(case.present,),
                        perturbations_per_eval=batch,
                    )

            return per_target(case, one)

        def ours(precision: Any, case: Case = case, window: int = window) -> Tensor:
            return occlusions(
                case.model, case.x, case.present, case.targets, window=window, stride=window, precision=precision
            )

        ways: dict[str, Way] = {
            "Captum, one window at a time (default)": partial(captums, 1),
            "Captum, 8 windows at a time": partial(captums, 8),
        }
        ways |= {f"ours, {which}": partial(ours, which) for which in dict.fromkeys(("fp32", case.precision))}
        yield Comparison(f"Occlusion, {name}, window and stride {window}, one exam", case.model, ways)


def grad_cam_ways(options: argparse.Namespace) -> Iterator[Comparison]:
    for name, case in cases(options, 4 * options.exams).items():

        def captums(case: Case = case) -> Tensor:
            def one(target: Any) -> Tensor:
                layer = LayerGradCam(lambda pixels, eyes: target(case.model(pixels, eyes)), case.model.trunk)
                coarse = layer.attribute(case.x, additional_forward_args=(case.present,), relu_attributions=True)
                return on_both_eyes(case.model, coarse.detach(), case.x, case.present)

            return per_target(case, one)

        def ours(precision: Any, case: Case = case) -> Tensor:
            return grad_cams(case.model, case.x, case.present, case.targets, precision=precision)

        def at_first(case: Case = case) -> Tensor:
            other = type(case.model)(case.model.architecture)  # not the one whose copies are kept
            other.load_state_dict(case.model.state_dict())
            return grad_cams(other.eval(), case.x, case.present, case.targets, precision=case.precision)

        ways: dict[str, Way] = {"Captum": captums}
        if name == "early" and _has_pytorch_grad_cam(options.peers):  # it lays one map on an exam
            ways["pytorch-grad-cam"] = partial(_pytorch_grad_cam, case)
        ways |= {f"ours, {which}": partial(ours, which) for which in dict.fromkeys(("fp32", case.precision))}
        ways[f"ours, {case.precision}, first call"] = at_first
        yield Comparison(f"Grad-CAM, {name}, {len(case.x)} exams", case.model, ways, rounds=2)


def _has_pytorch_grad_cam(peers: Path | None) -> bool:
    if peers is not None:
        sys.path.append(str(peers))
    if util.find_spec("pytorch_grad_cam") is None:
        print("\npytorch-grad-cam is not there (--peers FOLDER): not measured")
        return False
    if util.find_spec("torchvision") is None:
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
            empty = types.ModuleType(name)
            empty.__dict__.update(dict.fromkeys(("Compose", "Normalize", "ToTensor", "resize", "transforms")))
            empty.__spec__ = util.spec_from_loader(name, None)
            sys.modules[name] = empty
    return True


def _pytorch_grad_cam(case: Case) -> Tensor:
    from pytorch_grad_cam import GradCAM

    class OneInput(nn.Module):
        def __init__(self, target: Any) -> None:
            super().__init__()
            self.model, self.target = case.model, target

        def forward(self, pixels: Tensor) -> Tensor:
            return self.target(self.model(pixels, case.present))[:, None]

    def one(target: Any) -> Tensor:
        with GradCAM(OneInput(target), [case.model.trunk]) as cam:
            made = torch.from_numpy(cam(case.x.clone(), targets=[lambda output: output[0]] * len(case.x)))
        return made[:, None].expand(-1, 6, -1, -1)

    return per_target(case, one)


def cosine(one: Tensor, other: Tensor) -> float:
    """Return the least cosine over the maps that are not zero."""
    one, other = one.flatten(0, 1).flatten(1), other.flatten(0, 1).flatten(1)
    return float(nn.functional.cosine_similarity(one, other, dim=1)[other.any(dim=1)].min())


COMPARISONS: dict[str, Callable[[argparse.Namespace], Iterator[Comparison]]] = {
    "integrated_gradients": integrated_gradients_ways,
    "occlusion": occlusion_ways,
    "grad_cam": grad_cam_ways,
}


def measure(comparison: Comparison, rounds: int, clock: Callable[[], float]) -> None:
    """Print the seconds of every way, how many times faster ours are, and what their maps are worth."""
    with keeping_copies(comparison.model):
        maps = {name: way() for name, way in comparison.ways.items()}  # and everything is warm
        took: dict[str, list[float]] = {name: [] for name in comparison.ways}
        for _ in range(rounds * comparison.rounds):
            for name, way in comparison.ways.items():
                start = clock()
                way()
                took[name].append(clock() - start)
        right = comparison.reference() if comparison.reference is not None else next(iter(maps.values()))
    peers = [name for name in took if not name.startswith("ours")]
    print(f"\n{comparison.title}; {rounds * comparison.rounds} rounds")
    for name, made in maps.items():
        gap = f"  gap {comparison.gaps(made):.3f}" if comparison.gaps is not None else ""
        print(f"  {name:<52}{statistics.median(took[name]):>8.3f} s  cosine {cosine(made, right):.3f}{gap}")
        if name not in peers:
            for peer in peers:
                ratios = sorted(theirs / own for theirs, own in zip(took[peer], took[name], strict=True))
                print(f"      {statistics.median(ratios):>6.1f}x ({ratios[0]:.1f} to {ratios[-1]:.1f})  {peer}")


def peak_memory(name: str, way: str) -> str:
    """Return by how much the largest resident size of a process grows with one call."""
    code = [sys.executable, __file__, *sys.argv[1:], "--only", name, "--way", way]
    told = subprocess.run([word for word in code if word != "--memory"], check=True, capture_output=True, text=True)
    return told.stdout.splitlines()[-1]


def one_way(comparison: Comparison, way: str) -> None:
    """Print by how much the process grows with one call (Linux): the largest since the call began, not since birth."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _largest_mib()
    comparison.ways[way]()
    print(f"{_largest_mib() - before:.0f} MiB")


def _largest_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a trained model's folder; needs --manifest")
    parser.add_argument("--manifest", type=Path, help="whose test exams are explained, prepared beside it")
    parser.add_argument("--skip", type=int, default=0, help="exams of the manifest to leave out first")
    parser.add_argument("--exams", type=int, default=2, help="for Grad-CAM four times as many, for occlusion one")
    parser.add_argument("--eyes", choices=["both", "one"], default="both", help="whose answers are explained")
    parser.add_argument(
        "--points", type=int, default=512, help="of the map that integrated gradients are compared with"
    )
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--processor-time", action="store_true", help="of one thread, where the machine has other work to do"
    )
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--peers", type=Path, help="a folder that holds pytorch-grad-cam")
    parser.add_argument("--only", nargs="+", choices=list(COMPARISONS), default=list(COMPARISONS))
    parser.add_argument("--memory", action="store_true", help="instead: what each way holds, a process each")
    parser.add_argument("--way", help="one way, once; print what it held")
    options = parser.parse_args()
    torch.set_num_threads(1 if options.processor_time else options.threads)
    clock = time.process_time if options.processor_time else time.perf_counter
    if not options.way:
        bf16 = "available" if has_bf16(torch.device("cpu")) else "not on this processor"
        print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, bf16 {bf16}, {options.eyes} eye(s)")
    for name in options.only:
        for comparison in COMPARISONS[name](options):
            if options.way:
                one_way(comparison, options.way)
                break
            if not options.memory:
                measure(comparison, options.rounds, clock)
                continue
            print(f"\n{comparison.title}: peak memory of one call")
            for way in comparison.ways:
                print(f"  {way:<52}{peak_memory(name, way):>10}")
            break  # fusions hold alike


if __name__ == "__main__":
    main()
