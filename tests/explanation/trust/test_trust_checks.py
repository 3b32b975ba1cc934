"""The checks of maps on models whose right answer is known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workbench.explanation.targets import ReferableTarget
from workbench.explanation.trust.faithfulness import (
    LEAST_CHANGE,
    NEIGHBOURS,
    SHARES,
    emptied,
    faithfulness,
    linear_imputation,
    ranking,
    road_gain,
)
from workbench.explanation.trust.influence import exchanged, eye_only, mean_eye, with_fellow, without_fellow
from workbench.explanation.trust.likeness import (
    border_share,
    cell_means,
    inside_disc,
    outside_share,
    rank_correlation,
    structural_similarity,
)
from workbench.explanation.trust.manipulation import EPSILON, move_map, moved_share
from workbench.explanation.trust.randomisation import layer_groups, randomised, sanity_check
from workbench.explanation.trust.steadiness import infidelity, jittered, relative_change

SIDE = 64
SEEDS = (5, 6)
BOTH = torch.ones(2, 2, dtype=torch.bool)


@pytest.fixture
def exams() -> Tensor:
    """Two exams: a textured disc on black."""
    coarse = torch.rand((2, 6, 16, 16), generator=torch.Generator().manual_seed(3)) * 0.6 + 0.2
    return nn.functional.interpolate(coarse, (SIDE, SIDE), mode="nearest") * inside_disc(SIDE, SIDE)


def noise_map(seed: int = 1) -> Tensor:
    return torch.rand((2, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))


class Spot(nn.Module):
    """P(referable) of an eye is read from one square of OD alone, whatever the eye asked for."""

    def __init__(self, slope: float = 6.0, rows: slice = slice(20, 28), columns: slice = slice(30, 38)) -> None:
        super().__init__()
        self.slope, self.rows, self.columns = nn.Parameter(torch.tensor(slope)), rows, columns

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        seen = x[:, 0, self.rows, self.columns].mean(dim=(1, 2)) * present[:, 0]
        logits = torch.zeros(len(x), 2, 5, dtype=x.dtype)
        logits[..., 2] = (self.slope * (seen - 0.75))[:, None] * 4
        logits[..., 3:] = -30.0
        logits[..., 1] = -30.0
        return logits


def answer_of(model: nn.Module, eye: int = 0) -> Callable[[Tensor], Tensor]:
    target = ReferableTarget(eye)  # type: ignore[arg-type]
    return lambda x: target(model(x, BOTH[: len(x)])).detach()


def test_a_map_is_like_itself_and_an_empty_one_like_nothing() -> None:
    heat = noise_map()
    for likeness in (rank_correlation, structural_similarity):
        assert torch.allclose(likeness(heat, heat), torch.ones(2), atol=1e-5)
        assert torch.allclose(likeness(heat, 3 * heat), torch.ones(2), atol=1e-5)
        assert torch.allclose(likeness(heat, -heat), torch.ones(2), atol=1e-5), "it is the strength that is compared"
    assert torch.equal(rank_correlation(heat, torch.zeros_like(heat)), torch.zeros(2))
    assert rank_correlation(heat, noise_map(2)).abs().max() < 0.15


def test_likeness_is_the_formula_written_slowly() -> None:
    from scipy.stats import spearmanr

    one, other = noise_map(1), noise_map(1) * 0.4 + noise_map(2)
    inside = (cell_means(inside_disc(SIDE, SIDE)[None].float())[0] > 0.5).numpy()
    slow = [spearmanr(cell_means(one)[k].numpy()[inside], cell_means(other)[k].numpy()[inside])[0] for k in range(2)]
    assert rank_correlation(one, other).numpy() == pytest.approx(slow, abs=1e-5)
    first, second = (heat / heat.flatten(1).amax(1)[:, None, None] for heat in (one, other))
    tap = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    window = torch.tensor(np.outer(tap, tap) / tap.sum() ** 2, dtype=torch.float32)
    values = []
    for row in range(SIDE - 10):
        for column in range(SIDE - 10):
            a, b = (heat[:, row : row + 11, column : column + 11] for heat in (first, second))
            m, n = (a * window).sum((1, 2)), (b * window).sum((1, 2))
            va, vb = (a**2 * window).sum((1, 2)) - m**2, (b**2 * window).sum((1, 2)) - n**2
            cov = (a * b * window).sum((1, 2)) - m * n
            values.append((2 * m * n + 1e-4) * (2 * cov + 9e-4) / ((m**2 + n**2 + 1e-4) * (va + vb + 9e-4)))
    assert torch.allclose(structural_similarity(one, other), torch.stack(values).mean(dim=0), atol=1e-4)


def test_where_a_map_lies() -> None:
    corner, centre = torch.zeros(1, SIDE, SIDE), torch.zeros(1, SIDE, SIDE)
    corner[0, :4, :4], centre[0, 30:34, 30:34] = -1.0, 1.0
    rim = torch.zeros(1, SIDE, SIDE)
    rim[0, 32, 1] = 1.0
    assert [float(outside_share(heat)) for heat in (corner, centre, rim)] == [1.0, 0.0, 0.0]
    assert [float(border_share(heat)) for heat in (corner, centre, rim)] == [0.0, 0.0, 1.0]
    assert float(outside_share(torch.zeros_like(corner))) == 0.0
    assert float(outside_share(corner + centre)) == 0.5


def test_the_right_map_wins_and_the_wrong_one_loses(exams: Tensor) -> None:
    """A model that reads one square: the map of that square deletes all, its opposite nothing before the last share."""
    exams[:, 0, 20:28, 30:38] = 0.9
    answer = answer_of(Spot())
    right = torch.zeros(2, SIDE, SIDE)
    right[:, 20:28, 30:38] = 1.0
    good = faithfulness(answer, exams, BOTH, right, 0, SEEDS)
    bad = faithfulness(answer, exams, BOTH, -right, 0, SEEDS)
    assert good.change.min() > LEAST_CHANGE
    assert good.deletion_gain.min() > 0.5
    assert good.insertion_gain.min() > 0.5
    assert bad.deletion_gain.max() < 0
    assert road_gain(answer, exams, BOTH, right, 0, SEEDS).min() > 0.3
    with torch.no_grad():
        assert torch.allclose(good.change, answer(exams) - answer(emptied(exams, BOTH, 0)))


def test_a_gain_is_the_formula_written_slowly(exams: Tensor) -> None:
    answer, heat = answer_of(Spot()), noise_map()
    exams[:, 0, 20:28, 30:38] = 0.9
    found = faithfulness(answer, exams, BOTH, heat, 0, SEEDS, randoms=1)
    empty = emptied(exams, BOTH, 0)
    for exam, seed in enumerate(SEEDS):
        change = (answer(exams) - answer(empty))[exam]
        cells = cell_means(heat)[exam].flatten()
        by_chance = torch.rand((32, 32), generator=torch.Generator().manual_seed(seed)).flatten()
        means = []
        for values in (cells, by_chance):
            answers = []
            for share in SHARES:
                first = values.argsort(descending=True)[: int(np.ceil(share * 1024 - 1e-6))]
                mask = torch.zeros(1024, dtype=torch.bool)
                mask[first] = True
                pixels = mask.reshape(32, 32).repeat_interleave(2, 0).repeat_interleave(2, 1)
                x = exams.clone()
                x[exam, :3, pixels] = empty[exam, :3, pixels]
                answers.append(answer(x)[exam])
            means.append(torch.stack(answers).mean())
        assert float(found.deletion_gain[exam]) == pytest.approx(float((means[1] - means[0]) / change), abs=1e-5)


def test_nothing_to_explain_is_not_a_number(exams: Tensor) -> None:
    found = faithfulness(lambda x: x.new_full((len(x),), 0.3), exams, BOTH, noise_map(), 0, SEEDS)
    assert found.deletion_gain.isnan().all()
    assert found.insertion_gain.isnan().all()
    assert road_gain(lambda x: x.new_full((len(x),), 0.3), exams, BOTH, noise_map(), 0, SEEDS).isnan().all()


def test_where_the_eye_lowers_the_answer_the_evidence_against_goes_first() -> None:
    heat = torch.zeros(2, SIDE, SIDE)
    heat[:, :2, :2], heat[:, 2:4, 2:4] = 1.0, -1.0
    order = ranking(heat, torch.tensor([0.5, -0.5]))
    assert order[0, 0, 0] == 0
    assert order[1, 1, 1] == 0
    assert order[1, 0, 0] == order[1].max()


def test_linear_imputation_solves_its_own_equation() -> None:
    generator = np.random.default_rng(0)
    image, taken = generator.random((3, 12, 14)), generator.random((12, 14)) < 0.4
    filled = linear_imputation(image, taken)
    assert np.array_equal(filled[:, ~taken], image[:, ~taken])
    for row, column in zip(*np.nonzero(taken), strict=True):
        around = [
            (weight, filled[:, row + down, column + right])
            for (down, right), weight in NEIGHBOURS
            if 0 <= row + down < 12 and 0 <= column + right < 14
        ]
        mean = sum(weight * value for weight, value in around) / sum(weight for weight, _ in around)
        assert np.allclose(filled[:, row, column], mean)
    flat = np.full((3, 12, 14), 0.5)
    assert np.allclose(linear_imputation(flat, taken), flat)


def test_infidelity_is_zero_for_the_gradient_of_a_linear_answer(exams: Tensor) -> None:
    weight = torch.randn(exams.shape[1:], generator=torch.Generator().manual_seed(9))

    def linear(x: Tensor) -> Tensor:
        return (x * weight).flatten(1).sum(dim=1)

    right = weight.expand_as(exams)
    assert infidelity(linear, exams, right, SEEDS).max() < 1e-6
    assert infidelity(linear, exams, 7 * right, SEEDS).max() < 1e-6, "the scale of a map does not count"
    wrong = torch.randn(exams.shape, generator=torch.Generator().manual_seed(10))
    assert infidelity(linear, exams, wrong, SEEDS, moves=64).min() > 0.8
    assert infidelity(lambda x: x.new_zeros(len(x)), exams, right, SEEDS).isnan().all()


def test_noise_is_small_and_each_exams_own(exams: Tensor) -> None:
    moved = jittered(exams, SEEDS)
    assert (moved - exams).abs().max() <= 2 / 255 + 1e-6
    assert torch.equal(jittered(exams[1:], SEEDS[1:]), moved[1:])
    assert torch.equal(relative_change(exams, exams), torch.zeros(2))
    assert torch.allclose(relative_change(exams, 2 * exams), torch.ones(2))


class Tiny(nn.Module):
    """Four layers, the last one a head per eye."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.one, self.two = nn.Conv2d(6, 6, 5, padding=2), nn.Conv2d(6, 8, 3, padding=1)
            self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, 10)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        pooled = self.relu(self.norm(self.two(self.relu(self.one(x))))).mean(dim=(2, 3))
        return self.head(pooled).reshape(-1, 2, 5)


def gradient_map(model: nn.Module, x: Tensor) -> Tensor:
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ReferableTarget(0)(model.eval()(point, BOTH)).sum(), point)
    return (gradient * x)[:, :3].sum(dim=1)


def test_the_sanity_check_tells_a_map_of_the_weights_from_a_map_of_the_picture(exams: Tensor) -> None:
    model = Tiny().eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    of_the_picture = sanity_check(model, lambda _: exams[:, 0].clone(), seed=4)
    assert of_the_picture.cascading.min() > 0.999
    assert of_the_picture.structural.min() > 0.999
    of_the_weights = sanity_check(
        model, lambda net: net.one.weight.flatten()[:900].reshape(1, 30, 30).expand(2, -1, -1), seed=4
    )
    assert of_the_weights.stages == ("head", "norm", "two", "one")
    assert of_the_weights.cascading[:3].min() > 0.999, "the first layer is still its own"
    assert of_the_weights.cascading[3].abs().max() < 0.2
    assert of_the_weights.independent[3].abs().max() < 0.2
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_the_last_step_alone_is_that_of_the_whole_cascade(exams: Tensor) -> None:
    torch.manual_seed(3)
    model, made = Tiny().eval(), []

    def explained(net: nn.Module) -> Tensor:
        made.append(net)
        return gradient_map(net, exams)

    whole = sanity_check(model, explained, seed=4)
    maps_of_all = len(made)
    last = sanity_check(model, explained, seed=4, every_step=False)
    assert len(made) - maps_of_all == maps_of_all - 2, "two steps of four are left out"
    torch.testing.assert_close(last.cascading, whole.cascading[-1:], rtol=0, atol=0)
    torch.testing.assert_close(last.independent, whole.independent, rtol=0, atol=0)
    torch.testing.assert_close(last.structural, whole.structural, rtol=0, atol=0)


def test_an_empty_map_of_random_weights_is_no_unlikeness(exams: Tensor) -> None:
    """Its rank correlation would be 0, as of a map that depends on what was learned."""
    model, picture = Tiny().eval(), exams[:, 0].clone()
    never = sanity_check(model, lambda net: picture * float(net is model), seed=4)
    for likeness in (never.cascading, never.independent, never.structural):
        assert likeness.isnan().all()
    seen: list[float] = []

    def rectified(net: nn.Module) -> Tensor:
        """Return the picture, of the second exam only where a weight of the head is positive."""
        seen.append(net.head.weight.flatten()[0].item())
        return picture * torch.tensor([1.0, float(seen[-1] > 0 or net is model)])[:, None, None]

    def weight(seed: int) -> float:
        return randomised(model, ["head"], seed).head.weight.flatten()[0].item()

    unlucky = next(seed for seed in range(40) if weight(seed) < 0 < weight(seed + 1))
    found = sanity_check(model, rectified, seed=unlucky)
    assert len(seen) > 2 * len(found.stages), "another seed was tried"
    assert not found.cascading[:, 0].isnan().any(), "the first exam has its map under the first seed"
    assert found.cascading[0, 1] > 0.999


def test_random_weights_keep_their_size_and_follow_their_seed() -> None:
    model = Tiny()
    names = [name for group in layer_groups(model) for name in group]
    assert sorted(names) == ["head", "norm", "one", "two"]
    random, again, other = (randomised(model, names, seed) for seed in (1, 1, 2))
    assert torch.equal(random.two.weight, again.two.weight)
    assert not torch.equal(random.two.weight, other.two.weight)
    assert random.two.weight.std().item() == pytest.approx(model.two.weight.std().item(), rel=0.15)
    only = randomised(model, ["head"], 1)
    assert torch.equal(only.two.weight, model.two.weight)
    assert not torch.equal(only.head.weight, model.head.weight)


def test_an_attack_on_the_map_stays_within_its_budget_and_keeps_the_answer(exams: Tensor) -> None:
    model, target = Tiny().eval(), ReferableTarget(0)
    found = move_map(model, target, lambda x, _: gradient_map(model, x), exams, BOTH, 0, SEEDS, steps=6)
    assert (found.x - exams).abs().max() <= EPSILON + 1e-6
    assert torch.equal(found.x[:, 3:], exams[:, 3:]), "the other eye is not touched"
    assert found.kept.all()
    assert (found.likeness < 0.9999).all(), "something was found"
    with torch.no_grad():
        moved = target(model(found.x, BOTH)) - target(model(exams, BOTH))
    assert moved.abs().max() <= 0.02
    again = rank_correlation(gradient_map(model, exams), gradient_map(model, found.x))
    assert torch.allclose(again, found.likeness, atol=1e-5)


def test_a_map_that_does_not_look_cannot_be_moved(exams: Tensor) -> None:
    heat = noise_map()[:1].expand(2, -1, -1)
    found = move_map(Tiny().eval(), ReferableTarget(0), lambda x, _: heat[: len(x)], exams, BOTH, 0, SEEDS, steps=2)
    assert torch.equal(found.x, exams)
    assert torch.equal(found.likeness, torch.ones(2))
    assert not found.moved.any()
    assert torch.equal(moved_share(heat, heat), torch.zeros(2))
    assert moved_share(heat, -heat.max() + heat).min() > 0.9


def test_no_map_is_made_of_an_exam_whose_answer_moved(exams: Tensor) -> None:
    """The first exam's answer is a hair trigger, the second's stays: alone it is attacked to the same end."""
    clean, model = exams[:1].clone(), Tiny().eval()

    class Trigger(nn.Module):
        def forward(self, x: Tensor, present: Tensor) -> Tensor:
            touched = (x - clean).abs().flatten(1).amax(dim=1) < 0.05
            moved = touched & ((x - clean).abs().flatten(1).amax(dim=1) > 1e-6)
            return model(x, present) + 9.0 * moved[:, None, None] * torch.tensor([1.0, 0, 0, 0, 0])

    asked: list[int] = []

    def explained(x: Tensor, _: Tensor) -> Tensor:
        asked.append(len(x))
        return gradient_map(model, x)

    found = move_map(Trigger(), ReferableTarget(0), explained, exams, BOTH, 0, SEEDS, steps=4)
    assert asked == [2, 1, 1, 1, 1]
    assert torch.equal(found.x[:1], clean)
    assert (float(found.likeness[0]), float(found.moved[0])) == (1.0, 0.0)
    alone = move_map(Trigger(), ReferableTarget(0), explained, exams[1:], BOTH[1:], 0, SEEDS[1:], steps=4)
    torch.testing.assert_close(found.likeness[1:], alone.likeness, atol=1e-5, rtol=0)
    assert float(alone.likeness) < 1


def test_a_fellow_is_replaced_and_nothing_else(exams: Tensor) -> None:
    fellow = torch.full((2, 3, SIDE, SIDE), 0.5)
    for eye in (0, 1):
        changed = with_fellow(exams, fellow, eye)  # type: ignore[arg-type]
        assert torch.equal(changed[:, 3 * eye : 3 * eye + 3], exams[:, 3 * eye : 3 * eye + 3])
        assert torch.equal(changed[:, 3 - 3 * eye : 6 - 3 * eye], fellow)
        assert without_fellow(BOTH, eye).tolist() == [[eye == 0, eye == 1]] * 2  # type: ignore[arg-type]
    back, present = exchanged(*exchanged(exams, BOTH, mirrored=True), mirrored=True)
    assert torch.equal(back, exams)
    assert torch.equal(present, BOTH)
    assert torch.equal(exchanged(exams, BOTH, mirrored=False)[0][:, :3], exams[:, 3:])
    assert torch.equal(eye_only(exams), exams)
    marked = exams.clone()
    marked[:, :, :6, :6] = 1.0
    assert torch.equal(eye_only(marked), exams)
    grey = torch.where(inside_disc(SIDE, SIDE), exams, torch.full_like(exams, 0.5))  # the local average subtracted
    assert torch.equal(eye_only(grey), grey)
    assert torch.allclose(mean_eye([exams[0, :3], exams[1, :3]]), exams[:, :3].mean(dim=0))
