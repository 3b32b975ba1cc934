"""Every corruption of a photograph: what does it, what its severities mean, and what chance decides in it.

A corruption acts on the model's input pixels, on each named eye by itself, inside the disc of the photograph (JPEG and
a shifted crop: on the whole picture), and ends in an 8-bit file as a camera's would. An eye that is black throughout,
as an absent one is, stays so. Five severities after Hendrycks & Dietterich 2019; between them the amounts are
interpolated, so a severity may be any number from 0 (changes nothing) to 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import EYES
from workbench.stress.corruptions import lighting, obstacles, optics, sensor
from workbench.stress.corruptions.photograph import Photograph, Pixels

SEVEREST: Final = 5


@dataclass(frozen=True)
class Corruption:
    """One way to spoil a photograph.

    Attributes:
        degrade: ``(photograph, chance, **amounts) -> pixels``, differentiable in ``chance``.
        amounts: each physical quantity at severity 0 (where it does nothing) to 5.
        chance: how many numbers in [0, 1) chance decides: a direction, a place. Their worst can be searched.
        shared: they are the same for both eyes, because they belong to the camera and not to the eye.
        whole: the picture outside the disc changes too.
    """

    degrade: Callable[..., Pixels]
    amounts: Mapping[str, tuple[float | int, ...]] = field(default_factory=dict)
    chance: int = 0
    shared: bool = False
    whole: bool = False

    def at(self, severity: float) -> dict[str, float]:
        """Return the amounts at a severity, interpolated."""
        return {name: float(np.interp(severity, range(SEVEREST + 1), levels)) for name, levels in self.amounts.items()}

    def __call__(self, photo: Photograph, chance: Float[Tensor, " chance"], severity: float) -> Pixels:
        """Return the spoiled pixels, in [0, 1], not yet rounded to 8 bits."""
        spoiled = self.degrade(photo, chance, **self.at(severity)).clamp(0, 1)
        return spoiled if self.whole else torch.where(photo.inside, spoiled, photo.image)


TABLE: Final[Mapping[str, Corruption]] = {
    "noise": Corruption(sensor.noise, {"deviation": (0, 0.01, 0.02, 0.04, 0.06, 0.09)}),
    "defocus": Corruption(optics.defocus, {"radius": (0, 0.004, 0.007, 0.011, 0.016, 0.024)}),
    "underexposure": Corruption(lighting.underexpose, {"stops": (0, 0.5, 1.0, 1.5, 2.25, 3.0)}),
    "overexposure": Corruption(lighting.expose, {"stops": (0, 0.3, 0.6, 0.9, 1.3, 1.8)}),
    "jpeg": Corruption(sensor.compress, {"quality": (100, 60, 40, 25, 15, 10)}, whole=True),
    "motion": Corruption(optics.motion, {"length": (0, 0.012, 0.022, 0.035, 0.052, 0.075)}, chance=1),
    "haze": Corruption(
        optics.haze,
        {"opacity": (0, 0.3, 0.5, 0.65, 0.78, 0.88), "blur": (0, 0.001, 0.002, 0.004, 0.006, 0.009)},
        chance=2,
    ),
    "illumination": Corruption(lighting.illumination, {"stops": (0, 1.0, 1.75, 2.5, 3.5, 4.5)}, chance=1),
    "small_pupil": Corruption(
        lighting.small_pupil,
        {"shade": (0, 0.12, 0.22, 0.32, 0.42, 0.54), "stops": (0, 0.15, 0.3, 0.45, 0.7, 1.0)},
        chance=1,
    ),
    "flare": Corruption(
        lighting.flare,
        {"strength": (0, 0.2, 0.4, 0.6, 0.8, 1.0), "width": (0.1, 0.12, 0.18, 0.25, 0.35, 0.5)},
        chance=1,
    ),
    "reflection": Corruption(
        lighting.reflection,
        {"strength": (0, 0.12, 0.22, 0.35, 0.55, 0.8), "size": (0.05, 0.08, 0.11, 0.14, 0.18, 0.22)},
        chance=2,
    ),
    "colour_cast": Corruption(lighting.colour_cast, {"stops": (0, 0.3, 0.6, 0.9, 1.3, 1.8)}, chance=1, shared=True),
    "gamma": Corruption(lighting.gamma, {"exponent": (1, 1.2, 1.4, 1.65, 2.0, 2.5)}, chance=1, shared=True),
    "dust": Corruption(
        obstacles.dust,
        {"count": (0, 2, 4, 6, 8, 10), "opacity": (0, 0.3, 0.4, 0.55, 0.7, 0.85)},
        chance=3 * obstacles.SPECKS,
        shared=True,
    ),
    "smear": Corruption(
        obstacles.smear,
        {"opacity": (0, 0.4, 0.55, 0.7, 0.85, 1.0), "size": (0.15, 0.25, 0.35, 0.45, 0.55, 0.7)},
        chance=3,
        shared=True,
    ),
    "eyelash": Corruption(
        obstacles.eyelash,
        {"reach": (0.1, 0.3, 0.45, 0.6, 0.8, 1.0), "opacity": (0, 0.35, 0.5, 0.62, 0.75, 0.88)},
        chance=1 + 2 * obstacles.LASHES,
    ),
    "sensor_noise": Corruption(
        sensor.sensor_noise,
        {"shot": (0, 0.01, 0.02, 0.035, 0.055, 0.08), "read": (0, 0.001, 0.002, 0.004, 0.006, 0.009)},
    ),
    "downscaling": Corruption(sensor.downscale, {"factor": (1, 1.5, 2, 3, 4.25, 6)}),
    "off_centre": Corruption(sensor.off_centre, {"shift": (0, 0.03, 0.07, 0.12, 0.18, 0.25)}, chance=1, whole=True),
}
"""By name. What the amounts mean physically stands in docs/corruptions.md."""


@dataclass(frozen=True)
class Chance:
    """What chance decides for one exam, whichever eyes are named.

    Attributes:
        seeds: of what is random pixel by pixel, OD then OS.
        numbers: in [0, 1), OD then OS; equal rows where they belong to the camera.
    """

    seeds: tuple[int, int]
    numbers: Float[Tensor, "2 chance"]


def draw(corruption: Corruption, generator: torch.Generator) -> Chance:
    """Return what chance decides for the exam that ``generator`` belongs to."""
    right, left = torch.randint(2**63 - 1, (2,), generator=generator).tolist()
    numbers = torch.rand(2, corruption.chance, generator=generator)
    return Chance((right, left), numbers[:1].expand(2, -1) if corruption.shared else numbers)


def spoil(
    corruption: Corruption, exam: Float[Tensor, "6 height width"], chance: Chance, severity: float, eyes: str = "both"
) -> Float[Tensor, "6 height width"]:
    """Return one exam with the named eyes spoiled; not rounded, and differentiable in the numbers of ``chance``."""
    images = [exam[:3], exam[3:]]
    for eye, name in enumerate(EYES):
        if eyes in ("both", name) and images[eye].any():
            photo = Photograph(images[eye], chance.seeds[eye])
            images[eye] = corruption(photo, chance.numbers[eye], severity)
    return torch.cat(images)


def eight_bit(
    spoiled: Float[Tensor, "exam 6 height width"], clean: Float[Tensor, "exam 6 height width"]
) -> Float[Tensor, "exam 6 height width"]:
    """Return what is left of every eye that was spoiled in an 8-bit file; the others keep their pixels."""
    changed = (spoiled != clean).reshape(len(clean), 2, -1).any(dim=2).repeat_interleave(3, dim=1)
    return torch.where(changed[:, :, None, None], (spoiled * 255).round() / 255, spoiled)


def corrupt(
    model: Callable[[Tensor], Tensor],  # noqa: ARG001 - a corruption does not look at the model
    x: Float[Tensor, "exam 6 height width"],
    y: Int64[Tensor, "exam 2"],  # noqa: ARG001 - nor at the truth
    generators: Sequence[torch.Generator],
    *,
    corruption: Corruption,
    severity: float,
    eyes: str = "both",
) -> Float[Tensor, "exam 6 height width"]:
    """Return ``x`` with one corruption on the named eyes; severity 0 changes nothing.

    It goes eye by eye, so that the same exam gives the same bytes alone or in a batch.

    Raises:
        WorkbenchError: the severity is not from 0 to 5.
    """
    check_severity(severity)
    drawn = [draw(corruption, generator) for generator in generators]
    if severity == 0:
        return x.clone()
    exams = x.detach().float().cpu()
    spoiled = [spoil(corruption, exam, chance, severity, eyes) for exam, chance in zip(exams, drawn, strict=True)]
    return eight_bit(torch.stack(spoiled), exams).to(x)


def check_severity(severity: float) -> None:
    """Refuse a severity that is not from 0 to 5.

    Raises:
        WorkbenchError: it is not.
    """
    if not 0 <= severity <= SEVEREST:
        raise WorkbenchError(f"severity is {severity:g}", f"it must be a number from 0 to {SEVEREST}")


CORRUPTIONS: Final[Mapping[str, Callable[..., Tensor]]] = {
    name: partial(corrupt, corruption=corruption) for name, corruption in TABLE.items()
}
"""Each as a stress: ``(model, x, y, generators, *, severity, eyes) -> x'``."""
