"""Explanations against Captum's and pytorch-grad-cam's: time, likeness to the fp32 map, memory against steps.

Run: python tests/benchmarks/explanations.py [--exams 2] [--size 256] [--precision auto] [--only grad_cam ...]

The network is an untrained ResNet-18: a trained one costs the same, but its completeness gaps differ, and so does the
number of points that integrated gradients need. Ways take turns; the least of several times counts, in
seconds of the processor.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import util

import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion
from torch import Tensor, nn

from workbench.explanation.grad_cam import grad_cam
from workbench.explanation.integrated_gradients import LEAST_CHANGE, blurred_baseline, integrated_gradients
from workbench.explanation.occlusion import occlusion
from workbench.explanation.targets import ReferableTarget
from workbench.models.paired import PairedEyeNet
from workbench.models.precision import has_bf16
from workbench.schema.model_card import Architecture

TARGET = ReferableTarget(0)
LOG_ODDS = ReferableTarget(0, "log_odds")


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


def timed(ways: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, tuple[float, Tensor]]:
    """Return the least processor seconds and the map of each way; they take turns."""
    found: dict[str, tuple[float, Tensor]] = {}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.process_time()
            made = way()
            took = time.process_time() - start
            found[name] = (min(took, found[name][0]) if name in found else took, made.detach())
    return found


def cosine(one: Tensor, other: Tensor) -> float:
    """Return the least cosine over the exams."""
    return float(nn.functional.cosine_similarity(one.flatten(1), other.flatten(1), dim=1).min())


def table(
    title: str, found: dict[str, tuple[float, Tensor]], ours: str, reference: str, gap: Callable[..., str]
) -> None:
    print(f"\n{title}\n{'way':<44}{'cpu s':>8}{'ours is':>10}{'cosine':>9}  gap")
    for name, (took, made) in found.items():
        print(
            f"{name:<44}{took:>8.2f}{took / found[ours][0]:>9.1f}x"
            f"{cosine(made, found[reference][1]):>9.3f}  {gap(made)}"
        )


def measure_integrated_gradients(x: Tensor, present: Tensor, options: argparse.Namespace) -> None:
    # The log-odds: an untrained network's P(referable) hardly changes, and a gap of nothing proves nothing.
    model, baseline = network(), blurred_baseline(x, present)
    with torch.no_grad():
        change = LOG_ODDS(model(x, present)) - LOG_ODDS(model(baseline, present))

    def gap(maps: Tensor) -> str:
        missed = (maps.flatten(1).sum(1) - change).abs() / change.abs().clamp(min=LEAST_CHANGE)
        return f"{float(missed.max()):.3f} (largest)"

    def captums(batch: int | None) -> Tensor:
        return IntegratedGradients(lambda pixels, eyes: LOG_ODDS(model(pixels, eyes))).attribute(
            x.clone().requires_grad_(), baseline, additional_forward_args=(present,), internal_batch_size=batch
        )

    ways = {
        "Captum, 50 steps, default": lambda: captums(None),
        "Captum, 50 steps, internal_batch_size=4": lambda: captums(4),
        "Captum, 50 steps, internal_batch_size=8": lambda: captums(8),
        "ours, tolerance 0.01, fp32": lambda: integrated_gradients(model, x, present, LOG_ODDS, tolerance=0.01),
        "ours, as many points as needed, fp32": lambda: integrated_gradients(model, x, present, LOG_ODDS),
        f"ours, precision={options.precision}": lambda: integrated_gradients(
            model, x, present, LOG_ODDS, precision=options.precision
        ),
    }
    ours = f"ours, precision={options.precision}"
    found = timed(ways, options.repeats)
    table("Integrated gradients", found, ours, "Captum, 50 steps, default", gap)


def measure_occlusion(x: Tensor, present: Tensor, options: argparse.Namespace) -> None:
    one, eyes, baseline = x[:1], present[:1], blurred_baseline(x[:1], present[:1])
    for fusion in ("early", "late", "single"):
        model = network(fusion)

        def captums(batch: int, model: nn.Module = model) -> Tensor:
            with torch.no_grad():
                return Occlusion(lambda pixels, seen: LOG_ODDS(model(pixels, seen))).attribute(
                    one,
                    (3, 32, 32),
                    (3, 32, 32),
                    baseline,
                    additional_forward_args=(eyes,),
                    perturbations_per_eval=batch,
                )

        def ours(precision: str, model: nn.Module = model) -> Tensor:
            return occlusion(model, one, eyes, LOG_ODDS, window=32, stride=32, precision=precision)

        ways: dict[str, Callable[[], Tensor]] = {
            "Captum, one window at a time": lambda: captums(1),
            "Captum, 8 windows at a time": lambda: captums(8),
            "ours, fp32": lambda: ours("fp32"),
            f"ours, precision={options.precision}": lambda: ours(options.precision),
        }
        found = timed(ways, options.repeats)
        name = f"ours, precision={options.precision}"
        table(
            f"Occlusion, window and stride 32, one exam, {fusion}", found, name, "Captum, one window at a time", _no_gap
        )


def _no_gap(_: Tensor) -> str:
    return ""


def measure_grad_cam(x: Tensor, present: Tensor, options: argparse.Namespace) -> None:
    model = network()

    def captums() -> Tensor:
        layer = LayerGradCam(lambda pixels, eyes: LOG_ODDS(model(pixels, eyes)), model.trunk)
        coarse = layer.attribute(x.clone().requires_grad_(), additional_forward_args=(present,), relu_attributions=True)
        fine = LayerAttribution.interpolate(coarse, tuple(x.shape[-2:]), interpolate_mode="bilinear")
        return fine.expand(-1, 6, -1, -1) / 3

    ways = {
        "Captum": captums,
        "ours, fp32": lambda: grad_cam(model, x, present, TARGET),
        f"ours, precision={options.precision}": lambda: grad_cam(
            model, x, present, TARGET, precision=options.precision
        ),
    }
    if util.find_spec("pytorch_grad_cam") is not None:
        ways["pytorch-grad-cam"] = lambda: _theirs(model, x, present)
    else:
        print("\npytorch-grad-cam is not installed (it needs torchvision): not measured")
    found = timed(ways, 3 * options.repeats)
    table("Grad-CAM", found, f"ours, precision={options.precision}", "Captum", _no_gap)


def _theirs(model: nn.Module, x: Tensor, present: Tensor) -> Tensor:
    from pytorch_grad_cam import GradCAM

    class OneInput(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: Tensor) -> Tensor:
            return LOG_ODDS(self.model(pixels, present))[:, None]

    with GradCAM(OneInput(), [model.trunk]) as cam:
        made = torch.from_numpy(cam(x.clone(), targets=[lambda output: output[0]] * len(x)))
    return made[:, None].expand(-1, 6, -1, -1)


def peak_memory(size: int, steps: int) -> float:
    """Return the largest resident size of a process that makes one map with that many steps, MiB."""
    code = (
        "import resource, sys; sys.path.insert(0, 'tests/benchmarks'); import explanations as e; import torch; "
        f"torch.set_num_threads(1); x = e.photographs(2, {size}); p = torch.ones(2, 2, dtype=torch.bool); "
        f"e.integrated_gradients(e.network(), x, p, e.TARGET, steps={steps}); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def measure_memory(x: Tensor, present: Tensor, options: argparse.Namespace) -> None:
    print(f"\nPeak memory of a process, integrated gradients of 2 exams at {options.size} px")
    for steps in (3, 9, 27):
        print(f"{steps:>4} steps{peak_memory(options.size, steps):>9.0f} MiB")
    print(f"this process with Captum's maps: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


MEASURED = {
    "integrated_gradients": measure_integrated_gradients,
    "occlusion": measure_occlusion,
    "grad_cam": measure_grad_cam,
    "memory": measure_memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, default=2)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--only", nargs="+", choices=list(MEASURED), default=list(MEASURED))
    options = parser.parse_args()
    x = photographs(options.exams, options.size)
    present = torch.ones(options.exams, 2, dtype=torch.bool)
    print(
        f"ResNet-18 (MONAI), {options.exams} exams at {options.size} px, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}, bf16 {'available' if has_bf16(torch.device('cpu')) else 'not on this processor'}"
    )
    for name in options.only:
        MEASURED[name](x, present, options)


if __name__ == "__main__":
    main()
