"""What changes when part of an eye loses its detail: occlusion (Zeiler, Fergus 2014), RISE (Petsiuk et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from workbench.explanation.integrated_gradients import blurred_baseline
from workbench.explanation.slopes import IMAGES_AT_ONCE, Targets, on_present_eyes
from workbench.models.fast import fast_copy, keeping_copies
from workbench.models.modes import measuring
from workbench.models.paired import PairedEyeNet
from workbench.models.precision import Precision
from workbench.schema.errors import WorkbenchError

COMPARED: Final = 8
"""Windows of each eye, or masks of an exam, on which bf16 is compared with fp32."""

ROUNDED: Final = 0.02
"""Most of the falls' mean square that may be bf16's rounding: so much leaves a cosine of 0.99."""

CLEARLY: Final = 1.5
"""By how much more than that share a few windows must be rounded, for the others not to be asked."""

Area = tuple[slice, slice]


def occlusion(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],
    *,
    window: int | None = None,
    stride: int | None = None,
    images_at_once: int = IMAGES_AT_ONCE,
    precision: Precision = "fp32",
) -> Float[Tensor, "exam 6 height width"]:
    """Return by how much the target falls when a window loses its detail, averaged over the windows on a pixel.

    A window shows `blurred_baseline`, which keeps colour and light; what lies outside the disc is not tried, since
    nothing changes there. A network that sees each eye by itself is run on the changed eye alone.

    Args:
        model: ``(x, present) -> logits``; held still meanwhile.
        x: in [0, 1].
        present: an absent eye gets zero.
        target: ``logits -> one value per exam``.
        window: side of the square, pixels; None: an eighth of the height.
        stride: between windows; None: half a window.
        images_at_once: exams in one pass.
        precision: see `fast_copy`; of each eye `COMPARED` windows are tried in fp32, too, and all are where bf16 blurs
            their falls: some are near its rounding of an answer.

    Raises:
        WorkbenchError: a window or a stride that does not fit.
    """
    return occlusions(
        model,
        x,
        present,
        (target,),
        window=window,
        stride=stride,
        images_at_once=images_at_once,
        precision=precision,
    )[0]


def occlusions(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    targets: Targets,
    *,
    window: int | None = None,
    stride: int | None = None,
    images_at_once: int = IMAGES_AT_ONCE,
    precision: Precision = "fp32",
) -> Float[Tensor, "target exam 6 height width"]:
    """Return `occlusion` of several targets, e.g. both eyes', for the price of one; Args and Raises as there."""
    window = window or max(1, x.shape[-2] // 8)
    stride = stride or max(1, window // 2)
    if not 1 <= stride <= window <= min(x.shape[-2:]):
        raise WorkbenchError(
            f"occlusion: window {window}, stride {stride}, images of {x.shape[-2]} × {x.shape[-1]} pixels",
            "a window must fit in the image, and a stride in the window",
        )
    down, across = (_spans(side, window, stride) for side in x.shape[-2:])
    areas = [(rows, columns) for rows in down for columns in across]
    with measuring(model), keeping_copies(model), torch.no_grad():
        clean, seen = x.detach().clone(), present.clone()
        maps, covered = clean.new_zeros((len(targets), *clean.shape)), clean.new_zeros(x.shape[-2:])
        blurred = blurred_baseline(clean, seen)
        nets = _copies(model, clean, precision)
        for area in areas:
            covered[area] += 1
        for exam in range(len(x)):
            it = slice(exam, exam + 1)
            fast, *exact = (_OneExam(net, clean[it], blurred[it], seen[it], targets, images_at_once) for net in nets)
            for eye in fast.eyes:
                tried = fast.changed(areas, eye)
                falls = _judged_falls(fast, exact[0], tried, eye) if exact else fast.falls(tried, eye)
                for area, fall in zip(tried, falls, strict=True):
                    maps[:, exam, 3 * eye : 3 * eye + 3, *area] += fall[:, None, None, None] / 3
        return torch.stack([on_present_eyes(of_one / covered, seen) for of_one in maps])


def rise(
    model: nn.Module,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    target: Callable[[Tensor], Tensor],
    *,
    masks: int = 200,
    grid: int = 8,
    keep: float = 0.5,
    seed: int = 0,
    images_at_once: int = IMAGES_AT_ONCE,
    precision: Precision = "fp32",
) -> Float[Tensor, "exam 6 height width"]:
    """Return by how much the target rises with a pixel's neighbourhood shown, from random masks.

    What is hidden shows `blurred_baseline`. The paper's mean of masks, weighted by the answers, is not zero for a model
    that answers always the same; here it is the slope of the answer by the pixel's mask: their covariance divided by
    the mask's variance. Each eye is masked by itself; the masks are the same for every exam.

    Args:
        model: ``(x, present) -> logits``; held still meanwhile.
        x: in [0, 1].
        present: an absent eye gets zero.
        target: ``logits -> one value per exam``.
        masks: how many.
        grid: cells per side of a mask.
        keep: share of cells that are shown.
        seed: of the masks.
        images_at_once: exams in one pass.
        precision: see `fast_copy`; the first masks are tried in fp32, too, and all are where bf16 blurs their answers.

    Raises:
        WorkbenchError: fewer than two masks, or a share outside (0, 1).
    """
    if masks < 2 or not 0 < keep < 1:
        raise WorkbenchError(f"rise: {masks} masks, keep {keep}", "give 2 masks or more and a share between 0 and 1")
    with measuring(model), keeping_copies(model), torch.no_grad():
        clean, seen = x.detach().clone(), present.clone()
        blurred = blurred_baseline(clean, seen)
        nets = _copies(model, clean, precision)
        slopes = []
        for exam in range(len(x)):
            it = slice(exam, exam + 1)
            fast, *exact = (_masked(net, clean[it], blurred[it], seen[it], target, images_at_once) for net in nets)
            few = torch.stack([*islice(_masks(masks, grid, keep, seed, clean), COMPARED)])
            given = _centred(fast(few))
            one = next((other for other in exact if not _true(given, given - _centred(other(few)))), fast)
            slopes.append(_slope(one, _masks(masks, grid, keep, seed, clean), images_at_once))
        return on_present_eyes(torch.stack(slopes).repeat_interleave(3, dim=1) / 3, seen)


def _spans(side: int, window: int, stride: int) -> list[slice]:
    """Return where windows lie along a side; the last one ends at the border."""
    starts = sorted({*range(0, side - window + 1, stride), side - window})
    return [slice(start, start + window) for start in starts]


def some_of(count: int) -> list[int]:
    """Return which windows are compared, by lot: every eighth of a grid of eight columns would be one column."""
    return sorted(torch.randperm(count, generator=torch.Generator().manual_seed(0))[:COMPARED].tolist())


def _copies(model: nn.Module, x: Tensor, precision: Precision) -> list[nn.Module]:
    """Return the copy to be used, and after it, if that is in bf16, the one in fp32."""
    return [*dict.fromkeys((fast_copy(model, x, precision, reading=None), fast_copy(model, x, "fp32")))]


def _judged_falls(fast: _OneExam, exact: _OneExam, areas: Sequence[Area], eye: int) -> Float[Tensor, "area target"]:
    """Return the falls in bf16, or in fp32 where a few windows show that they are too much of its rounding.

    What is far too much is seen on these windows alone, before the eye is run in bf16.
    """
    few = [areas[place] for place in some_of(len(areas))]
    sample = fast.falls(few, eye)
    wrong = sample - exact.falls(few, eye)
    if _true(sample, wrong, CLEARLY * ROUNDED):
        falls = fast.falls(areas, eye)
        if _true(falls, wrong):
            return falls
    return exact.falls(areas, eye)


def _true(values: Float[Tensor, "row ..."], wrong: Float[Tensor, "some ..."], share: float = ROUNDED) -> bool:
    """Return whether the values in bf16 are more than their rounding, for every target: it is alike in every row."""
    return bool((wrong.square().mean(dim=0) <= share * values.square().mean(dim=0)).all())


def _centred(values: Tensor) -> Tensor:
    return values - values.mean()


def _masked(
    net: nn.Module, x: Tensor, blurred: Tensor, present: Tensor, target: Callable[[Tensor], Tensor], at_once: int
) -> Callable[[Float[Tensor, "mask 2 height width"]], Float[Tensor, " mask"]]:
    """Return how the target of one exam answers when only what masks show has its detail."""

    def answers(shown: Tensor) -> Tensor:
        pieces = torch.split(shown.repeat_interleave(3, dim=1), at_once)
        given = (blurred + pixels * (x - blurred) for pixels in pieces)
        return torch.cat([target(net(few, present.expand(len(few), 2))).to(x.dtype) for few in given])

    return answers


def _slope(
    answers: Callable[[Tensor], Tensor], masks: Iterator[Tensor], at_once: int
) -> Float[Tensor, "2 height width"]:
    """Return the covariance of the answer with each pixel's mask by the mask's variance; no mask is kept."""
    sums: list[Any] = [0, 0, 0, 0, 0]
    while few := [*islice(masks, at_once)]:
        shown = torch.stack(few)
        value = answers(shown)
        made = (len(few), value.sum(), torch.einsum("m,mehw->ehw", value, shown), shown.sum(0), shown.square().sum(0))
        sums = [total + part for total, part in zip(sums, made, strict=True)]
    _, answered, product, first, second = (total / sums[0] for total in sums)
    variance: Tensor = second - first.square()
    slope: Tensor = (product - answered * first) / variance.clamp(min=1e-6)
    return slope


def _masks(masks: int, grid: int, keep: float, seed: int, x: Tensor) -> Iterator[Float[Tensor, "2 height width"]]:
    """Yield one smooth mask per eye, its cells shifted at random by less than a cell."""
    generator = torch.Generator().manual_seed(seed)
    cells = [-(-side // grid) for side in x.shape[-2:]]
    for _ in range(masks):
        coarse = (torch.rand((2, 1, grid + 1, grid + 1), generator=generator) < keep).to(x)
        size = tuple((grid + 1) * cell for cell in cells)
        fine = functional.interpolate(coarse, size, mode="bilinear")[:, 0]
        down, across = (int(torch.randint(cell, (), generator=generator)) for cell in cells)
        yield fine[:, down : down + x.shape[-2], across : across + x.shape[-1]]


class _OneExam:
    """Answers to one exam of which one eye is changed; what the change cannot reach is computed once.

    Attributes:
        own: the targets of the exam as it is.
        eyes: those that are there and on which a target can depend.
    """

    def __init__(
        self, net: nn.Module, x: Tensor, blurred: Tensor, present: Tensor, targets: Targets, images_at_once: int
    ) -> None:
        self.net, self.x, self.blurred, self.present, self.targets = net, x, blurred, present, targets
        self.images_at_once = images_at_once
        self.prepared = self._eyes(net.prepare(x, present)) if isinstance(net, PairedEyeNet) else None
        apart = isinstance(net, PairedEyeNet) and not net.sees_both_eyes
        self.features = self._pooled(self._mirrored(self.prepared)[0]) if apart and self.prepared is not None else None
        self.own = self._asked(net(x, present))[:, 0]
        alone = isinstance(net, PairedEyeNet) and net.architecture.fusion == "single"
        about = {_eye_of(target) for target in targets} if alone else {None}
        self.eyes = [eye for eye in range(2) if present[0, eye] and about & {eye, None}]

    def changed(self, areas: Sequence[Area], eye: int) -> list[Area]:
        """Return the areas in which the eye has detail to lose."""
        differs = (self.x != self.blurred)[0, 3 * eye : 3 * eye + 3]
        return [area for area in areas if differs[:, *area].any()]

    def falls(self, areas: Sequence[Area], eye: int) -> Float[Tensor, "area target"]:
        """Return by how much the targets fall when one area of an eye loses its detail."""
        at_once = self.images_at_once * (1 if self.features is None else 2)
        fallen = [self.own.new_zeros((0, len(self.targets)))]
        for first in range(0, len(areas), at_once):
            few = areas[first : first + at_once]
            fallen.append(self.own - self._asked(self._logits(few, eye)).T)
        return torch.cat(fallen)

    def _asked(self, logits: Tensor) -> Float[Tensor, "target exam"]:
        return torch.stack([target(logits) for target in self.targets])

    def _logits(self, areas: Sequence[Area], eye: int) -> Tensor:
        """Return the answers with each area of an eye blurred."""
        present, net = self.present.expand(len(areas), 2), self.net
        if self.prepared is None:
            logits: Tensor = net(self._blurred(areas, eye), present)
            return logits
        images: Any = self._prepared(areas, eye)
        paired: Any = net
        if self.features is None:
            return paired.classify(self._pooled(images.flatten(1, 2)), present)
        both = self.features.repeat(len(areas), 1, 1)
        both[:, eye] = self._pooled(images[:, eye])
        return paired.classify(both.flatten(0, 1), present)

    def _blurred(self, areas: Sequence[Area], eye: int) -> Float[Tensor, "area 6 height width"]:
        whole = self.x.repeat(len(areas), 1, 1, 1)
        for place, area in enumerate(areas):
            whole[place, 3 * eye : 3 * eye + 3, *area] = self.blurred[0, 3 * eye : 3 * eye + 3, *area]
        return whole

    def _prepared(self, areas: Sequence[Area], eye: int) -> Float[Tensor, "area 2 3 height width"]:
        """Return what the trunk is given; only what an area reaches is normalised anew, in a crop around it."""
        net, size = cast("PairedEyeNet", self.net), self.x.shape[-2:]
        reach = net.local_average.reach if net.local_average is not None else 0
        whole, prepared = self._blurred(areas, eye), cast("Tensor", self.prepared).repeat(len(areas), 1, 1, 1, 1)
        crops = [(_around(down, 2 * reach, size[0]), _around(across, 2 * reach, size[1])) for down, across in areas]
        cut = torch.stack([one[:, *crop] for one, crop in zip(whole, crops, strict=True)])
        made = self._eyes(net.prepare(cut, self.present.expand(len(areas), 2)))[:, eye]
        for place, ((down, across), (top, left)) in enumerate(zip(areas, crops, strict=True)):
            rows, columns = _grown(down, reach, size[0]), _grown(across, reach, size[1])
            prepared[place, eye, :, rows, columns] = made[place, :, _within(rows, top), _within(columns, left)]
        return self._mirrored(prepared)

    def _eyes(self, prepared: Tensor) -> Float[Tensor, "exam 2 3 rows columns"]:
        """Return both eyes' prepared images as they lie in the exam."""
        return self._mirrored(prepared.reshape(-1, 2, 3, *prepared.shape[-2:]))

    def _mirrored(self, eyes: Float[Tensor, "exam 2 3 rows columns"]) -> Float[Tensor, "exam 2 3 rows columns"]:
        if not cast("PairedEyeNet", self.net).architecture.mirror_os:
            return eyes
        return torch.stack([eyes[:, 0], eyes[:, 1].flip(-1)], dim=1)

    def _pooled(self, images: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image feature"]:
        net = cast("PairedEyeNet", self.net)
        pooled: Tensor = net.pool(net.feature_dropout(net.trunk(images)))
        return pooled


def _around(span: slice, margin: int, side: int) -> slice:
    """Return a span with a margin, moved into the image: of one size wherever it lies, if that fits."""
    length = min(side, span.stop - span.start + 2 * margin)
    start = min(max(0, span.start - margin), side - length)
    return slice(start, start + length)


def _grown(span: slice, margin: int, side: int) -> slice:
    return slice(max(0, span.start - margin), min(side, span.stop + margin))


def _within(span: slice, outer: slice) -> slice:
    return slice(span.start - outer.start, span.stop - outer.start)


def _eye_of(target: Any) -> int | None:
    """Return which eye a target is about, if it says so."""
    return getattr(getattr(target, "target", target), "eye", None)
