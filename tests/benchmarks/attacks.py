"""Our attacks against the peers' on one model, one objective, the same exams and budget, side by side in one run.

    python tests/benchmarks/attacks.py --model runs/eyepacs256/model --data workspace/eyepacs256 --exams 16
    python tests/benchmarks/attacks.py --model runs/eyepacs256/model --data workspace/eyepacs256 --shares 1 0.5

Every attack is given the same two logits per exam (not referable, referable); what it returns is judged here, by the
model itself in fp32. Peers: foolbox, torchattacks, ART and AutoAttack (pyautoattack), those installed; a folder
of them, made by ``pip install --no-deps --target DIR``, may stand in PYTHONPATH. torchattacks' package imports
torchvision at its start: only the files of its attacks are loaded.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from workbench.data.exams import open_exams
from workbench.models.checkpoint import load_model
from workbench.models.modes import measuring
from workbench.models.referable import bind_present, referable_log_odds
from workbench.schema.manifest import read_manifest
from workbench.schema.threat import ThreatModel
from workbench.stress.auto_attack.descent import pgd
from workbench.stress.auto_attack.ensemble import auto_attack
from workbench.stress.target import aim_at

Attack = Callable[[nn.Module, Tensor, Tensor, float], Tensor]


class TwoLogits(nn.Module):
    """The exam's call as a two-class network, which is what the peers can attack; both eyes there."""

    def __init__(self, model: nn.Module, threshold: float) -> None:
        super().__init__()
        self.model = model
        self.boundary = float(torch.logit(torch.tensor(threshold)))

    def forward(self, x: Tensor) -> Tensor:
        """Return (0, log-odds past the boundary) of the worse eye, with the slope of the smooth maximum of both."""
        present = torch.ones(len(x), 2, dtype=torch.bool)
        past = referable_log_odds(bind_present(self.model, present)(x)) - self.boundary
        scale = past.detach().amax(dim=1, keepdim=True).abs().clamp(min=1.0)
        smooth = torch.logsumexp(past / scale, dim=1)
        # The value is the deployed call's, so that a peer that stops once the class turns does not stop too early.
        exact = (past / scale).amax(dim=1).detach() + smooth - smooth.detach()
        return torch.stack([torch.zeros_like(exact), exact], dim=1)


def ours_pgd(steps: int, *, fast: bool) -> Attack:
    def run(net: nn.Module, x: Tensor, label: Tensor, epsilon: float) -> Tensor:
        target, generators = _target(net, x, label, epsilon)
        return pgd(target, generators, steps=steps, stop=True, fast=fast)

    return run


def ours_ensemble(steps: int, tries: int) -> Attack:
    def run(net: nn.Module, x: Tensor, label: Tensor, epsilon: float) -> Tensor:
        target, generators = _target(net, x, label, epsilon)
        return auto_attack(target, generators, steps=steps, tries=tries)

    return run


def _target(net: nn.Module, x: Tensor, label: Tensor, epsilon: float) -> tuple[object, list[torch.Generator]]:
    present, grade = torch.ones(len(x), 2, dtype=torch.bool), (label * 3)[:, None].expand(-1, 2).contiguous()
    threshold = float(torch.sigmoid(torch.tensor(net.boundary)))
    target = aim_at(net.model, x, present, grade, ThreatModel(epsilon=epsilon), [0] * len(x), threshold=threshold)
    return target, [torch.Generator().manual_seed(seed) for seed in range(len(x))]


def foolbox_pgd(steps: int) -> Attack:
    foolbox = importlib.import_module("foolbox")

    def run(net: nn.Module, x: Tensor, label: Tensor, epsilon: float) -> Tensor:
        model = foolbox.PyTorchModel(net, bounds=(0, 1))
        attack = foolbox.attacks.LinfPGD(rel_stepsize=0.25, steps=steps, random_start=False)
        return attack(model, x, label, epsilons=epsilon / 255)[1].detach()

    return run


def torchattacks_pgd(steps: int) -> Attack:
    attack_of = _file_of_torchattacks("pgd").PGD

    def run(net: nn.Module, x: Tensor, label: Tensor, epsilon: float) -> Tensor:
        attack = attack_of(net, eps=epsilon / 255, alpha=epsilon / 255 * 0.25, steps=steps, random_start=False)
        return attack(x, label).detach()

    return run


def _file_of_torchattacks(name: str) -> types.ModuleType:
    """Load one attack's file, and what it is derived from, without the package's own start."""
    if f"torchattacks.attacks.{name}" in sys.modules:
        return sys.modules[f"torchattacks.attacks.{name}"]
    found = importlib.util.find_spec("torchattacks")
    if found is None or not found.submodule_search_locations:
        raise ImportError("torchattacks")
    folder = Path(next(iter(found.submodule_search_locations)))
    for package in ("torchattacks", "torchattacks.attacks"):
        if package not in sys.modules:
            sys.modules[package] = types.ModuleType(package)
            sys.modules[package].__path__ = [str(folder.joinpath(*package.split(".")[1:]))]
    return importlib.import_module(f"torchattacks.attacks.{name}")


def art_pgd(steps: int) -> Attack:
    classifier_of = importlib.import_module("art.estimators.classification").PyTorchClassifier
    pgd_of = importlib.import_module("art.attacks.evasion").ProjectedGradientDescentPyTorch

    def run(net: nn.Module, x: Tensor, label: Tensor, epsilon: float) -> Tensor:
        wrapped = classifier_of(
            net, nn.CrossEntropyLoss(), input_shape=tuple(x.shape[1:]), nb_classes=2, clip_values=(0.0, 1.0)
        )
        size = epsilon / 255
        attack = pgd_of(wrapped, eps=size, eps_step=size * 0.25, max_iter=steps, batch_size=len(x), verbose=False)
        return torch.from_numpy(attack.generate(x.numpy(), label.numpy()))

    return run


def autoattack_ensemble(steps: int, tries: int) -> Attack:
    auto = importlib.import_module("pyautoattack").AutoAttack

    def run(net: nn.Module, x: Tensor, label: Tensor, epsilon: float) -> Tensor:
        # Its DLR loss needs three classes and its targeted attacks four: with two, these are what is left.
        kinds = ["apgd-ce", "fab", "square"]
        attack = auto(net, norm="Linf", eps=epsilon / 255, version="custom", attacks=kinds, device="cpu", seed=0)
        attack.apgd.n_iter, attack.fab.n_iter, attack.square.n_queries = steps, steps, tries
        attack.apgd.n_restarts = attack.fab.n_restarts = 1
        return attack.run_standard_evaluation(x, label, batch_size=len(x))[0].detach()

    return run


FAMILIES: dict[str, dict[str, Callable[[], Attack]]] = {
    "PGD": {
        "workbench": lambda: ours_pgd(STEPS, fast=True),
        "workbench fp32": lambda: ours_pgd(STEPS, fast=False),
        "foolbox": lambda: foolbox_pgd(STEPS),
        "torchattacks": lambda: torchattacks_pgd(STEPS),
        "ART": lambda: art_pgd(STEPS),
    },
    "ensemble": {
        "workbench": lambda: ours_ensemble(ENSEMBLE_STEPS, ENSEMBLE_TRIES),
        "AutoAttack": lambda: autoattack_ensemble(ENSEMBLE_STEPS, ENSEMBLE_TRIES),
    },
}
STEPS, ENSEMBLE_STEPS, ENSEMBLE_TRIES = 40, 20, 100


def called(net: nn.Module, x: Tensor) -> Tensor:
    """Return the exams' call, by the deployed rule: the worse eye's P(referable) against the threshold."""
    present = torch.ones(len(x), 2, dtype=torch.bool)
    with torch.no_grad():
        return (referable_log_odds(bind_present(net.model, present)(x)).amax(dim=1) >= net.boundary).long()


def compare(net: nn.Module, x: Tensor, label: Tensor, family: str, epsilon: float, repeats: int) -> None:
    """Print robust accuracy and time of each attack of a family; the runs are taken in turn."""
    seconds: dict[str, list[float]] = {}
    robust: dict[str, float] = {}
    attacks: dict[str, Attack] = {}
    for name, make in FAMILIES[family].items():
        try:
            attacks[name] = make()
        except ImportError as missing:
            print(f"  {name}: not installed ({missing})")
    for _ in range(repeats):
        for name, attack in attacks.items():
            begun = time.perf_counter()
            adversarial = attack(net, x.clone(), label, epsilon)
            seconds.setdefault(name, []).append(time.perf_counter() - begun)
            inside = torch.minimum(torch.maximum(adversarial, x - epsilon / 255), x + epsilon / 255).clamp(0, 1)
            robust[name] = float((called(net, inside) == label).float().mean())
    print(f"{family}, ε = {epsilon:g}/255, {len(x)} exams of {x.shape[2]} px, all called rightly when clean")
    times = {name: statistics.median(values) for name, values in seconds.items()}
    peers = [name for name in times if not name.startswith("workbench")]
    for name in times:
        print(f"  {name:16} robust accuracy {robust[name]:6.1%}   {times[name]:7.2f} s")
    if peers:
        fastest = min(peers, key=times.__getitem__)
        strongest = min(robust[name] for name in peers)
        points = 100 * (robust["workbench"] - strongest)
        print(f"  {times[fastest] / times['workbench']:.2f}x the speed of the fastest peer ({fastest});", end=" ")
        print(f"robust accuracy minus the strongest peer's: {points:+.1f} points")


def epsilon_that_breaks(share: float, net: nn.Module, x: Tensor, label: Tensor) -> float:
    """Return an ε (1/255) at which our PGD breaks about that share of the exams; of all, four times that ε."""
    low, high = 1e-3, 8.0
    for _ in range(10):
        middle = (low * high) ** 0.5
        broken = float((called(net, ours_pgd(STEPS, fast=True)(net, x.clone(), label, middle)) != label).float().mean())
        low, high = (low, middle) if broken >= share else (middle, high)
    return float(f"{4 * high if share >= 1 else (low * high) ** 0.5:.3g}")


def exams_of(arguments: argparse.Namespace) -> tuple[nn.Module, Tensor, Tensor]:
    """Return the network and exams of both eyes that it calls rightly."""
    model, card = load_model(arguments.model)
    exams = open_exams(
        read_manifest(arguments.data),
        card.preprocess,
        cache=arguments.data / "cache",
        split="test",
        limit=8 * arguments.exams,
    )
    batch = exams.batch(range(len(exams)))
    whole = batch.present.all(dim=1) & (batch.grade >= 0).all(dim=1)
    net = TwoLogits(model.eval().requires_grad_(False), card.referable_threshold)
    x, label = batch.x[whole], (batch.grade[whole] >= 2).any(dim=1).long()
    right = torch.cat([called(net, part) for part in x.split(16)]) == label
    return net, x[right][: arguments.exams].clone(), label[right][: arguments.exams]


def main() -> None:
    """Compare at every ε that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--exams", type=int, default=16)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[2.0, 0.25])
    parser.add_argument("--shares", type=float, nargs="*", default=[], help="ε that break these shares, instead")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.model is None or arguments.data is None:
        print("attacks: name --model and --data; nothing was measured")
        return
    torch.set_num_threads(arguments.threads)
    net, x, label = exams_of(arguments)
    with measuring(net):
        epsilons = [epsilon_that_breaks(share, net, x, label) for share in arguments.shares] or arguments.epsilons
        for family in arguments.families:
            for epsilon in epsilons:
                compare(net, x, label, family, epsilon, arguments.repeats)


if __name__ == "__main__":
    main()
